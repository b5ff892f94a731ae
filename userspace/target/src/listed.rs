//! Any file as the list of its blocks, so that a kernel that mounts nothing can read it; and a reader
//! of such a list, of a device, or of a file by its path.
//!
//! Unlike a target ([`System::create`]) the file was made by others: nothing in it says where it is,
//! it may have holes, and its filesystem's blocks may be smaller than 4096 bytes.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use kjump_image::{Device, Source, Target};
use rustix::fs::{major, minor, OFlags};
use zerocopy::IntoBytes;

use crate::block::{blocks, Block, BLOCK64};
use crate::blocks::BlockDevice;
use crate::disk::{open_direct, Access};
use crate::error::{io as failed, Error};
use crate::map::MAX_EXTENTS;
use crate::sys::{fiemap, RawExtent};
use crate::system::System;
use crate::Result;

/// A sector: what pieces are made of.
const SECTOR: u64 = 512;
/// Bytes read at a time.
const BUFFER: usize = 256 << 10;

/// What an extent must not be, `FIEMAP_EXTENT_*`, and what that means.
const REFUSED: [(u32, &str); 6] = [
    (0x2, "is not on the disk yet"),
    (0x4, "is not on the disk yet"),
    (0x8, "is compressed or encrypted"),
    (0x80, "is encrypted"),
    (0x100, "is not made of whole blocks"),
    (0x200, "lies among metadata"),
];
/// `FIEMAP_EXTENT_UNWRITTEN`: reads as zeros.
const UNWRITTEN: u32 = 0x800;

/// A piece of a file on its device, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it starts in the file.
    pub at: u64,
    /// Where it starts on the device.
    pub offset: u64,
    /// Its length.
    pub length: u64,
}

/// Where a file lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The device that it is on, or is.
    pub device: BlockDevice,
    /// Bytes of the file.
    pub size: u64,
    /// Its pieces, ascending; what is in none is zeros.
    pub pieces: Vec<Piece>,
}

impl System {
    /// Where a file lies on its disk, which gets there all of it first. A device lies on itself.
    ///
    /// # Errors
    ///
    /// For what is on no disk, or is not there as it reads (compressed, encrypted, inline).
    pub fn list_blocks(&self, path: &Path) -> Result<Listed> {
        let name = path.display().to_string();
        if let Some(device) = self.device_behind(path)? {
            let (size, offset, at) = (device.size, 0, 0);
            let pieces = vec![Piece {
                at,
                offset,
                length: size,
            }];
            return Ok(Listed {
                device,
                size,
                pieces,
            });
        }
        let file = File::open(path).map_err(failed(name.as_str()))?;
        file.sync_all().map_err(failed(name.as_str()))?;
        let meta = file.metadata().map_err(failed(name.as_str()))?;
        let numbers = (major(meta.dev()), minor(meta.dev()));
        let mut devices = self.block_devices()?.into_iter();
        let device = devices.find(|d| (d.major, d.minor) == numbers);
        let device = device.ok_or_else(|| Error::File {
            path: path.into(),
            what: "its filesystem is on no single disk here (btrfs, overlayfs, tmpfs, NFS); put \
                   it on ext2, ext4 or XFS"
                .into(),
        })?;
        let pieces = collect(|start| fiemap(&file, start), path, meta.len())?;
        Ok(Listed {
            device,
            size: meta.len(),
            pieces,
        })
    }

    /// Opens what [`System::list_blocks`] has listed, in this kernel or another.
    ///
    /// # Errors
    ///
    /// For a list that is not of this device.
    pub fn open_listed(&self, listed: &Listed, access: Access) -> Result<Reader> {
        let name = listed.device.path().display().to_string();
        let bad = |what| {
            let place = name.clone();
            Err(Error::BadMap { place, what })
        };
        let file = self.open_device(&listed.device, access)?;
        let device = Device::new(file).map_err(failed(name.as_str()))?;
        let mut before = 0;
        for p in &listed.pieces {
            let whole = |n: u64| n.is_multiple_of(SECTOR);
            if !whole(p.at) || !whole(p.offset) || !whole(p.length) || p.length == 0 {
                return bad("a piece is not made of whole sectors");
            }
            let end = p.offset.checked_add(p.length);
            if end.is_none_or(|end| end > device.length()) {
                return bad("a piece lies outside the device");
            }
            match p.at.checked_add(p.length) {
                Some(end) if p.at >= before => before = end,
                _ => return bad("its pieces overlap"),
            }
        }
        Reader::new(device, listed.size, listed.pieces.clone())
    }
}

