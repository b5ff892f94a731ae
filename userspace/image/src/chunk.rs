//! Pages into chunks.

use xxhash_rust::xxh32::xxh32;
use zerocopy::{FromZeros, IntoBytes};

use crate::codec::{Codec, Compressor};
use crate::crypt::{Keys, Part, TAG};
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

/// What a chunk's tags are bound to: its head, without the checksums of what is stored.
pub fn bound(head: &ChunkHead) -> ChunkHead {
    let mut copy = *head;
    copy.crc.set(0);
    copy.stored_sum.set(0);
    copy
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
    keys: Option<Box<Keys>>,
    /// A chunk was begun and not written: encrypted a second time it would be plain again.
    broken: bool,
    /// Pages in the chunks that were written.
    pages: u64,
    /// Of the chunks that were written.
    pub totals: Totals,
}

impl Packer {
    pub fn new(
        tag: u64,
        codec: Codec,
        chunk_pages: u32,
        keys: Option<Box<Keys>>,
    ) -> Result<Self, Error> {
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
            keys,
            broken: false,
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
        if std::mem::replace(&mut self.broken, true) {
            return Err(Error::Invalid("a write failed before"));
        }
        let (raw_len, plain) = (self.raw.len(), self.keys.is_none());
        let smaller = self.compressor.compress(&self.raw);
        let codec = match smaller {
            Some(_) => self.codec.number(),
            None => CODEC_NONE,
        };
        // What is stored as it is needs no second look; and what is encrypted must not be told about.
        let raw_sum = (plain && smaller.is_some()).then(|| sum_of(&self.raw));
        let payload = smaller.unwrap_or(&mut self.raw[..]);
        let mut head = ChunkHead::new_zeroed();
        head.magic = CHUNK_MAGIC;
        head.tag.set(self.tag);
        head.index.set(self.totals.chunks);
        head.run_count.set(self.runs.len() as u32);
        head.raw_len.set(raw_len as u32);
        head.stored_len.set(payload.len() as u32);
        head.codec.set(codec);
        head.first_page.set(self.pages);
        let (mut runs_tag, mut payload_tag) = ([0; TAG], [0; TAG]);
        if let Some(keys) = &self.keys {
            let sealed = bound(&head);
            let (index, sealed) = (head.index.get(), sealed.as_bytes());
            let runs = self.runs.as_mut_bytes();
            runs_tag = keys.encrypt(index, Part::Runs, sealed, runs);
            payload_tag = keys.encrypt(index, Part::Payload, sealed, payload);
        }
        let tags = |tag| match &self.keys {
            None => &[][..],
            Some(_) => tag,
        };
        let (runs_tag, payload_tag) = (tags(&runs_tag), tags(&payload_tag));
        let sum = sum_of(payload);
        head.stored_sum.set(sum);
        if plain {
            head.raw_sum.set(raw_sum.unwrap_or(sum));
        }
        head.crc.set(checksum(&head, self.runs.as_bytes()));
        for part in [head.as_bytes(), self.runs.as_bytes(), runs_tag] {
            self.hasher.update(part);
            out.push(part)?;
        }
        out.push(payload)?;
        self.hasher.update(payload_tag);
        out.push(payload_tag)?;
        out.pad(CHUNK_ALIGN)?;

        self.totals.chunks += 1;
        self.totals.runs += self.runs.len() as u64;
        self.totals.stored_bytes += u64::from(head.stored_len.get());
        self.totals.raw_chunks += u64::from(codec == CODEC_NONE && raw_len > 0);
        self.pages = self.totals.pages();
        self.runs.clear();
        self.raw.clear();
        self.broken = false;
        Ok(())
    }

    /// The image's keys, if it is encrypted.
    pub fn keys(&self) -> Option<&Keys> {
        self.keys.as_deref()
    }

    /// Digests the table of pages too, after the last chunk.
    pub fn seal_table(&mut self, digest: &[u8; 32]) {
        self.hasher.update(digest);
    }

    /// BLAKE3 of all heads and run tables, of tags, and of the table's digest.
    pub fn digest(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }
}
