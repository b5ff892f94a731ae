// SPDX-License-Identifier: GPL-2.0

//! The window: RAM in `[0, end)`, which a peer may use, and the list that exchanges it.

use crate::abi::{ENTRY_FIXED, ENTRY_OURS};
use crate::list::ExchangeList;
use crate::pages::{PageSource, PAGE_SIZE};
use crate::sys::memory::{self, FreeFill};
use kernel::prelude::*;

/// Checks the end of a window, bytes.
///
/// # Errors
///
/// `EDOM` if it is 0, `EINVAL` if it is not page-aligned, `ERANGE` if it lies beyond low memory:
/// the shadow must lie above it and be in the direct map.
pub(crate) fn check_end(end: u64) -> Result<u32> {
    if end == 0 {
        return Err(EDOM);
    }
    if end % PAGE_SIZE as u64 != 0 {
        return Err(EINVAL);
    }
    if end >= u64::from(memory::low_memory_end()) {
        return Err(ERANGE);
    }
    Ok(end as u32)
}

/// Where PCs have their memory below 1 MiB, frames: adapters and ROMs are above.
const CONVENTIONAL: u32 = 0xa_0000 / PAGE_SIZE as u32;

/// Builds the list for the window that ends at `end`, bytes: an entry and a shadow page for each
/// page of RAM in it. What firmware keeps for itself below 640 KiB is never replaced, but backed up:
/// page 0, and whatever else there Linux does not count as RAM, such as the page that the extended
/// BIOS data area begins in. Services that a peer calls write there.
///
/// # Errors
///
/// `ENOMEM`, before anything is taken where that can be told.
pub(crate) fn build_list(end: u32, source: &mut PageSource<'_>) -> Result<ExchangeList> {
    let pages = end / PAGE_SIZE as u32;
    memory::check_room(pages)?;
    // The shadow lies above the window, in the direct map.
    if memory::low_memory_end() / (PAGE_SIZE as u32) - pages < pages {
        return Err(ENOMEM);
    }
    let mut list = ExchangeList::new();
    source.expect(pages);
    for frame in 0..pages {
        let flags = match memory::is_ram(frame) && frame != 0 {
            true => ENTRY_OURS,
            false if frame < CONVENTIONAL => ENTRY_OURS | ENTRY_FIXED,
            false => continue,
        };
        let shadow = source.page()?;
        list.push(frame, flags, shadow, 0, source)?;
    }
    source.expect(1);
    Ok(list)
}

/// Notes in the list which of our pages matter: those that are not free. Interrupts are off.
///
/// Where free pages are missing from the direct map they could not be filled again afterwards, so
/// all count as used.
pub(crate) fn mark_ours(list: &mut ExchangeList) {
    let all = memory::free_pages_unmapped();
    list.mark_ours(|frame| all || !memory::is_free(frame));
}

/// Gives the free pages that a peer wrote to back to the allocator as it left them: what they held did not
/// matter and was not backed up, so what the peer had there still is. Where the allocator does not care
/// they are zeroed, so that nobody who is given such a page reads the peer's memory.
///
/// Interrupts are off and have been since [`mark_ours`]: those pages are still free.
pub(crate) fn refill(list: &ExchangeList) {
    let fill = match FreeFill::current() {
        FreeFill::None => FreeFill::Zero,
        other => other,
    };
    list.for_each_not_ours(|frame| {
        // SAFETY: RAM below the end of low memory, free since `mark_ours` said so.
        unsafe { fill.fill(frame) }
    });
}
