//! In the kernel that is to be saved: whether a target may be written.

use std::fs::File;

use kjump_guard::Disk;

use crate::block::{down, Block};
use crate::blocks::{BlockDevice, Kind};
use crate::disk::Access;
use crate::error::Error;
use crate::opened::Opened;
use crate::spec::Spec;
use crate::system::System;
use crate::Result;

impl System {
    /// Opens a target to be written by the peer, alone: refuses a device that is read-only,
    /// mounted, swapped to or otherwise in use, of a kind that does not work, or that holds
    /// something else than an image; and a file that the filesystem has moved since its map was
    /// made. `force` allows what holds something else. Whether it is large enough is the writer's
    /// to check.
    ///
    /// To be dropped before the jump: a file is pinned again then.
    pub fn open_in_a(&self, spec: &Spec, force: bool) -> Result<Opened> {
        let device =
            match spec {
                Spec::Stream => return Err(Error::Stream),
                Spec::Device {
                    offset: Some(_), ..
                } => return Err(Error::BadSpec {
                    text: spec.to_string(),
                    why: "this kernel may have the file's filesystem mounted; give the file's path",
                }),
                Spec::Device { device, .. } => self.find(device)?,
                Spec::File(path) => match self.device_behind(path)? {
                    Some(device) => device,
                    None => return self.open_file_in_a(path),
                },
            };
        self.check_kind(&device)?;
        self.check_unused(&device)?;
        let mut opened = self.open_at(device.clone(), None, Access::Exclusive)?;
        // An image, or an announced one, is what it is there for.
        if !force && opened.uuid()?.is_none() {
            self.check_contents(&device)?;
        }
        check_bundle(&mut opened, force)?;
        Ok(opened)
    }

    /// Refuses what the peer could not reach, by name.
    pub(crate) fn check_kind(&self, device: &BlockDevice) -> Result<()> {
        let name = device.name.clone();
        let what = match (device.kind, self.holders(device)?.first()) {
            (Kind::Disk | Kind::Partition, None) => return Ok(()),
            (Kind::Disk | Kind::Partition, Some(holder)) => match self.block_device(holder) {
                Some(holder) => format!("part of {}", self.describe(&holder)),
                None => format!("part of {holder}"),
            },
            _ => self.describe(device),
        };
        Err(Error::Unsupported { name, what })
    }

    fn check_unused(&self, device: &BlockDevice) -> Result<()> {
        let name = device.name.clone();
        let is = |d: &BlockDevice| (d.major, d.minor) == (device.major, device.minor);
        if let Some(mount) = self
            .mounted_filesystems()?
            .into_iter()
            .find(|m| is(&m.device))
        {
            let at = mount.mount_point;
            return Err(Error::Mounted { name, at });
        }
        if self.active_swaps()?.iter().any(|s| is(&s.device)) {
            return Err(Error::Swap { name });
        }
        if device.read_only {
            return Err(Error::ReadOnly { name });
        }
        Ok(())
    }

    fn check_contents(&self, device: &BlockDevice) -> Result<()> {
        let occupied = |what| {
            let name = device.name.clone();
            Err(Error::Occupied { name, what })
        };
        let partitions = self.partitions(device)?;
        if !partitions.is_empty() {
            return occupied(format!("the partitions {}", partitions.join(", ")));
        }
        let file = self.open_device(device, Access::Read)?;
        if let Some(what) = signature(&file) {
            return occupied(what.into());
        }
        match self.contents(device) {
            Some(found) if found.label.is_empty() => {
                occupied(format!("{} {}", found.kind, found.uuid_text()))
            }
            Some(found) => occupied(format!("{} \"{}\"", found.kind, found.label)),
            None => Ok(()),
        }
    }
}

/// Refuses to write over a bundle that cannot be told where it starts.
fn check_bundle(opened: &mut Opened, force: bool) -> Result<()> {
    match opened.bundle() {
        Err(Error::BadBundle(_)) if force => Ok(()),
        other => other.map(|_| ()),
    }
}

/// What guards do not know, but must not be overwritten unasked: where, what, and what that means.
const SIGNATURES: [(u64, &[u8], &str); 16] = [
    (0, b"LUKS\xba\xbe", "an encrypted volume (LUKS)"),
    (0x000, b"LABELONE", "a physical volume of LVM"),
    (0x200, b"LABELONE", "a physical volume of LVM"),
    (0x400, b"LABELONE", "a physical volume of LVM"),
    (0x600, b"LABELONE", "a physical volume of LVM"),
    (0, MD, "a member of a software RAID (md)"),
    (4096, MD, "a member of a software RAID (md)"),
    (4086, b"S1SUSPEND", "a hibernated system (swsusp)"),
    (3, b"NTFS    ", "ntfs"),
    (3, b"EXFAT   ", "exfat"),
    (1024, b"\x10\x20\xf5\xf2", "f2fs"),
    (0x8000, b"JFS1", "jfs"),
    (0x8001, b"CD001", "iso9660"),
    (0x10034, b"ReIsEr", "reiserfs"),
    (
        0x1018,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca",
        "bcachefs or bcache",
    ),
    (0, b"hsqs", "squashfs"),
];
const MD: &[u8] = &0xa92b_4efc_u32.to_le_bytes();

/// The first of [`SIGNATURES`] that is there, or an older RAID's at the end.
fn signature(disk: &File) -> Option<&'static str> {
    let size = disk.size();
    let has = |at: u64, bytes: &[u8]| {
        let mut block = Block::ZERO;
        let (start, inside) = (down(at), (at - down(at)) as usize);
        let read = Disk::read_at(disk, start, &mut block.0);
        read.is_ok() && block.0[inside..].starts_with(bytes)
    };
    let known = SIGNATURES.iter().find(|(at, bytes, _)| has(*at, bytes));
    // Versions 0.90 and 1.0 of md are at the end.
    let old = (size / 65536 * 65536).checked_sub(65536);
    let newer = (size / 4096 * 4096).checked_sub(8192);
    let raid = || [old, newer].into_iter().flatten().any(|at| has(at, MD));
    known
        .map(|s| s.2)
        .or_else(|| raid().then_some(SIGNATURES[5].2))
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