fn collect(
    mut next: impl FnMut(u64) -> io::Result<Vec<RawExtent>>,
    path: &Path,
    size: u64,
) -> Result<Vec<Piece>> {
    let bad = |what: String| {
        let path = path.into();
        Err(Error::File { path, what })
    };
    let (mut list, mut at): (Vec<Piece>, u64) = (Vec::new(), 0);
    while at < size {
        let raw = next(at).map_err(failed(format!("{}: FIEMAP", path.display())))?;
        if raw.is_empty() {
            // The rest is a hole.
            break;
        }
        let begin = at;
        for extent in raw {
            if let Some((_, what)) = REFUSED.iter().find(|(flag, _)| extent.flags & flag != 0) {
                return bad(format!(
                    "a piece of it {what}; copy it to a filesystem without such (ext2, ext4, XFS)"
                ));
            }
            let skip = at.saturating_sub(extent.logical);
            if skip >= extent.length || extent.logical >= size {
                continue;
            }
            let piece = Piece {
                at: extent.logical + skip,
                offset: extent.physical.saturating_add(skip),
                length: extent.length - skip,
            };
            at = piece.at.saturating_add(piece.length);
            if extent.flags & UNWRITTEN != 0 {
                continue;
            }
            let full = list.len() == MAX_EXTENTS;
            match list.last_mut() {
                Some(last)
                    if last.at + last.length == piece.at
                        && last.offset + last.length == piece.offset =>
                {
                    last.length += piece.length;
                }
                _ if full => {
                    return bad(format!("it is in more than {MAX_EXTENTS} pieces; copy it to where there is more free space"));
                }
                _ => list.push(piece),
            }
        }
        if at == begin {
            break;
        }
    }
    Ok(list)
}

/// Reads a file or a device past the page cache, a large piece at a time, from any byte on. As a
/// [`Source`] it asks for no alignment.
#[derive(Debug)]
pub struct Reader {
    disk: Device,
    size: u64,
    /// Ascending; `None`: the file is read as it is.
    pieces: Option<Vec<Piece>>,
    buffer: Vec<Block>,
    /// What of the file is in the buffer.
    start: u64,
    filled: usize,
}

impl Reader {
    fn new(disk: Device, size: u64, pieces: Vec<Piece>) -> Result<Self> {
        let (pieces, start, filled) = (Some(pieces), 0, 0);
        let buffer = blocks(BUFFER / BLOCK64 as usize)?;
        Ok(Self {
            disk,
            size,
            pieces,
            buffer,
            start,
            filled,
        })
    }

    /// Opens a file or a device by its path.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file =
            open_direct(path, Access::Read, OFlags::empty()).map_err(|e| match e.kind() {
                ErrorKind::NotFound => Error::Missing { what: name.clone() },
                _ => failed(name.as_str())(e),
            })?;
        let meta = file.metadata().map_err(failed(name.as_str()))?;
        if meta.is_dir() {
            return Err(Error::NotATarget { what: name });
        }
        let disk = Device::new(file).map_err(failed(name))?;
        let size = disk.length();
        Ok(Self {
            pieces: None,
            ..Self::new(disk, size, Vec::new())?
        })
    }

    /// Bytes.
    pub fn length(&self) -> u64 {
        self.size
    }

    /// Fills the buffer from byte `start` of the file, a multiple of the block, on.
    fn fill(&mut self, start: u64) -> io::Result<()> {
        self.filled = 0;
        self.start = start;
        // CAST: at most BUFFER.
        let want = self.size.saturating_sub(start).min(BUFFER as u64) as usize;
        // Up to whole sectors: O_DIRECT, and a file ends anywhere.
        let whole = want.next_multiple_of(BLOCK64 as usize);
        let bytes = &mut self.buffer.as_mut_bytes()[..whole];
        match &self.pieces {
            None => {
                let n = self.disk.read_at(start, bytes)?;
                if n < want {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
            Some(pieces) => {
                bytes.fill(0);
                let end = start + whole as u64;
                let first = pieces.partition_point(|p| p.at + p.length <= start);
                for p in pieces[first..].iter().take_while(|p| p.at < end) {
                    let (from, to) = (p.at.max(start), (p.at + p.length).min(end));
                    let place = &mut bytes[(from - start) as usize..(to - start) as usize];
                    let n = read_file(self.disk.file(), place, p.offset + (from - p.at))?;
                    if n < place.len() {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
        self.filled = want;
        Ok(())
    }
}

/// As much as there is.
fn read_file(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

impl Source for Reader {
    fn size(&self) -> Option<u64> {
        Some(self.size)
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            let at = offset.saturating_add(done as u64);
            if at >= self.size {
                break;
            }
            let inside = at >= self.start && at - self.start < self.filled as u64;
            if !inside {
                self.fill(at - at % BLOCK64)?;
            }
            // CAST: inside the buffer.
            let skip = (at - self.start) as usize;
            let n = (self.filled - skip).min(buf.len() - done);
            let bytes = &self.buffer.as_bytes()[skip..skip + n];
            buf[done..done + n].copy_from_slice(bytes);
            done += n;
        }
        Ok(done)
    }
}

/// Only what lies on the disk already is written over: a hole stays one, and is an error.
impl Target for Reader {
    fn size(&self) -> Option<u64> {
        Some(self.size)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // It may have what was there before.
        self.filled = 0;
        let Some(pieces) = &self.pieces else {
            return self.disk.file().write_all_at(bytes, offset);
        };
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let piece = pieces.iter().find(|p| p.at <= at && at - p.at < p.length);
            let p = piece.ok_or(ErrorKind::InvalidInput)?;
            // CAST: at most the length of `bytes`.
            let n = (p.at + p.length - at).min((bytes.len() - done) as u64) as usize;
            let file = self.disk.file();
            file.write_all_at(&bytes[done..done + n], p.offset + (at - p.at))?;
            done += n;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Of a device this also empties the drive's own cache.
        self.disk.file().sync_data()
    }
}

#[cfg(test)]
#[path = "listed_tests.rs"]
mod tests;
