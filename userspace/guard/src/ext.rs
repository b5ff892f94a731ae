//! ext2, ext3 and ext4.
//!
//! Each mount that can write counts itself in the superblock (`ext4_setup_super`,
//! `ext2_setup_super`) and waits until that is written. A read-only mount that replays the journal
//! takes the flag `needs_recovery` away (`ext4_mark_recovery_complete`), which a mounted filesystem
//! has set. The journal's superblock beside it, because a mount with `sb=` writes to a copy of the
//! superblock instead: first transaction and start change with the replay (`journal_reset`) or,
//! where there is nothing to replay, with the first commit. A mount with `noload` writes neither,
//! nor anything else.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{big_endian, FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bytes::{digest, structure, text};
use crate::disk::Disk;
use crate::error::Error;
use crate::found::{Found, Kind};
use crate::layout::{self, parse, JOURNAL_ELSEWHERE, JOURNAL_NONE, JOURNAL_READ, VERSION};

/// Where the superblock is, whatever the block size.
const SUPERBLOCK: u64 = 1024;
const MAGIC: u16 = 0xef53;
const COMPAT_HAS_JOURNAL: u32 = 0x4;
const INCOMPAT_JOURNAL_DEV: u32 = 0x8;
const INCOMPAT_META_BG: u32 = 0x10;
const INCOMPAT_64BIT: u32 = 0x80;
const INODE_EXTENTS: u32 = 0x8_0000;
const EXTENTS_MAGIC: u16 = 0xf30a;
/// `EXT4_MAX_EXTENT_DEPTH`.
const EXTENTS_DEPTH: u16 = 5;
const JOURNAL_MAGIC: u32 = 0xc03b_3998;

/// `struct ext4_super_block`.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
struct Super {
    inodes_blocks: [u8; 20],
    first_data_block: U32,
    log_block_size: U32,
    clusters: [u8; 8],
    _per_group: [u8; 4],
    inodes_per_group: U32,
    mtime: U32,
    wtime: U32,
    mounts: U16,
    _max_mounts: U16,
    magic: U16,
    _state: [u8; 18],
    rev_level: U32,
    _owners: [u8; 4],
    _first_inode: U32,
    inode_size: U16,
    _group: U16,
    compat: U32,
    incompat: U32,
    _ro_compat: U32,
    uuid: [u8; 16],
    label: [u8; 16],
    _last_mounted: [u8; 64],
    _more: [u8; 24],
    journal_inode: U32,
    _journal_device: U32,
    _orphans: [u8; 22],
    desc_size: U16,
    _mount_options: U32,
    first_meta_bg: U32,
    _mkfs: [u8; 364],
    wtime_hi: u8,
    mtime_hi: u8,
    _rest: [u8; 1024 - 0x276],
}

/// `journal_superblock_t`, up to what is needed.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
struct JournalSuper {
    magic: big_endian::U32,
    block_type: big_endian::U32,
    _head: [u8; 16],
    sequence: big_endian::U32,
    start: big_endian::U32,
    _rest: [u8; 1024 - 32],
}

/// The head of an inode, all sizes.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
struct Inode {
    _mode: [u8; 32],
    flags: U32,
    _version: U32,
    block: [u8; 60],
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Super>() == 1024 && size_of::<JournalSuper>() == 1024);
    assert!(offset_of!(Super, magic) == 0x38 && offset_of!(Super, uuid) == 0x68);
    assert!(offset_of!(Super, journal_inode) == 0xe0 && offset_of!(Super, desc_size) == 0xfe);
    assert!(offset_of!(Super, first_meta_bg) == 0x104 && offset_of!(Super, wtime_hi) == 0x274);
    assert!(offset_of!(Inode, block) == 40);
};

fn damaged<T>(what: &'static str) -> Result<T, Error> {
    let kind = Kind::Ext;
    Err(Error::Damaged { kind, what })
}

fn superblock(disk: &dyn Disk) -> Result<Option<Super>, Error> {
    let found = structure::<Super>(disk, SUPERBLOCK, "reading the superblock")?;
    Ok(found.filter(|s| {
        // A journal on a device of its own looks like a filesystem otherwise.
        s.magic == MAGIC
            && s.log_block_size.get() <= 6
            && s.incompat.get() & INCOMPAT_JOURNAL_DEV == 0
    }))
}

pub fn probe(disk: &dyn Disk) -> Result<Option<Found>, Error> {
    Ok(superblock(disk)?.map(|s| Found {
        kind: Kind::Ext,
        uuid: s.uuid,
        label: text(&s.label),
    }))
}

pub fn record(disk: &dyn Disk) -> Result<Vec<u8>, Error> {
    let Some(s) = superblock(disk)? else {
        return damaged("its superblock has gone");
    };
    let (state, journal) = journal_superblock(disk, &s)?;
    let time = |low: U32, high: u8| u64::from(low.get()) | u64::from(high) << 32;
    let mut data = layout::Ext {
        version: VERSION.into(),
        journal: state.into(),
        superblock: digest(s.as_bytes()),
        mounted: time(s.mtime, s.mtime_hi).into(),
        written: time(s.wtime, s.wtime_hi).into(),
        mounts: u32::from(s.mounts.get()).into(),
        ..FromZeros::new_zeroed()
    };
    if let Some(journal) = journal {
        data.journal_superblock = digest(journal.as_bytes());
        data.sequence = journal.sequence.get().into();
        data.start = journal.start.get().into();
    }
    Ok(data.as_bytes().to_vec())
}

