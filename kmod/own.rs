// SPDX-License-Identifier: GPL-2.0

//! A peer's own window: RAM above the shared one, in one piece, that is the peer's as long as it is
//! loaded.
//!
//! It is not exchanged: the pages are allocated, so nothing of this kernel's lies there, and the
//! peer runs in them in place. For everybody else they are memory of this kernel's like any other:
//! saved with it, and exchanged where they lie in another load's window. Only the load's own peer
//! must not take them for this kernel's memory.

use crate::abi;
use crate::alloc::KVVec;
use crate::pages::{Below, Page, PageSource, LARGEST, PAGE_SIZE};
use crate::sys::memory;
use core::ops::Range;
use kernel::prelude::*;

/// Pages of a block; blocks are aligned to their size.
const BLOCK: usize = 1 << LARGEST;

/// See the module's documentation. Dropped, it gives its pages back, zeroed.
pub(crate) struct OwnWindow {
    /// One after the other in memory. Not empty.
    pages: KVVec<Page>,
    /// Of each page, whether a segment is for it.
    taken: KVVec<bool>,
}

impl OwnWindow {
    /// Allocates `size` bytes above `window_end`, and above the default window, which other peers
    /// use.
    ///
    /// # Errors
    ///
    /// `EDOM` if `size` is 0, `EINVAL` if it is not page-aligned, `ERANGE` if low memory is smaller;
    /// `ENOMEM` if there are not as many free pages in one piece; `EINTR` if a signal came.
    pub(crate) fn new(size: u64, window_end: u32) -> Result<Self> {
        if size == 0 {
            return Err(EDOM);
        }
        if size % PAGE_SIZE as u64 != 0 {
            return Err(EINVAL);
        }
        if size >= u64::from(memory::low_memory_end()) {
            return Err(ERANGE);
        }
        let end = window_end.max(abi::DEFAULT_WINDOW_END as u32);
        let below = Below(end / PAGE_SIZE as u32);
        let count = size as usize / PAGE_SIZE;
        memory::check_room(count as u32)?;
        let pages = gather(count, &mut PageSource::new(&below))?;
        let mut taken = KVVec::new();
        taken.resize(count, false, GFP_KERNEL)?;
        Ok(Self { pages, taken })
    }

    /// Its page frames.
    pub(crate) fn frames(&self) -> Range<u32> {
        let first = self.pages[0].frame();
        first..first + self.pages()
    }

    /// Its addresses.
    pub(crate) fn range(&self) -> abi::Range {
        let frames = self.frames();
        abi::Range {
            start: u64::from(frames.start) * PAGE_SIZE as u64,
            end: u64::from(frames.end) * PAGE_SIZE as u64,
        }
    }

    /// How many pages it has.
    pub(crate) fn pages(&self) -> u32 {
        self.pages.len() as u32
    }

    /// Index of the page with that frame.
    fn index(&self, frame: u32) -> Option<usize> {
        let frames = self.frames();
        frames
            .contains(&frame)
            .then(|| (frame - frames.start) as usize)
    }

    /// Whether a segment is for `frame`; `None` if that is not in this window.
    pub(crate) fn is_taken(&self, frame: u32) -> Option<bool> {
        self.index(frame).map(|index| self.taken[index])
    }

    /// Notes that a segment is for `frame`. Whether that is in this window.
    pub(crate) fn take(&mut self, frame: u32) -> bool {
        let index = self.index(frame);
        if let Some(index) = index {
            self.taken[index] = true;
        }
        index.is_some()
    }

    /// The page with that frame.
    pub(crate) fn page_mut(&mut self, frame: u32) -> Option<&mut Page> {
        self.index(frame).map(|index| &mut self.pages[index])
    }
}

/// `count` pages of `source`, one after the other. Takes blocks until some of them are adjacent;
/// what is not wanted of them goes back.
fn gather(count: usize, source: &mut PageSource<'_>) -> Result<KVVec<Page>> {
    let wanted = count.div_ceil(BLOCK);
    // Ascending.
    let mut blocks: KVVec<KVVec<Page>> = KVVec::new();
    let run = loop {
        if kernel::current!().signal_pending() {
            return Err(EINTR);
        }
        blocks.push(source.block(LARGEST)?.ok_or(ENOMEM)?, GFP_KERNEL)?;
        let mut at = blocks.len() - 1;
        while at > 0 && blocks[at][0].frame() < blocks[at - 1][0].frame() {
            blocks.swap(at, at - 1);
            at -= 1;
        }
        let run = run_around(at, blocks.len(), |n| blocks[n][0].frame());
        if run.len() >= wanted {
            break run;
        }
    };
    let mut pages = KVVec::with_capacity(count, GFP_KERNEL)?;
    for (index, block) in blocks.into_iter().enumerate() {
        if !run.contains(&index) {
            continue;
        }
        for page in block {
            if pages.len() < count {
                pages.push(page, GFP_KERNEL)?;
            }
        }
    }
    Ok(pages)
}

/// Of `count` blocks in ascending order, those adjacent to block `at` and to each other; `frame`
/// tells a block's first frame.
fn run_around(at: usize, count: usize, frame: impl Fn(usize) -> u32) -> Range<usize> {
    let adjacent = |n: usize| frame(n) + BLOCK as u32 == frame(n + 1);
    let (mut first, mut end) = (at, at + 1);
    while first > 0 && adjacent(first - 1) {
        first -= 1;
    }
    while end < count && adjacent(end - 1) {
        end += 1;
    }
    first..end
}
