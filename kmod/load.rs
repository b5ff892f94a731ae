// SPDX-License-Identifier: GPL-2.0

//! A load: everything that a jump needs, allocated and checked before it.
//!
//! A [`Preparation`] takes segments; [`Preparation::commit`] consumes it and gives a [`Load`].
//! Dropping either gives all pages back, zeroed.

use crate::abi::{self, CoreNote, Handoff, PeerNote};
use crate::alloc::KVec;
use crate::gate::Gate;
use crate::handoff;
use crate::jump::Side;
use crate::list::ExchangeList;
use crate::oneway;
use crate::own::OwnWindow;
use crate::page_map::{Counts, PageMap};
use crate::pages::{Below, Page, PageSource, PAGE_SIZE};
use crate::sys::memory::FreeFill;
use crate::vmcore::CoreHeaders;
use crate::watch::Watch;
use crate::window;
use kernel::prelude::*;
use kernel::uaccess::{UserPtr, UserSlice, UserSliceReader};

const PAGE: u64 = PAGE_SIZE as u64;

/// A load in the making.
pub(crate) enum Preparation {
    /// Into a window; the peer can come back.
    Window(WindowLoad),
    /// Anywhere, one way.
    OneWay(oneway::Staged),
}

/// What a load into a window has from the start: its segments go straight to the shadow.
pub(crate) struct WindowLoad {
    gate: Gate,
    list: ExchangeList,
    handoff: Page,
    page_map: PageMap,
    peer_map: Option<Page>,
    headers: Option<CoreHeaders>,
    label: KVec<u8>,
    window_end: u32,
    own: Option<OwnWindow>,
}

/// A load that can be jumped to.
pub(crate) struct Load {
    pub(crate) gate: Gate,
    pub(crate) list: ExchangeList,
    handoff: Option<Page>,
    page_map: Option<PageMap>,
    peer_map: Option<Page>,
    headers: Option<CoreHeaders>,
    /// What it is to leave alone, once somebody has asked for that.
    watch: Option<Watch>,
    /// Whether the next jump is to look at that.
    paranoid: bool,
    /// What the load is, in words.
    label: KVec<u8>,
    /// Bytes; 0 if the load goes one way.
    pub(crate) window_end: u32,
    /// What the peer has beside the window.
    pub(crate) own: Option<OwnWindow>,
    /// Physical address where the peer is entered next.
    target: u32,
    /// Completed round trips.
    pub(crate) jumps: u32,
}

/// Destination of a segment, checked: page frames, and bytes of contents.
pub(crate) struct Destination {
    pub(crate) frames: core::ops::Range<u32>,
    pub(crate) reader: UserSliceReader,
}

impl Destination {
    /// Checks what does not depend on where segments may go.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an unaligned or empty segment, or contents longer than it; `EOVERFLOW` where
    /// it wraps around 4 GiB; `EFAULT` for contents outside the caller's address space.
    fn check(segment: &abi::Segment) -> Result<Self> {
        let &abi::Segment {
            buf,
            bufsz,
            mem,
            memsz,
            ..
        } = segment;
        if mem % PAGE != 0 || memsz == 0 || bufsz > memsz {
            return Err(EINVAL);
        }
        let end = mem
            .checked_add(memsz)
            .filter(|&end| end <= 1 << 32)
            .ok_or(EOVERFLOW)?;
        let address = usize::try_from(buf).map_err(|_| EFAULT)?;
        let length = usize::try_from(bufsz).map_err(|_| EFAULT)?;
        Ok(Self {
            frames: (mem / PAGE) as u32..((end + PAGE - 1) / PAGE) as u32,
            reader: UserSlice::new(UserPtr::from_addr(address), length).reader(),
        })
    }

    /// Fills `page` with the next page of contents, or zeros behind their end.
    pub(crate) fn fill(&mut self, page: &mut Page) -> Result {
        let length = self.reader.len().min(PAGE_SIZE);
        let bytes = page.bytes_mut();
        self.reader.read_slice(&mut bytes[..length])?;
        bytes[length..].fill(0);
        Ok(())
    }
}

