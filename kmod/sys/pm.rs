// SPDX-License-Identifier: GPL-2.0

//! Power management: the exported calls of the way down and back, each as it is.
//!
//! Pairing and order are the business of `rungs`; here is only what makes each call sound.

use super::bindings;
use kernel::error::to_result;
use kernel::prelude::*;

pub(crate) use bindings::{PM_HIBERNATION_PREPARE, PM_POST_HIBERNATION};

/// Declares safe wrappers of calls without arguments, made in process context by the jump alone.
macro_rules! plain {
    ($($(#[$doc:meta])* $name:ident = $c:ident;)*) => {
        $($(#[$doc])*
        pub(crate) fn $name() {
            // SAFETY: takes no arguments; the caller is the one jump under way, on a rung where
            // the kernel itself makes this call.
            unsafe { bindings::$c(); }
        })*
    };
}

/// The same for calls that may fail.
macro_rules! fallible {
    ($($(#[$doc:meta])* $name:ident = $c:ident;)*) => {
        $($(#[$doc])*
        pub(crate) fn $name() -> Result {
            // SAFETY: as for `plain`.
            to_result(unsafe { bindings::$c() })
        })*
    };
}

/// `unsigned int` returned by `lock_system_sleep`, to be handed back.
pub(crate) fn lock_system_sleep() -> u32 {
    // SAFETY: process context that may sleep.
    unsafe { bindings::lock_system_sleep() }
}

/// Takes what [`lock_system_sleep`] returned.
pub(crate) fn unlock_system_sleep(flags: u32) {
    // SAFETY: paired with the call above by `rungs::SleepLock`.
    unsafe { bindings::unlock_system_sleep(flags) }
}

plain! {
    /// Writes back what is dirty, on all filesystems.
    sync = ksys_sync_helper;
    /// A moment for messages under way to reach the consoles.
    let_printers_finish = kjh_let_printers_finish;
    /// Interrupts off on this CPU.
    irq_disable = kjh_irq_disable;
    /// Interrupts on.
    irq_enable = kjh_irq_enable;
    /// After [`syscore_suspend`].
    syscore_resume = syscore_resume;
    /// FPU, descriptor tables, MTRR, MSRs into the kernel's one saved context.
    save_processor_state = save_processor_state;
    /// ACPI mode is on, as it was.
    acpi_reenable = kjh_acpi_reenable;
    /// Fixed events and GPEs are ours again.
    acpi_wake = kjh_acpi_wake;
}

/// Back from the saved context. Comes first after the stub: inlined, so that nothing that can be
/// traced runs before it.
#[inline(always)]
pub(crate) fn restore_processor_state() {
    // SAFETY: the context was saved by `save_processor_state` just before the stub.
    unsafe { bindings::restore_processor_state() }
}

fallible! {
    /// `dpm_suspend_start(PMSG_FREEZE)`. When it fails [`devices_resume`] is still due.
    devices_freeze = kjh_devices_freeze;
    /// `dpm_suspend_end(PMSG_FREEZE)`. When it fails it has undone itself.
    devices_freeze_late = kjh_devices_freeze_late;
    /// Timekeeping, interrupt controllers, and the rest of syscore. Undoes itself on failure.
    syscore_suspend = syscore_suspend;
}

/// Calls `f`, which may take so many seconds before this kernel panics; 0 for as many as it likes.
/// `console_resume` is called first, so that the panic is seen.
pub(crate) fn patient<T>(
    seconds: u32,
    console_resume: Option<unsafe extern "C" fn()>,
    f: impl FnOnce() -> T,
) -> T {
    let seconds = seconds.min(86400);
    let resume = console_resume.map_or(core::ptr::null_mut(), |f| f as *mut core::ffi::c_void);
    if seconds != 0 {
        // SAFETY: process context; `resume` is null or the kernel's function of that name.
        unsafe { bindings::kjh_patience(seconds, resume) };
    }
    let result = f();
    if seconds != 0 {
        // SAFETY: as above; ends what was begun.
        unsafe { bindings::kjh_patience(0, core::ptr::null_mut()) };
    }
    result
}

/// Undoes [`devices_freeze_late`].
pub(crate) fn devices_resume_early(peer_ran: bool) {
    // SAFETY: devices were frozen late.
    unsafe { bindings::kjh_devices_resume_early(peer_ran) }
}

/// Undoes [`devices_freeze`].
pub(crate) fn devices_resume(peer_ran: bool) {
    // SAFETY: devices were frozen, or that failed half-way.
    unsafe { bindings::kjh_devices_resume(peer_ran) }
}

/// An online CPU that is not the first one, if there is one.
pub(crate) fn next_secondary_cpu() -> Option<u32> {
    // SAFETY: reads the mask of online CPUs.
    u32::try_from(unsafe { bindings::kjh_next_secondary_cpu() }).ok()
}

/// Number of CPUs online.
pub(crate) fn online_cpus() -> u32 {
    // SAFETY: reads a counter.
    unsafe { bindings::kjh_online_cpus() }
}

/// Takes a CPU down by hotplug.
pub(crate) fn remove_cpu(cpu: u32) -> Result {
    // SAFETY: any number may be asked for; process context that may sleep.
    to_result(unsafe { bindings::kjh_remove_cpu(cpu) })
}

/// Brings a CPU up by hotplug.
pub(crate) fn add_cpu(cpu: u32) -> Result {
    // SAFETY: as above.
    to_result(unsafe { bindings::kjh_add_cpu(cpu) })
}
