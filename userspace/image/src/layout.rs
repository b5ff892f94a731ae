//! Every structure of an image as it lies on the disk, and where it lies.
//!
//! Needs only `core`. The fields are little-endian types of alignment 1, so that the layout is the
//! same on every machine; 64-bit fields sit at multiples of 8 all the same and padding is explicit,
//! for the readers in C. docs/image-format.md is the specification.

use core::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Everything but the chunks is written in blocks of this size, bytes; a page is as large.
pub const BLOCK: usize = 4096;
/// Bytes that a disk writes all or not at all.
pub const SECTOR: usize = 512;

/// Where the mark with the image's state is, bytes from the start.
pub const STATE_OFFSET: u64 = 0;
/// Where the mark of a restore is, or zeros.
pub const RESUME_OFFSET: u64 = 4096;
/// Where the mark of a discarded image is, or zeros.
pub const DISCARD_OFFSET: u64 = 8192;
/// A block of zeros.
pub const SPARE_OFFSET: u64 = 12288;
/// Where the header is.
pub const HEADER_OFFSET: u64 = 16384;
/// Where the guards are.
pub const GUARDS_OFFSET: u64 = 20480;
/// Bytes that the guards have.
pub const GUARDS_SIZE: u64 = CHUNKS_OFFSET - GUARDS_OFFSET;
/// Where the first chunk is.
pub const CHUNKS_OFFSET: u64 = 65536;

/// Version of this layout, in the marks, the header and the guards.
pub const VERSION: u32 = 2;
/// [`Mark::magic`].
pub const MARK_MAGIC: [u8; 8] = *b"KJUMPMRK";
/// [`Header::magic`].
pub const HEADER_MAGIC: [u8; 8] = *b"KJUMPIMG";
/// [`GuardsHead::magic`].
pub const GUARDS_MAGIC: [u8; 8] = *b"KJUMPGRD";
/// [`ChunkHead::magic`].
pub const CHUNK_MAGIC: [u8; 4] = *b"KJCH";

/// [`Mark::state`] at [`STATE_OFFSET`]: being written; no image.
pub const STATE_WRITING: u32 = 1;
/// [`Mark::state`] at [`STATE_OFFSET`]: written as a stream; an image if the end mark is there.
pub const STATE_STREAM: u32 = 2;
/// [`Mark::state`] at [`STATE_OFFSET`]: an image.
pub const STATE_COMMITTED: u32 = 3;
/// [`Mark::state`] of the end mark.
pub const STATE_END: u32 = 4;
/// [`Mark::state`] at [`RESUME_OFFSET`]: memory was restored from it, and entered.
pub const STATE_RESUMING: u32 = 5;
/// [`Mark::state`] at [`RESUME_OFFSET`]: the restore was taken back before memory was entered.
pub const STATE_WITHDRAWN: u32 = 6;
/// [`Mark::state`] at [`DISCARD_OFFSET`]: not wanted any more.
pub const STATE_DISCARDED: u32 = 7;

/// [`Mark::state`] at [`RESUME_OFFSET`]: a restore found it damaged, or could not read it.
pub const STATE_REFUSED: u32 = 8;

/// What an image comes to: its identity, its hashes and its sums.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
pub struct Seal {
    /// As [`Header::uuid`].
    pub uuid: [u8; 16],
    /// BLAKE3 of the header's block.
    pub header_digest: [u8; 32],
    /// BLAKE3 of the guards' [`GUARDS_SIZE`] bytes.
    pub guards_digest: [u8; 32],
    /// BLAKE3 of all chunks' heads and run tables, one after the other.
    pub chunks_digest: [u8; 32],
    /// Bytes from the start of the image to behind the end mark's block.
    pub image_bytes: U64,
    /// Chunks.
    pub chunks: U64,
    /// Runs in them.
    pub runs: U64,
    /// Pages with contents.
    pub data_pages: U64,
    /// Pages of zeros.
    pub zero_pages: U64,
    /// Bytes of all payloads as stored.
    pub stored_bytes: U64,
    /// Chunks with contents whose payload is not compressed.
    pub raw_chunks: U64,
}