impl Preparation {
    /// Starts a load; fills in the answers of `request`.
    ///
    /// # Errors
    ///
    /// Those of [`window::check_end`] and [`OwnWindow::new`]; `ENOMEM`.
    pub(crate) fn new(request: &mut abi::Prepare) -> Result<Self> {
        if request.flags & abi::PREPARE_ONE_WAY != 0 {
            request.jump_back_entry = 0;
            request.handoff = 0;
            request.elfcorehdr = 0;
            request.own_start = 0;
            return Ok(Self::OneWay(oneway::Staged::new()));
        }
        let end = window::check_end(request.window_end)?;
        // First, while memory is in the largest pieces.
        let own = if request.flags & abi::PREPARE_OWN_WINDOW != 0 {
            Some(OwnWindow::new(request.own_size, end)?)
        } else {
            None
        };
        let load = WindowLoad::new(end, own)?;
        request.own_start = load.own.as_ref().map_or(0, |own| own.range().start);
        request.jump_back_entry = load.gate.entry().into();
        request.handoff = load.handoff.phys().into();
        request.elfcorehdr = load.headers.as_ref().map_or(0, CoreHeaders::phys).into();
        Ok(Self::Window(load))
    }

    /// Adds a segment. A segment that is refused leaves the load as it was.
    pub(crate) fn segment(&mut self, segment: &abi::Segment) -> Result {
        let destination = Destination::check(segment)?;
        match self {
            Self::Window(load) => load.segment(destination),
            Self::OneWay(staged) => staged.segment(destination),
        }
    }

    /// As [`Load::label`].
    pub(crate) fn label(&mut self, text: KVec<u8>) -> Result {
        match self {
            Self::Window(load) => {
                load.label = text;
                Ok(())
            }
            Self::OneWay(_) => Err(EOPNOTSUPP),
        }
    }

    /// Ends the load.
    ///
    /// # Errors
    ///
    /// `EADDRNOTAVAIL` if the entry lies in no segment; `ENOMEM`.
    pub(crate) fn commit(self, commit: &abi::Commit) -> Result<Load> {
        let entry = u32::try_from(commit.entry).map_err(|_| EADDRNOTAVAIL)?;
        let params = u32::try_from(commit.boot_params).map_err(|_| EADDRNOTAVAIL)?;
        let mut load = match self {
            Self::Window(load) => load.commit(entry)?,
            Self::OneWay(staged) => {
                let (gate, list) = staged.commit(entry)?;
                Load {
                    gate,
                    list,
                    handoff: None,
                    page_map: None,
                    peer_map: None,
                    headers: None,
                    watch: None,
                    paranoid: false,
                    label: KVec::new(),
                    window_end: 0,
                    own: None,
                    target: entry,
                    jumps: 0,
                }
            }
        };
        load.gate.control().params = params;
        Ok(load)
    }
}

impl WindowLoad {
    /// Not inlined, as what it holds for a moment would be on the stack of all that [`Preparation::new`] calls.
    #[inline(never)]
    fn new(window_end: u32, own: Option<OwnWindow>) -> Result<Self> {
        let own_range = own
            .as_ref()
            .map_or_else(abi::Range::default, OwnWindow::range);
        let below = Below(window_end / PAGE_SIZE as u32);
        let mut source = PageSource::new(&below);
        let mut gate = Gate::new(&mut source)?;
        let list = window::build_list(window_end, &mut source)?;
        // One bit a frame: a page is enough for 128 MiB. A wider window goes without: all of a
        // peer's pages are kept then.
        let bits = window_end / PAGE_SIZE as u32;
        let peer_map = if bits as usize <= PAGE_SIZE * 8 {
            Some(source.page()?)
        } else {
            None
        };
        let page_map = PageMap::new(&mut source)?;
        let mut block = source.page()?;
        handoff::fill(
            block.view_mut(),
            &handoff::Contents {
                window_end,
                own: own_range,
                jump_back_entry: gate.entry(),
                list: list.phys(),
                page_map: page_map.phys(),
                page_map_frames: page_map.frames(),
                peer_map: peer_map.as_ref().map_or(0, Page::phys),
                peer_map_size: if peer_map.is_some() {
                    bits.div_ceil(8)
                } else {
                    0
                },
            },
        )?;
        let note = CoreNote {
            version: 1,
            size: size_of::<CoreNote>() as u32,
            jump_back_entry: gate.entry().into(),
            handoff: block.phys().into(),
            window_end: window_end.into(),
            fingerprint: block.view::<Handoff>().fingerprint,
        };
        let headers = CoreHeaders::new(&list, &note, own_range, &mut source)?;
        let at = headers.as_ref().map_or(0, CoreHeaders::phys);
        handoff::core_headers(block.view_mut(), at);
        gate.publish(block.phys());
        let control = gate.control();
        control.list = list.phys();
        control.peer_map = peer_map.as_ref().map_or(0, Page::phys);
        control.mailbox = block.phys() + core::mem::offset_of!(Handoff, mailbox) as u32;
        Ok(Self {
            gate,
            list,
            handoff: block,
            page_map,
            peer_map,
            headers,
            label: KVec::new(),
            window_end,
            own,
        })
    }

