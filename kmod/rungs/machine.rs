// SPDX-License-Identifier: GPL-2.0

//! Rungs of the machine: devices, secondary CPUs, interrupts, syscore, interrupt controllers.

use super::{CpuSet, Rung, Trail};
use crate::arch::Platform;
use crate::sys::pm;
use kernel::error::to_result;
use kernel::prelude::*;

/// Devices frozen: the first two phases (prepare, freeze).
pub(crate) struct Devices<'t> {
    trail: &'t Trail<'t>,
}

impl<'t> Devices<'t> {
    /// `cpus` has the CPUs if they went first; on failure they are back before the devices.
    pub(crate) fn freeze(trail: &'t Trail<'t>, cpus: &mut Option<Cpus<'t>>) -> Result<Self> {
        // dpm_suspend_start leaves what it had frozen to dpm_resume_end when it fails.
        let freeze = || trail.patient(pm::devices_freeze);
        trail.take_undone(Rung::Devices, freeze, || {
            drop(cpus.take());
            trail.patient(|| pm::devices_resume(false));
        })?;
        Ok(Self { trail })
    }
}

impl Drop for Devices<'_> {
    fn drop(&mut self) {
        let trail = self.trail;
        trail.patient(|| pm::devices_resume(trail.peer_ran()));
        if self.trail.peer_ran() {
            pm::acpi_wake();
        }
        self.trail.undone(Rung::Devices);
    }
}

/// Devices frozen: the last two phases (late, noirq).
pub(crate) struct DevicesLate<'t> {
    trail: &'t Trail<'t>,
}

impl<'t> DevicesLate<'t> {
    pub(crate) fn freeze(trail: &'t Trail<'t>) -> Result<Self> {
        // dpm_suspend_end resumes what it had frozen when it fails.
        trail.take(Rung::DevicesLate, || trail.patient(pm::devices_freeze_late))?;
        Ok(Self { trail })
    }
}

impl Drop for DevicesLate<'_> {
    fn drop(&mut self) {
        if self.trail.peer_ran() {
            pm::acpi_reenable();
        }
        let trail = self.trail;
        trail.patient(|| pm::devices_resume_early(trail.peer_ran()));
        self.trail.undone(Rung::DevicesLate);
    }
}

/// The secondary CPUs stopped, by the trail's set.
pub(crate) struct Cpus<'t> {
    trail: &'t Trail<'t>,
    /// Bit N: CPU N was taken down by hotplug. 32-bit kernels know no more (NR_CPUS).
    removed: u64,
}

impl<'t> Cpus<'t> {
    pub(crate) fn stop(trail: &'t Trail<'t>) -> Result<Self> {
        let mut cpus = Self { trail, removed: 0 };
        let result = match trail.set {
            CpuSet::Notifiers => Self::freeze(trail),
            CpuSet::Hotplug => cpus.remove(),
        };
        // Both want the undo even when they fail: dropping `cpus` is that undo.
        let result = result.and_then(|()| trail.fault(Rung::Cpus));
        trail.reached(Rung::Cpus, result)?;
        Ok(cpus)
    }

    fn freeze(trail: &Trail<'_>) -> Result {
        match trail.symbols.freeze_secondary_cpus() {
            // SAFETY: notifiers have disabled hotplug; CPU 0 stays.
            Some(freeze) => to_result(unsafe { freeze(0) }),
            // A kernel without it has one CPU, or Trail::new would have chosen the other set.
            None => Ok(()),
        }
    }

    fn remove(&mut self) -> Result {
        while let Some(cpu) = pm::next_secondary_cpu() {
            let bit = 1u64.checked_shl(cpu).ok_or(E2BIG)?;
            pm::remove_cpu(cpu)?;
            self.removed |= bit;
        }
        Ok(())
    }
}

impl Drop for Cpus<'_> {
    fn drop(&mut self) {
        match self.trail.set {
            CpuSet::Notifiers => {
                if let Some(thaw) = self.trail.symbols.thaw_secondary_cpus() {
                    // SAFETY: undoes freeze_secondary_cpus, also one that failed.
                    unsafe { thaw() };
                }
            }
            CpuSet::Hotplug => {
                for cpu in (0..u64::BITS).filter(|cpu| self.removed >> cpu & 1 != 0) {
                    if let Err(e) = pm::add_cpu(cpu) {
                        pr_err!("CPU {cpu} did not come back ({e:?}); try: echo 1 > /sys/devices/system/cpu/cpu{cpu}/online\n");
                    }
                }
            }
        }
        self.trail.undone(Rung::Cpus);
    }
}

/// Interrupts off on the one CPU left.
pub(crate) struct Interrupts<'t> {
    trail: &'t Trail<'t>,
}

impl<'t> Interrupts<'t> {
    pub(crate) fn off(trail: &'t Trail<'t>) -> Result<Self> {
        trail.take(Rung::Interrupts, || {
            pm::irq_disable();
            // Without notifiers nobody keeps a task that still runs from bringing a CPU back.
            if pm::online_cpus() != 1 {
                pm::irq_enable();
                return Err(EBUSY);
            }
            Ok(())
        })?;
        Ok(Self { trail })
    }
}

impl Drop for Interrupts<'_> {
    fn drop(&mut self) {
        pm::irq_enable();
        self.trail.undone(Rung::Interrupts);
    }
}

/// Timekeeping, interrupt controllers and the rest of syscore suspended.
pub(crate) struct Syscore<'t> {
    trail: &'t Trail<'t>,
}

impl<'t> Syscore<'t> {
    pub(crate) fn suspend(trail: &'t Trail<'t>) -> Result<Self> {
        trail.take(Rung::Syscore, pm::syscore_suspend)?;
        Ok(Self { trail })
    }
}

impl Drop for Syscore<'_> {
    fn drop(&mut self) {
        pm::syscore_resume();
        self.trail.undone(Rung::Syscore);
    }
}

/// Interrupt controllers and timers as firmware leaves them.
pub(crate) struct PlatformQuiet<'t> {
    trail: &'t Trail<'t>,
    platform: *mut Platform,
}

impl<'t> PlatformQuiet<'t> {
    /// # Safety
    ///
    /// `platform` outlives the guard, and nobody else uses it through a reference at the moments
    /// of the call and of the drop.
    pub(crate) unsafe fn take(trail: &'t Trail<'t>, platform: *mut Platform) -> Result<Self> {
        // SAFETY: as the caller promises.
        trail.take(Rung::Platform, || {
            unsafe { &mut *platform }.quiet();
            Ok(())
        })?;
        Ok(Self { trail, platform })
    }
}

impl Drop for PlatformQuiet<'_> {
    fn drop(&mut self) {
        // SAFETY: as `take`'s caller promises.
        unsafe { &mut *self.platform }.restore();
        self.trail.undone(Rung::Platform);
    }
}
