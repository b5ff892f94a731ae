//! What filesystems and swap areas look like on the disk, raw, so that an image is not resumed when
//! one of them was written since: the saved kernel would go on with what it remembers of them.
//!
//! [`probe`] says what is on a device, [`record`] makes a [`Guard`] of it for the image, and
//! [`compare`] says whether a later one shows a write. Nothing here mounts anything or writes, but
//! [`swap_hide`] and [`swap_show`].
//!
//! What is read is what a mount that can write, or one that replays a journal, must change; what
//! that is, is said at the head of each filesystem's file, with the function in Linux 7.3 that does
//! it. docs/image-format.md has the layouts of the records and what does not show.
//!
//! Memory: 64 KiB of buffer and less than 8 KiB beside it, whatever the disk is like.
#![forbid(unsafe_code)]

mod btrfs;
mod bytes;
mod disk;
mod error;
mod ext;
mod found;
mod layout;
mod swap;
mod vfat;
mod xfs;

use kjump_image::Guard;

pub use disk::{Disk, DiskWrite};
pub use error::{Error, Stale};
pub use found::{Found, Kind};
pub use swap::{hide as swap_hide, show as swap_show};

/// What is on a device. `None`: nothing that is known here.
///
/// Leftovers of an older filesystem may be found where mkfs did not wipe them; who knows what is
/// there asks [`probe_kind`].
pub fn probe(disk: &dyn Disk) -> Result<Option<Found>, Error> {
    for kind in Kind::ALL {
        if let Some(found) = probe_kind(disk, kind)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Whether a device has something of this kind on it, and which.
pub fn probe_kind(disk: &dyn Disk, kind: Kind) -> Result<Option<Found>, Error> {
    match kind {
        Kind::Ext => ext::probe(disk),
        Kind::Vfat => vfat::probe(disk),
        Kind::Xfs => xfs::probe(disk),
        Kind::Btrfs => btrfs::probe(disk),
        Kind::Swap => swap::probe(disk),
    }
}

/// Looks at what [`probe`] has found. The label is the filesystem's own; the caller may replace it
/// by something that says more (`/dev/sda2 (/home)`), as [`compare`] does not look at it.
///
/// A swap area's record is that of a hidden one, whether it is hidden already or not.
pub fn record(disk: &dyn Disk, found: &Found) -> Result<Guard, Error> {
    let data = match found.kind {
        Kind::Ext => ext::record(disk)?,
        Kind::Vfat => vfat::record(disk)?,
        Kind::Xfs => xfs::record(disk)?,
        Kind::Btrfs => btrfs::record(disk)?,
        Kind::Swap => swap::record(disk)?,
    };
    Ok(Guard {
        kind: found.kind.number(),
        device: found.uuid,
        label: found.label.clone(),
        data,
    })
}

/// Whether what was `recorded` is still so `now`; the error says what differs.
///
/// A swap area must be hidden now: it may have been used since it was shown.
pub fn compare(recorded: &Guard, now: &Guard) -> Result<(), Stale> {
    let stale = |what: String| Err(Stale::new(recorded, what));
    let Some(kind) = Kind::from_number(recorded.kind) else {
        return stale(format!(
            "recorded as kind {}, which is not known here",
            recorded.kind
        ));
    };
    if now.kind != recorded.kind {
        let now = Kind::from_number(now.kind).map_or("something else", Kind::name);
        return stale(format!("there is {now} now, it was {kind}"));
    }
    if now.device != recorded.device {
        return stale("its UUID is another one now".into());
    }
    let difference = match kind {
        Kind::Ext => ext::difference(&recorded.data, &now.data),
        Kind::Vfat => vfat::difference(&recorded.data, &now.data),
        Kind::Xfs => xfs::difference(&recorded.data, &now.data),
        Kind::Btrfs => btrfs::difference(&recorded.data, &now.data),
        Kind::Swap => swap::difference(&recorded.data, &now.data),
    };
    difference.map_or(Ok(()), stale)
}
