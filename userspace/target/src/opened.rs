//! A target that is open: the room for an image, wherever it lies.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use kjump_image::{Device, Extent, Extents, Source, Target};
use rustix::fs::OFlags;

use crate::block::{down, Block, BLOCK64};
use crate::blocks::BlockDevice;
use crate::disk::{open_direct, Access};
use crate::error::{io as failed, Error};
use crate::file::FilePlace;
use crate::map::{self, Map};
use crate::pin::Pin;
use crate::spec::{DeviceSpec, Spec};
use crate::system::System;
use crate::Result;

/// An open target. As [`Target`] and [`Source`] it is the image's room, from 0.
#[derive(Debug)]
pub struct Opened {
    /// All of it, a block map too.
    area: Extents<Device>,
    /// Bytes in front of the room.
    base: u64,
    /// Bytes that image and bundle share.
    container: u64,
    /// Bytes that an image may have.
    pub(crate) room: u64,
    device: Option<BlockDevice>,
    offset: Option<u64>,
    name: String,
    /// In the kernel that is to be saved, of a file: its device, and where the room starts there.
    raw: Option<(Device, u64)>,
    /// A file is writable while this lives.
    _pin: Option<Pin>,
}

impl System {
    /// Opens a target. Says nothing about whether writing there is a good idea: see
    /// [`System::open_in_a`].
    pub fn open(&self, spec: &Spec, access: Access) -> Result<Opened> {
        match spec {
            Spec::Stream => Err(Error::Stream),
            Spec::Device { device, offset } => self.open_at(self.find(device)?, *offset, access),
            Spec::File(path) => match self.device_behind(path)? {
                Some(device) => self.open_at(device, None, access),
                None => Opened::file(path, access),
            },
        }
    }

    /// Opens a device, or the file on it whose block map is at `offset`.
    pub fn open_at(
        &self,
        device: BlockDevice,
        offset: Option<u64>,
        access: Access,
    ) -> Result<Opened> {
        let name = device.path().display().to_string();
        let disk = Device::new(self.open_device(&device, access)?);
        let mut disk = disk.map_err(failed(name.as_str()))?;
        let size = disk.length();
        let Some(first) = offset else {
            let all = Extent {
                offset: 0,
                length: down(size),
            };
            let mut opened = Opened::new(disk, &[all], 0, name)?;
            opened.device = Some(device);
            return Ok(opened);
        };
        let place = format!("{name}:{first}");
        let read = |at, block: &mut Block| read_block(&mut disk, at, block);
        let map = Map::read(read, first, size, &place)?;
        let mut opened = Opened::new(disk, &map.extents, map.base(), place)?;
        (opened.device, opened.offset) = (Some(device), Some(first));
        Ok(opened)
    }

    /// The device that a path outside /dev leads to; `None` for a regular file.
    pub(crate) fn device_behind(&self, path: &Path) -> Result<Option<BlockDevice>> {
        let what = path.display().to_string();
        let meta = fs::metadata(path).map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::Missing { what: what.clone() },
            _ => failed(what.as_str())(e),
        })?;
        let kind = meta.file_type();
        if kind.is_file() {
            Ok(None)
        } else if kind.is_block_device() {
            self.find(&DeviceSpec::Path(path.into())).map(Some)
        } else {
            Err(Error::NotATarget { what })
        }
    }
}

impl Opened {
    fn new(disk: Device, extents: &[Extent], base: u64, name: String) -> Result<Self> {
        let size = disk.length();
        // A map's extents were checked, and so cannot fail here.
        let area = Extents::new(disk, Some(size), extents);
        let area = area.map_err(|e| failed(name.as_str())(io::Error::other(e)))?;
        let container = Target::size(&area).unwrap_or(0).saturating_sub(base);
        let mut opened = Self {
            area,
            base,
            container,
            room: container,
            device: None,
            offset: None,
            name,
            raw: None,
            _pin: None,
        };
        opened.leave_room();
        Ok(opened)
    }

    /// Fills `buf`, from byte `at` of what image and bundle share.
    pub(crate) fn read_container(&mut self, at: u64, buf: &mut [u8]) -> Result<()> {
        let read = self.area.read_at(self.base + at, buf);
        let whole = read.and_then(|n| match n == buf.len() {
            true => Ok(()),
            false => Err(ErrorKind::UnexpectedEof.into()),
        });
        whole.map_err(failed(self.name.as_str()))
    }

    /// Writes to what image and bundle share; the bounds are the caller's to check.
    pub(crate) fn write_container(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let written = self.area.write_at(self.base + at, bytes);
        written.map_err(failed(self.name.as_str()))
    }

