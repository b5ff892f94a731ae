// SPDX-License-Identifier: GPL-2.0

//! Loads that go one way: like kexec, segments may go anywhere in RAM, and nothing comes back.
//!
//! Contents are staged in pages wherever the allocator gives them. When the load is committed all
//! destinations are known. What is staged in a page that is another one's destination changes places with
//! what belongs there, so that no page that the stub writes to has something in it that it has still
//! to read. That takes no memory beside: what can be staged can be entered, all of RAM but this
//! kernel's own part included.

use crate::abi::{ListEntry, ENTRY_THEIRS};
use crate::alloc::KVVec;
use crate::gate::Gate;
use crate::list::ExchangeList;
use crate::load::Destination;
use crate::pages::{Forbidden, Page, PageSource, PAGE_SIZE};
use crate::sys::memory;
use core::ops::Range;
use kernel::prelude::*;

/// Pages that a load wants beside its segments, whatever their number.
const ROOM: usize = 64;

/// Segments so far.
pub(crate) struct Staged {
    /// Destinations, ascending, and contents.
    pages: KVVec<(u32, Page)>,
    taken: Taken,
}

/// Frames that segments are for: ranges, ascending, disjoint.
struct Taken(KVVec<Range<u32>>);

impl Taken {
    /// Index of the first range that ends behind `frame`.
    fn after(&self, frame: u32) -> usize {
        self.0.partition_point(|range| range.end <= frame)
    }

    /// Whether any of `frames` is one.
    fn overlaps(&self, frames: &Range<u32>) -> bool {
        let next = self.0.get(self.after(frames.start));
        next.is_some_and(|range| range.start < frames.end)
    }

    /// Adds `frames`, for which there is room and which are not among them.
    fn add(&mut self, frames: Range<u32>) -> Result {
        let mut at = self.after(frames.start);
        if let Some(before) = at.checked_sub(1).and_then(|n| self.0.get_mut(n)) {
            // Pieces of a saved kernel mostly come one behind the other.
            if before.end == frames.start {
                before.end = frames.end;
                return Ok(());
            }
        }
        self.0.push_within_capacity(frames)?;
        let last = self.0.len() - 1;
        while at < last {
            self.0.swap(at, last);
            at += 1;
        }
        Ok(())
    }
}

impl Forbidden for Taken {
    fn forbids(&self, frame: u32) -> bool {
        self.overlaps(&(frame..frame + 1))
    }
}

impl Staged {
    /// No segments.
    pub(crate) fn new() -> Self {
        Self {
            pages: KVVec::new(),
            taken: Taken(KVVec::new()),
        }
    }

    /// Adds a segment.
    ///
    /// # Errors
    ///
    /// `EADDRNOTAVAIL` for a page that is not RAM, or page 0; `EADDRINUSE` for one that another
    /// segment has; `EFAULT`; `ENOMEM`.
    pub(crate) fn segment(&mut self, mut destination: Destination) -> Result {
        let frames = destination.frames.clone();
        if frames.start == 0 || frames.clone().any(|frame| !memory::is_ram(frame)) {
            return Err(EADDRNOTAVAIL);
        }
        if self.taken.overlaps(&frames) {
            return Err(EADDRINUSE);
        }
        // What is staged must have its claim: nothing may fail in between.
        self.taken.0.reserve(1, GFP_KERNEL)?;
        memory::check_room(frames.len() as u32)?;
        let before = self.pages.len();
        let result = self.stage(frames.clone(), &mut destination);
        if result.is_err() {
            self.pages.truncate(before);
            return result;
        }
        // Mostly they come ascending, and this moves nothing. (Sorting them in the end, as core sorts,
        // takes more stack than a kernel of 32 bits has.)
        let at = self.pages[..before].partition_point(|(frame, _)| *frame < frames.start);
        self.pages[at..].rotate_right(frames.len());
        self.taken.add(frames)
    }

    fn stage(&mut self, frames: Range<u32>, destination: &mut Destination) -> Result {
        for frame in frames {
            let mut page = Page::blank()?;
            destination.fill(&mut page)?;
            self.pages.push((frame, page), GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Builds gate and list, everything clear of all destinations.
    ///
    /// # Errors
    ///
    /// `EADDRNOTAVAIL` if `entry` lies in no segment; `ENOMEM`.
    pub(crate) fn commit(self, entry: u32) -> Result<(Gate, ExchangeList)> {
        let Self { mut pages, taken } = self;
        if !taken.forbids(entry / PAGE_SIZE as u32) {
            return Err(EADDRNOTAVAIL);
        }
        // The list, the vector of what it points to, which doubles, and the gate.
        let bytes = pages.len() * (size_of::<ListEntry>() + 3 * size_of::<Page>());
        memory::check_room((bytes / PAGE_SIZE + ROOM) as u32)?;
        // Taken first: these few have to be clear of all destinations.
        let mut source = PageSource::new(&taken);
        let mut gate = Gate::new(&mut source)?;
        settle(&mut pages)?;
        let mut list = ExchangeList::new();
        for (frame, page) in pages {
            // One that is in place is kept, and not copied.
            let flags = match page.frame() == frame {
                true => 0,
                false => ENTRY_THEIRS,
            };
            list.push(frame, 0, page, flags, &mut source)?;
        }
        let control = gate.control();
        control.list = list.phys();
        control.features |= crate::arch::feature::ONE_WAY;
        Ok((gate, list))
    }
}

/// Puts the contents for each frame that is one of these pages into that page. `pages` ascend by
/// frame.
///
/// # Errors
///
/// `EINTR` if a signal came.
fn settle(pages: &mut [(u32, Page)]) -> Result {
    for at in 0..pages.len() {
        if kernel::current!().signal_pending() {
            return Err(EINTR);
        }
        // Each turn has one more in its place, for good.
        while let Some(other) = whose(pages, pages[at].1.frame()).filter(|&other| other != at) {
            let [(_, page), (_, wanted)] =
                pages.get_disjoint_mut([at, other]).map_err(|_| EINVAL)?;
            page.bytes_mut().swap_with_slice(wanted.bytes_mut());
            core::mem::swap(page, wanted);
        }
    }
    Ok(())
}

/// Index of the entry whose destination is `frame`.
fn whose(pages: &[(u32, Page)], frame: u32) -> Option<usize> {
    pages.binary_search_by_key(&frame, |(to, _)| *to).ok()
}
