//! Pages into chunks.

use std::sync::Arc;

use xxhash_rust::xxh32::xxh32;
use zerocopy::IntoBytes;

use crate::crypt::Keys;
use crate::draft::{Draft, Setting};
use crate::error::Error;
use crate::layout::{ChunkHead, Run, CODEC_NONE, MAX_RUNS, RUN_BASE, RUN_DATA, RUN_ZERO};
use crate::mark::Totals;
use crate::output::Output;
use crate::pool::Pool;
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

/// Collects pages and writes a chunk when it is full, or has it compressed by another thread and writes it
/// later; in the same order, and with the same bytes.
pub struct Packer {
    setting: Arc<Setting>,
    /// What is being collected.
    draft: Draft,
    pool: Pool,
    hasher: blake3::Hasher,
    /// A chunk was begun and not written: encrypted a second time it would be plain again.
    broken: bool,
    /// Chunks that were begun.
    begun: u64,
    /// Pages in them.
    pages: u64,
    /// Of all pages, and of the chunks that were written.
    pub totals: Totals,
}

impl Packer {
    /// With so many threads that compress; without any if it is 0.
    pub fn new(setting: Setting, workers: usize) -> Result<Self, Error> {
        let draft = Draft::new(&setting)?;
        let setting = Arc::new(setting);
        Ok(Self {
            draft,
            pool: Pool::start(workers, &setting),
            setting,
            hasher: blake3::Hasher::new(),
            broken: false,
            begun: 0,
            pages: 0,
            totals: Totals::default(),
        })
    }

    /// Takes a page of a kind, `RUN_*`; says whether that filled a chunk.
    pub fn page<T: Target>(
        &mut self,
        pfn: u64,
        page: &[u8],
        kind: u32,
        out: &mut Output<T>,
    ) -> Result<bool, Error> {
        let mut full = false;
        let fits = |run: &&mut Run| {
            let next = run.pfn.get() + u64::from(run.count.get());
            run.kind == kind && next == pfn && run.count < u32::MAX
        };
        if let Some(run) = self.draft.runs.last_mut().filter(fits) {
            run.count += 1;
        } else {
            if self.draft.runs.len() == MAX_RUNS {
                self.end(out)?;
                full = true;
            }
            self.draft.runs.push(Run {
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
                self.draft.raw.extend_from_slice(page);
                if self.draft.raw.len() >= self.setting.capacity {
                    self.end(out)?;
                    full = true;
                }
            }
        }
        Ok(full)
    }

    /// Ends the chunk that is being collected, if there is anything in it.
    fn end<T: Target>(&mut self, out: &mut Output<T>) -> Result<(), Error> {
        if self.draft.runs.is_empty() {
            return Ok(());
        }
        if std::mem::replace(&mut self.broken, true) {
            return Err(Error::Invalid("a write failed before"));
        }
        self.draft.number = self.begun;
        self.draft.first_page = self.pages;
        self.begun += 1;
        self.pages = self.totals.pages();
        if self.pool.len() == 0 {
            self.draft.press(&self.setting);
            put(
                &mut self.draft,
                &self.setting,
                &mut self.hasher,
                &mut self.totals,
                out,
            )?;
            self.draft.clear();
        } else {
            if self.pool.is_full() {
                self.write_first(out)?;
            }
            self.pool.swap(&mut self.draft)?;
        }
        self.broken = false;
        Ok(())
    }

    /// Writes the first of the chunks that are with other threads; says whether there was one.
    fn write_first<T: Target>(&mut self, out: &mut Output<T>) -> Result<bool, Error> {
        let Some(mut draft) = self.pool.take()? else {
            return Ok(false);
        };
        put(
            &mut draft,
            &self.setting,
            &mut self.hasher,
            &mut self.totals,
            out,
        )?;
        self.pool.back(draft);
        Ok(true)
    }

    /// Writes all that was collected.
    pub fn finish<T: Target>(&mut self, out: &mut Output<T>) -> Result<(), Error> {
        self.end(out)?;
        if std::mem::replace(&mut self.broken, true) {
            return Err(Error::Invalid("a write failed before"));
        }
        while self.write_first(out)? {}
        self.broken = false;
        Ok(())
    }

    /// Threads that compress.
    pub fn workers(&self) -> usize {
        self.pool.len()
    }

    /// The image's keys, if it is encrypted.
    pub fn keys(&self) -> Option<&Keys> {
        self.setting.keys.as_deref()
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

/// Writes a chunk, and counts it.
fn put<T: Target>(
    draft: &mut Draft,
    setting: &Setting,
    hasher: &mut blake3::Hasher,
    totals: &mut Totals,
    out: &mut Output<T>,
) -> Result<(), Error> {
    let head = draft.put(setting.keys.is_some(), hasher, out)?;
    totals.chunks += 1;
    totals.runs += draft.runs.len() as u64;
    totals.stored_bytes += u64::from(head.stored_len.get());
    totals.raw_chunks += u64::from(head.codec == CODEC_NONE && head.raw_len > 0);
    Ok(())
}
