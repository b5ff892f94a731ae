//! The machine's block devices, as sysfs lists them.

use std::path::PathBuf;

use crate::system::System;
use crate::Result;

/// What drives a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole disk.
    Disk,
    /// A partition of one.
    Partition,
    /// The device mapper: LVM, LUKS, multipath.
    Mapper,
    /// A software RAID.
    Raid,
    /// A file, or another device, by a loop device.
    Loop,
    /// Memory: zram, brd. What it holds is saved with the memory.
    Memory,
    /// Another machine's disk (nbd, rbd, drbd).
    Network,
    /// Floppy disks and CDs: not looked at when all devices are searched, as that takes seconds.
    Removable,
}

/// A block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDevice {
    /// The kernel's name for it, `sda2`; slashes are `!`.
    pub name: String,
    /// Its driver's number.
    pub major: u32,
    /// Its number.
    pub minor: u32,
    /// Bytes.
    pub size: u64,
    /// Whether writes fail.
    pub read_only: bool,
    /// What drives it.
    pub kind: Kind,
    /// In the partition table; as the kernel has it.
    pub part_uuid: Option<String>,
    /// Its node below /dev.
    pub(crate) node: String,
}

impl BlockDevice {
    /// Its node.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/dev").join(&self.node)
    }

    /// `MAJ:MIN`.
    pub fn numbers(&self) -> String {
        format!("{}:{}", self.major, self.minor)
    }
}

impl System {
    /// All block devices, by name. A device that goes away meanwhile is left out.
    pub fn block_devices(&self) -> Result<Vec<BlockDevice>> {
        let names = self.names(CLASS)?;
        Ok(names.iter().filter_map(|n| self.block_device(n)).collect())
    }

    /// The device with that name of the kernel's.
    pub fn block_device(&self, name: &str) -> Option<BlockDevice> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return None;
        }
        let dir = PathBuf::from(CLASS).join(name);
        let dev = self.text(dir.join("dev"));
        let (major, minor) = dev.split_once(':')?;
        // Sectors of 512 bytes, whatever the disk's are.
        let sectors: u64 = self.text(dir.join("size")).parse().ok()?;
        let uevent = self.text(dir.join("uevent"));
        let value = |key: &str| {
            let mut lines = uevent.lines().filter_map(|l| l.split_once('='));
            lines.find(|(k, _)| *k == key).map(|(_, v)| v.to_string())
        };
        let has = |sub: &str| self.path(dir.join(sub)).exists();
        Some(BlockDevice {
            name: name.into(),
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            size: sectors.checked_mul(512)?,
            read_only: self.text(dir.join("ro")) == "1",
            kind: kind(name, has),
            part_uuid: value("PARTUUID"),
            node: value("DEVNAME").unwrap_or_else(|| name.replace('!', "/")),
        })
    }

    /// What is built on a device, by name: dm, md, bcache.
    pub(crate) fn holders(&self, device: &BlockDevice) -> Result<Vec<String>> {
        self.names(PathBuf::from(CLASS).join(&device.name).join("holders"))
    }

    /// The partitions of a disk, by name.
    pub(crate) fn partitions(&self, device: &BlockDevice) -> Result<Vec<String>> {
        let dir = PathBuf::from(CLASS).join(&device.name);
        let mut names = self.names(&dir)?;
        names.retain(|n| self.path(dir.join(n).join("partition")).exists());
        Ok(names)
    }

    /// A device in words: its kind, and the name that its administrator gave it.
    pub fn describe(&self, device: &BlockDevice) -> String {
        let dir = PathBuf::from(CLASS).join(&device.name);
        match device.kind {
            Kind::Disk => "a disk".into(),
            Kind::Partition => "a partition".into(),
            Kind::Raid => "a software RAID (md)".into(),
            Kind::Loop => format!(
                "a loop device on {}",
                self.text(dir.join("loop/backing_file"))
            ),
            Kind::Memory => "memory (zram or RAM disk)".into(),
            Kind::Network => "another machine's disk".into(),
            Kind::Removable => "a floppy disk or CD".into(),
            Kind::Mapper => {
                let (name, uuid) = (
                    self.text(dir.join("dm/name")),
                    self.text(dir.join("dm/uuid")),
                );
                let what = match uuid.split('-').next() {
                    Some("LVM") => "LVM volume",
                    Some("CRYPT") => "encrypted device (LUKS, dm-crypt)",
                    Some("mpath") => "multipath device",
                    _ => "device-mapper device",
                };
                format!("{what} {name}")
            }
        }
    }
}

const CLASS: &str = "/sys/class/block";

/// Names are the drivers' own; partitions of any have a file of that name.
fn kind(name: &str, has: impl Fn(&str) -> bool) -> Kind {
    let numbered = |prefix: &str| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()))
    };
    let any = |prefixes: &[&str]| prefixes.iter().any(|p| numbered(p));
    if has("dm") || any(&["dm-"]) {
        Kind::Mapper
    } else if has("md") || any(&["md", "md_d"]) {
        Kind::Raid
    } else if any(&["loop"]) {
        Kind::Loop
    } else if any(&["zram", "ram"]) {
        Kind::Memory
    } else if any(&["nbd", "rbd", "drbd"]) {
        Kind::Network
    } else if any(&["fd", "sr"]) {
        Kind::Removable
    } else if has("partition") {
        Kind::Partition
    } else {
        Kind::Disk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_go_by_name() {
        let plain = |name| kind(name, |_| false);
        for (name, expected) in [
            ("sda", Kind::Disk),
            ("vda", Kind::Disk),
            ("mmcblk0", Kind::Disk),
            ("nvme0n1", Kind::Disk),
            ("mdisk", Kind::Disk),
            ("dm-0", Kind::Mapper),
            ("md127", Kind::Raid),
            ("loop0p1", Kind::Loop),
            ("zram0", Kind::Memory),
            ("ram0", Kind::Memory),
            ("nbd0", Kind::Network),
            ("sr0", Kind::Removable),
            ("fd0", Kind::Removable),
        ] {
            assert_eq!(plain(name), expected, "{name}");
        }
        assert_eq!(kind("sda1", |f| f == "partition"), Kind::Partition);
        assert_eq!(kind("md0p1", |f| f == "partition"), Kind::Raid);
    }
}
