//! A file's blocks stay where they are: it is immutable, so that nothing writes, moves, copies or
//! removes it. That holds for its owner too, who lifts it for as long as a [`Pin`] lives.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{ioctl_getflags, ioctl_setflags, IFlags};

/// A file that is pinned when this is dropped.
#[derive(Debug)]
pub struct Pin {
    file: File,
}

impl Pin {
    /// Lifts the pin, if there is one.
    pub fn lift(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        Self::unset(&file)?;
        Ok(Self { file })
    }

    /// Takes the pin off for good, if there is one.
    pub fn unset(file: &File) -> io::Result<()> {
        let flags = ioctl_getflags(file)?;
        if flags.contains(IFlags::IMMUTABLE) {
            ioctl_setflags(file, flags - IFlags::IMMUTABLE)?;
        }
        Ok(())
    }

    /// Whether a file can be pinned, and is from now on.
    pub fn set(file: &File) -> io::Result<()> {
        let flags = ioctl_getflags(file)?;
        Ok(ioctl_setflags(file, flags | IFlags::IMMUTABLE)?)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // What could be lifted can be set; and an unpinned file is checked at the next use.
        let _ = Self::set(&self.file);
    }
}
