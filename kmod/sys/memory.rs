// SPDX-License-Identifier: GPL-2.0

//! Physical memory as the kernel sees it: RAM, free pages, the resource tree, raw pages.

use super::bindings;
use core::ffi::CStr;
use core::ptr::NonNull;
use kernel::prelude::*;

/// First address of the kernel's half, virtual; also the start of the direct map.
pub(crate) fn page_offset() -> usize {
    // SAFETY: returns a constant.
    unsafe { bindings::kjh_page_offset() as usize }
}

/// One past the last byte of the direct map, physical: where low memory ends.
pub(crate) fn low_memory_end() -> u32 {
    // SAFETY: reads a variable that does not change after boot.
    unsafe { bindings::kjh_low_memory_end() }
}

/// A page of the direct map; zeroed if `zero`.
///
/// # Errors
///
/// `ENOMEM`; the OOM killer is not called.
pub(crate) fn page_alloc(zero: bool) -> Result<NonNull<u8>> {
    // SAFETY: process context that may sleep.
    NonNull::new(unsafe { bindings::kjh_page_alloc(zero) }.cast()).ok_or(ENOMEM)
}

/// Checks that `pages` of them could be had without another program going short. Taking what there is
/// until there is no more would have the OOM killer called for somebody else's page.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn check_room(pages: u32) -> Result {
    // SAFETY: reads counters.
    if pages > unsafe { bindings::kjh_available() } {
        return Err(ENOMEM);
    }
    Ok(())
}

/// `1 << order` zeroed pages of the direct map, one after the other; each is freed by itself.
/// `None` if they cannot be had without effort.
pub(crate) fn block_alloc(order: u32) -> Option<NonNull<u8>> {
    // SAFETY: process context that may sleep; an order beyond the allocator's is refused by it.
    NonNull::new(unsafe { bindings::kjh_block_alloc(order) }.cast())
}

/// Copies the kernel's VMCOREINFO note, an ELF note with its header, to the start of `out`; gives
/// its length, 0 if there is none or it does not fit.
pub(crate) fn vmcoreinfo(out: &mut [u8]) -> usize {
    // SAFETY: `out` is valid for `out.len()` bytes.
    unsafe { bindings::kjh_vmcoreinfo(out.as_mut_ptr().cast(), out.len() as u32) as usize }
}

/// Gives a page back.
///
/// # Safety
///
/// `page` came from [`page_alloc`] or [`block_alloc`] and is not used any more.
pub(crate) unsafe fn page_free(page: NonNull<u8>) {
    // SAFETY: as the caller promises.
    unsafe { bindings::kjh_page_free(page.as_ptr().cast()) }
}

/// Physical address of a page of the direct map, bytes.
pub(crate) fn phys(page: NonNull<u8>) -> u32 {
    // SAFETY: arithmetic only.
    unsafe { bindings::kjh_phys(page.as_ptr().cast()) }
}

/// Whether page frame `pfn` is RAM of this kernel.
pub(crate) fn is_ram(pfn: u32) -> bool {
    // SAFETY: any number may be asked for.
    unsafe { bindings::kjh_pfn_is_ram(pfn) }
}

/// Whether page frame `pfn` is free. Meaningful while this is the only CPU, interrupts off.
pub(crate) fn is_free(pfn: u32) -> bool {
    // SAFETY: frames without a `struct page` are answered with false.
    unsafe { bindings::kjh_pfn_is_free(pfn) }
}

/// Whether none of the frames `[first, end)` is RAM of this kernel, or a device's.
pub(crate) fn nobodys(first: u32, end: u32) -> bool {
    // SAFETY: any frames may be asked for.
    unsafe { bindings::kjh_nobodys(first, end) }
}

/// What a frame of RAM is, as far as saving it goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// In use.
    Used,
    /// Free.
    Free,
    /// Offline, a guard page, or poisoned by hardware.
    Unreadable,
}

/// Kind and length of the run of frames of one kind that starts at `frame`, up to `end`.
/// Meaningful while this is the only CPU, interrupts off.
pub(crate) fn frame_run(frame: u32, end: u32) -> (FrameKind, u32) {
    let mut kind = 0;
    // SAFETY: any frames may be asked for; the pointer is valid for a write.
    let length = unsafe { bindings::kjh_frame_run(frame, end, &mut kind) };
    let kind = match kind {
        bindings::KJH_FRAME_FREE => FrameKind::Free,
        bindings::KJH_FRAME_USED => FrameKind::Used,
        _ => FrameKind::Unreadable,
    };
    (kind, length.max(1))
}

/// The kernel's RAM as pairs of first and one-past-last page frame, ascending.
///
/// # Errors
///
/// `E2BIG` if there are more than fit `out`.
pub(crate) fn ram_ranges(out: &mut [[u32; 2]]) -> Result<usize> {
    // SAFETY: `out` is valid for `2 * out.len()` words.
    let n = unsafe { bindings::kjh_ram_ranges(out.as_mut_ptr().cast(), out.len() as u32) };
    if n as usize > out.len() {
        return Err(E2BIG);
    }
    Ok(n as usize)
}

/// Start of the `index`th resource whose name starts with `prefix`, bytes, if below 4 GiB.
pub(crate) fn find_resource(prefix: &CStr, index: usize) -> Option<u32> {
    let mut start = 0;
    // SAFETY: the string ends in NUL, the pointer is valid for a write.
    unsafe { bindings::kjh_find_resource(prefix.as_ptr().cast(), index as u32, &mut start) }
        .then_some(start)
}

/// Whether free pages are missing from the direct map (DEBUG_PAGEALLOC).
pub(crate) fn free_pages_unmapped() -> bool {
    // SAFETY: reads a flag.
    unsafe { bindings::kjh_free_pages_unmapped() }
}

/// What the allocator trusts free pages to hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FreeFill {
    /// Nothing in particular.
    None,
    /// Zeros (`init_on_free=1`).
    Zero,
    /// The poison byte (`page_poison=1`).
    Poison,
}

impl FreeFill {
    /// As this kernel was booted.
    pub(crate) fn current() -> Self {
        // SAFETY: reads flags.
        match unsafe { bindings::kjh_free_fill() } {
            bindings::KJH_FILL_ZERO => Self::Zero,
            bindings::KJH_FILL_POISON => Self::Poison,
            _ => Self::None,
        }
    }

    /// Fills the free page `pfn`.
    ///
    /// # Safety
    ///
    /// The page is RAM, free, and nobody can allocate it meanwhile.
    pub(crate) unsafe fn fill(self, pfn: u32) {
        let how = match self {
            Self::None => return,
            Self::Zero => bindings::KJH_FILL_ZERO,
            Self::Poison => bindings::KJH_FILL_POISON,
        };
        // SAFETY: as the caller promises.
        unsafe { bindings::kjh_fill_page(pfn, how) }
    }
}
