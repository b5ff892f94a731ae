// SPDX-License-Identifier: GPL-2.0

//! The page map: a bit for each page frame of this kernel's RAM, 1 = must be saved.
//!
//! The bits lie in pages that an index page points to, so that no large piece of contiguous
//! memory is needed: word N of the index is the physical address of the page with the bits of
//! frames `N * 32768` and on, least significant bit first; 0 for none. All of it is allocated with
//! the load; at the jump, with interrupts off on the one running CPU, the buddy allocator is
//! stable and the bits are filled in.
//!
//! Left out are free pages; what is no RAM; pages that must not be read (offline, guard, poisoned
//! by hardware); the shadow, whose contents are the window's and are saved as such; and what is the
//! peer's own, who runs in it.

use crate::alloc::{KVVec, KVec};
use crate::list::ExchangeList;
use crate::pages::{Page, PageSource, PAGE_SIZE};
use crate::sys::memory::{self, FrameKind, FreeFill};
use core::ops::Range;
use kernel::prelude::*;

/// Frames whose bits fit a page.
const FRAMES_PER_PAGE: u32 = PAGE_SIZE as u32 * 8;
/// Pieces of RAM, at most; as in a handoff block.
const RANGES: usize = crate::abi::HANDOFF_RANGES;

/// How many frames of each kind the last marking found.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    /// To be saved.
    pub(crate) saved: u32,
    /// Free.
    pub(crate) free: u32,
    /// Not to be read.
    pub(crate) unreadable: u32,
    /// Pages of the shadow, and of the peer's own window.
    pub(crate) shadow: u32,
}

/// See the module's documentation.
pub(crate) struct PageMap {
    index: Page,
    bits: KVVec<Page>,
    ranges: KVec<[u32; 2]>,
    counts: Counts,
}

impl PageMap {
    /// Allocates a map of all RAM.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `E2BIG` if RAM is in too many pieces, or reaches beyond what an index page covers
    /// (128 GiB).
    pub(crate) fn new(source: &mut PageSource<'_>) -> Result<Self> {
        let mut ranges = KVec::new();
        ranges.resize(RANGES, [0; 2], GFP_KERNEL)?;
        let count = memory::ram_ranges(&mut ranges)?;
        ranges.truncate(count);
        let end = ranges.last().map_or(0, |range| range[1]);
        let mut index = source.page()?;
        let mut bits = KVVec::new();
        for word in 0..end.div_ceil(FRAMES_PER_PAGE) as usize {
            let page = source.page()?;
            *index.words_mut().get_mut(word).ok_or(E2BIG)? = page.phys();
            bits.push(page, GFP_KERNEL)?;
        }
        Ok(Self {
            index,
            bits,
            ranges,
            counts: Counts::default(),
        })
    }

    /// Physical address of the index page.
    pub(crate) fn phys(&self) -> u32 {
        self.index.phys()
    }

    /// Frames that the map has bits for.
    pub(crate) fn frames(&self) -> u32 {
        self.bits.len() as u32 * FRAMES_PER_PAGE
    }

    /// Pages that the map takes.
    pub(crate) fn pages(&self) -> u32 {
        self.bits.len() as u32 + 1
    }

    /// What the last marking found.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Fills in the bits; `own` are frames of the peer's own. Interrupts are off, and this is the
    /// only CPU.
    pub(crate) fn mark(&mut self, list: &ExchangeList, own: Range<u32>) {
        for page in self.bits.iter_mut() {
            page.words_mut().fill(0);
        }
        // Where free pages are missing from the direct map they cannot be filled again as the
        // allocator believes them to be: then they are saved too.
        let all = memory::free_pages_unmapped() && FreeFill::current() != FreeFill::None;
        let mut counts = Counts::default();
        for at in 0..self.ranges.len() {
            let [mut frame, end] = self.ranges[at];
            while frame < end {
                let (kind, length) = memory::frame_run(frame, end);
                match kind {
                    FrameKind::Free if !all => counts.free += length,
                    FrameKind::Used | FrameKind::Free => {
                        self.set_run(frame, length);
                        counts.saved += length;
                    }
                    FrameKind::Unreadable => counts.unreadable += length,
                }
                frame += length;
            }
        }
        let mut theirs = |frame| {
            if self.clear(frame) {
                counts.shadow += 1;
                counts.saved -= 1;
            }
        };
        list.for_each_shadow(&mut theirs);
        own.for_each(theirs);
        // Page 0 has the firmware's data; Linux does not count it as RAM.
        self.set_run(0, 1);
        counts.saved += 1;
        self.counts = counts;
    }

    /// Gives the allocator its free pages back as it left them, after memory was restored from an
    /// image, which has none of them. Interrupts are off, and have been since [`mark`](Self::mark)
    /// as far as this kernel knows.
    pub(crate) fn refill(&self) {
        let fill = FreeFill::current();
        if fill == FreeFill::None || memory::free_pages_unmapped() {
            return;
        }
        for &[mut frame, end] in &self.ranges {
            while frame < end {
                let (kind, length) = memory::frame_run(frame, end);
                if kind == FrameKind::Free {
                    for free in frame..frame + length {
                        // SAFETY: RAM, free, and interrupts are off on the only CPU.
                        unsafe { fill.fill(free) }
                    }
                }
                frame += length;
            }
        }
    }

    /// Frames of RAM in `[first, end)`.
    pub(crate) fn ram_between(&self, first: u32, end: u32) -> u32 {
        let inside = |&[from, to]: &[u32; 2]| to.min(end).saturating_sub(from.max(first));
        self.ranges.iter().map(inside).sum()
    }

    /// Calls `f` with each frame in `[first, end)` that is to be saved, ascending.
    pub(crate) fn for_each(&self, first: u32, end: u32, mut f: impl FnMut(u32)) {
        let mut at = first;
        while at < end.min(self.frames()) {
            let page = &self.bits[(at / FRAMES_PER_PAGE) as usize];
            let word = page.words()[(at % FRAMES_PER_PAGE / 32) as usize] >> (at % 32);
            let left = 32 - at % 32;
            let mut bits = word;
            while bits != 0 {
                let frame = at + bits.trailing_zeros();
                if frame < end {
                    f(frame);
                }
                bits &= bits - 1;
            }
            at += left;
        }
    }

    fn set_run(&mut self, frame: u32, length: u32) {
        let mut at = frame;
        let end = frame + length;
        while at < end {
            // Up to the end of a word.
            let count = (32 - at % 32).min(end - at);
            let mask = (u32::MAX >> (32 - count)) << (at % 32);
            if let Some(word) = self.word(at) {
                *word |= mask;
            }
            at += count;
        }
    }

    /// Whether the bit was set.
    fn clear(&mut self, frame: u32) -> bool {
        let mask = 1 << (frame % 32);
        self.word(frame).is_some_and(|word| {
            let was = *word & mask != 0;
            *word &= !mask;
            was
        })
    }

    fn word(&mut self, frame: u32) -> Option<&mut u32> {
        let page = self.bits.get_mut((frame / FRAMES_PER_PAGE) as usize)?;
        page.words_mut()
            .get_mut((frame % FRAMES_PER_PAGE / 32) as usize)
    }
}
