// SPDX-License-Identifier: GPL-2.0

//! Old memory: in a peer, the memory of the kernel it was entered from, by physical address.
//!
//! An address above the window is itself. One in the window is in the shadow, and the exchange
//! list says where; a page that was free over there was not backed up and reads as zeros. What is
//! not that kernel's RAM is not there, nor is what it gave this kernel as its own.
//!
//! Claimed memory (see `claim`) goes by the same way: RAM that belongs to no kernel that runs, to
//! be written with what a saved kernel left there.

use crate::abi::{Handoff, ListPage, Range, ENTRY_OURS, LIST_ENTRIES};
use crate::alloc::{KVVec, KVec};
use crate::pages::{Page, PAGE_SIZE};
use crate::sys::{self, OldMemory};
use kernel::prelude::*;

/// Frames mapped at a time when old memory is read.
const CHUNK: u32 = 16;

/// A window frame that was free over there, and not backed up.
const FREE: u32 = 0;
/// A window frame that is no RAM over there.
const HOLE: u32 = u32::MAX;
/// Frames below 4 GiB.
const FRAMES_IN_REACH: usize = 1 << 20;

/// Where the pages are, as of the last entry.
struct Old {
    /// Of each window frame, the frame that has its contents, or [`FREE`] or [`HOLE`].
    shadow: KVVec<u32>,
    ram: KVec<Range>,
    /// RAM over there that is this kernel's own.
    own: Range,
    zero: Page,
    /// Claimed, not another kernel's.
    writable: bool,
}

kernel::sync::global_lock! {
    // SAFETY: initialised in the module's initialisation before anything else.
    unsafe(uninit) static OLD: Mutex<Option<Old>> = None;
}

/// Initialises the module's part of this file.
///
/// # Safety
///
/// To be called exactly once, before any other function of this file.
pub(crate) unsafe fn init() {
    // SAFETY: as the caller promises.
    unsafe { OLD.init() };
}

/// Forgets the last entry's memory and takes that of `block`.
///
/// # Errors
///
/// `ENOMEM`; `EINVAL` for a list that does not make sense.
pub(crate) fn take(block: &Handoff) -> Result {
    forget();
    let mut shadow = KVVec::new();
    shadow.resize(
        (block.window_end / PAGE_SIZE as u64) as usize,
        HOLE,
        GFP_KERNEL,
    )?;
    let mut at = block.list as u32;
    // Ascending entries: no list has more than one page for each LIST_ENTRIES frames, and one.
    for _ in 0..=shadow.len() / LIST_ENTRIES + 1 {
        if at == 0 {
            break;
        }
        let page = OldMemory::map(at, PAGE_SIZE)?;
        // SAFETY: integers only.
        let (next, count) = unsafe { (page.read::<u32>(0), page.read::<u32>(4)) };
        for index in 0..(count as usize).min(LIST_ENTRIES) {
            let offset = core::mem::offset_of!(ListPage, entries) + 8 * index;
            // SAFETY: integers only.
            let [window, backing] = unsafe { page.read::<[u32; 2]>(offset) };
            let slot = shadow.get_mut(window as usize / PAGE_SIZE).ok_or(EINVAL)?;
            let ours = window & ENTRY_OURS != 0;
            *slot = if ours {
                backing / PAGE_SIZE as u32
            } else {
                FREE
            };
        }
        at = next;
    }
    let mut ram = KVec::new();
    let ranges = block.ram.iter().take(block.ram_count as usize);
    ranges
        .copied()
        .try_for_each(|range| ram.push(range, GFP_KERNEL))?;
    let old = Old {
        shadow,
        ram,
        own: block.own,
        zero: Page::new()?,
        writable: false,
    };
    *OLD.lock() = Some(old);
    Ok(())
}

/// Forgets the last entry's memory and takes claimed RAM, which may be written.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn take_claimed(ranges: &[Range]) -> Result {
    forget();
    let mut ram = KVec::new();
    ram.extend_from_slice(ranges, GFP_KERNEL)?;
    let old = Old {
        shadow: KVVec::new(),
        ram,
        own: Range { start: 0, end: 0 },
        zero: Page::new()?,
        writable: true,
    };
    *OLD.lock() = Some(old);
    Ok(())
}

/// Drops every mapping and forgets where the pages were.
pub(crate) fn forget() {
    // The page of zeros is mapped until the mappings are gone.
    let old = OLD.lock().take();
    sys::old_zap();
    drop(old);
}

