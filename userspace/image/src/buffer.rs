//! Memory as O_DIRECT wants it.

use std::collections::TryReserveError;

use crate::layout::BLOCK;

/// Bytes at an address that is a multiple of [`BLOCK`].
#[derive(Debug)]
pub struct Aligned {
    /// Never grows, so never moves.
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// `len` zeros.
    pub fn new(len: usize) -> Result<Self, TryReserveError> {
        let memory = zeros(len + BLOCK)?;
        let start = memory.as_ptr().addr().wrapping_neg() % BLOCK;
        Ok(Self { memory, start, len })
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    /// All of it.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

/// `len` zeros, or an error where there is no memory.
pub fn zeros(len: usize) -> Result<Vec<u8>, TryReserveError> {
    let mut memory = Vec::new();
    memory.try_reserve_exact(len)?;
    memory.resize(len, 0);
    Ok(memory)
}

/// Whether all bytes are zero, looked at eight at a time.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let zero = |words: &[[u8; 8]]| words.iter().fold(0, |a, w| a | u64::from_ne_bytes(*w)) == 0;
    words.chunks(16).all(zero) && rest.iter().all(|b| *b == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned() {
        for len in [0, 1, 4096, 100_000] {
            let mut b = Aligned::new(len).unwrap();
            assert_eq!(b.bytes().as_ptr().addr() % BLOCK, 0);
            assert_eq!(b.bytes_mut().len(), len);
        }
    }

    #[test]
    fn zero_is_zero() {
        let mut page = [0; 4096 + 3];
        assert!(is_zero(&page));
        for i in [0, 127, 128, 4000, 4095, 4098] {
            page[i] = 0x10;
            assert!(!is_zero(&page));
            page[i] = 0;
        }
    }
}
