//! The chunks of an image, each checked before it is handed out.

use std::ops::Range;

use zerocopy::{FromZeros, IntoBytes};
use zeroize::Zeroizing;

use crate::below::{Below, TAKEN};
use crate::buffer::zeros;
use crate::chunk::{bound, checksum, sum_of, tag};
use crate::codec::{decompress, Codec};
use crate::crypt::{same, Part, TAG};
use crate::error::Refusal;
use crate::image::{Image, Link};
use crate::layout::{
    ChunkHead, Mark, Run, Seal, BLOCK, CHUNKS_OFFSET, CHUNK_ALIGN, CHUNK_MAGIC, MAX_RUNS, RUN_BASE,
    RUN_DATA, RUN_ZERO, STATE_COMMITTED, STATE_END,
};
use crate::mark::{is_sealed, parse, Totals};
use crate::table;
use crate::target::Source;
use crate::writer::Progress;

/// What is said of a chunk whose tag is not right.
const ALTERED: &str = "it is not what was written there with this key";

/// Proof that an image was read from its first to its last byte and everything was right.
#[derive(Clone, Copy, Debug)]
pub struct Verified {
    /// Identity, hashes and sums.
    pub seal: Seal,
    pub(crate) snapshot: bool,
}

impl Verified {
    /// The sums.
    pub fn totals(&self) -> Totals {
        Totals::from(&self.seal)
    }
}

/// Consecutive pages, which lie in RAM above the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// With contents.
    Data {
        /// Number of the first page.
        pfn: u64,
        /// Their contents: 4096 bytes each.
        bytes: &'a [u8],
    },
    /// Of zeros.
    Zero {
        /// Number of the first page.
        pfn: u64,
        /// Pages.
        count: u64,
    },
}

/// A chunk that was checked, or a part of it: pages that come from a base are handed out by
/// themselves.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// Its number.
    pub index: u64,
    runs: &'a [Run],
    data: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// What it holds, ascending.
    pub fn pieces(&self) -> impl Iterator<Item = Piece<'a>> {
        let mut data = self.data;
        self.runs.iter().map(move |run| {
            let (pfn, count) = (run.pfn.get(), u64::from(run.count.get()));
            if run.kind == RUN_ZERO {
                return Piece::Zero { pfn, count };
            }
            // The runs add up to the data: that was checked.
            let len = (count as usize).saturating_mul(BLOCK).min(data.len());
            let (bytes, rest) = data.split_at(len);
            data = rest;
            Piece::Data { pfn, bytes }
        })
    }

    /// The same page by page; `None` is a page of zeros.
    pub fn pages(&self) -> impl Iterator<Item = (u64, Option<&'a [u8; BLOCK]>)> {
        self.pieces().flat_map(|piece| {
            let (pfns, bytes): (Range<u64>, &[u8]) = match piece {
                Piece::Data { pfn, bytes } => (pfn..pfn + (bytes.len() / BLOCK) as u64, bytes),
                Piece::Zero { pfn, count } => (pfn..pfn + count, &[]),
            };
            let mut pages = bytes.as_chunks::<BLOCK>().0.iter();
            pfns.map(move |pfn| (pfn, pages.next()))
        })
    }
}

/// Reads chunks one after the other; see [`Image::chunks`].
pub struct Chunks<'i, S: Source> {
    image: &'i mut Image<S>,
    runs: [Run; MAX_RUNS],
    /// Both are wiped in the end, as what was read last may be a key in the saved memory.
    stored: Zeroizing<Vec<u8>>,
    raw: Zeroizing<Vec<u8>>,
    hasher: blake3::Hasher,
    totals: Totals,
    /// The lowest page that may come next.
    next: u64,
    done: Option<Verified>,
    failed: bool,
    /// Runs of the chunk that was read last; the first of them that was not handed out, where its
    /// contents begin, and how many of its pages were handed out, if they are in the base.
    count: usize,
    run: usize,
    data: usize,
    taken: u32,
    below: Option<Below<'i>>,
    /// Keep no more than must be: there may be several of these, and little memory.
    pub(crate) lean: bool,
    /// Of the table of pages, if there is one.
    table_digest: Option<[u8; 32]>,
}

