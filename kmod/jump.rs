// SPDX-License-Identifier: GPL-2.0

//! The story: what goes down, in order, and how each rung comes back.
//!
//! The guards of [`descend`] are the rungs; see `rungs` for each. All that can fail has been
//! allocated or is asked before the crossing; the crossing itself cannot fail. Whatever rung
//! fails, the guards taken so far climb back by themselves, and the caller's kernel goes on.

use crate::abi::{STAMP_COUNT, STAMP_END, STAMP_LEAVE, STAMP_RETURN};
use crate::gate::Gate;
use crate::rungs::{
    self, Consoles, Cpus, Devices, DevicesLate, Interrupts, KernelThreads, Notifiers, Options,
    PlatformQuiet, Rung, SleepLock, Syscore, Tasks, Trail, VtSwitch,
};
use crate::sys::symbols::Symbols;
use core::cell::Cell;
use kernel::prelude::*;

/// A side of a crossing: the kernel that jumps, or the peer that goes back.
pub(crate) trait Side {
    /// The gate to go through.
    fn gate(&mut self) -> &mut Gate;
    /// Which pages matter. Interrupts are off: what is free now stays free.
    fn map_pages(&mut self);
    /// First thing after the return, interrupts still off: what the allocator must not see dirty.
    fn returned(&mut self);
}

/// What a jump was like.
pub(crate) struct Record {
    /// Number of the rung that failed, 0 if none did.
    pub(crate) failed_rung: u32,
    /// Time stamps, see `STAMP_COUNT` in the ABI.
    pub(crate) stamps: [u64; STAMP_COUNT],
}

/// Goes down, crosses, and comes back.
pub(crate) fn jump<S: Side>(side: &mut S, symbols: &Symbols, options: Options) -> (Record, Result) {
    let stamps = [const { Cell::new(0) }; STAMP_COUNT];
    let trail = Trail::new(symbols, options, &stamps);
    let result = side.gate().survey().and_then(|()| descend(side, &trail));
    trail.mark(STAMP_END);
    let failed_rung = trail.failed();
    (
        Record {
            failed_rung,
            stamps: stamps.map(Cell::into_inner),
        },
        result,
    )
}

fn descend<S: Side>(side: &mut S, trail: &Trail<'_>) -> Result {
    let _sleep = SleepLock::take(trail)?;
    let _vt = VtSwitch::take(trail)?;
    let _notifiers = Notifiers::tell(trail)?;
    rungs::sync(trail)?;
    let _tasks = Tasks::freeze(trail)?;
    let _threads = KernelThreads::freeze(trail)?;
    let _consoles = Consoles::suspend(trail)?;
    // Without the freezer tasks still hand requests to a frozen disk's queue, and a CPU is not let
    // go before its requests are done (blk_mq_hctx_notify_offline): the CPUs go first then. They
    // come back first all the same, and the moves see to that: a virtio disk that had resumed with
    // a CPU missing lost a request at the next jump, which then waited in virtblk_freeze for ever,
    // probably as its queues' interrupts had been spread over other CPUs than blk-mq's map has.
    let mut early = if trail.freezer {
        None
    } else {
        Some(Cpus::stop(trail)?)
    };
    let _devices = Devices::freeze(trail, &mut early)?;
    let early = early;
    let _late = DevicesLate::freeze(trail)?;
    let _cpus = match early {
        Some(cpus) => cpus,
        None => Cpus::stop(trail)?,
    };
    let _interrupts = Interrupts::off(trail)?;
    let _syscore = Syscore::suspend(trail)?;
    trail.take(Rung::PageMap, || {
        if let Some(drain) = trail.symbols.drain_local_pages() {
            // SAFETY: as swsusp_save calls it: interrupts are off, no other CPU runs; null is all zones.
            unsafe { drain(core::ptr::null_mut()) }
        }
        side.map_pages();
        Ok(())
    })?;
    let platform = side.gate().platform();
    // SAFETY: the gate outlives this function and does not touch the platform by itself, whose
    // allocation is its own: uses of the gate below do not reach it.
    let _platform = unsafe { PlatformQuiet::take(trail, platform)? };
    trail.take(Rung::Processor, || Ok(()))?;

    // The point of no return, and the return.
    trail.mark(STAMP_LEAVE);
    // SAFETY: the rungs above are just what the crossing asks for.
    unsafe { side.gate().cross() };
    trail.mark(STAMP_RETURN);
    trail.set_peer_ran();
    side.returned();
    Ok(())
}