    /// Copies a segment to the shadow, or to where the peer has a window of its own.
    ///
    /// # Errors
    ///
    /// `EADDRNOTAVAIL` for a page outside the windows' RAM, or page 0; `EADDRINUSE` for one that
    /// another segment has; `EFAULT` for contents that cannot be read.
    fn segment(&mut self, mut destination: Destination) -> Result {
        for frame in destination.frames.clone() {
            if self.is_taken(frame)? {
                return Err(EADDRINUSE);
            }
        }
        for frame in destination.frames.clone() {
            destination.fill(self.page_mut(frame)?)?;
        }
        for frame in destination.frames {
            if !self.own.as_mut().is_some_and(|own| own.take(frame)) {
                let index = self.list.find(frame).ok_or(EADDRNOTAVAIL)?;
                self.list.set_theirs(index);
            }
        }
        Ok(())
    }

    /// Whether a segment is for `frame`.
    ///
    /// # Errors
    ///
    /// `EADDRNOTAVAIL` if none may be.
    fn is_taken(&self, frame: u32) -> Result<bool> {
        if let Some(taken) = self.own.as_ref().and_then(|own| own.is_taken(frame)) {
            return Ok(taken);
        }
        let index = self.list.find(frame).ok_or(EADDRNOTAVAIL)?;
        if self.list.is_fixed(index) {
            return Err(EADDRNOTAVAIL);
        }
        Ok(self.list.is_theirs(index))
    }

    /// Where the contents of `frame` go.
    fn page_mut(&mut self, frame: u32) -> Result<&mut Page> {
        if let Some(page) = self.own.as_mut().and_then(|own| own.page_mut(frame)) {
            return Ok(page);
        }
        let index = self.list.find(frame).ok_or(EADDRNOTAVAIL)?;
        Ok(self.list.shadow_mut(index))
    }

    fn commit(self, entry: u32) -> Result<Load> {
        if !self.is_taken(entry / PAGE_SIZE as u32)? {
            return Err(EADDRNOTAVAIL);
        }
        let Self {
            gate,
            list,
            handoff,
            page_map,
            peer_map,
            headers,
            label,
            window_end,
            own,
        } = self;
        Ok(Load {
            gate,
            list,
            handoff: Some(handoff),
            page_map: Some(page_map),
            peer_map,
            headers,
            watch: None,
            paranoid: false,
            label,
            window_end,
            own,
            target: entry,
            jumps: 0,
        })
    }
}

impl Load {
    /// Whether nobody comes back from it.
    pub(crate) fn is_one_way(&self) -> bool {
        self.handoff.is_none()
    }

    /// Physical address of the handoff block, 0 if there is none.
    pub(crate) fn handoff_phys(&self) -> u32 {
        self.handoff.as_ref().map_or(0, Page::phys)
    }

    /// What the page map of the last jump counted.
    pub(crate) fn counts(&self) -> Option<Counts> {
        self.page_map.as_ref().map(PageMap::counts)
    }

    /// Pages kept for this load.
    pub(crate) fn kept_pages(&self) -> u32 {
        let maps = u32::from(self.handoff.is_some())
            + u32::from(self.peer_map.is_some())
            + self.page_map.as_ref().map_or(0, PageMap::pages)
            + self.headers.as_ref().map_or(0, CoreHeaders::pages)
            + self.own.as_ref().map_or(0, OwnWindow::pages)
            + self.watch.as_ref().map_or(0, Watch::pages);
        Gate::PAGES + (self.list.len() + self.list.list_pages()) as u32 + maps
    }

    /// The peer's own window; empty if it has none.
    pub(crate) fn own_range(&self) -> abi::Range {
        self.own
            .as_ref()
            .map_or_else(abi::Range::default, OwnWindow::range)
    }

    /// The page that has what the peer has at `frame`, if it wants that kept.
    pub(crate) fn peer_page(&mut self, frame: u32) -> Option<&mut Page> {
        // Of what goes one way nothing is the other kernel's to keep: it is all there.
        let one_way = self.is_one_way();
        if let Some(page) = self.own.as_mut().and_then(|own| own.page_mut(frame)) {
            return Some(page);
        }
        let index = self.list.find(frame)?;
        let there = one_way || self.list.is_theirs(index);
        (there && !self.list.is_fixed(index)).then(|| self.list.shadow_mut(index))
    }

