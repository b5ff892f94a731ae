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

use crate::alloc::KBox;
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

/// Number of the calling task.
pub(crate) fn task_pid() -> u32 {
    // SAFETY: process context.
    unsafe { bindings::kjh_task_pid() }
}

/// Random bytes: what tells one load from another.
pub(crate) fn random() -> [u8; 16] {
    let mut out = [0; 16];
    // SAFETY: valid for as many bytes.
    unsafe { bindings::kjh_random(out.as_mut_ptr().cast(), out.len() as u32) };
    out
}

/// Takes `/proc/vmcore` away, if there is one.
pub(crate) fn hide_vmcore() {
    // SAFETY: process context that may sleep.
    unsafe { bindings::kjh_vmcore_hide() }
}

/// `/proc/kimgcore`, as long as it lives.
pub(crate) struct KimgcoreFile(());

impl KimgcoreFile {
    /// Makes it; without a /proc there is none, and nobody to miss it.
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: called once: the only caller is the module's initialisation.
        unsafe { bindings::kjh_kimgcore_add() }.then_some(Self(()))
    }
}

impl Drop for KimgcoreFile {
    fn drop(&mut self) {
        // SAFETY: made by `new`.
        unsafe { bindings::kjh_kimgcore_remove() };
    }
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

/// Lets a file that is being opened be sought in.
pub(crate) fn old_seekable(file: &kernel::fs::File) {
    // SAFETY: the file belongs to an open call under way: nobody else uses its operations yet.
    unsafe { bindings::kjh_old_seekable(file.as_ptr().cast()) }
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

/// Called when `/proc/kimgcore` is opened; an error number, or 0 and something for the other two.
#[no_mangle]
extern "C" fn kjump_kimgcore_open(opened: *mut *mut core::ffi::c_void) -> i32 {
    match crate::session::open_kimgcore() {
        Ok(core) => {
            // SAFETY: points to the file's private data.
            unsafe { *opened = KBox::into_raw(core).cast() };
            0
        }
        Err(e) => e.to_errno(),
    }
}

/// Called when a file opened by [`kjump_kimgcore_open`] is closed for the last time.
#[no_mangle]
extern "C" fn kjump_kimgcore_close(opened: *mut core::ffi::c_void) {
    // SAFETY: from `kjump_kimgcore_open`, and not used any more.
    drop(unsafe { KBox::<crate::kimgcore::Kimgcore>::from_raw(opened.cast()) });
}

/// Called to read `size` bytes from position `at` of such a file to `buf` in the caller's memory.
#[no_mangle]
extern "C" fn kjump_kimgcore_read(
    opened: *mut core::ffi::c_void,
    at: u32,
    buf: usize,
    size: u32,
) -> isize {
    // SAFETY: from `kjump_kimgcore_open`, and open; nobody changes it.
    let core: &crate::kimgcore::Kimgcore = unsafe { &*opened.cast() };
    match crate::session::read_kimgcore(core, at, buf, size) {
        Ok(done) => done as isize,
        Err(e) => e.to_errno() as isize,
    }
}
