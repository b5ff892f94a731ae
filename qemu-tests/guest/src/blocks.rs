// SPDX-License-Identifier: GPL-2.0

//! Blocks of bytes that follow from a number: what goes over a TCP connection, so that both ends know
//! every byte. The host's end includes this file.

/// Bytes in a block.
pub const BLOCK: usize = 1024;
/// What blocks of a client start with.
pub const REQUEST: u64 = 0x5245_5155_4553_5421;
/// What blocks of a server start with.
pub const ANSWER: u64 = 0x414e_5357_4552_2121;

/// The splitmix64 generator's output for state `x`: a cheap, well-mixed function of a number.
pub fn splitmix64(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Block `index` of the stream that starts with `salt`.
pub fn block(salt: u64, index: u64) -> [u8; BLOCK] {
    let mut bytes = [0; BLOCK];
    for (i, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&splitmix64(salt ^ index << 16 ^ i as u64).to_le_bytes());
    }
    bytes
}
