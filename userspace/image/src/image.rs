//! Opening an image: everything that is checked before a page is written.

use kjump_abi::Range;

use crate::bounds::Bounds;
use crate::buffer::{is_zero, zeros};
use crate::chunks::{Chunks, Verified};
use crate::crypt::{Encryption, Keys, MasterKey, Proofs};
use crate::error::Refusal;
use crate::guard::{self, Guard};
use crate::header::{self, Header};
use crate::input::Input;
use crate::inspect::Inspection;
use crate::layout::{
    Mark, Seal, BLOCK, CHUNKS_OFFSET, DISCARD_OFFSET, GUARDS_OFFSET, HEADER_OFFSET, RESUME_OFFSET,
    SPARE_OFFSET, STATE_COMMITTED, STATE_DISCARDED, STATE_END, STATE_REFUSED, STATE_RESUMING,
    STATE_STREAM, STATE_WITHDRAWN, STATE_WRITING,
};
use crate::mark::{digest, is_sealed, parse, parse_optional, Totals};
use crate::state::State;
use crate::table::{Base, Cursor, PageTable};
use crate::target::Source;

/// The machine that an image is to be restored on, as its restorer sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Architecture, as [`Header::arch`].
    pub arch: u32,
    /// The machine's fingerprint; `None` is not compared.
    pub fingerprint: Option<u64>,
    /// Build of the kernel that the image must be of; `None` is not compared.
    pub build_id: Option<[u8; 32]>,
    /// RAM, ascending; no page goes outside it.
    pub ram: Vec<Range>,
    /// The restorer runs in `[0, window_end)`, bytes; no page goes there.
    pub window_end: u64,
}

/// An image that another builds on, wherever it is.
pub type Link = Image<Box<dyn Source>>;

/// Bytes a read of a link: there may be several, and little memory.
const LINK_BUFFER: usize = 32 << 10;

/// An image whose head was checked.
pub struct Image<S: Source> {
    pub(crate) input: Input<S>,
    pub(crate) header: Header,
    pub(crate) bounds: Bounds,
    pub(crate) state: State,
    /// The mark at the image's start.
    pub(crate) first: Mark,
    pub(crate) header_digest: [u8; 32],
    pub(crate) guards_digest: [u8; 32],
    guards: Vec<Guard>,
    proofs: Proofs,
    /// Once it is unlocked.
    pub(crate) keys: Option<Box<Keys>>,
}

impl<S: Source> Image<S> {
    /// Opens an image that is to be restored on `machine`. An image in any other state than
    /// complete and unused is refused. In a stream, completeness shows at its end.
    pub fn open(source: S, machine: &Machine) -> Result<Self, Refusal> {
        Self::open_again(source, machine, false)
    }

    /// As [`open`](Self::open); with `retry` also one that was refused in the middle of a restore.
    pub fn open_again(source: S, machine: &Machine, retry: bool) -> Result<Self, Refusal> {
        let image = Self::inspect_only(source)?;
        match image.state {
            State::Refused { .. } if retry => {}
            State::Refused { time } => return Err(Refusal::RefusedBefore { time }),
            State::Stream | State::Committed | State::Withdrawn { .. } => {}
            State::Discarded { time } => return Err(Refusal::Discarded { time }),
            State::Resuming { time } => return Err(Refusal::Used { time }),
        }
        machine.check(&image.header, &image.bounds)?;
        Ok(image)
    }

    /// Opens an image to look at it: used, discarded and foreign ones too.
    pub fn inspect_only(source: S) -> Result<Self, Refusal> {
        Self::look(Input::new(source)?)
    }

