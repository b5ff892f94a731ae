// SPDX-License-Identifier: GPL-2.0

//! Interrupt controllers: the IO-APICs masked and the local APIC in virtual-wire mode for the
//! peer, as firmware leaves them at boot; both as they were when we come back.
//!
//! The kernel's own helpers (`clear_IO_APIC`, `restore_boot_irq_mode`) are not exported, so the
//! registers are programmed directly. Sources: Intel SDM vol. 3A, chapter "Advanced Programmable
//! Interrupt Controller"; Intel 82093AA (I/O APIC) data sheet.

use super::cpu;
use crate::alloc::KVec;
use crate::sys::{self, Mmio};
use kernel::prelude::*;

/// ICR: INIT, level, assert, all but self.
pub(crate) const ICR_INIT_OTHERS: u32 = 0xc_c500;
/// ICR: INIT level de-assert, all but self (only CPUs before the Pentium 4 heed it).
pub(crate) const ICR_DEASSERT: u32 = 0xc_8500;

/// Local APIC registers, offsets in bytes.
const LAPIC_EOI: usize = 0xb0;
const LAPIC_SPIV: usize = 0xf0;
const LAPIC_ISR: usize = 0x100;
const LAPIC_LVT0: usize = 0x350;
const LAPIC_LVT1: usize = 0x360;
/// Words of 32 vectors in the in-service register.
const VECTOR_WORDS: usize = 8;
/// Software-enabled, spurious vector 0xff.
const SPIV_ENABLED: u32 = 0x1ff;
/// LINT0 delivers what the 8259 sends.
const LVT0_EXTINT: u32 = 0x700;
/// LINT1 is the NMI.
const LVT1_NMI: u32 = 0x400;

/// IO-APIC: register select, window, bytes; redirection entries start at register 0x10.
const IOAPIC_SELECT: usize = 0x00;
const IOAPIC_WINDOW: usize = 0x10;
const IOAPIC_VERSION: u32 = 0x01;
const IOAPIC_REDIRECTION: u32 = 0x10;
const IOAPIC_MASKED: u32 = 1 << 16;
/// Redirection entries of one IO-APIC, at most.
const IOAPIC_PINS: usize = 240;

/// The controllers of this machine, mapped when a load is prepared.
pub(crate) struct Controllers {
    local: Option<Mmio>,
    io: KVec<IoApic>,
    saved: [u32; 3],
}

struct IoApic {
    registers: Mmio,
    pins: usize,
    saved: KVec<[u32; 2]>,
}

impl IoApic {
    fn read(&self, register: u32) -> u32 {
        self.registers.write32(IOAPIC_SELECT, register);
        self.registers.read32(IOAPIC_WINDOW)
    }

    fn write(&self, register: u32, value: u32) {
        self.registers.write32(IOAPIC_SELECT, register);
        self.registers.write32(IOAPIC_WINDOW, value);
    }

    fn new(phys: u32) -> Result<Self> {
        // The registers are not touched here: select and window are two accesses, which the kernel
        // makes under a lock that is its own.
        let mut saved = KVec::new();
        saved.resize(IOAPIC_PINS, [0; 2], GFP_KERNEL)?;
        Ok(Self {
            registers: Mmio::map(phys, 0x20)?,
            pins: 0,
            saved,
        })
    }

    fn mask(&mut self) {
        self.pins = ((self.read(IOAPIC_VERSION) >> 16) as usize & 0xff) + 1;
        self.pins = self.pins.min(IOAPIC_PINS);
        for pin in 0..self.pins {
            let register = IOAPIC_REDIRECTION + 2 * pin as u32;
            self.saved[pin] = [self.read(register), self.read(register + 1)];
            self.write(register, IOAPIC_MASKED);
            self.write(register + 1, 0);
        }
    }

    fn unmask(&self) {
        for pin in 0..self.pins {
            let register = IOAPIC_REDIRECTION + 2 * pin as u32;
            self.write(register + 1, self.saved[pin][1]);
            self.write(register, self.saved[pin][0]);
        }
    }
}

impl Controllers {
    /// Finds and maps them. An IO-APIC that the kernel does not use (`noapic`) is not in the
    /// resource tree and stays as firmware left it.
    pub(crate) fn find() -> Result<Self> {
        let local = match cpu::local_apic()? {
            Some(phys) => Some(Mmio::map(phys, 0x1000)?),
            None => None,
        };
        let mut io = KVec::new();
        while let Some(phys) = sys::find_resource(c"IOAPIC ", io.len()) {
            io.push(IoApic::new(phys)?, GFP_KERNEL)?;
        }
        Ok(Self {
            local,
            io,
            saved: [0; 3],
        })
    }

    /// For the peer. Interrupts are off and syscore is suspended, so that nobody else programs
    /// them.
    pub(crate) fn quiet(&mut self) {
        for apic in &mut self.io {
            apic.mask();
        }
        if let Some(local) = &self.local {
            for (i, register) in [LAPIC_SPIV, LAPIC_LVT0, LAPIC_LVT1].into_iter().enumerate() {
                self.saved[i] = local.read32(register);
            }
            local.write32(LAPIC_SPIV, SPIV_ENABLED);
            local.write32(LAPIC_LVT0, LVT0_EXTINT);
            local.write32(LAPIC_LVT1, LVT1_NMI);
        }
    }

    /// Undoes [`Self::quiet`]. syscore's resume goes over them again.
    pub(crate) fn restore(&self) {
        if let Some(local) = &self.local {
            // A peer that panicked in an interrupt's handler has not acknowledged it; vectors of
            // that priority and below would be dead for ever. The IO-APICs, which still have the
            // peer's vectors, must hear of it.
            local.write32(LAPIC_SPIV, SPIV_ENABLED);
            for register in (0..VECTOR_WORDS).map(|word| LAPIC_ISR + 0x10 * word) {
                for _ in 0..local.read32(register).count_ones() {
                    local.write32(LAPIC_EOI, 0);
                }
            }
            local.write32(LAPIC_LVT1, self.saved[2]);
            local.write32(LAPIC_LVT0, self.saved[1]);
            local.write32(LAPIC_SPIV, self.saved[0]);
        }
        for apic in &self.io {
            apic.unmask();
        }
    }
}
