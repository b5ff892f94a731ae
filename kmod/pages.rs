// SPDX-License-Identifier: GPL-2.0

//! Pages that a load owns, and where they may lie.
//!
//! While a peer runs, the window is its own, and a jump one way overwrites whatever its segments
//! are for. So every page that must survive, or be read after the first page was written, lies
//! elsewhere: a [`PageSource`] hands out only such pages. Those that it has to pass over it keeps
//! until it is dropped, or the allocator would offer them again.

use crate::alloc::{self, KVVec};
use crate::sys::memory;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::prelude::*;

/// Pages allocated and not yet freed.
static ALLOCATED: AtomicU32 = AtomicU32::new(0);

/// Pages the module holds at the moment, of any kind.
pub(crate) fn allocated() -> u32 {
    ALLOCATED.load(Ordering::Relaxed)
}

/// Bytes in a page.
pub(crate) const PAGE_SIZE: usize = crate::abi::PAGE_SIZE as usize;

/// A page of the kernel's direct map, below 4 GiB; zeroed and freed on drop.
///
/// # Invariants
///
/// The pointer is to a page that nobody else refers to.
pub(crate) struct Page(NonNull<u8>);

// SAFETY: an owned piece of memory, of no thread in particular.
unsafe impl Send for Page {}

impl Page {
    /// Allocates one, wherever it lies, zeroed.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Self::allocate(true)
    }

    /// Allocates one to be filled: it holds whatever was there last.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn blank() -> Result<Self> {
        Self::allocate(false)
    }

    fn allocate(zero: bool) -> Result<Self> {
        alloc::allow()?;
        let page = memory::page_alloc(zero)?;
        ALLOCATED.fetch_add(1, Ordering::Relaxed);
        Ok(Self(page))
    }

    /// Allocates `1 << order` of them, one after the other, wherever they lie; `None` if that
    /// cannot be had without effort. Pages that the iterator still has when it is dropped are
    /// lost, so it is to be run to its end.
    fn block(order: u32) -> Option<impl Iterator<Item = Self>> {
        alloc::allow().ok()?;
        let first = memory::block_alloc(order)?;
        let count = 1usize << order;
        ALLOCATED.fetch_add(count as u32, Ordering::Relaxed);
        // SAFETY: inside the block.
        Some((0..count).map(move |n| Self(unsafe { first.add(n * PAGE_SIZE) })))
    }

    /// Physical address, bytes.
    pub(crate) fn phys(&self) -> u32 {
        memory::phys(self.0)
    }

    /// Page frame number.
    pub(crate) fn frame(&self) -> u32 {
        self.phys() / PAGE_SIZE as u32
    }

    /// Its bytes.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; PAGE_SIZE] {
        // SAFETY: a whole page, owned.
        unsafe { self.0.cast().as_mut() }
    }

    /// Its words.
    pub(crate) fn words_mut(&mut self) -> &mut [u32; PAGE_SIZE / 4] {
        // SAFETY: a whole page, owned, and aligned to itself.
        unsafe { self.0.cast().as_mut() }
    }

    /// Its words, to be read.
    pub(crate) fn words(&self) -> &[u32; PAGE_SIZE / 4] {
        // SAFETY: a whole page, owned, and aligned to itself.
        unsafe { self.0.cast().as_ref() }
    }

    /// The page as a `T`.
    pub(crate) fn view<T: PageView>(&self) -> &T {
        // SAFETY: a whole page, owned; `PageView` promises that any bits are a `T`.
        unsafe { self.0.cast().as_ref() }
    }

    /// The page as a `T`, to be changed.
    pub(crate) fn view_mut<T: PageView>(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { self.0.cast().as_mut() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // Secrets of the other side do not stay behind.
        self.bytes_mut().fill(0);
        // SAFETY: allocated by `new`, owned.
        unsafe { memory::page_free(self.0) };
        ALLOCATED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Structures that fill a page.
///
/// # Safety
///
/// Exactly a page long, and every bit pattern is one.
pub(crate) unsafe trait PageView {}

// SAFETY: integers only; the size is asserted beside the definition.
unsafe impl PageView for crate::abi::Handoff {}
// SAFETY: as above.
unsafe impl PageView for crate::abi::ListPage {}
// SAFETY: as above.
unsafe impl PageView for crate::arch::ControlPage {}

/// Page frames that a [`PageSource`] must not hand out.
pub(crate) trait Forbidden {
    /// Whether `frame` is one of them.
    fn forbids(&self, frame: u32) -> bool;
}

/// Frames below a limit: a window.
pub(crate) struct Below(pub(crate) u32);

impl Forbidden for Below {
    fn forbids(&self, frame: u32) -> bool {
        frame < self.0
    }
}

/// Nothing is forbidden: a peer's own pages all lie in its window, and stay with it.
pub(crate) struct Nowhere;

impl Forbidden for Nowhere {
    fn forbids(&self, _frame: u32) -> bool {
        false
    }
}

/// The largest block that is asked for: 4 MiB, which the buddy allocator has as its largest too.
pub(crate) const LARGEST: u32 = 10;

/// Hands out pages outside what is forbidden: where many are expected, in blocks, so that what is
/// made of them is in few pieces.
pub(crate) struct PageSource<'a> {
    forbidden: &'a dyn Forbidden,
    passed_over: KVVec<Page>,
    /// Pages of a block, the next one last.
    pool: KVVec<Page>,
    /// Order of the next block.
    order: u32,
}

impl<'a> PageSource<'a> {
    /// A source that avoids what `forbidden` says.
    pub(crate) fn new(forbidden: &'a dyn Forbidden) -> Self {
        Self {
            forbidden,
            passed_over: KVVec::new(),
            pool: KVVec::new(),
            order: 0,
        }
    }

    /// Says that about `pages` are going to be asked for.
    pub(crate) fn expect(&mut self, pages: u32) {
        self.order = pages.max(1).ilog2().min(LARGEST);
    }

    /// Fills the pool with a block, or leaves it empty if there is none to be had.
    fn refill(&mut self) -> Result {
        while self.order > 0 {
            let count = 1 << self.order;
            self.pool.reserve(count, GFP_KERNEL)?;
            self.passed_over.reserve(count, GFP_KERNEL)?;
            let Some(pages) = Page::block(self.order) else {
                self.order -= 1;
                continue;
            };
            // Nothing fails from here on: there is room for all.
            for page in pages {
                let to = if self.forbidden.forbids(page.frame()) {
                    &mut self.passed_over
                } else {
                    &mut self.pool
                };
                to.push(page, GFP_KERNEL)?;
            }
            self.pool.reverse();
            if !self.pool.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// `1 << order` zeroed pages, one after the other, outside what is forbidden; `None` if they
    /// cannot be had.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn block(&mut self, order: u32) -> Result<Option<KVVec<Page>>> {
        // Each try keeps a block of the window from being offered again.
        loop {
            let mut pages = KVVec::with_capacity(1 << order, GFP_KERNEL)?;
            let Some(block) = Page::block(order) else {
                return Ok(None);
            };
            let mut good = true;
            for page in block {
                good &= !self.forbidden.forbids(page.frame());
                pages.push(page, GFP_KERNEL)?;
            }
            if good {
                return Ok(Some(pages));
            }
            for page in pages {
                self.passed_over.push(page, GFP_KERNEL)?;
            }
        }
    }

    /// A zeroed page outside what is forbidden.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINTR` if a signal came: a wide window is many pages.
    pub(crate) fn page(&mut self) -> Result<Page> {
        loop {
            if kernel::current!().signal_pending() {
                return Err(EINTR);
            }
            if self.pool.is_empty() {
                self.refill()?;
            }
            if let Some(page) = self.pool.pop() {
                return Ok(page);
            }
            let page = Page::new()?;
            if !self.forbidden.forbids(page.frame()) {
                return Ok(page);
            }
            self.passed_over.push(page, GFP_KERNEL)?;
        }
    }
}