    /// Flushes.
    pub(crate) fn flush_container(&mut self) -> Result<()> {
        self.area.flush().map_err(failed(self.name.as_str()))
    }

    /// A file as it is: one that `kjump target create` made has its image behind the block map.
    pub(crate) fn file(path: &Path, access: Access) -> Result<Self> {
        let name = path.display().to_string();
        let open = |access| {
            let file = open_direct(path, access, OFlags::empty());
            file.and_then(Device::new).map_err(failed(name.as_str()))
        };
        let mut disk = open(Access::Read)?;
        let length = down(disk.length());
        let mut first = Block::ZERO;
        let base = match length {
            0 => 0,
            _ => {
                let read = read_block(&mut disk, 0, &mut first);
                read.map_err(failed(name.as_str()))?;
                u64::from(map::blocks_of(&first, &name)?.unwrap_or(0)) * BLOCK64
            }
        };
        if base > length {
            let what = "the file is shorter than it";
            return Err(Error::BadMap { place: name, what });
        }
        let lift = access != Access::Read && base > 0;
        let pin = lift.then(|| Pin::lift(path)).transpose();
        let pin = pin.map_err(failed(format!("{name}: making it writable")))?;
        if access != Access::Read {
            disk = open(access)?;
        }
        let all = Extent { offset: 0, length };
        let mut opened = Self::new(disk, &[all], base, name)?;
        opened._pin = pin;
        Ok(opened)
    }

    /// Says where the file lies, `extents` on the device `raw`.
    pub(crate) fn lies_at(&mut self, place: FilePlace, raw: Device, extents: &[Extent]) {
        (self.device, self.offset) = (Some(place.device), Some(place.offset));
        let mut before = self.base;
        let first = extents.iter().find_map(|e| {
            let inside = before < e.length;
            let at = inside.then(|| e.offset + before);
            before = before.saturating_sub(e.length);
            at
        });
        self.raw = first.map(|at| (raw, at));
    }

    /// The device that it lies on; not known for a file that was opened by its path.
    pub fn device(&self) -> Option<&BlockDevice> {
        self.device.as_ref()
    }

    /// Where its block map is on the device, if it has one that it was opened by.
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether there is a block map in front of the room.
    pub fn has_map(&self) -> bool {
        self.base > 0
    }

    /// Bytes that image and boot bundle share.
    pub fn container(&self) -> u64 {
        self.container
    }

    /// Announces the image that the peer will write: see [`kjump_image::announce`]. The mark of
    /// a file that was opened by [`System::open_in_a`] is looked for on the device.
    pub fn prepare(&mut self, uuid: [u8; 16]) -> Result<()> {
        kjump_image::announce(self, uuid)?;
        let Some((raw, at)) = &mut self.raw else {
            return Ok(());
        };
        let (mut written, mut found) = (Block::ZERO, Block::ZERO);
        read_block(raw, *at, &mut found).map_err(failed(self.name.as_str()))?;
        let read = self.area.read_at(self.base, &mut written.0);
        read.map_err(failed(self.name.as_str()))?;
        if found.0 != written.0 {
            let what = "what is written to it does not go to its place on the disk at once; remove it, and make one on a filesystem without data=journal";
            let (path, what) = (self.name.clone().into(), what.into());
            return Err(Error::File { path, what });
        }
        Ok(())
    }

    /// UUID of the image that is here or was announced.
    pub fn uuid(&mut self) -> Result<Option<[u8; 16]>> {
        kjump_image::announced(self).map_err(|e| {
            let source = io::Error::other(e);
            let what = self.name.clone();
            Error::Io { what, source }
        })
    }
}

/// Fills a block; the device has it.
pub fn read_block(disk: &mut Device, at: u64, block: &mut Block) -> io::Result<()> {
    match disk.read_at(at, &mut block.0)? {
        n if n == block.0.len() => Ok(()),
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}

impl Target for Opened {
    fn size(&self) -> Option<u64> {
        Some(self.room)
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.room) {
            let what = "behind the end of the room for an image";
            return Err(io::Error::new(ErrorKind::StorageFull, what));
        }
        self.area.write_at(self.base + offset, bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.area.flush()
    }
}

impl Source for Opened {
    fn size(&self) -> Option<u64> {
        Some(self.room)
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.room.saturating_sub(offset);
        let want = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        self.area.read_at(self.base + offset, &mut buf[..want])
    }
}

#[cfg(test)]
#[path = "opened_tests.rs"]
mod tests;
