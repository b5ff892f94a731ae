// SPDX-License-Identifier: GPL-2.0

//! The rungs of the way down, each a guard whose `Drop` is the rung's undo.
//!
//! `jump.rs` takes them in order; leaving its scope climbs back in exact reverse, from whatever
//! rung was reached. A rung that fails half-way and that the kernel wants undone all the same
//! undoes itself before it reports.

mod machine;
mod system;

pub(crate) use machine::{Cpus, Devices, DevicesLate, Interrupts, PlatformQuiet, Syscore};
pub(crate) use system::{sync, Consoles, KernelThreads, Notifiers, SleepLock, Tasks, VtSwitch};

use crate::abi::{RUNG_COUNT, STAMP_COUNT, STAMP_UP};
use crate::arch;
use crate::sys::pm;
use crate::sys::symbols::Symbols;
use core::cell::Cell;
use kernel::prelude::*;

/// The rungs, by their numbers in the ABI (`RUNGS`).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Rung {
    SleepLock = 1,
    VtSwitch,
    Notifiers,
    Sync,
    Tasks,
    KernelThreads,
    Consoles,
    Devices,
    DevicesLate,
    Cpus,
    Interrupts,
    Syscore,
    PageMap,
    Platform,
    Processor,
}

const _: () = assert!(Rung::Processor as usize == RUNG_COUNT);

/// Which of the two consistent sets a jump uses. PM notifiers disable CPU hotplug, so the two
/// are never mixed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CpuSet {
    /// PM notifiers, and the secondary CPUs frozen.
    Notifiers,
    /// No notifiers, and the secondary CPUs taken down by hotplug.
    Hotplug,
}

/// How a jump is to be made.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    /// Freeze user space and kernel threads.
    pub(crate) freezer: bool,
    /// Use [`CpuSet::Hotplug`] although the other could be resolved.
    pub(crate) hotplug: bool,
    /// Number of the rung that is to fail, 0 for none.
    pub(crate) fail_at: u32,
    /// Seconds that devices may take at a time; 0 for as long as they like.
    pub(crate) device_timeout: u32,
}

/// One way down and back: what was chosen, what happened when.
pub(crate) struct Trail<'a> {
    pub(crate) symbols: &'a Symbols,
    pub(crate) freezer: bool,
    pub(crate) set: CpuSet,
    fail_at: u32,
    device_timeout: u32,
    failed: Cell<u32>,
    peer_ran: Cell<bool>,
    stamps: &'a [Cell<u64>; STAMP_COUNT],
}

impl<'a> Trail<'a> {
    /// Chooses the set: the notifiers' if all that it needs was found.
    pub(crate) fn new(
        symbols: &'a Symbols,
        options: Options,
        stamps: &'a [Cell<u64>; STAMP_COUNT],
    ) -> Self {
        let can_freeze_cpus = pm::online_cpus() == 1
            || (symbols.freeze_secondary_cpus().is_some()
                && symbols.thaw_secondary_cpus().is_some());
        let can_notify = symbols.pm_notifier_call_chain_robust().is_some()
            && symbols.pm_notifier_call_chain().is_some();
        let set = if can_freeze_cpus && can_notify && !options.hotplug {
            CpuSet::Notifiers
        } else {
            CpuSet::Hotplug
        };
        let trail = Self {
            symbols,
            freezer: options.freezer,
            set,
            fail_at: options.fail_at,
            device_timeout: options.device_timeout,
            failed: Cell::new(0),
            peer_ran: Cell::new(false),
            stamps,
        };
        trail.mark(0);
        trail
    }

    /// Calls devices' drivers, which have to come to an end in time.
    fn patient<T>(&self, f: impl FnOnce() -> T) -> T {
        pm::patient(self.device_timeout, self.symbols.console_resume_all(), f)
    }

    /// Notes the time in slot `slot` of the time stamps.
    pub(crate) fn mark(&self, slot: usize) {
        if let Some(stamp) = self.stamps.get(slot) {
            stamp.set(arch::timestamp());
        }
    }

    /// The peer has run: devices may be in any state.
    pub(crate) fn set_peer_ran(&self) {
        self.peer_ran.set(true);
    }

    /// Whether it has.
    pub(crate) fn peer_ran(&self) -> bool {
        self.peer_ran.get()
    }

    /// Number of the rung that failed, 0 if none did.
    pub(crate) fn failed(&self) -> u32 {
        self.failed.get()
    }

    /// `EIO` if `rung` is the one that is to fail: asked before a call that undoes itself when
    /// it fails, as if it had.
    fn fault(&self, rung: Rung) -> Result {
        if self.fail_at == rung as u32 {
            return Err(EIO);
        }
        Ok(())
    }

    /// Ends a rung: notes the time, or which one failed.
    fn reached(&self, rung: Rung, result: Result) -> Result {
        match result {
            Ok(()) => self.mark(rung as usize),
            Err(_) => self.failed.set(rung as u32),
        }
        result
    }

    /// Takes a rung that needs no undo, or undoes itself when it fails.
    pub(crate) fn take(&self, rung: Rung, f: impl FnOnce() -> Result) -> Result {
        self.reached(rung, self.fault(rung).and_then(|()| f()))
    }

    /// Takes a rung that must be undone even when it fails: the fault comes after the call.
    fn take_undone(&self, rung: Rung, f: impl FnOnce() -> Result, undo: impl FnOnce()) -> Result {
        let result = f().and_then(|()| self.fault(rung));
        if result.is_err() {
            undo();
        }
        self.reached(rung, result)
    }

    /// Notes the time at which a rung was undone.
    fn undone(&self, rung: Rung) {
        self.mark(STAMP_UP + rung as usize);
    }
}
