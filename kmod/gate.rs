// SPDX-License-Identifier: GPL-2.0

//! What every crossing needs, whichever side it starts from: the control page with the stub in
//! it, the tables to run it under, the interrupt controllers, the devices to silence.
//!
//! All of it is there before a jump starts, so that nothing has to be allocated on the way.

use crate::abi::{self, ControlSlot};
use crate::alloc::KBox;
use crate::arch::{self, ControlPage, IdentityTables, Platform};
use crate::pages::{Page, PageSource};
use crate::sys::{self, pm};
use kernel::prelude::*;

/// See the module's documentation.
pub(crate) struct Gate {
    control: Page,
    tables: IdentityTables,
    bus_masters: Page,
    platform: KBox<Platform>,
    entry: u32,
}

impl Gate {
    /// Pages that a gate takes.
    pub(crate) const PAGES: u32 = 2 + IdentityTables::PAGES;

    /// Builds one from pages of `source`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `ERANGE` if no page can be mapped identically; `EOPNOTSUPP` if the local APIC is
    /// in x2APIC mode; `E2BIG` if there are more PCI devices than fit a page.
    pub(crate) fn new(source: &mut PageSource<'_>) -> Result<Self> {
        let mut control = source.page()?;
        let phys = control.phys();
        let tables = IdentityTables::new(phys, source)?;
        let entry = arch::stub::install(control.view_mut(), phys).ok_or(EFBIG)?;

        let bus_masters = source.page()?;
        let page: &mut ControlPage = control.view_mut();
        page.bus_masters = bus_masters.phys();
        page.lapic = arch::local_apic()?.unwrap_or(0);
        let mut gate = Self {
            control,
            tables,
            bus_masters,
            platform: KBox::new(Platform::find()?, GFP_KERNEL)?,
            entry,
        };
        gate.survey()?;
        Ok(gate)
    }

    /// Lists the PCI devices there are now, for the stub to silence.
    ///
    /// # Errors
    ///
    /// `E2BIG` if there are more than fit a page.
    pub(crate) fn survey(&mut self) -> Result {
        let words = self.bus_masters.words_mut();
        let room = words.len() - 1;
        let count = sys::bus_masters(&mut words[..room]);
        if count > room {
            return Err(E2BIG);
        }
        words[count] = u32::MAX;
        Ok(())
    }

    /// Frame of the control page.
    pub(crate) fn frame(&self) -> u32 {
        self.control.frame()
    }

    /// The jump-back entry, physical.
    pub(crate) fn entry(&self) -> u32 {
        self.entry
    }

    /// The control page, for the parameters of a jump.
    pub(crate) fn control(&mut self) -> &mut ControlPage {
        self.control.view_mut()
    }

    /// The answers of the last jump.
    pub(crate) fn answers(&self) -> &ControlPage {
        self.control.view()
    }

    /// Puts the slot at the page's head that tells a peer where the handoff is.
    pub(crate) fn publish(&mut self, handoff: u32) {
        self.control().slot = ControlSlot {
            magic: abi::CONTROL_MAGIC,
            handoff: u64::from(handoff),
        };
    }

    /// Interrupt controllers and timers, which lie in an allocation of their own.
    pub(crate) fn platform(&mut self) -> *mut Platform {
        &raw mut *self.platform
    }

    /// Brings up to date what may change between two jumps: the kernel's page tables grow.
    fn refresh(&mut self) {
        let tables = self.tables.refresh();
        self.control().tables = tables;
    }

    /// Leaves this kernel and comes back.
    ///
    /// # Safety
    ///
    /// Interrupts are off and this is the only CPU; devices and syscore are suspended; the
    /// control page's parameters are those of a load that is whole.
    #[inline(never)]
    pub(crate) unsafe fn cross(&mut self) {
        self.refresh();
        let control: *mut ControlPage = self.control();
        pm::save_processor_state();
        // SAFETY: as the caller promises, and the context has just been saved.
        unsafe { arch::stub::enter(control) };
        pm::restore_processor_state();
    }

    /// Leaves a kernel that has panicked: nothing is saved, nobody comes back.
    ///
    /// # Safety
    ///
    /// Interrupts are off; the target is a jump-back entry whose owner silences the rest of this
    /// machine before it touches memory.
    pub(crate) unsafe fn leave_for_good(&mut self) -> ! {
        self.refresh();
        self.control().features |= arch::feature::ONE_WAY;
        let control: *mut ControlPage = self.control();
        // SAFETY: the stub's own needs are met as for `cross`; with ONE_WAY it does not return.
        unsafe { arch::stub::enter(control) };
        unreachable!()
    }
}
