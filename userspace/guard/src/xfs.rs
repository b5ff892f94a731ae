//! XFS.
//!
//! Whatever changes goes through the log, in records that are written from its head on. A mount
//! first writes empty records there, up to 2 MiB of them (`xlog_clear_stale_blocks`); a read-only
//! one, which recovers the log as well, and each unmount end with a record (`xfs_log_clean`). So
//! the log is looked at around its head. The superblock beside it.
//!
//! Each block of the log begins with the number of the round in which it was written, its cycle,
//! and the head is where that goes down. The kernel (`xlog_find_head`) searches for that and then
//! walks back over writes that did not all arrive before a crash; here the search alone will do:
//! it gives the same answer for the same log, and what is hashed reaches back as far as the kernel
//! may walk.

use blake3::Hasher;
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bytes::{digest, structure, text, Window};
use crate::disk::Disk;
use crate::error::Error;
use crate::found::{Found, Kind};
use crate::layout::{self, parse, VERSION};

/// Bytes of a block of the log, whatever the filesystem's block and sector sizes.
const BLOCK: u64 = 512;
const LOG_MAGIC: u32 = 0xfeed_babe;
/// How far the kernel walks back from the place that the search finds: 2 MiB
/// (`XLOG_TOTAL_REC_SHIFT`), a record of 256 KiB, and the eight last records if they turn out to be
/// torn (`xlog_verify_head`).
const BACK: u64 = 5 << 20;
/// How far a mount clears, and more than a record.
const FORWARD: u64 = 3 << 20;

/// `struct xfs_dsb`, up to what is needed.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
struct Super {
    magic: [u8; 4],
    block_size: U32,
    _sizes: [u8; 24],
    uuid: [u8; 16],
    log_start: U64,
    _inodes: [u8; 28],
    group_blocks: U32,
    groups: U32,
    _bitmap_blocks: U32,
    log_blocks: U32,
    _version: U16,
    _geometry: [u8; 6],
    label: [u8; 12],
    block_log: u8,
    _logs: [u8; 3],
    group_log: u8,
    _rest: [u8; 512 - 125],
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Super>() == 512 && offset_of!(Super, log_start) == 48);
    assert!(offset_of!(Super, log_blocks) == 96 && offset_of!(Super, group_log) == 124);
};

fn superblock(disk: &dyn Disk) -> Result<Option<Super>, Error> {
    let found = structure::<Super>(disk, 0, "reading the superblock")?;
    Ok(found.filter(|s| {
        s.magic == *b"XFSB"
            && (9..=16).contains(&s.block_log)
            && s.block_size == 1 << s.block_log
            && s.group_log < 32
    }))
}

pub fn probe(disk: &dyn Disk) -> Result<Option<Found>, Error> {
    Ok(superblock(disk)?.map(|s| Found {
        kind: Kind::Xfs,
        uuid: s.uuid,
        label: text(&s.label),
    }))
}

/// The log's place on the disk.
struct Log<'a> {
    disk: &'a dyn Disk,
    /// Bytes from the disk's start.
    start: u64,
    /// Bytes, a multiple of [`BLOCK`].
    size: u64,
}

pub fn record(disk: &dyn Disk) -> Result<Vec<u8>, Error> {
    let Some(s) = superblock(disk)? else {
        return damaged("its superblock has gone");
    };
    let log = Log::find(disk, &s)?;
    let head = log.head()?;
    let before = if head == 0 { log.size / BLOCK } else { head } - 1;
    let data = layout::Xfs {
        version: VERSION.into(),
        cycle: log.cycle(before)?.into(),
        superblock: digest(s.as_bytes()),
        log: log.digest(head * BLOCK)?,
        head: head.into(),
    };
    Ok(data.as_bytes().to_vec())
}

pub fn difference(then: &[u8], now: &[u8]) -> Option<String> {
    let (Some(then), Some(now)) = (parse::<layout::Xfs>(then), parse::<layout::Xfs>(now)) else {
        return Some(layout::UNREADABLE.into());
    };
    if (then.cycle, then.head) != (now.cycle, now.head) {
        let head = |x: layout::Xfs| format!("{}:{}", x.cycle, x.head);
        let (then, now) = (head(then), head(now));
        return Some(format!(
            "its log was written since (head {then}, now {now})"
        ));
    }
    if then.log != now.log {
        return Some("mounted or recovered since: its log was written at the head".into());
    }
    (then.superblock != now.superblock).then(|| "its superblock was written since".into())
}

fn damaged<T>(what: &'static str) -> Result<T, Error> {
    let kind = Kind::Xfs;
    Err(Error::Damaged { kind, what })
}

impl<'a> Log<'a> {
    fn find(disk: &'a dyn Disk, s: &Super) -> Result<Self, Error> {
        let start = s.log_start.get();
        if start == 0 {
            return Err(Error::Unsupported {
                kind: Kind::Xfs,
                what: "with its log on another device",
            });
        }
        // A block number has its group in the upper bits, and groups need not be a power of two.
        let (group, block) = (start >> s.group_log, start & ((1 << s.group_log) - 1));
        let size = u64::from(s.log_blocks.get()) << s.block_log;
        let (groups, blocks) = (u64::from(s.groups.get()), u64::from(s.group_blocks.get()));
        if group >= groups || block >= blocks {
            return damaged("its log lies outside the device");
        }
        let start = (group * blocks + block).saturating_mul(1 << s.block_log);
        if size < 2 * BLOCK || size > disk.size() || start > disk.size() - size {
            return damaged("its log lies outside the device");
        }
        Ok(Self { disk, start, size })
    }

    /// The cycle of a block.
    fn cycle(&self, block: u64) -> Result<u32, Error> {
        let at = self.start + block * BLOCK;
        match structure::<[U32; 2]>(self.disk, at, "reading the log")? {
            Some([magic, cycle]) if magic == LOG_MAGIC => Ok(cycle.get()),
            Some([cycle, _]) => Ok(cycle.get()),
            None => damaged("its log lies outside the device"),
        }
    }

    /// The first block with the last one's cycle; 0 where that is the first block's, too.
    fn head(&self) -> Result<u64, Error> {
        let last = self.size / BLOCK - 1;
        let cycle = self.cycle(last)?;
        if self.cycle(0)? == cycle {
            return Ok(0);
        }
        let (mut newer, mut older) = (0, last);
        while older - newer > 1 {
            let middle = newer + (older - newer) / 2;
            if self.cycle(middle)? == cycle {
                older = middle;
            } else {
                newer = middle;
            }
        }
        Ok(older)
    }

    /// BLAKE3 of the log from [`BACK`] before `head`, bytes, to [`FORWARD`] behind it, its end
    /// followed by its start; of all of it where it is no larger.
    fn digest(&self, head: u64) -> Result<[u8; 32], Error> {
        let (from, len) = if self.size <= BACK + FORWARD {
            (0, self.size)
        } else {
            ((head + self.size - BACK) % self.size, BACK + FORWARD)
        };
        let first = len.min(self.size - from);
        let mut hasher = Hasher::new();
        let mut window = Window::new(self.disk, "reading the log");
        window.hash(self.start + from, first, &mut hasher)?;
        window.hash(self.start, len - first, &mut hasher)?;
        Ok(hasher.finalize().into())
    }
}
