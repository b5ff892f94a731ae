//! Filesystems that stand still: what is on their disks is what the kernel thinks, and stays so. The
//! only `unsafe` of snapshots.
//!
//! Meanwhile nothing is printed, as standard error may lie on one of them, and a program of its own
//! ([`Guardian`]) thaws them should this one be killed.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use kjump_target::{Place, System};
use rustix::fs::{major, minor, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{ioctl, opcode, IntegerSetter, Opcode};

use super::guardian::Guardian;
use crate::error::{Error, Result};
use crate::logger;

/// `FIFREEZE` and `FITHAW` of `include/uapi/linux/fs.h`.
const FIFREEZE: Opcode = opcode::read_write::<i32>(b'X', 119);
const FITHAW: Opcode = opcode::read_write::<i32>(b'X', 120);

/// A filesystem, opened where it is mounted.
#[derive(Debug)]
struct Mount {
    path: PathBuf,
    fstype: String,
    file: File,
}

/// The mounted filesystems, frozen; thawed when this is dropped.
#[derive(Debug)]
pub struct Frozen {
    mounts: Vec<Mount>,
    guardian: Option<Guardian>,
}

impl Frozen {
    /// Writes out and freezes what is mounted from disks, what was mounted last first. `strict`: all
    /// of it, and not what can be frozen only.
    ///
    /// # Errors
    ///
    /// One that cannot be reached or frozen; those before it are thawed again then.
    pub fn all(system: &System, strict: bool) -> Result<Self> {
        let used = system.mounted_filesystems()?;
        // All of them first: a path on a frozen filesystem may not be found any more.
        let mounts = used.iter().rev();
        let mounts = mounts.map(|u| Mount::open(&u.mount_point, &u.fstype, &u.places));
        let mounts = mounts.collect::<Result<Vec<_>>>()?;
        let guardian = Guardian::start(mounts.iter().map(|m| &m.file));
        let guardian = guardian.map_err(|e| Error::io("/proc/self/exe", e))?;
        logger::hold();
        let mut frozen = Self {
            mounts: Vec::new(),
            guardian: Some(guardian),
        };
        for mount in mounts {
            match freeze(&mount.file) {
                Ok(()) => frozen.mounts.push(mount),
                // Mounted read-only: nothing is written.
                Err(Errno::ROFS) => {}
                // Writes to such a one show in what guards compare.
                Err(Errno::OPNOTSUPP) if !strict => {}
                Err(e) => return Err(mount.failed(e)),
            }
        }
        Ok(frozen)
    }

    /// Leaves them frozen for good: their disks are others now. Nothing is printed any more, but for
    /// the kernel's log.
    pub fn leave(mut self) {
        self.mounts.clear();
        if let Some(guardian) = self.guardian.take() {
            guardian.dismiss();
        }
        // What is dropped now would print.
        std::mem::forget(self);
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for mount in self.mounts.iter().rev() {
            if let Err(e) = thaw(&mount.file) {
                let path = mount.path.display();
                log::warn!("{path}: cannot be thawed: {e}; use fsfreeze -u");
            }
        }
        if let Some(guardian) = self.guardian.take() {
            guardian.dismiss();
        }
        logger::release();
    }
}

impl Mount {
    /// Opens a filesystem at the first of its places where it is not hidden by another one.
    fn open(mount_point: &str, fstype: &str, places: &[Place]) -> Result<Self> {
        let mut last = None;
        for place in places {
            match open_place(place) {
                Ok(Some(file)) => {
                    return Ok(Self {
                        path: place.path.clone(),
                        fstype: fstype.into(),
                        file,
                    })
                }
                Ok(None) => {}
                Err(e) => last = Some(e),
            }
        }
        let hidden = || "another filesystem is mounted over it: unmount that".into();
        let why = last.map_or_else(hidden, |e| crate::error::plain(&e));
        Err(Error::Freeze {
            path: mount_point.into(),
            why,
        })
    }

    fn failed(&self, e: Errno) -> Error {
        let why = match e {
            Errno::OPNOTSUPP => format!("{} cannot be frozen: unmount it", self.fstype),
            Errno::BUSY => "it is frozen already".into(),
            e => crate::error::plain(&e.into()),
        };
        Error::Freeze {
            path: self.path.display().to_string(),
            why,
        }
    }
}

/// Opens what is at a place; `None` if that is not the filesystem that is meant.
fn open_place(place: &Place) -> std::io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    // CAST: the flags are those of open(2), whose argument is an int.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let file = options.read(true).custom_flags(flags).open(&place.path)?;
    let meta = file.metadata()?;
    let plain = meta.is_dir() || meta.is_file();
    let number = (major(meta.dev()), minor(meta.dev()));
    Ok((plain && number == place.number).then_some(file))
}

fn freeze(file: &File) -> rustix::io::Result<()> {
    // SAFETY: this number takes an int and uses it not at all.
    unsafe { ioctl(file, IntegerSetter::<FIFREEZE>::new_usize(0)) }
}

/// Thaws the filesystem that a file is on.
pub fn thaw(file: &File) -> rustix::io::Result<()> {
    // SAFETY: as above.
    unsafe { ioctl(file, IntegerSetter::<FITHAW>::new_usize(0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_over_is_not_taken_for_it() {
        let dir = std::env::temp_dir();
        let dev = std::fs::metadata(&dir).unwrap().dev();
        let place = |number| Place {
            path: dir.clone(),
            number,
        };
        let (major, minor) = (major(dev), minor(dev));
        assert!(open_place(&place((major, minor))).unwrap().is_some());
        assert!(open_place(&place((major, minor + 1))).unwrap().is_none());
        let open = |places: &[Place]| Mount::open("/x", "ext4", places);
        let hidden = open(&[place((major, minor + 1))]).unwrap_err();
        assert!(hidden.to_string().contains("mounted over it"), "{hidden}");
        assert!(open(&[place((0, 0)), place((major, minor))]).is_ok());
    }
}
