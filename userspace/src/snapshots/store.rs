//! Where snapshots with names are: a directory, or a filesystem that is mounted only while it is
//! looked at. The latter is not changed behind the back of a kernel that is put back, as that does not
//! have it mounted.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use kjump_guard::{probe_kind, Kind};
use kjump_image::{table_size, worst_case, Image, Progress, CHUNK_PAGES};
use kjump_target::{Access, FilePlace, Opened, Spec, System};
use rustix::mount::{mount, unmount, MountFlags, UnmountFlags};

use crate::error::{Error, Result};
use crate::progress::Reporter;

/// Where a filesystem of its own is mounted meanwhile.
const MOUNT_POINT: &str = "/run/kjump-snapshots";
/// What a snapshot's file ends in.
const ENDING: &str = "kjump";
/// Pages that may come into use between the look at memory and the save: a peer's shadow among them.
const MARGIN: u64 = 4096;

/// The name in what a user gave, if it is one and not a path, a device or a stream.
///
/// # Errors
///
/// [`Error::Usage`] for what is neither.
pub fn name_of(what: &str) -> Result<Option<&str>> {
    if what == "-" || what.contains(['/', '=', ':']) {
        return Ok(None);
    }
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.+".contains(&b);
    if what.is_empty() || what.len() > 60 || what.starts_with('.') || !what.bytes().all(good) {
        return Err(Error::Usage(format!(
            "`{what}`: a snapshot's name has up to 60 ASCII letters, digits and -_.+, and does not begin with a dot"
        )));
    }
    Ok(Some(what))
}

/// The snapshots with names, while this lives.
pub struct Store {
    directory: PathBuf,
    mounted: bool,
}

impl Store {
    /// Opens the one that is configured: a directory, or a device with ext2, ext3, ext4 or XFS.
    ///
    /// # Errors
    ///
    /// No such directory or device, or one that cannot be mounted.
    pub fn open(place: &str) -> Result<Self> {
        let spec = Spec::parse(place)?;
        let device = match &spec {
            Spec::Device {
                device,
                offset: None,
            } => System::default().find(device)?,
            Spec::File(path) => {
                let directory = path.clone();
                // Only the last part is made: a filesystem that is not mounted is no place.
                if let Err(e) = fs::create_dir(&directory) {
                    if !directory.is_dir() {
                        let what = format!("the directory of snapshots, {place}");
                        return Err(Error::io(what, e));
                    }
                }
                let mounted = false;
                return Ok(Self { directory, mounted });
            }
            _ => {
                let why = format!("snapshots = \"{place}\": neither a directory nor a device");
                return Err(Error::Usage(why));
            }
        };
        let node = device.path();
        let failed = |e| Error::io(format!("{}: mounting it for snapshots", node.display()), e);
        let disk = System::default().open_device(&device, Access::Read)?;
        let has = |kind| matches!(probe_kind(&disk, kind), Ok(Some(_)));
        let fstype = if has(Kind::Xfs) { "xfs" } else { "ext4" };
        drop(disk);
        fs::create_dir_all(MOUNT_POINT).map_err(failed)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount(&node, MOUNT_POINT, fstype, flags, None).map_err(|e| failed(e.into()))?;
        Ok(Self {
            directory: MOUNT_POINT.into(),
            mounted: true,
        })
    }

    /// The directory that a file lies in, if its name is a snapshot's.
    pub fn around(file: &Path) -> Option<Self> {
        file.extension().filter(|e| *e == ENDING)?;
        let directory = std::path::absolute(file).ok()?.parent()?.to_path_buf();
        let mounted = false;
        Some(Self { directory, mounted })
    }

