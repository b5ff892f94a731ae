// SPDX-License-Identifier: GPL-2.0

//! An allocator with a limit. A file that makes its reader ask for more finds none: who handles that
//! refuses the file, who does not aborts, and the fuzzer has found something. Guests have little
//! memory, and what is asked for and never written costs nothing on the host but kills there.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that all of a target may have at once, the good files included.
pub const LIMIT: usize = 192 << 20;

struct Limited;

static USED: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Limited = Limited;

/// Whether there is room for so many bytes more; if so they are taken.
fn take(bytes: usize) -> bool {
    let before = USED.fetch_add(bytes, Ordering::Relaxed);
    let fits = before.checked_add(bytes).is_some_and(|n| n <= LIMIT);
    if !fits {
        USED.fetch_sub(bytes, Ordering::Relaxed);
    }
    fits
}

// SAFETY: every call goes to the system's allocator with the arguments as they came, or returns null,
// which means that there is no memory.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return null_mut();
        }
        // SAFETY: the caller vouches for the layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return null_mut();
        }
        // SAFETY: the caller vouches for the layout.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller vouches that `ptr` came from here, and so from the system's, with this
        // layout.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        if !take(new) {
            return null_mut();
        }
        // SAFETY: as for `dealloc`; the caller vouches for the new size.
        let moved = unsafe { System.realloc(ptr, layout, new) };
        USED.fetch_sub(
            if moved.is_null() { new } else { layout.size() },
            Ordering::Relaxed,
        );
        moved
    }
}