    fn look(mut input: Input<S>) -> Result<Self, Refusal> {
        let mut head = zeros(CHUNKS_OFFSET as usize)?;
        // The first block alone, so that what is too short to be an image is none.
        let (first, rest) = head.split_at_mut(BLOCK);
        match input.read(first, "the first block") {
            Err(Refusal::Torn { .. }) => return Err(Refusal::NoImage("too short")),
            other => other?,
        }
        let none = Refusal::NoImage("nothing was saved here, or something was written over it");
        let first = parse(first, "the state")?.ok_or(none)?;
        let time = first.time.get();
        let state = match first.state.get() {
            STATE_WRITING => return Err(Refusal::Unfinished { begun: time }),
            STATE_STREAM => State::Stream,
            STATE_COMMITTED => State::Committed,
            number => {
                let what = "state";
                return Err(Refusal::BadVersion { what, number });
            }
        };
        input.read(rest, "the header")?;
        let block = |at: u64| &head[at as usize..at as usize + BLOCK];
        let (header, bounds) = Header::decode(block(HEADER_OFFSET))?;
        let header_digest = digest(block(HEADER_OFFSET));
        let guards_region = &head[GUARDS_OFFSET as usize..];
        let guards = guard::decode(guards_region)?;
        let guards_digest = digest(guards_region);
        let mut proofs = Proofs::default();
        if header.encryption.is_some() {
            header::prove(block(HEADER_OFFSET), &mut proofs);
            proofs.guards = guard::proof(guards_region);
            let committed = state == State::Committed;
            proofs.image = committed.then_some((first.image_digest, first.image_seal));
        }
        if !is_zero(block(SPARE_OFFSET)) {
            let what = "the spare block is not zeros";
            return Err(Refusal::Damaged { what });
        }
        let resume = parse_optional(block(RESUME_OFFSET), "the mark of the restore")?;
        let gone = parse_optional(block(DISCARD_OFFSET), "the mark of the discard")?;
        let mut image = Self {
            input,
            header,
            bounds,
            state,
            first,
            header_digest,
            guards_digest,
            guards,
            proofs,
            keys: None,
        };
        image.check_first()?;
        image.state = image.later_state(resume, gone)?;
        Ok(image)
    }

    /// The mark at the start against the header, the guards and the end.
    fn check_first(&mut self) -> Result<(), Refusal> {
        let damaged = |what| Err(Refusal::Damaged { what });
        let seal = &self.first.seal;
        if seal.uuid != self.header.uuid || seal.header_digest != self.header_digest {
            return damaged("the state belongs to another header");
        }
        if self.state != State::Committed {
            return Ok(());
        }
        if !is_sealed(&self.first) {
            return damaged("the commit record contradicts itself");
        }
        if seal.guards_digest != self.guards_digest {
            return damaged("the guards are not those of the commit record");
        }
        let totals = Totals::from(seal);
        let sum = totals.data_pages.checked_add(totals.zero_pages);
        let adds_up = match self.header.base {
            Some(_) => sum.is_some_and(|sum| sum <= self.header.pages),
            None => sum == Some(self.header.pages),
        };
        let (end, least) = (totals.image_bytes, self.header.chunks_offset());
        if !adds_up || end % BLOCK as u64 != 0 || end <= least {
            return damaged("the commit record contradicts the header");
        }
        // A source that can be gone to the end of is.
        let Some(size) = self.input.source().size() else {
            return Ok(());
        };
        let what = "the end";
        if end > size {
            return Err(Refusal::Torn { what });
        }
        let mut block = [0; BLOCK];
        self.input.seek(end - BLOCK as u64);
        self.input.read(&mut block, what)?;
        match parse(&block, "the end mark")? {
            Some(mark) if mark.state == STATE_END && mark.seal == self.first.seal => Ok(()),
            Some(_) => damaged("the end mark is another image's"),
            None => Err(Refusal::Torn { what }),
        }
    }