/// Whether there is any.
pub(crate) fn present() -> bool {
    OLD.lock().is_some()
}

/// Whether it may be written.
pub(crate) fn writable() -> bool {
    OLD.lock().as_ref().is_some_and(|old| old.writable)
}

/// Calls `f` with a function that tells the frame which holds the contents of old frame `pgoff`,
/// or 0 if there is none. The lock is held meanwhile: what `f` maps is zapped by a later
/// [`forget`].
pub(crate) fn with_frames<R>(f: impl FnOnce(&dyn Fn(usize) -> u32) -> R) -> R {
    let guard = OLD.lock();
    f(&|pgoff| {
        guard
            .as_ref()
            .and_then(|old| old.frame(pgoff).ok())
            .unwrap_or(0)
    })
}

/// The frame that holds the contents of old frame `frame`.
///
/// # Errors
///
/// `ENODEV` without a handoff; `ENXIO` for what is not that kernel's RAM.
fn frame(frame: usize) -> Result<u32> {
    OLD.lock().as_ref().ok_or(ENODEV)?.frame(frame)
}

impl Old {
    /// See the function of that name.
    fn frame(&self, frame: usize) -> Result<u32> {
        if let Some(&backing) = self.shadow.get(frame) {
            return match backing {
                HOLE => Err(ENXIO),
                FREE => Ok(self.zero.frame()),
                backing => Ok(backing),
            };
        }
        if frame >= FRAMES_IN_REACH {
            return Err(ENXIO);
        }
        let address = frame as u64 * PAGE_SIZE as u64;
        let inside = |range: &Range| range.start <= address && address < range.end;
        if inside(&self.own) || !self.ram.iter().any(inside) {
            return Err(ENXIO);
        }
        Ok(frame as u32)
    }
}

/// A run of old frames whose contents lie in consecutive frames: the first of those, where in it
/// byte `at` is, and the bytes from there on, up to `length`.
///
/// # Errors
///
/// Those of [`frame`] for the first frame.
fn run_at(at: u64, length: usize) -> Result<(u32, usize, usize)> {
    let first = usize::try_from(at / PAGE_SIZE as u64).map_err(|_| ENXIO)?;
    let offset = (at % PAGE_SIZE as u64) as usize;
    let backing = frame(first)?;
    let wanted = (length + offset).div_ceil(PAGE_SIZE).min(CHUNK as usize) as u32;
    let run = (1..wanted)
        .find(|&i| frame(first + i as usize).ok() != Some(backing + i))
        .unwrap_or(wanted);
    let count = (run as usize * PAGE_SIZE - offset).min(length);
    Ok((backing, offset, count))
}

/// Goes through old memory from byte `position` on, handing mapped pieces to `each` until it has
/// had `length` bytes, takes less of a piece than there is, or what follows is no RAM. Returns the
/// bytes gone through.
///
/// # Errors
///
/// Those of [`frame`] if there is nothing at `position`; `ENOMEM`.
fn walk(
    position: u64,
    length: usize,
    mut each: impl FnMut(&mut OldMemory, usize, usize) -> usize,
) -> Result<usize> {
    let mut done = 0;
    while done < length {
        let (backing, offset, count) = match run_at(position + done as u64, length - done) {
            Ok(run) => run,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        };
        let size = (offset + count).next_multiple_of(PAGE_SIZE);
        let mut memory = OldMemory::map(backing * PAGE_SIZE as u32, size)?;
        let taken = each(&mut memory, offset, count);
        done += taken;
        if taken < count {
            break;
        }
    }
    Ok(done)
}

/// Reads old memory, handing pieces to `sink`, which tells how much it took; see [`walk`].
pub(crate) fn read(
    position: u64,
    length: usize,
    mut sink: impl FnMut(&[u8]) -> usize,
) -> Result<usize> {
    walk(position, length, |memory, offset, count| {
        sink(&memory.bytes()[offset..offset + count])
    })
}

/// Writes claimed memory, having `source` fill the pieces and tell how much it filled; see
/// [`walk`].
///
/// # Errors
///
/// `EACCES` for what is another kernel's.
pub(crate) fn write(
    position: u64,
    length: usize,
    mut source: impl FnMut(&mut [u8]) -> usize,
) -> Result<usize> {
    if !writable() {
        return Err(if present() { EACCES } else { ENODEV });
    }
    walk(position, length, |memory, offset, count| {
        source(&mut memory.bytes_mut()[offset..offset + count])
    })
}
