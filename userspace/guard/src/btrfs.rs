//! Btrfs.
//!
//! Everything that is written goes to new places, and counts once the superblock points there:
//! each commit and each fsync writes it anew (`write_all_supers`), with a greater generation or
//! another log tree. A read-only mount that replays the log tree commits, too. A mount that writes
//! nothing does not change it, and need not show. The first of its copies is written each time.
//!
//! With several devices each has the same superblock, but for what it says of the device itself
//! and the checksum: these are left out, so any of the devices will do.

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bytes::{digest, structure, text};
use crate::disk::Disk;
use crate::error::Error;
use crate::found::{Found, Kind};
use crate::layout::{self, parse, VERSION};

/// Where the first superblock is.
const SUPERBLOCK: u64 = 65536;
const MAGIC: &[u8; 8] = b"_BHRfS_M";
/// The superblock is elsewhere, and not overwritten in place.
const INCOMPAT_ZONED: u64 = 0x1000;

/// `struct btrfs_super_block`.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
struct Super {
    checksum: [u8; 32],
    uuid: [u8; 16],
    place: U64,
    _flags: U64,
    magic: [u8; 8],
    generation: U64,
    root: U64,
    _chunk_root: U64,
    log_root: U64,
    _sizes: [u8; 84],
    incompat: U64,
    _levels: [u8; 5],
    device: [u8; 98],
    label: [u8; 256],
    _rest: [u8; 4096 - 555],
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Super>() == 4096 && offset_of!(Super, log_root) == 96);
    assert!(offset_of!(Super, incompat) == 188 && offset_of!(Super, label) == 299);
};

fn superblock(disk: &dyn Disk) -> Result<Option<Super>, Error> {
    let found = structure::<Super>(disk, SUPERBLOCK, "reading the superblock")?;
    Ok(found.filter(|s| s.magic == *MAGIC && s.place == SUPERBLOCK))
}

pub fn probe(disk: &dyn Disk) -> Result<Option<Found>, Error> {
    Ok(superblock(disk)?.map(|s| Found {
        kind: Kind::Btrfs,
        uuid: s.uuid,
        label: text(&s.label),
    }))
}

pub fn record(disk: &dyn Disk) -> Result<Vec<u8>, Error> {
    let kind = Kind::Btrfs;
    let Some(mut s) = superblock(disk)? else {
        let what = "its superblock has gone";
        return Err(Error::Damaged { kind, what });
    };
    if s.incompat.get() & INCOMPAT_ZONED != 0 {
        let what = "with zones";
        return Err(Error::Unsupported { kind, what });
    }
    s.checksum.fill(0);
    s.device.fill(0);
    let data = layout::Btrfs {
        version: VERSION.into(),
        reserved: 0.into(),
        superblock: digest(s.as_bytes()),
        generation: s.generation,
        root: s.root,
        log_root: s.log_root,
    };
    Ok(data.as_bytes().to_vec())
}

pub fn difference(then: &[u8], now: &[u8]) -> Option<String> {
    let (Some(then), Some(now)) = (parse::<layout::Btrfs>(then), parse::<layout::Btrfs>(now))
    else {
        return Some(layout::UNREADABLE.into());
    };
    if then.generation != now.generation {
        let (then, now) = (then.generation, now.generation);
        return Some(format!("written since (generation {then}, now {now})"));
    }
    (then.superblock != now.superblock).then(|| "its superblock was written since".into())
}
