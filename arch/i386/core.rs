// SPDX-License-Identifier: GPL-2.0

//! What an ELF core of this architecture has of its own: `struct elf_prstatus` with
//! `struct user_regs_struct` in it (include/linux/elfcore.h, arch/x86/include/asm/user_32.h).

use core::arch::asm;

/// EM_386.
pub(crate) const ELF_MACHINE: u16 = 3;

/// `struct elf_prstatus` of a 32-bit kernel.
#[repr(C)]
struct PrStatus {
    info: [u32; 3],
    current_signal: [u16; 2],
    signals: [u32; 2],
    ids: [u32; 4],
    times: [[u32; 2]; 4],
    registers: [u32; REGISTERS],
    has_fpu_state: u32,
}

const REGISTERS: usize = 17;

/// Bytes of a thread's state.
pub(crate) const PRSTATUS_SIZE: usize = size_of::<PrStatus>();
/// Where in it the registers are.
pub(crate) const PRSTATUS_REGISTERS: usize = core::mem::offset_of!(PrStatus, registers);
/// Where in it the task's number is.
pub(crate) const PRSTATUS_PID: usize = core::mem::offset_of!(PrStatus, ids);

const _: () = assert!(PRSTATUS_SIZE == 144 && PRSTATUS_REGISTERS == 72);

/// Registers as they are here, in the order of `user_regs_struct`: ebx, ecx, edx, esi, edi, ebp,
/// eax, ds, es, fs, gs, orig_eax, eip, cs, eflags, esp, ss. Those that a call may clobber say
/// nothing about the caller, and are 0.
#[inline(never)]
pub(crate) fn registers() -> [u32; REGISTERS] {
    let (mut ebx, mut esi, mut edi, mut ebp, mut esp, mut eip, mut flags) =
        (0u32, 0, 0, 0, 0, 0, 0);
    let mut selectors = [0u32; 6];
    let at = selectors.as_mut_ptr();
    // SAFETY: reads registers; writes the seven words and the array, which are valid.
    unsafe {
        asm!("mov {0:e}, ebx", "mov {1:e}, ebp", out(reg) ebx, out(reg) ebp,
            options(nomem, nostack, preserves_flags));
        asm!("mov {0:e}, esi", "mov {1:e}, edi", "mov {2:e}, esp", out(reg) esi, out(reg) edi,
            out(reg) esp, options(nomem, nostack, preserves_flags));
        asm!("call 2f", "2: pop {0:e}", out(reg) eip);
        asm!("pushfd", "pop {0:e}", out(reg) flags);
        asm!("mov [{0:e}], ds", "mov [{0:e} + 4], es", "mov [{0:e} + 8], fs",
            "mov [{0:e} + 12], gs", "mov [{0:e} + 16], cs", "mov [{0:e} + 20], ss", in(reg) at,
            options(nostack, preserves_flags));
    }
    let [ds, es, fs, gs, cs, ss] = selectors.map(|s| s & 0xffff);
    [
        ebx,
        0,
        0,
        esi,
        edi,
        ebp,
        0,
        ds,
        es,
        fs,
        gs,
        u32::MAX,
        eip,
        cs,
        flags,
        esp,
        ss,
    ]
}
