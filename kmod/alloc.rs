// SPDX-License-Identifier: GPL-2.0

//! Memory that the module allocates, and the test-only knob that makes it fail.
//!
//! All of it comes through here: pages (`pages.rs`, with a call of [`allow`] each) and what
//! vectors and boxes keep, whose types of the kernel's own names are these. So a test can have each
//! allocation of a load, or of whatever else, fail in turn: [`fail_at`].

use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::alloc::allocator::{KVmalloc, Kmalloc};
use kernel::alloc::{AllocError, Allocator, Flags, NumaNode};
use kernel::prelude::*;

/// Allocations since [`fail_at`] was last called.
static COUNTED: AtomicU32 = AtomicU32::new(0);
/// Which of them fails; 0 for none.
static FAIL_AT: AtomicU32 = AtomicU32::new(0);

/// Has the allocation with number `number` fail, counted from 1 from now on, 0 for none. Returns how
/// many were asked for since the last call.
pub(crate) fn fail_at(number: u32) -> u32 {
    FAIL_AT.store(number, Ordering::Relaxed);
    COUNTED.swap(0, Ordering::Relaxed)
}

/// Counts an allocation that is about to be made.
///
/// # Errors
///
/// `ENOMEM` if it is the one that is to fail.
pub(crate) fn allow() -> Result {
    let number = COUNTED.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    if number == FAIL_AT.load(Ordering::Relaxed) {
        return Err(ENOMEM);
    }
    Ok(())
}

/// `A`, which fails when [`allow`] says so.
pub(crate) struct Counted<A>(core::marker::PhantomData<A>);

// SAFETY: every call is handed on to `A`, which keeps the promises; where an allocation is refused
// the block that was to grow is left as it is.
unsafe impl<A: Allocator> Allocator for Counted<A> {
    const MIN_ALIGN: usize = A::MIN_ALIGN;

    unsafe fn realloc(
        ptr: Option<NonNull<u8>>,
        layout: Layout,
        old_layout: Layout,
        flags: Flags,
        nid: NumaNode,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // Giving memory back does not fail.
        if layout.size() > old_layout.size() {
            allow().map_err(|_| AllocError)?;
        }
        // SAFETY: the caller's promises are those that `A` asks for.
        unsafe { A::realloc(ptr, layout, old_layout, flags, nid) }
    }
}

/// As the kernel's.
pub(crate) type KBox<T> = kernel::alloc::Box<T, Counted<Kmalloc>>;
/// As the kernel's.
pub(crate) type KVec<T> = kernel::alloc::Vec<T, Counted<Kmalloc>>;
/// As the kernel's.
pub(crate) type KVVec<T> = kernel::alloc::Vec<T, Counted<KVmalloc>>;
