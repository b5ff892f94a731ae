//! A guard's data for each kind, as it lies in the image: little-endian, padding explicit.
//! docs/image-format.md is the specification.

use core::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Version of all of them, in their first field.
pub const VERSION: u32 = 1;

/// What a difference is called when one of the two cannot be read.
pub const UNREADABLE: &str = "the image's record of it was made by another version of kjump";

/// A structure as it was recorded, if it is one of this version.
pub fn parse<T: FromBytes>(data: &[u8]) -> Option<T> {
    let version = U32::read_from_prefix(data).ok()?.0;
    (version == VERSION).then_some(())?;
    T::read_from_bytes(data).ok()
}

/// ext2, ext3, ext4.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct Ext {
    /// [`VERSION`].
    pub version: U32,
    /// The journal: one of the constants `JOURNAL_`.
    pub journal: U32,
    /// BLAKE3 of the superblock's 1024 bytes.
    pub superblock: [u8; 32],
    /// BLAKE3 of the journal's superblock, 1024 bytes; zeros where it was not read.
    pub journal_superblock: [u8; 32],
    /// When it was mounted so that it could be written, seconds since 1970 UTC.
    pub mounted: U64,
    /// When the superblock was written, seconds since 1970 UTC.
    pub written: U64,
    /// Such mounts since the last check.
    pub mounts: U32,
    /// First transaction that a replay would look for.
    pub sequence: U32,
    /// Block of the journal where it begins; 0 for nothing to replay.
    pub start: U32,
    /// 0.
    pub reserved: U32,
}

/// [`Ext::journal`]: has none.
pub const JOURNAL_NONE: u32 = 0;
/// [`Ext::journal`]: its superblock was read.
pub const JOURNAL_READ: u32 = 1;
/// [`Ext::journal`]: on another device, or where only a mount finds it; the superblock must do.
pub const JOURNAL_ELSEWHERE: u32 = 2;

/// FAT.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct Vfat {
    /// [`VERSION`].
    pub version: U32,
    /// Whether it is marked as mounted, 0 or 1.
    pub dirty: U32,
    /// BLAKE3 of all reserved sectors: boot sector, FSInfo, their copies.
    pub reserved_sectors: [u8; 32],
    /// BLAKE3 of all allocation tables.
    pub tables: [u8; 32],
    /// BLAKE3 of all directories, each from its first block to the one with its end mark, in the
    /// order of a walk that enters a directory where it finds it.
    pub directories: [u8; 32],
    /// Bytes of directories that were hashed.
    pub directory_bytes: U64,
}

/// XFS.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct Xfs {
    /// [`VERSION`].
    pub version: U32,
    /// Cycle of the log's last block before the head.
    pub cycle: U32,
    /// BLAKE3 of the superblock's first 512 bytes.
    pub superblock: [u8; 32],
    /// BLAKE3 of the log around its head.
    pub log: [u8; 32],
    /// The log's head: its block of 512 bytes, from the log's start.
    pub head: U64,
}

/// Btrfs.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct Btrfs {
    /// [`VERSION`].
    pub version: U32,
    /// 0.
    pub reserved: U32,
    /// BLAKE3 of the superblock, 4096 bytes, with zeros for its checksum and what it says of the
    /// one device.
    pub superblock: [u8; 32],
    /// Its generation: the last transaction.
    pub generation: U64,
    /// Where the tree of trees is.
    pub root: U64,
    /// Where the tree with what was fsynced since is, or 0.
    pub log_root: U64,
}

/// A swap area.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct Swap {
    /// [`VERSION`].
    pub version: U32,
    /// Whether it was hidden, 0 or 1.
    pub hidden: U32,
    /// BLAKE3 of the first 4096 bytes as they are when it is hidden.
    pub header: [u8; 32],
    /// Number of its last page.
    pub last_page: U32,
    /// 0.
    pub reserved: U32,
}

const _: () = {
    assert!(size_of::<Ext>() == 104 && offset_of!(Ext, mounted) == 72);
    assert!(size_of::<Vfat>() == 112 && offset_of!(Vfat, directory_bytes) == 104);
    assert!(size_of::<Xfs>() == 80 && offset_of!(Xfs, head) == 72);
    assert!(size_of::<Btrfs>() == 64 && offset_of!(Btrfs, generation) == 40);
    assert!(size_of::<Swap>() == 48);
};
