//! Writing an image: what is old made invalid first, the commit record last.

use std::io;
use std::ops::ControlFlow;

use zerocopy::IntoBytes;

use crate::bounds::Bounds;
use crate::buffer::{is_zero, Aligned};
use crate::chunk::{tag, Packer};
use crate::crypt::{Keys, MasterKey, TAG};
use crate::draft::Setting;
use crate::error::{Error, Refusal};
use crate::guard::{self, Guard};
use crate::header::Header;
use crate::layout::{
    ChunkHead, Mark, Run, Seal, BLOCK, CHUNKS_OFFSET, CHUNK_ALIGN, GUARDS_OFFSET, HEADER_OFFSET,
    MAX_RUNS, RUN_BASE, RUN_DATA, RUN_ZERO, STATE_COMMITTED, STATE_END, STATE_OFFSET, STATE_STREAM,
    STATE_WRITING,
};
use crate::mark::{digest, now, open, sealed, Totals};
use crate::output::Output;
use crate::state::block;
use crate::table::{hash, PageTable, TableWriter};
use crate::target::Target;

/// How far a save or a restore is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Pages dealt with.
    pub pages: u64,
    /// Pages in all.
    pub pages_total: u64,
    /// Bytes of the pages with contents.
    pub memory_bytes: u64,
    /// Bytes of the image.
    pub image_bytes: u64,
}

/// Called after each chunk; `Break` stops.
pub type OnProgress<'a> = Box<dyn FnMut(&Progress) -> ControlFlow<()> + 'a>;

/// How to write.
pub struct Options<'a> {
    /// Bytes a write; rounded up to whole blocks, at most 16 MiB.
    pub buffer: usize,
    /// Begin although the worst case does not fit: compression may help, or fail in the middle.
    pub optimistic: bool,
    /// See [`OnProgress`].
    pub on_progress: Option<OnProgress<'a>>,
    /// The master key of an image whose header says that it is encrypted.
    pub key: Option<&'a MasterKey>,
    /// Threads that compress, beside the one that calls; 0 where there is one CPU. Each takes memory for a chunk,
    /// two to three times; with less than that there are fewer of them.
    pub workers: usize,
    /// The table of the image that [`Header::base`] names.
    pub base: Option<PageTable>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            buffer: 1 << 20,
            optimistic: false,
            on_progress: None,
            key: None,
            workers: 0,
            base: None,
        }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// The sums.
    pub totals: Totals,
    /// The image's identity and hashes: what [`discard`](crate::discard) takes.
    pub seal: Seal,
    /// Threads that compressed.
    pub workers: usize,
}

/// Bytes that an image of so many pages takes at most, however they are spread and whatever they
/// hold, encrypted or not; a multiple of 4096.
pub fn worst_case(pages: u64, chunk_pages: u32) -> u64 {
    // A page is at worst a run of its own and not compressible; a chunk is full after as many
    // pages as it holds or as many runs.
    let in_a_chunk = u64::from(chunk_pages.max(1)).min(MAX_RUNS as u64);
    let chunk = (size_of::<ChunkHead>() + CHUNK_ALIGN + 2 * TAG) as u64;
    let chunks = pages.div_ceil(in_a_chunk).saturating_mul(chunk);
    let page = (BLOCK + size_of::<Run>()) as u64;
    let body = pages.saturating_mul(page).saturating_add(chunks);
    let blocks = (body / BLOCK as u64).saturating_add(1);
    // Before it the head, behind it the end mark.
    let around = CHUNKS_OFFSET + BLOCK as u64;
    blocks.saturating_mul(BLOCK as u64).saturating_add(around)
}

/// An image being written. Dropped before [`finish`](Self::finish), it leaves none.
pub struct Writer<'a, T: Target> {
    out: Output<T>,
    packer: Packer,
    bounds: Bounds,
    pages: u64,
    given: u64,
    next: u64,
    seal: Seal,
    table: Option<TableWriter>,
    base: Option<PageTable>,
    on_progress: Option<OnProgress<'a>>,
}

