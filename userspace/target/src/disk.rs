//! Opening devices and files past the page cache.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{major, minor, OFlags};
use rustix::io::Errno;

use crate::block::BLOCK64;
use crate::blocks::BlockDevice;
use crate::error::{io, Error};
use crate::system::System;
use crate::Result;

/// What a target is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read.
    Read,
    /// To read and write.
    Write,
    /// To read and write; a device must have no other user, and gets none.
    Exclusive,
}

impl System {
    /// Opens a device: past the page cache (O_DIRECT), which may hold what the disk held before
    /// another kernel wrote it.
    pub fn open_device(&self, device: &BlockDevice, access: Access) -> Result<File> {
        let (path, name) = (self.path(device.path()), device.name.as_str());
        let exclusive = match access {
            // On a regular file the flag means nothing, and is refused nowhere.
            Access::Exclusive => OFlags::EXCL,
            _ => OFlags::empty(),
        };
        let file = open_direct(&path, access, exclusive).map_err(|e| match e {
            e if e.kind() == ErrorKind::NotFound => missing(format!("{}", path.display())),
            e => refused(name, e),
        })?;
        let meta = file.metadata().map_err(io(name))?;
        let dev = (major(meta.rdev()), minor(meta.rdev()));
        let right = meta.file_type().is_block_device() && dev == (device.major, device.minor);
        if self.is_real() && !right {
            // A file that dd made where a node should be, or a stale node.
            return Err(missing(format!("{} as a device", path.display())));
        }
        if rustix::fs::ioctl_blksszget(&file).is_ok_and(|size| u64::from(size) > BLOCK64) {
            let name = name.into();
            let what = "a disk with sectors of more than 4096 bytes".into();
            return Err(Error::Unsupported { name, what });
        }
        Ok(file)
    }
}

fn missing(what: String) -> Error {
    Error::Missing { what }
}

/// What the kernel means when it does not open a device.
fn refused(name: &str, e: io::Error) -> Error {
    let name = name.to_string();
    match Errno::from_io_error(&e) {
        Some(Errno::BUSY) => Error::Busy { name },
        Some(Errno::ROFS | Errno::ACCESS) => Error::ReadOnly { name },
        Some(Errno::NXIO | Errno::NODEV | Errno::NOMEDIUM) => missing(format!("/dev/{name}")),
        _ => io(name)(e),
    }
}

/// Opens with O_DIRECT, or without where the filesystem has none.
pub fn open_direct(path: &Path, access: Access, flags: OFlags) -> io::Result<File> {
    let open = |flags: OFlags| {
        let mut options = OpenOptions::new();
        options.read(true).write(access != Access::Read);
        // CAST: the flags are those of open(2), whose argument is an int.
        options.custom_flags(flags.bits() as i32).open(path)
    };
    match open(flags | OFlags::DIRECT) {
        Err(e) if Errno::from_io_error(&e) == Some(Errno::INVAL) => open(flags),
        other => other,
    }
}
