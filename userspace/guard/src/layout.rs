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
    assert!(size_of::<Swap>() == 48);
};
