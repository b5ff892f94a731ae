//! Pages into chunks.

use xxhash_rust::xxh32::xxh32;
use zerocopy::{FromZeros, IntoBytes};

use crate::codec::{Codec, Compressor};
use crate::error::Error;
use crate::layout::{
    ChunkHead, Run, BLOCK, CHUNK_ALIGN, CHUNK_MAGIC, CODEC_NONE, MAX_RUNS, RUN_BASE, RUN_DATA,
    RUN_ZERO,
};
use crate::mark::Totals;
use crate::output::Output;
use crate::target::Target;

/// First eight bytes of the header's digest, which every chunk carries.
pub fn tag(header_digest: &[u8; 32]) -> u64 {
    let mut tag = [0; 8];
    tag.copy_from_slice(&header_digest[..8]);
    u64::from_le_bytes(tag)
}

/// XXH32 of a chunk's contents. Any change of four bytes that are aligned shows; so does any other, but
/// for one in four thousand million.
pub fn sum_of(bytes: &[u8]) -> u32 {
    xxh32(bytes, 0)
}

/// CRC-32 of a chunk's head (its `crc` as 0) and run table.
pub fn checksum(head: &ChunkHead, runs: &[u8]) -> u32 {
    let mut copy = *head;
    copy.crc.set(0);
    let mut crc = crc32fast::Hasher::new();
    crc.update(copy.as_bytes());
    crc.update(runs);
    crc.finalize()
}

/// Collects pages and writes a chunk when it is full.
pub struct Packer {
    tag: u64,
    codec: Codec,
    compressor: Compressor,
    runs: Vec<Run>,
    /// The pages with contents; its capacity is that of a chunk.
    raw: Vec<u8>,
    capacity: usize,
    hasher: blake3::Hasher,
    /// Pages in the chunks that were written.
    pages: u64,
    /// Of the chunks that were written.
    pub totals: Totals,
}

impl Packer {
    pub fn new(tag: u64, codec: Codec, chunk_pages: u32) -> Result<Self, Error> {
        let capacity = chunk_pages as usize * BLOCK;
        let (mut runs, mut raw) = (Vec::new(), Vec::new());
        runs.try_reserve_exact(MAX_RUNS)?;
        raw.try_reserve_exact(capacity)?;
        Ok(Self {
            tag,
            codec,
            compressor: Compressor::new(codec, capacity)?,
            runs,
            raw,
            capacity,
            hasher: blake3::Hasher::new(),
            pages: 0,
            totals: Totals::default(),
        })
    }

    /// Takes a page of a kind, `RUN_*`; says whether that filled a chunk, which was written then.
    pub fn page<T: Target>(
        &mut self,
        pfn: u64,
        page: &[u8],
        kind: u32,
        out: &mut Output<T>,
    ) -> Result<bool, Error> {
        let mut wrote = false;
        let fits = |run: &&mut Run| {
            let next = run.pfn.get() + u64::from(run.count.get());
            run.kind == kind && next == pfn && run.count < u32::MAX
        };
        if let Some(run) = self.runs.last_mut().filter(fits) {
            run.count += 1;
        } else {
            if self.runs.len() == MAX_RUNS {
                self.write(out)?;
                wrote = true;
            }
            self.runs.push(Run {
                pfn: pfn.into(),
                count: 1.into(),
                kind: kind.into(),
            });
        }
        match kind {
            RUN_ZERO => self.totals.zero_pages += 1,
            RUN_BASE => self.totals.base_pages += 1,
            _ => {
                debug_assert_eq!(kind, RUN_DATA);
                self.totals.data_pages += 1;
                self.raw.extend_from_slice(page);
                if self.raw.len() >= self.capacity {
                    self.write(out)?;
                    wrote = true;
                }
            }
        }
        Ok(wrote)
    }

    /// Writes what was collected, if anything.
    pub fn write<T: Target>(&mut self, out: &mut Output<T>) -> Result<(), Error> {
        if self.runs.is_empty() {
            return Ok(());
        }
        let (codec, payload) = match self.compressor.compress(&self.raw) {
            Some(smaller) => (self.codec.number(), smaller),
            None => (CODEC_NONE, &self.raw[..]),
        };
        let mut head = ChunkHead::new_zeroed();
        head.magic = CHUNK_MAGIC;
        head.tag.set(self.tag);
        head.index.set(self.totals.chunks);
        head.run_count.set(self.runs.len() as u32);
        head.raw_len.set(self.raw.len() as u32);
        head.stored_len.set(payload.len() as u32);
        head.codec.set(codec);
        let sum = sum_of(payload);
        head.stored_sum.set(sum);
        // What is stored as it is needs no second look.
        let same = codec == CODEC_NONE;
        head.raw_sum.set(if same { sum } else { sum_of(&self.raw) });
        head.first_page.set(self.pages);
        head.crc.set(checksum(&head, self.runs.as_bytes()));
        for part in [head.as_bytes(), self.runs.as_bytes()] {
            self.hasher.update(part);
            out.push(part)?;
        }
        out.push(payload)?;
        out.pad(CHUNK_ALIGN)?;

        self.totals.chunks += 1;
        self.totals.runs += self.runs.len() as u64;
        self.totals.stored_bytes += payload.len() as u64;
        self.totals.raw_chunks += u64::from(codec == CODEC_NONE && !self.raw.is_empty());
        self.pages = self.totals.pages();
        self.runs.clear();
        self.raw.clear();
        Ok(())
    }

    /// Digests the table of pages too, after the last chunk.
    pub fn seal_table(&mut self, digest: &[u8; 32]) {
        self.hasher.update(digest);
    }

    /// BLAKE3 of all heads and run tables, and of the table's digest.
    pub fn digest(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }
}