impl<'i, S: Source> Chunks<'i, S> {
    /// `links`: the images below, the next one first.
    pub(crate) fn new(image: &'i mut Image<S>, links: &'i mut [Link]) -> Result<Self, Refusal> {
        if image.header.encryption.is_some() && image.keys.is_none() {
            return Err(Refusal::Locked);
        }
        let below = Below::new(image, links)?;
        image.input.seek(CHUNKS_OFFSET);
        let table_digest = image.header.table.then(|| {
            let (header, input) = (&image.header, &mut image.input);
            let read = |block: &mut [u8]| input.read(block, "the table of pages");
            table::digest_of(header, &image.header_digest, read)
        });
        let table_digest = table_digest.transpose()?;
        let size = image.header.chunk_pages as usize * BLOCK;
        let (stored, raw) = (Zeroizing::default(), Zeroizing::new(zeros(size)?));
        Ok(Self {
            image,
            runs: [Run::new_zeroed(); MAX_RUNS],
            stored,
            raw,
            hasher: blake3::Hasher::new(),
            totals: Totals::default(),
            next: 0,
            done: None,
            failed: false,
            count: 0,
            run: 0,
            data: 0,
            taken: 0,
            below,
            lean: false,
            table_digest,
        })
    }

    /// The next chunk. `None` after the last one, when the whole image has turned out right.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk<'_>>, Refusal> {
        if self.failed {
            let what = "it was refused before";
            return Err(Refusal::Damaged { what });
        }
        if self.done.is_some() {
            return Ok(None);
        }
        // Until this chunk is through.
        self.failed = true;
        if self.run == self.count && !self.next_runs()? {
            self.done = Some(self.end()?);
            self.failed = false;
            return Ok(None);
        }
        let index = self.totals.chunks.saturating_sub(1);
        if self.runs[self.run].kind == RUN_BASE {
            self.take_from_base()?;
            self.failed = false;
            return Ok(self.below.as_ref().map(|below| Chunk {
                index,
                runs: &below.runs,
                data: &below.raw,
            }));
        }
        // All up to what is in the base.
        let rest = &self.runs[self.run..self.count];
        let stop = rest.iter().position(|run| run.kind == RUN_BASE);
        let (runs, _) = rest.split_at(stop.unwrap_or(rest.len()));
        let data = runs.iter().filter(|run| run.kind == RUN_DATA);
        let length: usize = data.map(|run| run.count.get() as usize * BLOCK).sum();
        let data = &self.raw[self.data..self.data + length];
        self.run += runs.len();
        self.data += length;
        self.failed = false;
        Ok(Some(Chunk { index, runs, data }))
    }

    /// Has the next pages of a run that is in the base taken from there.
    fn take_from_base(&mut self) -> Result<(), Refusal> {
        let run = self.runs[self.run];
        let count = (run.count.get() - self.taken).min(TAKEN);
        let pfn = run.pfn.get() + u64::from(self.taken);
        if let Some(below) = &mut self.below {
            below.take(self.image.input.source(), pfn, count)?;
        }
        self.taken += count;
        if run.count == self.taken {
            (self.run, self.taken) = (self.run + 1, 0);
        }
        Ok(())
    }

    /// Page `pfn`, as the base of another image; numbers ascend from call to call. Says whether it
    /// has contents: of a page of zeros `to` is left as it is.
    pub(crate) fn page(&mut self, pfn: u64, to: &mut [u8; BLOCK]) -> Result<bool, Refusal> {
        loop {
            while let Some(run) = self.runs[..self.count].get(self.run) {
                let (first, count) = (run.pfn.get(), u64::from(run.count.get()));
                if pfn < first {
                    break;
                }
                if pfn - first < count {
                    let at = self.data + (pfn - first) as usize * BLOCK;
                    return match (run.kind.get(), &mut self.below) {
                        (RUN_DATA, _) => {
                            to.copy_from_slice(&self.raw[at..at + BLOCK]);
                            Ok(true)
                        }
                        (RUN_BASE, Some(below)) => below.chunks.page(pfn, to),
                        _ => Ok(false),
                    };
                }
                if run.kind == RUN_DATA {
                    self.data += count as usize * BLOCK;
                }
                self.run += 1;
            }
            if self.run < self.count || !self.next_runs()? {
                let what = "its base lacks a page";
                return Err(Refusal::Damaged { what });
            }
        }
    }

    /// Reads the next chunk, unless that was the last one.
    fn next_runs(&mut self) -> Result<bool, Refusal> {
        if self.pages() == self.image.header.pages {
            return Ok(false);
        }
        if self.stored.is_empty() {
            self.stored = Zeroizing::new(zeros(self.image.header.chunk_pages as usize * BLOCK)?);
        }
        let (count, _) = self.read_chunk()?;
        if self.lean {
            self.stored = Zeroizing::default();
        }
        (self.count, self.run, self.data, self.taken) = (count, 0, 0, 0);
        Ok(true)
    }

    /// The proof, after [`next_chunk`](Self::next_chunk) has said `None`.
    pub fn finish(self) -> Result<Verified, Refusal> {
        let what = "the rest of the image";
        self.done.ok_or(Refusal::Torn { what })
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            pages: self.pages(),
            pages_total: self.image.header.pages,
            memory_bytes: self.totals.data_pages * BLOCK as u64,
            image_bytes: self.image.input.position(),
        }
    }

    fn pages(&self) -> u64 {
        self.totals.pages()
    }

    /// Reads and checks a chunk; gives its runs and its bytes of contents.
    fn read_chunk(&mut self) -> Result<(usize, usize), Refusal> {
        let (index, offset) = (self.totals.chunks, self.image.input.position());
        let damaged = |what| Refusal::DamagedChunk {
            index,
            offset,
            what,
        };
        let input = &mut self.image.input;
        let mut head = ChunkHead::new_zeroed();
        input.read(head.as_mut_bytes(), "a chunk's head")?;
        if head.magic != CHUNK_MAGIC {
            return Err(damaged("it has no magic"));
        }
        let count = head.run_count.get() as usize;
        let Some(runs) = self.runs.get_mut(..count).filter(|r| !r.is_empty()) else {
            return Err(damaged("it has no runs, or too many"));
        };
        input.read(runs.as_mut_bytes(), "a chunk's runs")?;
        if checksum(&head, runs.as_bytes()) != head.crc.get() {
            return Err(damaged("its head does not match its checksum"));
        }
        let header = &self.image.header;
        let pages = self.totals.pages();
        let expected = (tag(&self.image.header_digest), index, pages);
        if (head.tag.get(), head.index.get(), head.first_page.get()) != expected {
            return Err(damaged(
                "it belongs to another image, or to another place in it",
            ));
        }
        let codec = match Codec::from_number(head.codec.get()) {
            Some(codec) if codec == Codec::None || codec == header.codec => codec,
            _ => return Err(damaged("its compression is not the header's")),
        };

        self.hasher.update(head.as_bytes());
        self.hasher.update(runs.as_bytes());
        let (sealed, keys) = (bound(&head), self.image.keys.as_deref());
        let altered = || damaged(ALTERED);
        if let Some(keys) = keys {
            let mut tag = [0; TAG];
            input.read(&mut tag, "a chunk's runs")?;
            self.hasher.update(&tag);
            let runs = runs.as_mut_bytes();
            if !keys.decrypt(index, Part::Runs, sealed.as_bytes(), runs, &tag) {
                return Err(altered());
            }
        }

        // The runs: where they may be, and what they come to.
        let (mut data, mut zero, mut base) = (0u64, 0u64, 0u64);
        for run in runs.iter() {
            let (pfn, count) = (run.pfn.get(), u64::from(run.count.get()));
            match run.kind.get() {
                RUN_DATA => data += count,
                RUN_ZERO => zero += count,
                RUN_BASE if header.base.is_some() => base += count,
                _ => return Err(damaged("it has a run of an unknown kind")),
            }
            if count == 0 || pfn < self.next || !self.image.bounds.has(pfn, count) {
                return Err(Refusal::OutOfBounds { index, pfn, count });
            }
            self.next = pfn + count;
        }
        let (raw_len, stored_len) = (head.raw_len.get() as usize, head.stored_len.get() as usize);
        let (Some(raw), Some(stored)) = (
            self.raw.get_mut(..raw_len),
            self.stored.get_mut(..stored_len),
        ) else {
            return Err(damaged("it is larger than the header says"));
        };
        if data * BLOCK as u64 != raw_len as u64 || pages + data + zero + base > header.pages {
            return Err(damaged("its runs do not add up"));
        }

        // The contents.
        input.read(stored, "a chunk's pages")?;
        if sum_of(stored) != head.stored_sum.get() {
            return Err(damaged("its contents do not match their checksum"));
        }
        if let Some(keys) = keys {
            let mut tag = [0; TAG];
            input.read(&mut tag, "a chunk's pages")?;
            self.hasher.update(&tag);
            if !keys.decrypt(index, Part::Payload, sealed.as_bytes(), stored, &tag) {
                return Err(altered());
            }
        }
        if !decompress(codec, stored, raw) {
            return Err(damaged("its contents cannot be decompressed"));
        }
        let raw_sum = match (keys, codec) {
            // It has tags, which are better.
            (Some(_), _) => 0,
            // A copy of what was just looked at.
            (None, Codec::None) => head.stored_sum.get(),
            (None, _) => sum_of(raw),
        };
        if raw_sum != head.raw_sum.get() {
            return Err(damaged("its pages do not match their checksum"));
        }
        if !input.skip_padding(CHUNK_ALIGN, "a chunk's padding")? {
            return Err(damaged("its padding is not zeros"));
        }
        self.totals.chunks += 1;
        self.totals.runs += count as u64;
        self.totals.data_pages += data;
        self.totals.zero_pages += zero;
        self.totals.base_pages += base;
        self.totals.stored_bytes += stored_len as u64;
        self.totals.raw_chunks += u64::from(codec == Codec::None && raw_len > 0);
        Ok((count, raw_len))
    }

    /// Reads and checks what comes after the last chunk, and what is left of the images below.
    fn end(&mut self) -> Result<Verified, Refusal> {
        if let Some(below) = &mut self.below {
            while below.chunks.next_runs()? {}
            below.chunks.end()?;
        }
        if let Some(digest) = &self.table_digest {
            self.hasher.update(digest);
        }
        let damaged = |what| Err(Refusal::Damaged { what });
        let input = &mut self.image.input;
        if !input.skip_padding(BLOCK, "the end mark")? {
            return damaged("the padding after the last chunk is not zeros");
        }
        let mut block = [0; BLOCK];
        input.read(&mut block, "the end mark")?;
        let Some(mark) = parse(&block, "the end mark")? else {
            return Err(Refusal::Torn {
                what: "the end mark",
            });
        };
        self.totals.image_bytes = input.position();
        let seal = Seal {
            uuid: self.image.header.uuid,
            header_digest: self.image.header_digest,
            guards_digest: self.image.guards_digest,
            chunks_digest: *self.hasher.finalize().as_bytes(),
            ..self.totals.seal()
        };
        if mark.state != STATE_END || mark.seal != seal || !is_sealed(&mark) {
            return damaged("what was read is not what the end mark says");
        }
        if let Some(keys) = &self.image.keys {
            if !same(&mark.image_seal, &keys.image(&mark.image_digest)) {
                let what = "the end mark";
                return Err(Refusal::Altered { what });
            }
        }
        let first: &Mark = &self.image.first;
        if first.state == STATE_COMMITTED && first.seal != seal {
            return damaged("what was read is not what the commit record says");
        }
        let snapshot = self.image.header.snapshot;
        Ok(Verified { seal, snapshot })
    }
}
