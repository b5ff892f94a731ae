//! The structures that lie on the disk beside an image. docs/image-format.md specifies them.
//!
//! As in `kjump_image::layout`: little-endian, alignment 1, padding explicit.

use core::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::block::BLOCK;

/// Version of both structures.
pub const VERSION: u32 = 1;

/// [`MapBlock::magic`].
pub const MAP_MAGIC: [u8; 8] = *b"KJUMPMAP";
/// Extents in a block of a map.
pub const MAP_EXTENTS: usize = (BLOCK - 64) / 16;

/// A piece of a file, bytes on the device.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct MapExtent {
    /// Where it starts.
    pub offset: U64,
    /// Its length, not 0.
    pub length: U64,
}

/// A block of the list of a file's blocks.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct MapBlock {
    /// [`MAP_MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U32,
    /// CRC-32 of the block with this field as 0.
    pub crc: U32,
    /// Number of this block, from 0.
    pub index: U32,
    /// Blocks of the map: the first so many of the file.
    pub blocks: U32,
    /// Entries of `extents` in use here.
    pub count: U32,
    /// 0.
    pub reserved: U32,
    /// Where the next block is on the device; 0 in the last.
    pub next: U64,
    /// Bytes of the rest of the file, all extents of all blocks together.
    pub length: U64,
    /// Random; the same in all blocks of a map.
    pub id: [u8; 16],
    /// The rest of the file in its order.
    pub extents: [MapExtent; MAP_EXTENTS],
}

/// [`BundleFooter::magic`].
pub const BUNDLE_MAGIC: [u8; 8] = *b"KJUMPBUN";
/// Bytes of the longest command line: what an i386 kernel takes.
pub const COMMAND_LINE: usize = 2048;

/// A part of a bundle.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct BundlePart {
    /// Where it starts, from the start of the room for the image; a multiple of 4096.
    pub offset: U64,
    /// Bytes.
    pub length: U64,
    /// BLAKE3.
    pub digest: [u8; 32],
}

/// The last block of a target that has a bundle.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct BundleFooter {
    /// [`BUNDLE_MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U32,
    /// CRC-32 of the block with this field as 0.
    pub crc: U32,
    /// Bytes of the room that image and bundle share; ends behind this block.
    pub container: U64,
    /// The kernel.
    pub kernel: BundlePart,
    /// The initrd, of length 0 if there is none.
    pub initrd: BundlePart,
    /// Bytes of `command_line` in use.
    pub command_line_len: U32,
    /// 0.
    pub reserved0: U32,
    /// UTF-8, without NUL.
    pub command_line: [u8; COMMAND_LINE],
    /// Zeros.
    pub reserved1: [u8; BLOCK - 128 - COMMAND_LINE],
}

// The layouts, checked for whatever width this is compiled for.
const _: () = {
    assert!(size_of::<MapBlock>() == BLOCK && MAP_EXTENTS == 252);
    assert!(offset_of!(MapBlock, crc) == 12 && offset_of!(MapBlock, count) == 24);
    assert!(offset_of!(MapBlock, next) == 32 && offset_of!(MapBlock, length) == 40);
    assert!(offset_of!(MapBlock, id) == 48 && offset_of!(MapBlock, extents) == 64);
    assert!(size_of::<BundleFooter>() == BLOCK && size_of::<BundlePart>() == 48);
    assert!(offset_of!(BundleFooter, crc) == 12 && offset_of!(BundleFooter, container) == 16);
    assert!(offset_of!(BundleFooter, kernel) == 24 && offset_of!(BundleFooter, initrd) == 72);
    assert!(offset_of!(BundleFooter, command_line_len) == 120);
    assert!(offset_of!(BundleFooter, command_line) == 128);
};
