// SPDX-License-Identifier: GPL-2.0

//! The exchange list: which page of the window goes with which page of the shadow.
//!
//! The list lies in pages of its own that the stub walks by physical addresses. An entry's flags
//! say whose contents matter; see `ListEntry` in the ABI.

use crate::abi::{ListEntry, ListPage, ENTRY_FIXED, ENTRY_OURS, ENTRY_THEIRS, LIST_ENTRIES};
use crate::alloc::KVVec;
use crate::pages::{Page, PageSource, PAGE_SIZE};
use kernel::prelude::*;

/// The list and the shadow it points to. Entries ascend by window page.
pub(crate) struct ExchangeList {
    pages: KVVec<Page>,
    shadow: KVVec<Page>,
}

impl ExchangeList {
    /// An empty list.
    pub(crate) fn new() -> Self {
        Self {
            pages: KVVec::new(),
            shadow: KVVec::new(),
        }
    }

    /// Adds window frame `frame` with `shadow` as its shadow page.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn push(
        &mut self,
        frame: u32,
        flags: u32,
        shadow: Page,
        shadow_flags: u32,
        source: &mut PageSource<'_>,
    ) -> Result {
        let at = self.shadow.len() % LIST_ENTRIES;
        if at == 0 {
            let page = source.page()?;
            let phys = page.phys();
            if let Some(last) = self.pages.last_mut() {
                last.view_mut::<ListPage>().next = phys;
            }
            self.pages.push(page, GFP_KERNEL)?;
        }
        let entry = ListEntry {
            window: (frame * PAGE_SIZE as u32) | flags,
            shadow: shadow.phys() | shadow_flags,
        };
        self.shadow.push(shadow, GFP_KERNEL)?;
        if let Some(last) = self.pages.last_mut() {
            let page: &mut ListPage = last.view_mut();
            page.entries[at] = entry;
            page.count = at as u32 + 1;
        }
        Ok(())
    }

    /// Number of entries, which is that of shadow pages.
    pub(crate) fn len(&self) -> usize {
        self.shadow.len()
    }

    /// Pages that the list itself takes.
    pub(crate) fn list_pages(&self) -> usize {
        self.pages.len()
    }

    /// Physical address of the first list page, 0 if there is none.
    pub(crate) fn phys(&self) -> u32 {
        self.pages.first().map_or(0, Page::phys)
    }

    fn entry(&self, index: usize) -> &ListEntry {
        &self.pages[index / LIST_ENTRIES].view::<ListPage>().entries[index % LIST_ENTRIES]
    }

    fn entry_mut(&mut self, index: usize) -> &mut ListEntry {
        &mut self.pages[index / LIST_ENTRIES]
            .view_mut::<ListPage>()
            .entries[index % LIST_ENTRIES]
    }

    /// Index of the entry for window frame `frame`.
    pub(crate) fn find(&self, frame: u32) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.entry(middle).window / (PAGE_SIZE as u32) < frame {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (low < self.len() && self.entry(low).window / PAGE_SIZE as u32 == frame).then_some(low)
    }

    /// Whether the peer's contents of entry `index` matter.
    pub(crate) fn is_theirs(&self, index: usize) -> bool {
        self.entry(index).shadow & ENTRY_THEIRS != 0
    }

    /// Whether entry `index` is never replaced.
    pub(crate) fn is_fixed(&self, index: usize) -> bool {
        self.entry(index).window & ENTRY_FIXED != 0
    }

    /// Says that the peer's contents of entry `index` matter.
    pub(crate) fn set_theirs(&mut self, index: usize) {
        self.entry_mut(index).shadow |= ENTRY_THEIRS;
    }

    /// The shadow page of entry `index`.
    pub(crate) fn shadow_mut(&mut self, index: usize) -> &mut Page {
        &mut self.shadow[index]
    }

    /// Calls `f` with the frame of each shadow page.
    pub(crate) fn for_each_shadow(&self, f: impl FnMut(u32)) {
        self.shadow.iter().map(Page::frame).for_each(f);
    }

    /// Calls `f` with window and shadow address of each entry.
    ///
    /// # Errors
    ///
    /// Those of `f`.
    pub(crate) fn for_each(&self, mut f: impl FnMut(u32, u32) -> Result) -> Result {
        for index in 0..self.len() {
            let entry = self.entry(index);
            f(page_of(entry.window), page_of(entry.shadow))?;
        }
        Ok(())
    }

    /// Calls `f` with the window address of each entry whose contents of the peer's matter.
    ///
    /// # Errors
    ///
    /// Those of `f`.
    pub(crate) fn for_each_theirs(&self, mut f: impl FnMut(u32) -> Result) -> Result {
        for index in 0..self.len() {
            let entry = self.entry(index);
            if self.is_theirs(index) && !self.is_fixed(index) {
                f(page_of(entry.window))?;
            }
        }
        Ok(())
    }

    /// Asks `ours` for each window frame whether our contents matter, and notes the answer.
    pub(crate) fn mark_ours(&mut self, mut ours: impl FnMut(u32) -> bool) {
        for index in 0..self.len() {
            let entry = self.entry_mut(index);
            if entry.window & ENTRY_FIXED == 0 {
                let keep = ours(entry.window / PAGE_SIZE as u32);
                entry.window = (entry.window & !ENTRY_OURS) | if keep { ENTRY_OURS } else { 0 };
            }
        }
    }

    /// Calls `f` with each window frame whose contents of ours did not matter.
    pub(crate) fn for_each_not_ours(&self, mut f: impl FnMut(u32)) {
        for index in 0..self.len() {
            let entry = self.entry(index);
            if entry.window & ENTRY_OURS == 0 {
                f(entry.window / PAGE_SIZE as u32);
            }
        }
    }
}

/// An entry's word without its flags: the page's address.
fn page_of(word: u32) -> u32 {
    word & !(PAGE_SIZE as u32 - 1)
}
