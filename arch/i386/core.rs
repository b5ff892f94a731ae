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
    let mut seen = [0u32; 13];
    // One block, as between two the compiler may use any register; and a pointer in one that is not
    // told, as an operand that is written early may be in one that is read later.
    // SAFETY: reads registers; writes the array's words, which are valid, of selectors the low halves;
    // the stack is left as it was found.
    unsafe {
        asm!(
            "mov [eax], ebx",
            "mov [eax + 4], esi",
            "mov [eax + 8], edi",
            "mov [eax + 12], ebp",
            "mov [eax + 16], esp",
            "mov [eax + 20], ds",
            "mov [eax + 24], es",
            "mov [eax + 28], fs",
            "mov [eax + 32], gs",
            "mov [eax + 36], cs",
            "mov [eax + 40], ss",
            "pushfd",
            "pop dword ptr [eax + 44]",
            "call 2f",
            "2: pop dword ptr [eax + 48]",
            in("eax") seen.as_mut_ptr(),
            options(preserves_flags),
        );
    }
    let [ebx, esi, edi, ebp, esp, ds, es, fs, gs, cs, ss, flags, eip] = seen;
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
