// SPDX-License-Identifier: GPL-2.0

//! Loads that go one way: like kexec, segments may go anywhere in RAM, and nothing comes back.
//!
//! Contents are staged in pages wherever the allocator gives them. When the load is committed all
//! destinations are known, and whatever lies on one moves elsewhere: the stub copies page by page
//! and must not overwrite what it has still to read.

use crate::abi::ENTRY_THEIRS;
use crate::alloc::KVVec;
use crate::gate::Gate;
use crate::list::ExchangeList;
use crate::load::Destination;
use crate::pages::{Forbidden, Page, PageSource, PAGE_SIZE};
use crate::sys::memory;
use core::ops::Range;
use kernel::prelude::*;

/// Segments so far.
pub(crate) struct Staged {
    pages: KVVec<(u32, Page)>,
    taken: Taken,
}

/// Frames that segments are for, in the order they came.
struct Taken(KVVec<Range<u32>>);

impl Forbidden for Taken {
    fn forbids(&self, frame: u32) -> bool {
        self.0.iter().any(|range| range.contains(&frame))
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
        if self
            .taken
            .0
            .iter()
            .any(|r| r.start < frames.end && frames.start < r.end)
        {
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
        Ok(self.taken.0.push_within_capacity(frames)?)
    }

    fn stage(&mut self, frames: Range<u32>, destination: &mut Destination) -> Result {
        for frame in frames {
            let mut page = Page::new()?;
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
        let Self { pages, taken } = self;
        if !taken.forbids(entry / PAGE_SIZE as u32) {
            return Err(EADDRNOTAVAIL);
        }
        let mut source = PageSource::new(&taken);
        let mut gate = Gate::new(&mut source)?;
        let mut list = ExchangeList::new();
        for (frame, mut page) in pages {
            if taken.forbids(page.frame()) {
                let mut clear = source.page()?;
                clear.bytes_mut().copy_from_slice(page.bytes_mut());
                // The page that is given up must not come back from the allocator.
                source.pass_over(core::mem::replace(&mut page, clear))?;
            }
            list.push(frame, 0, page, ENTRY_THEIRS, &mut source)?;
        }
        let control = gate.control();
        control.list = list.phys();
        control.features |= crate::arch::feature::ONE_WAY;
        Ok((gate, list))
    }
}