    /// The file of a name.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.{ENDING}"))
    }

    /// The names that there are, sorted.
    pub fn names(&self) -> Result<Vec<String>> {
        let failed = |e| Error::io(self.directory.display().to_string(), e);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|e| e == ENDING) {
                let stem = path.file_stem().unwrap_or_default();
                names.push(stem.to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Makes the file of a name, of `size` bytes.
    ///
    /// # Errors
    ///
    /// A name that is taken, no room, a filesystem that does not do.
    pub fn create(&self, name: &str, size: u64, json: bool) -> Result<()> {
        // Standard output is for the outcome.
        let mut reporter = Reporter::new("writing", json, !json);
        let total = size.div_ceil(4096);
        let made = System::default().create(&self.file(name), size, &mut |bytes| {
            reporter.update(&Progress {
                pages: bytes / 4096,
                pages_total: total,
                memory_bytes: bytes,
                image_bytes: bytes,
            });
            ControlFlow::Continue(())
        });
        Ok(made.map(drop)?)
    }

    /// The names of those that build on the image with this UUID.
    ///
    /// # Errors
    ///
    /// A directory that cannot be read.
    fn built_on(&self, uuid: &[u8; 16]) -> Result<Vec<String>> {
        let mut names = self.names()?;
        names.retain(|name| {
            let image = self.image(name).ok();
            let base = image.and_then(|i| i.header().base.clone());
            base.is_some_and(|base| base.uuid == *uuid)
        });
        Ok(names)
    }

    /// Whether nothing builds on the image that the user calls `name`.
    ///
    /// # Errors
    ///
    /// [`Error::Needed`]; a directory that cannot be read.
    pub fn check_unneeded(&self, name: &str, uuid: &[u8; 16]) -> Result<()> {
        let by = self.built_on(uuid)?;
        if by.is_empty() {
            return Ok(());
        }
        Err(Error::Needed {
            name: name.into(),
            by: by.join(", "),
        })
    }

    /// Where the file of a name lies.
    pub fn locate(&self, name: &str) -> Result<FilePlace> {
        let path = self.file(name);
        if !path.exists() {
            return Err(Error::NoSnapshot { name: name.into() });
        }
        Ok(System::default().locate(&path)?)
    }

    /// Removes a snapshot.
    pub fn delete(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        if !path.exists() {
            return Err(Error::NoSnapshot { name: name.into() });
        }
        Ok(System::default().remove(&path)?)
    }

    /// The image of a name, to be looked at.
    pub fn image(&self, name: &str) -> Result<Image<Opened>> {
        let opened = System::default().open(&Spec::File(self.file(name)), Access::Read)?;
        Image::inspect_only(opened).map_err(|source| Error::Refused {
            target: name.into(),
            source,
        })
    }

    /// Whether it is a filesystem that is mounted only for this.
    pub fn is_mounted(&self) -> bool {
        self.mounted
    }

    /// Ends it; an error is told here and not when it is dropped.
    pub fn close(mut self) -> Result<()> {
        self.unmount()
    }

    fn unmount(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.mounted) {
            return Ok(());
        }
        unmount(&self.directory, UnmountFlags::empty())
            .map_err(|e| Error::io(format!("unmounting {}", self.directory.display()), e))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(e) = self.unmount() {
            log::warn!("{e}");
        }
    }
}

/// Bytes that a snapshot takes at most: one that is taken now, and one of a machine that has come to use all of
/// its memory.
pub fn room_needed() -> Result<[u64; 2]> {
    let text = fs::read_to_string("/proc/meminfo").map_err(|e| Error::io("/proc/meminfo", e))?;
    let map = crate::loader::memmap::read()?;
    let all: u64 = crate::hibernation::machine::ram_above(&map, 0)
        .iter()
        .map(|r| (r.end - r.start) / 4096)
        .sum();
    let free = kib(&text, "MemFree:").unwrap_or(0) / 4;
    let now = all.saturating_sub(free) + MARGIN;
    // The file's own map of blocks is in front: a megabyte is more than it ever takes.
    let room = |pages| worst_case(pages, CHUNK_PAGES) + table_size(pages) + (1 << 20);
    Ok([now, all].map(room))
}

fn kib(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Whether A swaps, to a device or a file: what lies there is in no snapshot.
pub fn swap_in_use() -> Option<String> {
    let text = fs::read_to_string("/proc/swaps").unwrap_or_default();
    first_swap(&text)
}

fn first_swap(text: &str) -> Option<String> {
    let names = text
        .lines()
        .skip(1)
        .filter_map(|l| l.split_whitespace().next());
    // Compressed in memory, and so in the snapshot.
    let mut real = names.filter(|n| !n.starts_with("/dev/zram"));
    real.next().map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_places() {
        for place in ["/dev/vdb", "-", "UUID=0b5c", "8:2", "./x", "a/b"] {
            assert_eq!(name_of(place).unwrap(), None, "{place}");
        }
        for name in ["before-update", "3", "a.b_c+d"] {
            assert_eq!(name_of(name).unwrap(), Some(name));
        }
        for bad in ["", "two words", "..", ".x", "\u{e4}", &"x".repeat(61)] {
            assert!(name_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn swap_that_counts() {
        let head = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert_eq!(first_swap(head), None);
        let zram = format!("{head}/dev/zram0 partition 100 0 100\n");
        assert_eq!(first_swap(&zram), None);
        let file = format!("{zram}/swapfile file 100 0 -2\n");
        assert_eq!(first_swap(&file), Some("/swapfile".into()));
        assert_eq!(
            kib("MemTotal: 7 kB\nMemFree:   12 kB\n", "MemFree:"),
            Some(12)
        );
    }
}
