// SPDX-License-Identifier: GPL-2.0

//! What this CPU is and has: control-register bits, MSRs, CPUID, the time-stamp counter.

use super::control::feature;
use crate::sys;
use kernel::prelude::*;

/// IA32_EFER, Intel SDM vol. 4.
pub(crate) const MSR_EFER: u32 = 0xc000_0080;
/// IA32_MISC_ENABLE; bit 34 is XD_DISABLE.
pub(crate) const MSR_MISC_ENABLE: u32 = 0x1a0;
/// IA32_APIC_BASE.
pub(crate) const MSR_APIC_BASE: u32 = 0x1b;

/// Bits of CR0, Intel SDM vol. 3A, 2.5.
pub(crate) mod cr0 {
    pub(crate) const PE: u32 = 1 << 0;
    pub(crate) const EM: u32 = 1 << 2;
    pub(crate) const TS: u32 = 1 << 3;
    pub(crate) const WP: u32 = 1 << 16;
    pub(crate) const AM: u32 = 1 << 18;
    pub(crate) const PG: u32 = 1 << 31;
}

/// CPUID leaf 1, EDX.
const CPUID_APIC: u32 = 1 << 9;
const CPUID_MMX: u32 = 1 << 23;
/// CPUID leaf 0x8000_0001, EDX: SYSCALL, NX, long mode; each implies EFER.
const CPUID_EFER: u32 = (1 << 11) | (1 << 20) | (1 << 29);
/// IA32_APIC_BASE: globally enabled, and in x2APIC mode.
const APIC_BASE_ENABLED: u32 = 1 << 11;
const APIC_BASE_X2APIC: u32 = 1 << 10;
const APIC_BASE_BOOT_CPU: u32 = 1 << 8;

/// CPUID leaf `leaf`: EAX, EBX, ECX, EDX. Every CPU that Rust code runs on has CPUID.
fn cpuid(leaf: u32) -> [u32; 4] {
    let r = core::arch::x86::__cpuid(leaf);
    [r.eax, r.ebx, r.ecx, r.edx]
}

/// Bits of [`feature`] for this CPU. An MSR counts as present if reading it does not fault.
pub(crate) fn features() -> u32 {
    let extended = cpuid(0x8000_0000)[0];
    let mut bits = 0;
    if extended >= 0x8000_0001
        && extended <= 0x8000_ffff
        && cpuid(0x8000_0001)[3] & CPUID_EFER != 0
        && sys::read_msr(MSR_EFER).is_some()
    {
        bits |= feature::EFER;
    }
    if sys::read_msr(MSR_MISC_ENABLE).is_some() {
        bits |= feature::MISC_ENABLE;
    }
    if cpuid(1)[3] & CPUID_APIC != 0 && sys::read_msr(MSR_APIC_BASE).is_some() {
        bits |= feature::APIC_BASE;
    }
    if cpuid(1)[3] & CPUID_MMX != 0 {
        bits |= feature::MMX;
    }
    bits
}

/// Physical address of the local APIC's registers, if there is one and it is switched on.
///
/// # Errors
///
/// `EOPNOTSUPP` in x2APIC mode, in which the stub could not reach it.
pub(crate) fn local_apic() -> Result<Option<u32>> {
    if cpuid(1)[3] & CPUID_APIC == 0 {
        return Ok(None);
    }
    match sys::read_msr(MSR_APIC_BASE) {
        Some([low, _]) if low & APIC_BASE_ENABLED == 0 => Ok(None),
        Some([low, _]) if low & APIC_BASE_X2APIC != 0 => Err(EOPNOTSUPP),
        Some([low, _]) => Ok(Some(low & 0xffff_f000)),
        None => Ok(None),
    }
}

/// Whether this is the CPU that firmware started. INIT sends it to firmware, where the others wait
/// for SIPI.
pub(crate) fn is_boot_cpu() -> bool {
    cpuid(1)[3] & CPUID_APIC == 0
        || sys::read_msr(MSR_APIC_BASE).is_none_or(|[low, _]| low & APIC_BASE_BOOT_CPU != 0)
}

/// The selector of the code that runs now, the kernel's.
pub(crate) fn code_selector() -> u16 {
    let selector: u16;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {0:x}, cs", out(reg) selector, options(nomem, nostack)) };
    selector
}

/// The time-stamp counter, ticks.
pub(crate) fn timestamp() -> u64 {
    // SAFETY: the kernel is built for CPUs with a TSC (X86_TSC), and runs in ring 0.
    unsafe { core::arch::x86::_rdtsc() }
}

/// 32 bits that tell this kind of CPU from another: CRC-32 of CPUID's vendor and signature.
pub(crate) fn fingerprint() -> u32 {
    let [_, b, c, d] = cpuid(0);
    let signature = cpuid(1)[0];
    let mut crc = 0;
    for word in [b, c, d, signature] {
        crc = crate::abi::crc32(crc, &word.to_le_bytes());
    }
    crc
}