pub fn difference(then: &[u8], now: &[u8]) -> Option<String> {
    let (Some(then), Some(now)) = (parse::<layout::Ext>(then), parse::<layout::Ext>(now)) else {
        return Some(layout::UNREADABLE.into());
    };
    if then.mounts != now.mounts || then.mounted != now.mounted {
        let (then, now) = (then.mounts, now.mounts);
        return Some(format!("mounted since (mount count {then}, now {now})"));
    }
    if then.journal != now.journal || then.journal_superblock != now.journal_superblock {
        let (a, b) = (then.sequence, now.sequence);
        return Some(format!(
            "its journal was replayed or written since (transaction {a}, now {b})"
        ));
    }
    (then.superblock != now.superblock).then(|| "its superblock was written since".into())
}

/// The journal's superblock and one of the constants `JOURNAL_`.
fn journal_superblock(disk: &dyn Disk, s: &Super) -> Result<(u32, Option<JournalSuper>), Error> {
    if s.compat.get() & COMPAT_HAS_JOURNAL == 0 {
        return Ok((JOURNAL_NONE, None));
    }
    let Some(inode) = s.journal_inode.get().checked_sub(1) else {
        return Ok((JOURNAL_ELSEWHERE, None));
    };
    let Some(inode) = journal_inode(disk, s, inode)? else {
        return Ok((JOURNAL_ELSEWHERE, None));
    };
    let first = first_block(disk, s, &inode)?;
    let what = "reading the journal's superblock";
    match structure::<JournalSuper>(disk, place(s, first)?, what)? {
        Some(j) if j.magic == JOURNAL_MAGIC && [3, 4].contains(&j.block_type.get()) => {
            Ok((JOURNAL_READ, Some(j)))
        }
        _ => damaged("its journal has no superblock"),
    }
}

fn block_size(s: &Super) -> u64 {
    1024 << s.log_block_size.get()
}

/// Where a block is, bytes.
fn place(s: &Super, block: u64) -> Result<u64, Error> {
    match block.checked_mul(block_size(s)) {
        Some(place) if block != 0 => Ok(place),
        _ => damaged("a block number makes no sense"),
    }
}

/// The journal's inode, `index` counted from 0. Almost always the eighth; one that was made while
/// the filesystem was mounted can be anywhere until e2fsck moves it. `None` where its group's
/// descriptor is not beside the others (`meta_bg`).
fn journal_inode(disk: &dyn Disk, s: &Super, index: u32) -> Result<Option<Inode>, Error> {
    let (per_group, wide) = (
        s.inodes_per_group.get(),
        s.incompat.get() & INCOMPAT_64BIT != 0,
    );
    let desc_size = if wide {
        u64::from(s.desc_size.get())
    } else {
        32
    };
    if per_group == 0 || !(32..=1024).contains(&desc_size) {
        return damaged("its superblock contradicts itself");
    }
    let desc = u64::from(index / per_group) * desc_size;
    let desc_block = desc / block_size(s);
    // The first block of descriptors is behind the superblock in any case (`descriptor_loc`).
    let meta_bg = s.incompat.get() & INCOMPAT_META_BG != 0;
    if meta_bg && desc_block >= u64::from(s.first_meta_bg.get()) && desc_block != 0 {
        return Ok(None);
    }
    let table = place(s, SUPERBLOCK / block_size(s) + 1)? + desc;
    let what = "reading a group descriptor";
    let low = structure::<U32>(disk, table + 8, what)?;
    let high = if wide && desc_size >= 64 {
        structure::<U32>(disk, table + 40, what)?
    } else {
        Some(U32::ZERO)
    };
    let (Some(low), Some(high)) = (low, high) else {
        return damaged("the device ends before the group descriptors");
    };
    let inodes = u64::from(low.get()) | u64::from(high.get()) << 32;
    let inode_size = if s.rev_level == 0 {
        128
    } else {
        u64::from(s.inode_size.get())
    };
    let inside = u64::from(index % per_group) * inode_size;
    let inode = place(s, inodes)?.checked_add(inside);
    match inode.map(|at| structure(disk, at, "reading the journal's inode")) {
        Some(Ok(Some(inode))) => Ok(Some(inode)),
        Some(Err(e)) => Err(e),
        _ => damaged("the device ends before the journal's inode"),
    }
}

/// The file's first block: the first entry of its extents, or of its block list.
fn first_block(disk: &dyn Disk, s: &Super, inode: &Inode) -> Result<u64, Error> {
    let word = |node: &[u8; 24], at: usize| {
        u32::from_le_bytes(*node[at..].first_chunk().expect("inside the node"))
    };
    let mut node: [u8; 24] = *inode.block.first_chunk().expect("shorter than the list");
    if inode.flags.get() & INODE_EXTENTS == 0 {
        return Ok(word(&node, 0).into());
    }
    let mut limit = EXTENTS_DEPTH + 1;
    loop {
        let half = |at: usize| u16::from_le_bytes([node[at], node[at + 1]]);
        let (magic, entries, depth) = (half(0), half(2), half(6));
        if magic != EXTENTS_MAGIC || entries == 0 || depth >= limit || word(&node, 12) != 0 {
            return damaged("its journal's extents make no sense");
        }
        if depth == 0 {
            return Ok(u64::from(word(&node, 20)) | u64::from(half(18)) << 32);
        }
        limit = depth;
        let child = u64::from(word(&node, 16)) | u64::from(half(20)) << 32;
        let what = "reading the journal's extents";
        match structure(disk, place(s, child)?, what)? {
            Some(next) => node = next,
            None => return damaged("the device ends before the journal's extents"),
        }
    }
}