impl<'a, T: Target> Writer<'a, T> {
    /// Checks that there is room, makes an older image invalid for good, writes everything that
    /// comes before the chunks.
    pub fn begin(
        target: T,
        header: &Header,
        guards: &[Guard],
        options: Options<'a>,
    ) -> Result<Self, Error> {
        let bounds = header.check().map_err(Error::Invalid)?;
        if header.base.is_some() != options.base.is_some() {
            return Err(Error::Invalid("a base without its table of pages"));
        }
        if header.table && target.size().is_none() {
            // Its table comes before what it is made from.
            return Err(Error::Stream);
        }
        let keys = match (&header.encryption, options.key) {
            (None, None) => None,
            (Some(encryption), Some(key)) => Some(Keys::new(key, encryption, &header.uuid)),
            (Some(_), None) => return Err(Error::Invalid("it is to be encrypted without a key")),
            (None, Some(_)) => return Err(Error::Invalid("it has a key and is not encrypted")),
        };
        let guards = guard::encode_sealed(guards, keys.as_deref())?;
        let encoded = header.encode(keys.as_deref());
        let mut seal = Totals::default().seal();
        seal.uuid = header.uuid;
        seal.header_digest = digest(encoded.as_bytes());
        seal.guards_digest = digest(guards.bytes());
        let tag = tag(&seal.header_digest);
        let setting = Setting {
            tag,
            codec: header.codec,
            capacity: header.chunk_pages as usize * BLOCK,
            keys,
        };
        let packer = Packer::new(setting, options.workers)?;

        let mut out = Output::new(target, options.buffer)?;
        let least = if options.optimistic { 0 } else { header.pages };
        let need = worst_case(least, header.chunk_pages) + header.table_size();
        let size = out.size();
        if let Some(have) = size.filter(|have| *have < need) {
            return Err(Error::NoRoom { need, have });
        }
        let state = if size.is_some() {
            STATE_WRITING
        } else {
            STATE_STREAM
        };
        let first = block(&unfinished(state, &seal))?;
        out.push(first.bytes())?;
        if size.is_some() {
            // Nothing else may reach the disk before this has: an older image that was used must
            // not come back because its marks went first.
            out.write_out()?;
            out.flush("making the older image invalid")?;
        }
        while out.position() < HEADER_OFFSET {
            out.push(&[0; BLOCK])?;
        }
        out.push(encoded.as_bytes())?;
        out.push(guards.bytes())?;
        // So that `set_guards` comes after it.
        out.write_out()?;
        out.skip_to(header.chunks_offset());
        let table = header.table.then(|| TableWriter::new(&seal.header_digest));
        Ok(Self {
            out,
            packer,
            bounds,
            pages: header.pages,
            given: 0,
            next: 0,
            seal,
            table: table.transpose()?,
            base: options.base,
            on_progress: options.on_progress,
        })
    }

    /// Takes whole pages from number `pfn` on. Numbers ascend from call to call.
    pub fn write(&mut self, pfn: u64, bytes: &[u8]) -> Result<(), Error> {
        let (pages, rest) = bytes.as_chunks::<BLOCK>();
        if !rest.is_empty() {
            return Err(Error::Invalid(
                "a piece of memory is not made of whole pages",
            ));
        }
        if pfn < self.next || !self.bounds.has(pfn, pages.len() as u64) {
            return Err(Error::BadPage { pfn });
        }
        let (given, expected) = (self.given + pages.len() as u64, self.pages);
        if given > expected {
            return Err(Error::PageCount { given, expected });
        }
        for (page, pfn) in pages.iter().zip(pfn..) {
            self.given += 1;
            let kind = self.kind(pfn, page)?;
            if self.packer.page(pfn, page, kind, &mut self.out)? {
                self.report()?;
            }
        }
        self.next = pfn + pages.len() as u64;
        Ok(())
    }

    /// What a page is a run of; it goes into the table.
    fn kind(&mut self, pfn: u64, page: &[u8]) -> Result<u32, Error> {
        let plain = if is_zero(page) { RUN_ZERO } else { RUN_DATA };
        let Some(table) = &mut self.table else {
            return Ok(plain);
        };
        let hash = hash(page);
        table.push(pfn, hash, &mut self.out)?;
        match &mut self.base {
            // Zeros take no more room here than there.
            Some(base) if plain == RUN_DATA => match base.find(pfn).map_err(base_failed)? {
                Some(there) if there == hash => Ok(RUN_BASE),
                _ => Ok(plain),
            },
            _ => Ok(plain),
        }
    }

