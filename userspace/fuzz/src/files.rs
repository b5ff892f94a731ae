// SPDX-License-Identifier: GPL-2.0

//! Good files, small ones, and the mending of their checksums after damage.

mod core;
mod image;
mod kernels;

pub use self::core::{memory, peer, resumable, whole, ENTRY, HANDOFF};
pub use self::image::{image, mend_guards, mend_header, mend_image, saved_machine};
pub use self::kernels::{bzimage, elf, PC};

use std::mem::offset_of;

use kjump_abi::{crc32, Handoff};

/// Mends the checksum of a handoff block, as far as it says that it reaches.
pub fn mend_handoff(page: &mut [u8]) {
    const CRC: usize = offset_of!(Handoff, crc);
    const SIZE: usize = offset_of!(Handoff, size);
    let Some(size) = page.get(SIZE..SIZE + 4) else {
        return;
    };
    let size = u32::from_le_bytes([size[0], size[1], size[2], size[3]]) as usize;
    mend(page, size, CRC, |bytes| crc32(0, bytes));
}

/// Mends a checksum of four bytes at `crc` over the first `len` bytes, itself as 0.
pub fn mend(bytes: &mut [u8], len: usize, crc: usize, sum: impl Fn(&[u8]) -> u32) {
    let Some(covered) = bytes.get_mut(..len).filter(|c| c.len() >= crc + 4) else {
        return;
    };
    covered[crc..crc + 4].fill(0);
    let sum = sum(covered);
    covered[crc..crc + 4].copy_from_slice(&sum.to_le_bytes());
}
