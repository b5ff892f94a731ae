// SPDX-License-Identifier: GPL-2.0

//! Claimed RAM: what a kernel that lives in a window may write to bring back a saved one, or to
//! put a kernel there that takes the whole machine.
//!
//! The RAM is nobody's that runs: neither this kernel's nor a device's. Claiming it in a peer gives
//! up the way back, as the other kernel lies in that RAM. What was written is entered for good.

use crate::abi::{Range, HANDOFF_RANGES};
use crate::alloc::KVec;
use crate::arch::feature;
use crate::gate::Gate;
use crate::jump::Side;
use crate::old;
use crate::pages::{Nowhere, PageSource, PAGE_SIZE};
use crate::sys::memory;
use kernel::prelude::*;

/// Below this lie firmware's data and devices' memory, bytes.
const LOWEST: u64 = 1 << 20;

/// RAM that was claimed, and the gate to what is written there.
pub(crate) struct Claimed {
    gate: Gate,
    ranges: KVec<Range>,
}

impl Claimed {
    /// Claims `ranges`, which [`check`] has found good, and gives old memory up for them.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; those of [`Gate::new`].
    pub(crate) fn new(ranges: KVec<Range>) -> Result<Self> {
        let mut gate = Gate::new(&mut PageSource::new(&Nowhere))?;
        gate.control().features |= feature::ONE_WAY;
        old::take_claimed(&ranges)?;
        Ok(Self { gate, ranges })
    }

    /// Where it is entered, physical; 0 if nobody has said yet.
    pub(crate) fn target(&self) -> u32 {
        self.gate.answers().target
    }

    /// Readies the entry at `entry`, with `params` in ESI; both physical, bytes. An entry of 0
    /// leaves them as they were said before.
    ///
    /// # Errors
    ///
    /// `EADDRNOTAVAIL` for an entry outside what was claimed, or if none was said.
    pub(crate) fn aim(&mut self, entry: u64, params: u64) -> Result {
        if entry == 0 && self.target() != 0 {
            return Ok(());
        }
        let inside = |at: u64| self.ranges.iter().any(|r| r.start <= at && at < r.end);
        if !inside(entry) || (params != 0 && !inside(params)) {
            return Err(EADDRNOTAVAIL);
        }
        let control = self.gate.control();
        control.target = entry as u32;
        control.params = params as u32;
        Ok(())
    }

    /// After an entry that failed: what was claimed can be written again.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn stayed(&self) -> Result {
        old::take_claimed(&self.ranges)
    }
}

impl Side for Claimed {
    fn gate(&mut self) -> &mut Gate {
        &mut self.gate
    }

    fn map_pages(&mut self) {}

    fn returned(&mut self) {}
}

/// Whether these ranges may be claimed.
///
/// # Errors
///
/// `EINVAL` for ranges that are empty, not made of whole pages, below 1 MiB, beyond 4 GiB or not
/// ascending; `E2BIG` for too many; `EADDRINUSE` for RAM that this kernel or a device uses.
pub(crate) fn check(ranges: &[Range]) -> Result {
    if ranges.len() > HANDOFF_RANGES {
        return Err(E2BIG);
    }
    let page = PAGE_SIZE as u64;
    let mut lowest = LOWEST;
    for range in ranges {
        let whole = range.start % page == 0 && range.end % page == 0;
        if !whole || range.start < lowest || range.end <= range.start || range.end > 1 << 32 {
            return Err(EINVAL);
        }
        lowest = range.end;
        if !memory::nobodys((range.start / page) as u32, (range.end / page) as u32) {
            return Err(EADDRINUSE);
        }
    }
    if ranges.is_empty() {
        return Err(EINVAL);
    }
    Ok(())
}