/// A state, in one sector. The rest of its block is zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct Mark {
    /// [`MARK_MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U32,
    /// CRC-32 of the sector with this field as 0.
    pub crc: U32,
    /// `STATE_*`.
    pub state: U32,
    /// 0.
    pub reserved0: U32,
    /// When this was written, seconds since 1970 UTC by the writer's clock.
    pub time: U64,
    /// What the mark is about. Before an image is complete only the UUID and the header's digest
    /// are filled in.
    pub seal: Seal,
    /// BLAKE3 of `seal`: the checksum of the whole image. Zeros before it is complete.
    pub image_digest: [u8; 32],
    /// Of a complete encrypted image: `image_digest`, sealed with its key. Else zeros.
    pub image_seal: [u8; 32],
    /// Zeros.
    pub reserved1: [u8; 248],
}

/// Half-open range of physical addresses, bytes.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
pub struct RamRange {
    /// First byte.
    pub start: U64,
    /// One past the last byte.
    pub end: U64,
}

/// Ranges that a header has room for.
pub const RAM_RANGES: usize = 64;
/// Kinds of pages that are not saved; see [`SKIPPED`].
pub const SKIPPED_KINDS: usize = 8;
/// What the slots of [`Header::skipped`] count; the rest are 0.
pub const SKIPPED: [&str; 5] = ["free", "hole", "firmware", "nosave", "window"];
/// [`Header::flags`]: may be resumed more than once.
pub const FLAG_SNAPSHOT: u32 = 1;
/// [`Header::flags`]: encrypted; [`Header::key`] says how.
pub const FLAG_ENCRYPTED: u32 = 2;
/// [`Header::flags`]: there is a table of its pages; see [`TableHead`].
pub const FLAG_TABLE: u32 = 4;
/// [`Header::flags`]: pages that are in another image too are read from there; see [`Incremental`].
pub const FLAG_BASE: u32 = 8;
/// Flags that this version knows; an image with others is refused.
pub const FLAGS: u32 = FLAG_SNAPSHOT | FLAG_ENCRYPTED | FLAG_TABLE | FLAG_BASE;

/// What is known before the first page is read: one block.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct Header {
    /// [`HEADER_MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U32,
    /// Bytes of this structure.
    pub size: U32,
    /// CRC-32 of the header with this field as 0.
    pub crc: U32,
    /// `FLAG_*`.
    pub flags: U32,
    /// Architecture of the saved kernel: 1 i386, 2 x86_64.
    pub arch: U32,
    /// Bytes in a page.
    pub page_size: U32,
    /// The image's UUID.
    pub uuid: [u8; 16],
    /// When saving began, seconds since 1970 UTC by the writer's clock.
    pub created: U64,
    /// The machine's fingerprint, as in the handoff block.
    pub fingerprint: U64,
    /// `uname -r` of the saved kernel, padded with NUL.
    pub release: [u8; 64],
    /// Identity of that kernel's build: a hash of its `linux_banner` or its build id.
    pub build_id: [u8; 32],
    /// CPU features that the saved kernel relies on; for the one who wrote it to interpret.
    pub cpu_features: [u8; 64],
    /// The window is RAM in `[0, window_end)`, bytes. No saved page lies in it.
    pub window_end: U64,
    /// Physical address at which the saved kernel is entered.
    pub jump_back_entry: U64,
    /// Pages in the image, with contents or zero.
    pub pages: U64,
    /// Pages of RAM that are not in it, by kind: [`SKIPPED`].
    pub skipped: [U64; SKIPPED_KINDS],
    /// [`GUARDS_OFFSET`].
    pub guards_offset: U64,
    /// [`GUARDS_SIZE`].
    pub guards_size: U64,
    /// [`CHUNKS_OFFSET`]; with [`FLAG_TABLE`] the table is there, and the chunks come behind it.
    pub chunks_offset: U64,
    /// How payloads are compressed, unless a chunk says that its own is not: `CODEC_*`.
    pub codec: U32,
    /// Pages with contents that a chunk holds at most.
    pub chunk_pages: U32,
    /// Entries of `ram` in use.
    pub ram_count: U32,
    /// 0.
    pub reserved0: U32,
    /// The machine's RAM, ascending. Every saved page lies in it.
    pub ram: [RamRange; RAM_RANGES],
    /// With [`FLAG_ENCRYPTED`]; else zeros.
    pub key: KeyInfo,
    /// Zeros.
    pub reserved1: [u8; INCREMENTAL_AT - HEADER_USED],
    /// The table of pages, and the base; zeros without.
    pub incremental: Incremental,
}
const HEADER_USED: usize = 352 + 16 * RAM_RANGES + size_of::<KeyInfo>();
const INCREMENTAL_AT: usize = BLOCK - size_of::<Incremental>();

