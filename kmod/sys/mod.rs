// SPDX-License-Identifier: GPL-2.0

//! The only place that calls C: safe wrappers over the kernel's functions and our helpers.
//!
//! `helpers.c` is there for what bindgen cannot see (macros, inline functions) and for what Rust
//! and C pass differently on i386; docs/ffi.md tells the rule.

mod bindings;
pub(crate) mod memory;
mod mmio;
pub(crate) mod pm;
pub(crate) mod symbols;

pub(crate) use memory::{find_resource, page_offset};
pub(crate) use mmio::{Mmio, OldMemory};

use core::ffi::CStr;
use kernel::prelude::*;

/// Whether the caller may jump: `CAP_SYS_BOOT`, as for kexec.
pub(crate) fn capable() -> bool {
    // SAFETY: takes no arguments and may be called in any process context.
    unsafe { bindings::kjh_capable() }
}

/// Whether lockdown forbids to load kernels, as it does for kexec_load.
pub(crate) fn locked_down() -> bool {
    // SAFETY: as above.
    unsafe { bindings::kjh_locked_down() != 0 }
}

/// `uname -r`.
pub(crate) fn release() -> &'static [u8] {
    // SAFETY: the initial UTS namespace's release is a NUL-terminated array that lives for ever.
    unsafe { CStr::from_ptr(bindings::kjh_release().cast()) }.to_bytes()
}

/// Frequency of the time-stamp counter, kHz; 0 if there is none.
pub(crate) fn tsc_khz() -> u32 {
    // SAFETY: reads a variable.
    unsafe { bindings::kjh_tsc_khz() }
}

/// Model-specific register `msr` as low and high half; `None` where reading it faults.
pub(crate) fn read_msr(msr: u32) -> Option<[u32; 2]> {
    let (mut low, mut high) = (0, 0);
    // SAFETY: the pointers are valid for writes; a fault is caught inside.
    unsafe { bindings::kjh_read_msr(msr, &mut low, &mut high) }.then_some([low, high])
}

/// The active page directory (with PAE: page directory pointer table) in the direct map.
pub(crate) fn current_page_directory() -> *const u32 {
    let cr3: usize;
    // SAFETY: reading CR3 has no side effects in ring 0.
    unsafe { core::arch::asm!("mov {}, cr3", out(reg) cr3, options(nomem, nostack)) };
    ((cr3 & !0x1f) + page_offset()) as *const u32
}

/// PCI functions that may master the bus, as `bus << 8 | devfn`, into `out`; returns how many
/// there are, which may be more than fit.
pub(crate) fn bus_masters(out: &mut [u32]) -> usize {
    // SAFETY: `out` is valid for `out.len()` words.
    unsafe { bindings::kjh_bus_masters(out.as_mut_ptr(), out.len() as u32) as usize }
}

/// Has [`crate::panic::panicked`] called when this kernel panics, as long as it lives.
pub(crate) struct PanicWatch(());

impl PanicWatch {
    /// Starts watching.
    pub(crate) fn start() -> Self {
        // SAFETY: registered once: the only caller is the module's initialisation.
        unsafe { bindings::kjh_watch_panics(true) };
        Self(())
    }
}

impl Drop for PanicWatch {
    fn drop(&mut self) {
        // SAFETY: registered by `start`.
        unsafe { bindings::kjh_watch_panics(false) };
    }
}

/// Sets up a mapping of old memory; its faults end in [`kjump_old_fault`].
///
/// # Errors
///
/// `EACCES` if the mapping is to be written through and it is not `writable`, or not shared;
/// `EBUSY` if another device node is mapped.
pub(crate) fn old_mmap(
    file: &kernel::fs::File,
    vma: &kernel::mm::virt::VmaNew,
    writable: bool,
) -> Result {
    // SAFETY: both belong to an mmap call under way.
    kernel::error::to_result(unsafe {
        bindings::kjh_old_mmap(file.as_ptr().cast(), vma.as_ptr().cast(), writable)
    })
}

/// Takes every page out of every mapping of old memory.
pub(crate) fn old_zap() {
    // SAFETY: takes no arguments; process context.
    unsafe { bindings::kjh_old_zap() }
}

/// Called on a fault in a mapping of old memory at page offset `pgoff`; a `vm_fault_t`. The
/// mapping has page offsets from `first` up to `end`, of which those around are mapped with it.
#[no_mangle]
extern "C" fn kjump_old_fault(
    vmf: *mut core::ffi::c_void,
    pgoff: usize,
    first: usize,
    end: usize,
) -> u32 {
    // Page frame 0 is never handed out, and stands for "nothing there".
    crate::old::with_frames(|frame| {
        let insert = |pgoff: usize| {
            // SAFETY: the fault being handled, on a mapping set up by `old_mmap`, at an offset
            // inside that mapping.
            unsafe { bindings::kjh_old_insert(vmf, pgoff, frame(pgoff) as usize) }
        };
        let answer = insert(pgoff);
        if answer == bindings::KJH_FAULT_MAPPED {
            for around in (first..end).filter(|&at| at != pgoff && frame(at) != 0) {
                if insert(around) != bindings::KJH_FAULT_MAPPED {
                    break;
                }
            }
        }
        answer
    })
}

/// Called when this kernel panics, interrupts off.
#[no_mangle]
extern "C" fn kjump_panicked(message: *const core::ffi::c_char) {
    // SAFETY: panic() passes its formatted, NUL-terminated message.
    let message = unsafe { CStr::from_ptr(message.cast()) };
    crate::panic::panicked(message.to_bytes());
}