    /// [`write`](Self::write) for each.
    pub fn add_pages<'p>(
        &mut self,
        pages: impl IntoIterator<Item = (u64, &'p [u8])>,
    ) -> Result<(), Error> {
        pages
            .into_iter()
            .try_for_each(|(pfn, p)| self.write(pfn, p))
    }

    /// Replaces the guards by newer ones, as late as possible. Not in a stream.
    pub fn set_guards(&mut self, guards: &[Guard]) -> Result<(), Error> {
        if self.out.size().is_none() {
            return Err(Error::Stream);
        }
        let guards = guard::encode_sealed(guards, self.packer.keys())?;
        self.out
            .write_at(GUARDS_OFFSET, guards.bytes(), "writing the guards")?;
        self.seal.guards_digest = digest(guards.bytes());
        Ok(())
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            pages: self.given,
            pages_total: self.pages,
            memory_bytes: self.packer.totals.data_pages * BLOCK as u64,
            image_bytes: self.out.position(),
        }
    }

    fn report(&mut self) -> Result<(), Error> {
        let progress = self.progress();
        match self.on_progress.as_mut().map(|f| f(&progress)) {
            Some(ControlFlow::Break(())) => Err(Error::Stopped),
            _ => Ok(()),
        }
    }

    /// Writes the rest, the end mark, and after a flush the commit record. When this fails there
    /// is no image, unless it says [`Error::CommitUnknown`].
    pub fn finish(mut self) -> Result<Summary, Error> {
        let (given, expected) = (self.given, self.pages);
        if given != expected {
            return Err(Error::PageCount { given, expected });
        }
        self.packer.finish(&mut self.out)?;
        if let Some(table) = &mut self.table {
            let digest = table.finish(&mut self.out)?;
            self.packer.seal_table(&digest);
        }
        self.report()?;
        self.out.pad(BLOCK)?;
        let totals = Totals {
            image_bytes: self.out.position() + BLOCK as u64,
            ..self.packer.totals
        };
        self.seal = Seal {
            uuid: self.seal.uuid,
            header_digest: self.seal.header_digest,
            guards_digest: self.seal.guards_digest,
            chunks_digest: self.packer.digest(),
            ..totals.seal()
        };
        let end = block(&sealed(STATE_END, now(), &self.seal, self.packer.keys()))?;
        let sent = self.end(&end);
        match (self.out.size(), sent) {
            (Some(_), sent) => sent.and_then(|()| self.commit())?,
            // What went down a stream cannot be taken back.
            (None, Err(Error::Io { source, .. })) => return Err(Error::CommitUnknown { source }),
            (None, sent) => sent?,
        }
        Ok(Summary {
            totals,
            seal: self.seal,
            workers: self.packer.workers(),
        })
    }

    fn end(&mut self, end: &Aligned) -> Result<(), Error> {
        self.out.push(end.bytes())?;
        self.out.write_out()?;
        self.out.flush("flushing the image")
    }

    fn commit(&mut self) -> Result<(), Error> {
        let commit = sealed(STATE_COMMITTED, now(), &self.seal, self.packer.keys());
        let commit = block(&commit)?;
        let revoke = block(&unfinished(STATE_WRITING, &self.seal))?;
        let Err(error) = self.state(&commit) else {
            return Ok(());
        };
        // It may be on the disk all the same, and the machine is about to go on.
        match (self.state(&revoke), error) {
            (Err(_), Error::Io { source, .. }) => Err(Error::CommitUnknown { source }),
            (Err(_), _) => Err(Error::CommitUnknown {
                source: io::Error::other("out of room"),
            }),
            (Ok(()), error) => Err(error),
        }
    }

    fn state(&mut self, block: &Aligned) -> Result<(), Error> {
        let what = "writing the commit record";
        self.out.write_at(STATE_OFFSET, block.bytes(), what)?;
        self.out.flush(what)
    }
}

/// What became of reading the base while writing.
fn base_failed(refusal: Refusal) -> Error {
    Error::Io {
        what: "reading the base",
        source: match refusal {
            Refusal::Io { source, .. } => source,
            other => io::Error::other(other),
        },
    }
}

/// A mark of what has only a header so far.
fn unfinished(state: u32, seal: &Seal) -> Mark {
    let known = Seal {
        uuid: seal.uuid,
        header_digest: seal.header_digest,
        ..Totals::default().seal()
    };
    open(state, now(), &known)
}