    /// Says whether the next jump is to look if the peer leaves alone what it is not given. What
    /// that takes is allocated the first time, and kept.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the load goes one way; `ENOMEM`; `EINTR`.
    pub(crate) fn watch(&mut self, paranoid: bool) -> Result {
        self.paranoid = paranoid;
        if !paranoid || self.watch.is_some() {
            return Ok(());
        }
        let map = self.page_map.as_ref().ok_or(EOPNOTSUPP)?;
        let first = self.window_end / PAGE_SIZE as u32;
        let below = Below(first);
        let frame = |page: &Option<Page>| page.as_ref().map(Page::frame);
        let own = [
            frame(&self.handoff),
            frame(&self.peer_map),
            Some(self.gate.frame()),
        ];
        let own = own.into_iter().flatten();
        self.watch = Some(Watch::new(map, first, own, &mut PageSource::new(&below))?);
        Ok(())
    }

    /// How many watched pages the last jump has found changed; the frames of the first to `frames`.
    pub(crate) fn changed(&self, frames: &mut [u32]) -> u32 {
        match &self.watch {
            Some(watch) if self.paranoid => {
                watch.changed(frames);
                self.gate.answers().changed
            }
            _ => 0,
        }
    }

    /// Readies the next entry into the peer, with `command` for it.
    pub(crate) fn address(&mut self, command: u32) {
        if let Some(page) = &mut self.handoff {
            handoff::address(&mut page.view_mut::<Handoff>().mailbox, command);
        }
        let target = self.target;
        let control = self.gate.control();
        control.target = target;
        control.watched = 0;
        control.changed = 0;
    }

    /// Leaves `text`, shorter than a block's room, for the peer.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the load goes one way.
    pub(crate) fn request(&mut self, text: &[u8]) -> Result {
        let page = self.handoff.as_mut().ok_or(EOPNOTSUPP)?;
        handoff::request(page.view_mut(), text);
        Ok(())
    }

    /// Says what the load is, in words.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if it goes one way.
    pub(crate) fn label(&mut self, text: KVec<u8>) -> Result {
        if self.is_one_way() {
            return Err(EOPNOTSUPP);
        }
        self.label = text;
        Ok(())
    }

    /// What a core of the peer has to say, and the load's label; `None` if nobody comes back.
    pub(crate) fn peer_note(&self) -> Option<(PeerNote, &[u8])> {
        let block: &Handoff = self.handoff.as_ref()?.view();
        let note = PeerNote {
            version: 1,
            size: size_of::<PeerNote>() as u32,
            entry: self.target.into(),
            boot_params: self.gate.answers().params.into(),
            window_end: self.window_end.into(),
            fingerprint: block.fingerprint,
            jumps: self.jumps,
            crc: 0,
        };
        Some((note, &self.label))
    }

    /// Takes the text back.
    pub(crate) fn forget_request(&mut self) {
        if let Some(page) = &mut self.handoff {
            handoff::request(page.view_mut(), b"");
        }
    }

    /// What the peer answered.
    pub(crate) fn answer(&self) -> Option<&abi::Mailbox> {
        self.handoff
            .as_ref()
            .map(|page| &page.view::<Handoff>().mailbox)
    }

    /// Notes a completed round trip; whether the peer can be entered again.
    pub(crate) fn came_back(&mut self) -> bool {
        self.jumps += 1;
        self.target = self.gate.answers().peer_entry;
        // boot_params are for the first entry only.
        self.gate.control().params = 0;
        self.target != 0
    }
}

impl Side for Load {
    fn gate(&mut self) -> &mut Gate {
        &mut self.gate
    }

    fn map_pages(&mut self) {
        if !self.is_one_way() {
            window::mark_ours(&mut self.list);
        }
        if let Some(map) = &mut self.page_map {
            let own = self.own.as_ref().map_or(0..0, OwnWindow::frames);
            map.mark(&self.list, own);
        }
        if let Some(headers) = &mut self.headers {
            headers.note_registers();
        }
        if let (true, Some(watch), Some(map)) = (self.paranoid, &mut self.watch, &self.page_map) {
            let own = self.own.as_ref().map_or(0..0, OwnWindow::frames);
            watch.fill(map, self.window_end / PAGE_SIZE as u32, own);
            let phys = watch.phys();
            self.gate.control().watched = phys;
        }
    }

    fn returned(&mut self) {
        let resumed = self
            .answer()
            .is_some_and(|mailbox| mailbox.status == abi::STATUS_RESUMED);
        match &self.page_map {
            // All free pages, those of the window too.
            Some(map) if resumed && FreeFill::current() != FreeFill::None => map.refill(),
            _ => window::refill(&self.list),
        }
    }
}
