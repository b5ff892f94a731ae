//! Files as targets: made, pinned, and checked to lie where their map says.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use kjump_image::{Device, Extent};
use rustix::fs::{
    fallocate, fstatfs, major, minor, statx, AtFlags, FallocateFlags, OFlags, StatxFlags,
};
use rustix::io::Errno;
use rustix::rand::{getrandom, GetRandomFlags};
use zerocopy::IntoBytes;

use crate::block::{blocks, BLOCK64};
use crate::blocks::BlockDevice;
use crate::disk::{open_direct, Access};
use crate::error::{io, Error};
use crate::fiemap::extents;
use crate::map::{encode, Map};
use crate::opened::{read_block, Opened};
use crate::pin::Pin;
use crate::system::System;
use crate::Result;

/// Where a file lies, which is all that another kernel needs to find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePlace {
    /// The device that its filesystem is on.
    pub device: BlockDevice,
    /// Its first block on the device, where the block map starts.
    pub offset: u64,
}

/// The least that makes sense: a few blocks of map, an image's head, some chunks.
const MIN_SIZE: u64 = 1 << 20;
/// Bytes of zeros written at once.
const PIECE: usize = 1 << 20;

impl System {
    /// Makes a file of `size` bytes, rounded up to whole blocks: every block written, listed in
    /// front, and pinned. `on_progress` gets the bytes written so far and may stop it. What fails
    /// leaves no file.
    pub fn create(
        &self,
        path: &Path,
        size: u64,
        on_progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<FilePlace> {
        if size < MIN_SIZE {
            return Err(Error::TooSmall {
                what: path.display().to_string(),
                need: MIN_SIZE,
                have: size,
            });
        }
        let size = size.div_ceil(BLOCK64).saturating_mul(BLOCK64);
        let new = OpenOptions::new()
            .write(true)
            .read(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        let file = new.map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => refuse(
                path,
                "exists already; remove it first (`chattr -i` if it is a target)",
            ),
            _ => io(path.display().to_string())(e),
        })?;
        let made = self.fill(&file, path, size, on_progress);
        if made.is_err() {
            // The error that is told is the first one.
            let _ = fs::remove_file(path);
        }
        made
    }

    fn fill(
        &self,
        file: &File,
        path: &Path,
        size: u64,
        on_progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<FilePlace> {
        let failed = |what: &str| io(format!("{}: {what}", path.display()));
        let device = self.device_under(file, path)?;
        // In one piece if possible, and to know at once that there is room. Then every block is
        // written: one that was not reads as zeros whatever another kernel puts there.
        match fallocate(file, FallocateFlags::empty(), 0, size) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(e) => return Err(failed("allocating blocks")(e.into())),
        }
        let direct =
            open_direct(path, Access::Write, OFlags::empty()).map_err(failed("opening"))?;
        let zeros = blocks(PIECE / BLOCK64 as usize)?;
        let mut done = 0;
        while done < size {
            let now = (size - done).min(PIECE as u64);
            // CAST: at most PIECE.
            let bytes = &zeros.as_bytes()[..now as usize];
            direct
                .write_all_at(bytes, done)
                .map_err(failed("writing"))?;
            done += now;
            if on_progress(done).is_break() {
                return Err(refuse(path, "stopped; nothing is left of it"));
            }
        }
        direct.sync_all().map_err(failed("writing"))?;
        let list = extents(file, path, size)?;
        let mut id = [0; 16];
        getrandom(&mut id, GetRandomFlags::empty()).map_err(|e| failed("random")(e.into()))?;
        let map = encode(&list, id)?;
        let map = map.ok_or_else(|| refuse(path, "too small for its block map"))?;
        direct
            .write_all_at(map.as_bytes(), 0)
            .map_err(failed("writing"))?;
        direct.sync_all().map_err(failed("writing"))?;
        let place = self.check_place(path, device, &list)?;
        Pin::set(file).map_err(failed("making it immutable"))?;
        file.sync_all().map_err(failed("writing"))?;
        sync_directory(path).map_err(failed("writing its directory"))?;
        Ok(place)
    }