    fn later_state(&self, resume: Option<Mark>, gone: Option<Mark>) -> Result<State, Refusal> {
        let ours = |mark: &Mark| {
            let same = mark.seal.uuid == self.header.uuid;
            let same = same && mark.seal.header_digest == self.header_digest;
            let what = "a mark is another image's";
            if same && is_sealed(mark) {
                Ok(mark.time.get())
            } else {
                Err(Refusal::Damaged { what })
            }
        };
        let unknown = |mark: &Mark| {
            let (what, number) = ("state", mark.state.get());
            Err(Refusal::BadVersion { what, number })
        };
        if let Some(mark) = gone {
            let time = ours(&mark)?;
            return match mark.state.get() {
                STATE_DISCARDED => Ok(State::Discarded { time }),
                _ => unknown(&mark),
            };
        }
        if let Some(mark) = resume {
            let time = ours(&mark)?;
            return match mark.state.get() {
                STATE_RESUMING => Ok(State::Resuming { time }),
                STATE_WITHDRAWN => Ok(State::Withdrawn { time }),
                STATE_REFUSED => Ok(State::Refused { time }),
                _ => unknown(&mark),
            };
        }
        Ok(self.state)
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The guards, to be compared before a page is written.
    pub fn guards(&self) -> &[Guard] {
        &self.guards
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// The sums, if the start has them: not in a stream.
    pub fn totals(&self) -> Option<Totals> {
        let committed = self.first.state == STATE_COMMITTED;
        committed.then(|| {
            let totals = Totals::from(&self.first.seal);
            // The rest of the pages: that they are no fewer was checked.
            let base_pages = self.header.pages - totals.pages();
            Totals {
                base_pages,
                ..totals
            }
        })
    }

    /// Identity and hashes, as far as the start has them: what [`discard`](crate::discard) takes.
    pub fn seal(&self) -> &Seal {
        &self.first.seal
    }

    /// How it is encrypted, if it is. Anybody may have written that until it is unlocked.
    pub fn encryption(&self) -> Option<&Encryption> {
        self.header.encryption.as_ref()
    }

    /// Checks that header, guards and, where there is one, the commit record were written with this
    /// key, and makes the chunks readable.
    ///
    /// # Errors
    ///
    /// [`Refusal::WrongKey`]; [`Refusal::Altered`]; [`Refusal::Plain`] if it is not encrypted.
    pub fn unlock(&mut self, key: &MasterKey) -> Result<(), Refusal> {
        let encryption = self.header.encryption.as_ref().ok_or(Refusal::Plain)?;
        let keys = Keys::new(key, encryption, &self.header.uuid);
        self.proofs.check(&keys)?;
        self.keys = Some(keys);
        Ok(())
    }

    /// What a user wants to know about it.
    pub fn inspect(&self) -> Inspection {
        Inspection::new(self)
    }

    /// The chunks, from the first one on. A stream has them once. Those of an encrypted image are
    /// refused until it is unlocked.
    pub fn chunks(&mut self) -> Result<Chunks<'_, S>, Refusal> {
        Chunks::new(self, &mut [])
    }

    /// The same of an image that builds on others: what it has of them is read from there.
    pub fn chunks_over<'i>(&'i mut self, links: &'i mut [Link]) -> Result<Chunks<'i, S>, Refusal> {
        Chunks::new(self, links)
    }

    /// Opens the images that it builds on, the next one first. `find` opens the one that is meant.
    ///
    /// # Errors
    ///
    /// [`Refusal::Base`] for one that is missing, or not what it was.
    pub fn links(
        &self,
        mut find: impl FnMut(&Base) -> Result<Box<dyn Source>, Refusal>,
    ) -> Result<Vec<Link>, Refusal> {
        let mut links: Vec<Link> = Vec::new();
        let mut wanted = self.header.base.clone();
        while let Some(base) = wanted.take() {
            let link = Image::open_link(find(&base)?, &base)?;
            wanted = link.header.base.clone();
            let depth = wanted.as_ref().map_or(0, |below| below.depth);
            if depth + 1 != base.depth {
                return Err(base.refusal("has another base than then"));
            }
            links.push(link);
        }
        Ok(links)
    }

    /// This image as the base of another one.
    ///
    /// # Errors
    ///
    /// [`Refusal::Base`] for one that none can build on.
    pub fn as_base(&self, at: &str) -> Result<Base, Refusal> {
        let base = Base {
            uuid: self.header.uuid,
            digest: self.first.image_digest,
            depth: self.header.base.as_ref().map_or(0, |b| b.depth) + 1,
            at: at.into(),
        };
        if self.first.state != STATE_COMMITTED || matches!(self.state, State::Discarded { .. }) {
            return Err(base.refusal("is not complete, or was given up"));
        }
        if !self.header.table {
            return Err(base
                .refusal("has no table of pages, as only snapshots have that are not encrypted"));
        }
        match base.check(true) {
            Ok(()) => Ok(base),
            Err(_) => Err(base.refusal("is the top of 5 images already, or its name is too long")),
        }
    }

    /// Reads and checks everything.
    pub fn verify_all(&mut self) -> Result<Verified, Refusal> {
        self.verify_over(&mut [])
    }

    /// The same of an image that builds on others, and of those.
    pub fn verify_over(&mut self, links: &mut [Link]) -> Result<Verified, Refusal> {
        let mut chunks = self.chunks_over(links)?;
        while chunks.next_chunk()?.is_some() {}
        chunks.finish()
    }

    /// Gives the source back, to mark the image where it is.
    pub fn into_source(self) -> S {
        self.input.into_source()
    }
}

impl Link {
    /// Opens an image that another builds on, as that one says.
    ///
    /// # Errors
    ///
    /// [`Refusal::Base`] with what is wrong with it.
    pub fn open_link(source: Box<dyn Source>, base: &Base) -> Result<Self, Refusal> {
        let input = Input::with_buffer(source, LINK_BUFFER)?;
        let link = match Self::look(input) {
            Ok(link) => link,
            Err(e @ (Refusal::Io { .. } | Refusal::NoMemory(_))) => return Err(e),
            Err(e) => return Err(base.refusal(format!("cannot be used: {e}"))),
        };
        if link.header.uuid != base.uuid {
            let there = crate::inspect::uuid(&link.header.uuid);
            return Err(base.refusal(format!("was replaced: image {there} is there")));
        }
        if link.first.state != STATE_COMMITTED || link.first.image_digest != base.digest {
            return Err(base.refusal("was altered: it is not what it was then"));
        }
        match link.state {
            State::Discarded { .. } => Err(base.refusal("was given up")),
            _ => Ok(link),
        }
    }

