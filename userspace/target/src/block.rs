//! Memory as O_DIRECT wants it, in blocks.

use std::collections::TryReserveError;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Bytes of a block.
pub const BLOCK: usize = 4096;
/// The same, as offsets have it.
pub const BLOCK64: u64 = BLOCK as u64;

/// 4096 bytes at an address that is a multiple of that.
#[repr(C, align(4096))]
#[derive(Clone, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Block(pub [u8; BLOCK]);

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Block")
    }
}

impl Block {
    /// Zeros.
    pub const ZERO: Self = Self([0; BLOCK]);

    /// What has the size of a block, as one.
    pub fn of(value: &(impl IntoBytes + Immutable)) -> Self {
        let mut block = Self::ZERO;
        value.write_to_prefix(&mut block.0).ok();
        block
    }
}

/// So many blocks of zeros.
pub fn blocks(count: usize) -> Result<Vec<Block>, TryReserveError> {
    let mut blocks = Vec::new();
    blocks.try_reserve_exact(count)?;
    blocks.resize_with(count, Block::new_zeroed);
    Ok(blocks)
}

/// Down to a multiple of the block.
pub const fn down(bytes: u64) -> u64 {
    bytes - bytes % BLOCK64
}
