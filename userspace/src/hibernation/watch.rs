//! What of A's disks must not be written while the machine is off: the filesystems that are mounted
//! and the swap areas in use, named so that a peer finds them.

use kjump_guard::{probe_kind, Kind};
use kjump_target::{Access, InUse, Kind as Driver, System};

use super::request::Watched;
use crate::error::{Error, Result};

/// What guards know a filesystem of the kernel's as.
fn kind_of(fstype: &str) -> Option<Kind> {
    match fstype {
        "ext2" | "ext3" | "ext4" => Some(Kind::Ext),
        "vfat" | "msdos" => Some(Kind::Vfat),
        "xfs" => Some(Kind::Xfs),
        "btrfs" => Some(Kind::Btrfs),
        "swap" => Some(Kind::Swap),
        _ => None,
    }
}

/// Lists them. What nobody could watch is left out with `allow_unknown`.
///
/// # Errors
///
/// [`Error::Unwatched`] for a filesystem of another type, on a device that a peer cannot reach
/// (LVM, LUKS, RAID, network), or without a UUID that it could be found by.
pub fn collect(system: &System, allow_unknown: bool) -> Result<Vec<Watched>> {
    let mut list = Vec::new();
    let mounted = system.mounted_filesystems()?.into_iter();
    for used in mounted.chain(system.active_swaps()?) {
        match watched(system, &used) {
            Ok(watched) => list.push(watched),
            Err(e) if allow_unknown => log::warn!("not watched: {e}"),
            Err(e) => return Err(e),
        }
    }
    Ok(list)
}

fn watched(system: &System, used: &InUse) -> Result<Watched> {
    let device = used.device.path().display().to_string();
    let unwatched = |kind: String| Error::Unwatched {
        device: device.clone(),
        kind,
    };
    if !matches!(used.device.kind, Driver::Disk | Driver::Partition) {
        let what = system.describe(&used.device);
        return Err(unwatched(format!("{} on {what}", used.fstype)));
    }
    let kind = kind_of(&used.fstype).ok_or_else(|| unwatched(used.fstype.clone()))?;
    let disk = system.open_device(&used.device, Access::Read)?;
    let found = probe_kind(&disk, kind).map_err(|source| Error::Guard {
        device: device.clone(),
        source,
    })?;
    let found = found.filter(|f| f.uuid != [0; 16]);
    let found = found.ok_or_else(|| unwatched(format!("{} without a UUID", used.fstype)))?;
    let name = match kind {
        Kind::Swap => format!("{device} (swap)"),
        _ => format!("{device} ({})", used.mount_point),
    };
    Ok(Watched {
        kind,
        uuid: found.uuid,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filesystems_that_can_be_watched() {
        assert_eq!(kind_of("ext3"), Some(Kind::Ext));
        assert_eq!(kind_of("msdos"), Some(Kind::Vfat));
        assert_eq!(kind_of("f2fs"), None);
    }
}