    /// Its table of pages: all that is needed of it to write one that builds on it.
    pub fn into_table(self) -> Result<PageTable, Refusal> {
        let cursor = Cursor::new(&self.header, &self.header_digest)?;
        Ok(PageTable::new(self.input.into_source(), cursor))
    }
}

impl Machine {
    fn check(&self, header: &Header, bounds: &Bounds) -> Result<(), Refusal> {
        let foreign =
            |what, image: String, here: String| Err(Refusal::Foreign { what, image, here });
        let number = |n: u64| format!("{n:#x}");
        if header.arch != self.arch {
            let (image, here) = (header.arch.into(), self.arch.into());
            return foreign("the architecture", number(image), number(here));
        }
        if let Some(here) = self.fingerprint.filter(|f| *f != header.fingerprint) {
            let (image, low) = (header.fingerprint, |n: u64| n & 0xffff_ffff);
            let what = match low(image) == low(here) {
                true => "the CPU",
                false => "the memory map",
            };
            return foreign(what, number(image), number(here));
        }
        if let Some(here) = self.build_id.filter(|id| *id != header.build_id) {
            let image = format!("{} ({})", header.release, hex(&header.build_id[..8]));
            return foreign("the kernel's build", image, hex(&here[..8]));
        }
        if header.window_end < self.window_end {
            let (image, here) = (header.window_end, self.window_end);
            return foreign("the window", number(image), number(here));
        }
        let floor = self.window_end;
        match Bounds::new(&self.ram, floor) {
            Some(ram) if bounds.inside(&ram) => Ok(()),
            ram => {
                let pages = |n: u64| format!("{n} pages of RAM above the window");
                let here = pages(ram.map_or(0, |r| r.pages()));
                foreign("the memory map", pages(bounds.pages()), here)
            }
        }
    }
}

/// Bytes as people write them.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
