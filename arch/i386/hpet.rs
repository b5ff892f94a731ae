// SPDX-License-Identifier: GPL-2.0

//! The HPET: back to what it is at boot for the peer, as it was for us.
//!
//! In legacy replacement mode it takes the place of the 8254's interrupt, and a peer that counts
//! on the 8254 waits for its first tick for ever. Source: IA-PC HPET specification 1.0a.

use crate::sys::{self, Mmio};
use kernel::prelude::*;

/// General configuration register, bytes from the base; its low half has all the bits.
const CONFIG: usize = 0x10;
/// Main counter and timers run.
const ENABLE: u32 = 1 << 0;
/// Legacy replacement.
const LEGACY: u32 = 1 << 1;
/// Configuration register of timer 0; the others follow every 0x20 bytes.
const TIMER0: usize = 0x100;
const TIMER_STEP: usize = 0x20;
/// Timers of one HPET, at most.
const TIMERS: usize = 32;
/// A timer's interrupt enable.
const TIMER_INT: u32 = 1 << 2;
/// Capabilities: number of the last timer.
const CAPABILITIES: usize = 0x00;

/// The HPET, if the kernel found one.
pub(crate) struct Hpet {
    registers: Mmio,
    config: u32,
    timers: [u32; TIMERS],
}

impl Hpet {
    /// Maps it. `None` if there is none in the resource tree.
    pub(crate) fn find() -> Result<Option<Self>> {
        match sys::find_resource(c"HPET ", 0) {
            Some(phys) => Ok(Some(Self {
                registers: Mmio::map(phys, TIMER0 + TIMER_STEP * TIMERS)?,
                config: 0,
                timers: [0; TIMERS],
            })),
            None => Ok(None),
        }
    }

    /// Numbers of the timers there are.
    fn timers(&self) -> core::ops::RangeInclusive<usize> {
        0..=(self.registers.read32(CAPABILITIES) >> 8) as usize & (TIMERS - 1)
    }

    /// Stops it, out of legacy mode, its timers' interrupts off.
    pub(crate) fn quiet(&mut self) {
        self.config = self.registers.read32(CONFIG);
        self.registers
            .write32(CONFIG, self.config & !(ENABLE | LEGACY));
        for timer in self.timers() {
            let at = TIMER0 + TIMER_STEP * timer;
            self.timers[timer] = self.registers.read32(at);
            self.registers.write32(at, self.timers[timer] & !TIMER_INT);
        }
    }

    /// Undoes [`Self::quiet`]; comparators and the counter are set again by the kernel's clock
    /// events and clock source as they resume.
    pub(crate) fn restore(&self) {
        for timer in self.timers() {
            self.registers
                .write32(TIMER0 + TIMER_STEP * timer, self.timers[timer]);
        }
        self.registers.write32(CONFIG, self.config);
    }
}
