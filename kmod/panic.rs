// SPDX-License-Identifier: GPL-2.0

//! A peer that panics goes back, with the message as the reason, instead of taking the kernel that
//! it was entered from with it.

use crate::abi::{Handoff, Mailbox, STATUS_PANIC};
use crate::alloc::KBox;
use crate::arch;
use crate::gate::Gate;
use crate::pages::{Nowhere, PageSource, PAGE_SIZE};
use crate::sys::OldMemory;
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::prelude::*;

/// The exit that is armed, if any.
static ARMED: AtomicPtr<PanicExit> = AtomicPtr::new(core::ptr::null_mut());

/// What a panic needs to go back: a gate of its own, and where to say why. Disarmed on drop.
pub(crate) struct PanicExit {
    gate: Gate,
    block: Option<OldMemory>,
}

impl PanicExit {
    /// Allocates one, not armed.
    ///
    /// # Errors
    ///
    /// Those of [`Gate::new`].
    pub(crate) fn new() -> Result<KBox<Self>> {
        let gate = Gate::new(&mut PageSource::new(&Nowhere))?;
        Ok(KBox::new(Self { gate, block: None }, GFP_KERNEL)?)
    }

    /// From now on a panic goes to the jump-back entry `target`, and the reason into the handoff
    /// block at `block`; both physical.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; what was armed before still is then, and otherwise panics take their usual course.
    pub(crate) fn arm(self: &mut KBox<Self>, target: u32, block: u32) -> Result {
        let block = OldMemory::map(block, PAGE_SIZE)?;
        disarm();
        self.block = Some(block);
        self.gate.control().target = target;
        ARMED.store(&raw mut **self, Ordering::Release);
        Ok(())
    }
}

impl Drop for PanicExit {
    fn drop(&mut self) {
        disarm();
    }
}

/// From now on panics take their usual course. May be called with interrupts off.
pub(crate) fn disarm() {
    ARMED.store(core::ptr::null_mut(), Ordering::Release);
}

/// Called when this kernel panics, interrupts off, the other CPUs stopped.
pub(crate) fn panicked(message: &[u8]) {
    let exit = ARMED.swap(core::ptr::null_mut(), Ordering::AcqRel);
    if exit.is_null() {
        return;
    }
    if !arch::is_boot_cpu() {
        // The other side's INIT would send the boot CPU to firmware, not into waiting.
        pr_emerg!("this is not the boot CPU: cannot go back (boot with panic_force_cpu=0)\n");
        return;
    }
    // SAFETY: armed by its owner, who disarms it before it goes; and nobody else runs any more.
    let exit = unsafe { &mut *exit };
    if let Some(block) = &mut exit.block {
        // SAFETY: the mapping is of a checked block, and a mailbox is integers only.
        let mailbox: &mut Mailbox = unsafe { block.get_mut(offset_of!(Handoff, mailbox)) };
        let length = message.len().min(mailbox.reason.len() - 1);
        mailbox.reason = [0; 128];
        mailbox.reason[..length].copy_from_slice(&message[..length]);
        mailbox.status = STATUS_PANIC;
        mailbox.peer_map_valid = 0;
    }
    pr_emerg!("going back to the kernel that this one was entered from\n");
    // SAFETY: interrupts are off; the target is that kernel's jump-back entry, whose stub
    // silences this kernel's CPUs and bus masters.
    unsafe { exit.gate.leave_for_good() }
}