/// How an image is encrypted.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct KeyInfo {
    /// Where the master key comes from: `KEY_*`.
    pub source: U32,
    /// Kibibytes of memory that Argon2id takes.
    pub memory: U32,
    /// Its passes.
    pub passes: U32,
    /// Its lanes.
    pub lanes: U32,
    /// Its salt.
    pub salt: [u8; 16],
    /// What the image's keys come from beside the master key and the UUID.
    pub nonce: [u8; 32],
    /// Tells the right key from others.
    pub check: [u8; 32],
    /// The header, sealed: with its checksum and this as zeros.
    pub seal: [u8; 32],
}

/// [`KeyInfo::source`]: a passphrase, by Argon2id.
pub const KEY_PASSPHRASE: u32 = 1;
/// [`KeyInfo::source`]: a key file.
pub const KEY_FILE: u32 = 2;

/// Where an image's table of pages is, and what image it builds on.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct Incremental {
    /// Bytes of the table, which is at [`CHUNKS_OFFSET`]; 0 without [`FLAG_TABLE`].
    pub table_size: U64,
    /// Images below this one; 0 without [`FLAG_BASE`], and so for the rest.
    pub depth: U32,
    /// 0.
    pub reserved0: U32,
    /// [`Header::uuid`] of the base.
    pub base_uuid: [u8; 16],
    /// [`Mark::image_digest`] of the base's commit record.
    pub base_digest: [u8; 32],
    /// Where the base was when this was saved, as a target is named; UTF-8, padded with NUL.
    pub base_at: [u8; BASE_AT_SIZE],
    /// Zeros.
    pub reserved1: [u8; 192],
}
/// Bytes that [`Incremental::base_at`] has.
pub const BASE_AT_SIZE: usize = 256;
/// [`Incremental::depth`] is at most this: each takes memory while it is read.
pub const MAX_DEPTH: u32 = 4;

/// Head of a block of the table of pages; [`TABLE_ENTRIES`] [`TableEntry`]s follow. In the last block
/// those that are not needed are zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct TableHead {
    /// CRC-32 of the block with this field as 0.
    pub crc: U32,
    /// Number of the block, from 0.
    pub index: U32,
    /// First eight bytes of the header's digest.
    pub tag: U64,
}

/// A page of the image.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
pub struct TableEntry {
    /// Its number.
    pub pfn: U64,
    /// First 16 bytes of its BLAKE3; of a page of zeros, zeros.
    pub hash: [u8; 16],
}

/// Entries in a block of the table.
pub const TABLE_ENTRIES: usize = (BLOCK - size_of::<TableHead>()) / size_of::<TableEntry>();

/// A payload is stored as it is.
pub const CODEC_NONE: u32 = 0;
/// LZ4's block format.
pub const CODEC_LZ4: u32 = 1;
/// One Zstandard frame.
pub const CODEC_ZSTD: u32 = 2;

/// [`Header::chunk_pages`] is `1..=MAX_CHUNK_PAGES`.
pub const MAX_CHUNK_PAGES: u32 = 256;

/// Head of the guards; `count` [`GuardRecord`]s follow, then zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct GuardsHead {
    /// [`GUARDS_MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U32,
    /// Bytes of a [`GuardRecord`].
    pub record_size: U32,
    /// CRC-32 of all [`GUARDS_SIZE`] bytes with this field as 0.
    pub crc: U32,
    /// Records.
    pub count: U32,
    /// In an encrypted image: all [`GUARDS_SIZE`] bytes, sealed, with the checksum and this as zeros.
    /// Else zeros.
    pub seal: [u8; 32],
    /// Zeros.
    pub reserved: [u8; 8],
}

/// What one device looked like when the image was made.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct GuardRecord {
    /// What was recorded and how `data` reads; numbers are given out in the specification.
    pub kind: U32,
    /// Bytes of `data` in use.
    pub data_len: U32,
    /// Which device.
    pub device: [u8; 16],
    /// Its name for people, UTF-8, padded with NUL.
    pub label: [u8; 104],
    /// What any writable mount would change.
    pub data: [u8; 256],
}

/// Records that [`GUARDS_SIZE`] bytes have room for.
pub const MAX_GUARDS: usize =
    (GUARDS_SIZE as usize - size_of::<GuardsHead>()) / size_of::<GuardRecord>();

