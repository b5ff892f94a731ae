// SPDX-License-Identifier: GPL-2.0

//! Watched pages: what a peer is not given, and whether it has left that alone.
//!
//! The stub sums them when this kernel has stopped for good and compares when the peer is back
//! (arch/i386/watch.S); here is the table that it works from. In it is every page that the page map
//! counts as in use, outside the window, but for those that either side writes while this kernel is
//! away: the control page, the handoff block, the peer map, the table itself, and a
//! window of the peer's own. Pages beyond 4 GiB
//! cannot be reached without paging, by the stub as by most peers, and are left out.

use crate::abi::{ListEntry, ListPage, LIST_ENTRIES};
use crate::alloc::KVVec;
use crate::arch::WATCH_CHANGED;
use crate::page_map::PageMap;
use crate::pages::{Page, PageSource, PAGE_SIZE};
use kernel::prelude::*;

/// Frames below 4 GiB.
const REACHED: u32 = 1 << 20;

/// The table. Its pages are linked as those of an exchange list, with an address and a sum in each
/// entry.
pub(crate) struct Watch {
    pages: KVVec<Page>,
    /// Frames that are not watched, ascending.
    own: KVVec<u32>,
}

impl Watch {
    /// A table with room for all that `map` may have outside the window, which ends at frame
    /// `first`. `own` are frames that are written while the peer runs.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINTR`.
    pub(crate) fn new(
        map: &PageMap,
        first: u32,
        own: impl Iterator<Item = u32>,
        source: &mut PageSource<'_>,
    ) -> Result<Self> {
        let count = (map.ram_between(first, REACHED) as usize).div_ceil(LIST_ENTRIES);
        let mut watch = Self {
            pages: KVVec::new(),
            own: KVVec::new(),
        };
        for _ in 0..count {
            let page = source.page()?;
            let phys = page.phys();
            if let Some(last) = watch.pages.last_mut() {
                last.view_mut::<ListPage>().next = phys;
            }
            watch.own.push(page.frame(), GFP_KERNEL)?;
            watch.pages.push(page, GFP_KERNEL)?;
        }
        for frame in own {
            watch.own.push(frame, GFP_KERNEL)?;
        }
        watch.own.sort_unstable();
        Ok(watch)
    }

    /// Pages that the table takes.
    pub(crate) fn pages(&self) -> u32 {
        self.pages.len() as u32
    }

    /// Physical address of the table's first page, 0 if it has none.
    pub(crate) fn phys(&self) -> u32 {
        self.pages.first().map_or(0, Page::phys)
    }

    /// Enters what `map` has from frame `first` on, but for `theirs`, a window of the peer's own. Interrupts are off, and the map is filled in.
    pub(crate) fn fill(&mut self, map: &PageMap, first: u32, theirs: core::ops::Range<u32>) {
        for page in self.pages.iter_mut() {
            page.view_mut::<ListPage>().count = 0;
        }
        let own = &self.own;
        let mut at = 0;
        map.for_each(first, REACHED, |frame| {
            if theirs.contains(&frame) || own.binary_search(&frame).is_ok() {
                return;
            }
            // RAM that has come since the table was made finds no room, and is not watched.
            if let Some(page) = self.pages.get_mut(at / LIST_ENTRIES) {
                let table: &mut ListPage = page.view_mut();
                table.entries[at % LIST_ENTRIES] = ListEntry {
                    window: frame * PAGE_SIZE as u32,
                    shadow: 0,
                };
                table.count += 1;
                at += 1;
            }
        });
    }

    /// Frames of pages that have changed: as many as there is room for in `out`.
    pub(crate) fn changed(&self, out: &mut [u32]) {
        let entries = self.pages.iter().flat_map(|page| {
            let table: &ListPage = page.view();
            &table.entries[..(table.count as usize).min(LIST_ENTRIES)]
        });
        let changed = entries.filter(|entry| entry.window & WATCH_CHANGED != 0);
        for (place, entry) in out.iter_mut().zip(changed) {
            *place = entry.window / PAGE_SIZE as u32;
        }
    }
}
