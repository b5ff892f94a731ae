//! Claimed memory, a region mapped at a time: where the pages of a saved kernel go.

use std::io;

use kjump_abi::PAGE_SIZE;
use kjump_image::{Chunk, Piece};

use crate::device::{Device, Memory};

/// Bytes mapped at a time.
const REGION: u64 = 4 << 20;

/// Where pages go, a region mapped at a time.
pub struct Places<'a> {
    device: &'a Device,
    mapped: Option<(u64, Memory)>,
}

impl<'a> Places<'a> {
    /// Nothing is mapped yet. The memory must have been claimed.
    pub fn new(device: &'a Device) -> Self {
        let mapped = None;
        Self { device, mapped }
    }

    /// Puts the pages of a chunk to their places.
    pub fn put(&mut self, chunk: &Chunk) -> io::Result<()> {
        for piece in chunk.pieces() {
            match piece {
                Piece::Data { pfn, bytes } => {
                    let (mut at, mut rest) = (pfn * PAGE_SIZE, bytes);
                    while !rest.is_empty() {
                        let place = self.place(at, rest.len() as u64)?;
                        let (now, later) = rest.split_at(place.len());
                        place.copy_from_slice(now);
                        (at, rest) = (at + now.len() as u64, later);
                    }
                }
                Piece::Zero { pfn, count } => {
                    let (mut at, end) = (pfn * PAGE_SIZE, (pfn + count) * PAGE_SIZE);
                    while at < end {
                        let place = self.place(at, end - at)?;
                        place.fill(0);
                        at += place.len() as u64;
                    }
                }
            }
        }
        Ok(())
    }

    /// The memory at `at`, bytes; as much of `len` as lies in one region.
    pub fn place(&mut self, at: u64, len: u64) -> io::Result<&mut [u8]> {
        let region = at / REGION * REGION;
        if self.mapped.as_ref().is_none_or(|(r, _)| *r != region) {
            // The old one goes first: page tables are short.
            self.mapped = None;
            let memory = self.device.map(region, REGION as usize, true)?;
            self.mapped = Some((region, memory));
        }
        let len = len.min(region + REGION - at) as usize;
        match &mut self.mapped {
            Some((_, memory)) => Ok(memory.bytes_mut((at - region) as usize, len)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
