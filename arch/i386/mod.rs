// SPDX-License-Identifier: GPL-2.0

//! 32-bit x86, with and without PAE, one CPU or several.

mod apic;
mod control;
mod core;
mod cpu;
mod hpet;
mod paging;
pub(crate) mod stub;

pub(crate) use self::core::{
    registers, ELF_MACHINE, PRSTATUS_PID, PRSTATUS_REGISTERS, PRSTATUS_SIZE,
};
pub(crate) use control::{feature, ControlPage, WATCH_CHANGED};
pub(crate) use cpu::{fingerprint, is_boot_cpu, local_apic, timestamp};
pub(crate) use paging::IdentityTables;

use crate::sys;
use kernel::prelude::*;

/// Number of this architecture in a handoff block.
pub(crate) const ARCH: u32 = crate::abi::ARCH_I386;

/// Frequency of [`timestamp`] in kHz, 0 if unknown.
pub(crate) fn timestamp_khz() -> u32 {
    sys::tsc_khz()
}

/// What stands between a frozen kernel and a peer that expects a machine as firmware leaves it.
pub(crate) struct Platform {
    controllers: apic::Controllers,
    hpet: Option<hpet::Hpet>,
}

impl Platform {
    /// Finds and maps everything, so that [`Self::quiet`] cannot fail.
    pub(crate) fn find() -> Result<Self> {
        Ok(Self {
            controllers: apic::Controllers::find()?,
            hpet: hpet::Hpet::find()?,
        })
    }

    /// Interrupt controllers and timers as firmware leaves them. Interrupts are off.
    pub(crate) fn quiet(&mut self) {
        if let Some(hpet) = &mut self.hpet {
            hpet.quiet();
        }
        self.controllers.quiet();
    }

    /// As before [`Self::quiet`].
    pub(crate) fn restore(&mut self) {
        self.controllers.restore();
        if let Some(hpet) = &self.hpet {
            hpet.restore();
        }
    }
}