    /// Removes such a file.
    pub fn remove(&self, path: &Path) -> Result<()> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(io(name.as_str()))?;
        Pin::unset(&file).map_err(io(format!("{name}: making it writable")))?;
        fs::remove_file(path).map_err(io(name))?;
        sync_directory(path).map_err(io("writing its directory"))
    }

    /// Puts such a file in the place of another one, which is gone then.
    pub fn replace(&self, from: &Path, to: &Path) -> Result<()> {
        let failed = |path: &Path| io(format!("{}: making it writable", path.display()));
        let file = File::open(from).map_err(io(from.display().to_string()))?;
        let old = File::open(to).map_err(io(to.display().to_string()))?;
        Pin::unset(&file).map_err(failed(from))?;
        Pin::unset(&old).map_err(failed(to))?;
        fs::rename(from, to).map_err(io(to.display().to_string()))?;
        Pin::set(&file).map_err(failed(to))?;
        sync_directory(to).map_err(io("writing its directory"))
    }

    /// Where a file lies that [`create`](Self::create) made. Its filesystem is asked, and the device
    /// read there.
    pub fn locate(&self, path: &Path) -> Result<FilePlace> {
        self.locate_with_extents(path).map(|(place, _)| place)
    }

    /// Opens such a file, to announce an image in it.
    pub(crate) fn open_file_in_a(&self, path: &Path) -> Result<Opened> {
        let (place, list) = self.locate_with_extents(path)?;
        let mut opened = Opened::file(path, Access::Write)?;
        let raw = self.open_device(&place.device, Access::Read)?;
        let name = path.display().to_string();
        opened.lies_at(place, Device::new(raw).map_err(io(name))?, &list);
        Ok(opened)
    }

    fn locate_with_extents(&self, path: &Path) -> Result<(FilePlace, Vec<Extent>)> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(io(name.as_str()))?;
        let device = self.device_under(&file, path)?;
        let size = file.metadata().map_err(io(name.as_str()))?.len();
        if size == 0 || !size.is_multiple_of(BLOCK64) {
            return Err(not_made(path));
        }
        let list = extents(&file, path, size)?;
        let place = self.check_place(path, device, &list)?;
        Ok((place, list))
    }

    /// The device that a file's filesystem is on, if both are of a kind that works.
    fn device_under(&self, file: &File, path: &Path) -> Result<BlockDevice> {
        let name = path.display().to_string();
        let fs = fstatfs(file).map_err(|e| io(name.as_str())(e.into()))?;
        // CAST: the magic numbers have 32 bits; the field's width differs between architectures.
        let magic = fs.f_type as u32;
        if ![EXT, XFS].contains(&magic) {
            let known = FILESYSTEMS.iter().find(|(m, _)| *m == magic);
            let what = known.map_or_else(|| format!("filesystem {magic:#x}"), |f| f.1.to_string());
            let what = format!("on {what}, which does not keep a file's blocks in place, or has no disk; use ext2, ext3, ext4, XFS, or a partition");
            let path = path.into();
            return Err(Error::File { path, what });
        }
        if !writes_directly(file) {
            return Err(refuse(path, "what is written to it passes through a cache or a journal (data=journal, encryption); use another filesystem, or a partition"));
        }
        // CAST: the field's width differs between architectures; blocks have up to 64 KiB.
        let block = fs.f_bsize as u64;
        if block < BLOCK64 {
            let what = format!("its filesystem has blocks of {block} bytes, 4096 are needed; use another (mkfs.ext4 -b 4096), or a partition");
            let path = path.into();
            return Err(Error::File { path, what });
        }
        let dev = file.metadata().map_err(io(name))?.dev();
        let numbers = (major(dev), minor(dev));
        let mut devices = self.block_devices()?.into_iter();
        let device = devices.find(|d| (d.major, d.minor) == numbers);
        let device = device.ok_or_else(|| refuse(path, "its filesystem is on no device here"))?;
        self.check_kind(&device)?;
        Ok(device)
    }

    /// Reads a file's map from the device, as other kernels will, and compares it with what the
    /// filesystem says. Data that went into a journal is not found there.
    fn check_place(&self, path: &Path, device: BlockDevice, list: &[Extent]) -> Result<FilePlace> {
        let offset = list.first().map_or(0, |e| e.offset);
        let name = format!("{}:{offset}", device.path().display());
        let disk = Device::new(self.open_device(&device, Access::Read)?);
        let mut disk = disk.map_err(io(name.as_str()))?;
        let size = disk.length();
        let read = |at, block: &mut _| read_block(&mut disk, at, block);
        match Map::read(read, offset, size, &name) {
            Err(Error::NoMap { .. }) => Err(not_made(path)),
            Err(other) => Err(other),
            Ok(map) if map.extents != list => Err(refuse(
                path,
                "it was moved since it was made; remove it, and make it again",
            )),
            Ok(_) => Ok(FilePlace { device, offset }),
        }
    }
}

const EXT: u32 = 0xef53;
const XFS: u32 = 0x5846_5342;
/// By name, as far as users meet them.
const FILESYSTEMS: [(u32, &str); 10] = [
    (0x9123_683e, "btrfs"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x794c_7630, "overlayfs"),
    (0x4d44, "vfat"),
    (0x2011_bab0, "exfat"),
    (0xf2f5_2010, "f2fs"),
    (0x6969, "nfs"),
    (0x6573_5546, "fuse"),
    (0xca45_1a4e, "bcachefs"),
];

/// Whether O_DIRECT does what it says: with data=journal it is taken and passed over, and the
/// journal would put older contents back some day. A kernel that cannot tell leaves it open.
fn writes_directly(file: &File) -> bool {
    let stat = statx(
        file,
        "",
        AtFlags::EMPTY_PATH,
        StatxFlags::from_bits_retain(DIOALIGN),
    );
    !stat.is_ok_and(|s| s.stx_mask & DIOALIGN != 0 && s.stx_dio_offset_align == 0)
}

/// `STATX_DIOALIGN`.
const DIOALIGN: u32 = 0x2000;

fn refuse(path: &Path, what: &str) -> Error {
    let (path, what) = (path.into(), what.into());
    Error::File { path, what }
}

fn not_made(path: &Path) -> Error {
    refuse(path, "no target: its blocks are not listed on the disk; make one with `kjump target create`, on a filesystem without data=journal")
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
