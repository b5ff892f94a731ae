//! kjump's image format: a machine's saved memory on a partition, in the blocks of a file, or in a
//! stream. docs/image-format.md is its specification, [`layout`] its structures.
//!
//! Writing: [`Writer::begin`] makes an older image invalid, [`Writer::write`] takes pages in
//! ascending order, [`Writer::finish`] commits. Dropped before that, the writer leaves no image.
//!
//! Reading: [`Image::open`] checks everything in front of the chunks, [`Image::chunks`] yields them
//! one by one, checked, and ends with [`Verified`], which [`mark_resuming`] asks for.
//!
//! An encrypted image is as any other up to its chunks, which [`Image::unlock`] makes readable.
//!
//! Sizes are in bytes unless a name says pages; a page has 4096 bytes and is named by its number,
//! physical address / 4096. Memory: a writer takes 1.4 MiB with the defaults, with Zstandard
//! 2.4 MiB, a reader 0.5 MiB and 0.2 MiB for each image below; nothing that an image says makes either take more than [`layout::MAX_CHUNK_PAGES`] allows.
#![forbid(unsafe_code)]

mod ahead;
mod announce;
mod below;
mod bounds;
mod buffer;
mod chunk;
mod chunks;
mod codec;
mod crypt;
mod desk;
mod device;
mod draft;
mod error;
mod extents;
mod guard;
mod header;
mod image;
mod input;
mod inspect;
pub mod layout;
mod mark;
mod output;

mod pool;
mod state;
mod stream;
mod table;
mod target;
mod writer;

pub use ahead::Ahead;
pub use announce::{announce, announced};
pub use buffer::Aligned;
pub use chunks::{Chunk, Chunks, Piece, Verified};
pub use codec::Codec;
pub use crypt::{Encryption, KeySource, MasterKey, KDF_LANES, KDF_MEMORY, KDF_PASSES, KDF_WORK};
pub use device::Device;
pub use error::{Error, Refusal};
pub use extents::{Extent, Extents, ExtentsError};
pub use guard::{decode as decode_guards, encode as encode_guards, Guard};
pub use header::{Header, CHUNK_PAGES};
pub use image::{hex, Image, Link, Machine};
pub use inspect::{uuid, Inspection};
pub use kjump_abi::{Range, ARCH_I386, ARCH_X86_64};
pub use mark::{now, Totals};
pub use state::{discard, mark_resuming, refuse, wipe, withdraw, State};
pub use stream::{StreamSource, StreamTarget};
pub use table::{table_size, Base, PageTable};
pub use target::{Source, Target};
pub use writer::{worst_case, OnProgress, Options, Progress, Summary, Writer};

/// Bytes in a page.
pub const PAGE: usize = layout::BLOCK;