/// Head of a chunk; `run_count` [`Run`]s follow, then the payload, then zeros up to a multiple of
/// [`CHUNK_ALIGN`]. In an encrypted image runs and payload are encrypted, and 16 bytes of tag follow
/// each.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
pub struct ChunkHead {
    /// [`CHUNK_MAGIC`].
    pub magic: [u8; 4],
    /// CRC-32 of the head, with this field as 0, and of the run table as stored.
    pub crc: U32,
    /// First eight bytes of the header's digest: chunks of another image do not fit.
    pub tag: U64,
    /// Number of the chunk, from 0.
    pub index: U64,
    /// Runs, `1..=MAX_RUNS`.
    pub run_count: U32,
    /// Bytes of the pages with contents: 4096 for each.
    pub raw_len: U32,
    /// Bytes of the payload, at most `raw_len`.
    pub stored_len: U32,
    /// `CODEC_NONE`, or the header's.
    pub codec: U32,
    /// XXH32 of the payload as stored.
    pub stored_sum: U32,
    /// XXH32 of the pages with contents; 0 in an encrypted image, as it would tell about them.
    pub raw_sum: U32,
    /// Pages in the chunks before this one.
    pub first_page: U64,
    /// 0.
    pub reserved: U64,
}

/// [`ChunkHead::run_count`] is at most this: head and runs fit a block.
pub const MAX_RUNS: usize = (BLOCK - size_of::<ChunkHead>()) / size_of::<Run>();
/// Chunks start at multiples of this, bytes.
pub const CHUNK_ALIGN: usize = 8;

/// Consecutive pages of one kind.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
pub struct Run {
    /// Number of the first page: its physical address / 4096.
    pub pfn: U64,
    /// Pages, not 0.
    pub count: U32,
    /// `RUN_*`.
    pub kind: U32,
}
/// [`Run::kind`]: the pages' contents are the next of the payload.
pub const RUN_DATA: u32 = 1;
/// [`Run::kind`]: the pages are zero.
pub const RUN_ZERO: u32 = 2;
/// [`Run::kind`]: the pages are in the base.
pub const RUN_BASE: u32 = 3;

// The layouts, checked for whatever width this is compiled for.
const _: () = {
    assert!(size_of::<Seal>() == 168);
    assert!(offset_of!(Seal, image_bytes) == 112 && offset_of!(Seal, raw_chunks) == 160);
    assert!(size_of::<Mark>() == SECTOR);
    assert!(offset_of!(Mark, crc) == 12 && offset_of!(Mark, time) == 24);
    assert!(offset_of!(Mark, seal) == 32 && offset_of!(Mark, image_digest) == 200);
    assert!(offset_of!(Mark, image_seal) == 232 && offset_of!(Mark, reserved1) == 264);
    assert!(size_of::<Header>() == BLOCK && size_of::<RamRange>() == 16);
    assert!(offset_of!(Header, crc) == 16 && offset_of!(Header, uuid) == 32);
    assert!(offset_of!(Header, created) == 48 && offset_of!(Header, release) == 64);
    assert!(offset_of!(Header, build_id) == 128 && offset_of!(Header, cpu_features) == 160);
    assert!(offset_of!(Header, window_end) == 224 && offset_of!(Header, pages) == 240);
    assert!(offset_of!(Header, skipped) == 248 && offset_of!(Header, guards_offset) == 312);
    assert!(offset_of!(Header, codec) == 336 && offset_of!(Header, ram) == 352);
    assert!(offset_of!(Header, key) == 1376 && size_of::<KeyInfo>() == 128);
    assert!(offset_of!(KeyInfo, salt) == 16 && offset_of!(KeyInfo, seal) == 96);
    assert!(size_of::<Incremental>() == 512 && offset_of!(Header, incremental) == 3584);
    assert!(offset_of!(Incremental, base_digest) == 32 && offset_of!(Incremental, base_at) == 64);
    assert!(size_of::<TableHead>() == 16 && size_of::<TableEntry>() == 24 && TABLE_ENTRIES == 170);
    assert!(size_of::<GuardsHead>() == 64 && size_of::<GuardRecord>() == 384);
    assert!(offset_of!(GuardsHead, crc) == 16 && offset_of!(GuardsHead, seal) == 24);
    assert!(offset_of!(GuardRecord, device) == 8 && offset_of!(GuardRecord, data) == 128);
    assert!(MAX_GUARDS == 117);
    assert!(size_of::<ChunkHead>() == 64 && size_of::<Run>() == 16 && MAX_RUNS == 252);
    assert!(offset_of!(ChunkHead, tag) == 8 && offset_of!(ChunkHead, run_count) == 24);
    assert!(offset_of!(ChunkHead, stored_sum) == 40 && offset_of!(ChunkHead, first_page) == 48);
};
