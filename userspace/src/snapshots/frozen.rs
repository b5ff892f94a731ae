//! Filesystems that stand still: what is on their disks is what the kernel thinks, and stays so. The
//! only `unsafe` of snapshots.

use std::fs::File;
use std::path::{Path, PathBuf};

use kjump_target::System;
use rustix::io::Errno;
use rustix::ioctl::{ioctl, opcode, IntegerSetter, Opcode};

use crate::error::{Error, Result};

/// `FIFREEZE` and `FITHAW` of `include/uapi/linux/fs.h`.
const FIFREEZE: Opcode = opcode::read_write::<i32>(b'X', 119);
const FITHAW: Opcode = opcode::read_write::<i32>(b'X', 120);

/// The mounted filesystems, frozen; thawed when this is dropped.
#[derive(Debug, Default)]
pub struct Frozen {
    /// Opened before: a path on a frozen filesystem may not be found any more.
    mounts: Vec<(PathBuf, File)>,
}

impl Frozen {
    /// Writes out and freezes what is mounted from disks, what was mounted last first. `strict`: all
    /// of it, and not what can be frozen only.
    ///
    /// # Errors
    ///
    /// One that cannot be frozen; those before it are thawed again then.
    pub fn all(system: &System, strict: bool) -> Result<Self> {
        let mut frozen = Self::default();
        for used in system.mounted_filesystems()?.iter().rev() {
            let path = PathBuf::from(&used.mount_point);
            let failed = |e: std::io::Error| {
                let why = match Errno::from_io_error(&e) {
                    Some(Errno::OPNOTSUPP) => {
                        format!("{} cannot be frozen: unmount it", used.fstype)
                    }
                    Some(Errno::BUSY) => "it is frozen already".into(),
                    _ => crate::error::plain(&e),
                };
                Error::Freeze {
                    path: path.display().to_string(),
                    why,
                }
            };
            let file = File::open(&path).map_err(failed)?;
            match freeze(&file) {
                Ok(()) => frozen.mounts.push((path, file)),
                // Mounted read-only: nothing is written.
                Err(Errno::ROFS) => {}
                // Writes to such a one show in what guards compare.
                Err(Errno::OPNOTSUPP) if !strict => {}
                Err(e) => return Err(failed(e.into())),
            }
        }
        Ok(frozen)
    }

    /// Leaves them frozen for good: their disks are others now.
    pub fn leave(mut self) {
        self.mounts.clear();
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for (path, file) in self.mounts.iter().rev() {
            if let Err(e) = thaw(file) {
                warn(path, e);
            }
        }
    }
}

fn warn(path: &Path, e: Errno) {
    log::warn!("{}: cannot be thawed: {e}; use fsfreeze -u", path.display());
}

fn freeze(file: &File) -> rustix::io::Result<()> {
    // SAFETY: this number takes an int and uses it not at all.
    unsafe { ioctl(file, IntegerSetter::<FIFREEZE>::new_usize(0)) }
}

fn thaw(file: &File) -> rustix::io::Result<()> {
    // SAFETY: as above.
    unsafe { ioctl(file, IntegerSetter::<FITHAW>::new_usize(0)) }
}
