// SPDX-License-Identifier: GPL-2.0

//! Rungs of the running system: locks, user space, notifiers, filesystems, tasks, consoles.

use super::{CpuSet, Rung, Trail};
use crate::sys::pm;
use kernel::error::to_result;
use kernel::prelude::*;

/// `lock_system_sleep`: no suspend, hibernation or kexec jump besides this one; also what makes
/// the kernel's one saved processor context ours.
pub(crate) struct SleepLock<'t> {
    trail: &'t Trail<'t>,
    flags: u32,
}

impl<'t> SleepLock<'t> {
    pub(crate) fn take(trail: &'t Trail<'t>) -> Result<Self> {
        let mut flags = 0;
        trail.take(Rung::SleepLock, || {
            flags = pm::lock_system_sleep();
            Ok(())
        })?;
        Ok(Self { trail, flags })
    }
}

impl Drop for SleepLock<'_> {
    fn drop(&mut self) {
        pm::unlock_system_sleep(self.flags);
        self.trail.undone(Rung::SleepLock);
    }
}

/// Switches to the kernel's own virtual terminal, so that X and its like let go of the display.
/// It needs user space, so it comes before the freezer. Without it (no VT in this kernel, or not
/// found) a display driver resumes under its user's feet, and nothing else.
pub(crate) struct VtSwitch<'t> {
    trail: &'t Trail<'t>,
    switched: bool,
}

impl<'t> VtSwitch<'t> {
    pub(crate) fn take(trail: &'t Trail<'t>) -> Result<Self> {
        let pair = trail
            .symbols
            .pm_prepare_console()
            .zip(trail.symbols.pm_restore_console());
        trail.take(Rung::VtSwitch, || {
            if let Some((prepare, _)) = pair {
                // SAFETY: process context, under lock_system_sleep, as the kernel calls it.
                unsafe { prepare() };
            }
            Ok(())
        })?;
        Ok(Self {
            trail,
            switched: pair.is_some(),
        })
    }
}

impl Drop for VtSwitch<'_> {
    fn drop(&mut self) {
        if let (true, Some(restore)) = (self.switched, self.trail.symbols.pm_restore_console()) {
            // SAFETY: undoes the call above.
            unsafe { restore() };
        }
        self.trail.undone(Rung::VtSwitch);
    }
}

/// PM_HIBERNATION_PREPARE and PM_POST_HIBERNATION, in the set of that name.
pub(crate) struct Notifiers<'t> {
    trail: &'t Trail<'t>,
}

impl<'t> Notifiers<'t> {
    pub(crate) fn tell(trail: &'t Trail<'t>) -> Result<Self> {
        trail.take(Rung::Notifiers, || match trail.set {
            CpuSet::Hotplug => Ok(()),
            CpuSet::Notifiers => {
                let tell = trail
                    .symbols
                    .pm_notifier_call_chain_robust()
                    .ok_or(EOPNOTSUPP)?;
                // SAFETY: under lock_system_sleep, as the kernel calls it. When a notifier
                // refuses, those before it have been told that it is over.
                to_result(unsafe {
                    tell(
                        pm::PM_HIBERNATION_PREPARE as usize,
                        pm::PM_POST_HIBERNATION as usize,
                    )
                })
            }
        })?;
        Ok(Self { trail })
    }
}

impl Drop for Notifiers<'_> {
    fn drop(&mut self) {
        if self.trail.set == CpuSet::Notifiers {
            if let Some(tell) = self.trail.symbols.pm_notifier_call_chain() {
                // SAFETY: undoes the call above. What a notifier answers to POST is not heard.
                let _ = unsafe { tell(pm::PM_POST_HIBERNATION as usize) };
            }
        }
        self.trail.undone(Rung::Notifiers);
    }
}

/// Writes back dirty data: should the machine not come back, its disks are as after a `sync`.
pub(crate) fn sync(trail: &Trail<'_>) -> Result {
    trail.take(Rung::Sync, || {
        pm::sync();
        Ok(())
    })
}

/// User space frozen.
pub(crate) struct Tasks<'t> {
    trail: &'t Trail<'t>,
}

impl<'t> Tasks<'t> {
    pub(crate) fn freeze(trail: &'t Trail<'t>) -> Result<Self> {
        trail.take(Rung::Tasks, || {
            if !trail.freezer {
                return Ok(());
            }
            let freeze = trail.symbols.freeze_processes().ok_or(EOPNOTSUPP)?;
            // What freezes must also be thawed.
            trail.symbols.thaw_processes().ok_or(EOPNOTSUPP)?;
            // SAFETY: under lock_system_sleep; the caller's task is marked as the one that
            // stays. When it fails it has thawed everybody.
            to_result(unsafe { freeze() })
        })?;
        Ok(Self { trail })
    }
}

impl Drop for Tasks<'_> {
    fn drop(&mut self) {
        if let (true, Some(thaw)) = (self.trail.freezer, self.trail.symbols.thaw_processes()) {
            // SAFETY: undoes the call above.
            unsafe { thaw() };
        }
        self.trail.undone(Rung::Tasks);
    }
}

/// Freezable kernel threads and workqueues frozen: some drivers' freeze callbacks count on it.
/// `thaw_processes`, which [`Tasks`] calls, thaws them as well, so there is no undo here.
pub(crate) struct KernelThreads<'t> {
    trail: &'t Trail<'t>,
}

impl<'t> KernelThreads<'t> {
    pub(crate) fn freeze(trail: &'t Trail<'t>) -> Result<Self> {
        trail.take(Rung::KernelThreads, || {
            match trail.symbols.freeze_kernel_threads() {
                // SAFETY: after freeze_processes. When it fails it has thawed them.
                Some(freeze) if trail.freezer => to_result(unsafe { freeze() }),
                _ => Ok(()),
            }
        })?;
        Ok(Self { trail })
    }
}

impl Drop for KernelThreads<'_> {
    fn drop(&mut self) {
        self.trail.undone(Rung::KernelThreads);
    }
}

/// Consoles suspended: messages are kept until the devices under them are back. Without it a
/// message may reach a device that is frozen.
pub(crate) struct Consoles<'t> {
    trail: &'t Trail<'t>,
    suspended: bool,
}

impl<'t> Consoles<'t> {
    pub(crate) fn suspend(trail: &'t Trail<'t>) -> Result<Self> {
        let pair = trail
            .symbols
            .console_suspend_all()
            .zip(trail.symbols.console_resume_all());
        trail.take(Rung::Consoles, || {
            if let Some((suspend, _)) = pair {
                pm::let_printers_finish();
                // SAFETY: process context, as the kernel calls it.
                unsafe { suspend() };
            }
            Ok(())
        })?;
        Ok(Self {
            trail,
            suspended: pair.is_some(),
        })
    }
}

impl Drop for Consoles<'_> {
    fn drop(&mut self) {
        if let (true, Some(resume)) = (self.suspended, self.trail.symbols.console_resume_all()) {
            // SAFETY: undoes the call above.
            unsafe { resume() };
        }
        self.trail.undone(Rung::Consoles);
    }
}
