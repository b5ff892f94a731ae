// SPDX-License-Identifier: GPL-2.0

//! Arguments: memory that is there, that is not, that is there in part, or that may not be written.

use std::ptr::null_mut;

use super::chance::Chance;

const PAGE: usize = 4096;
/// Bytes of code that comes back at once, wherever in it it is entered: `nop` all over, and at each
/// page's end `start: mov (%esp), %eax; call *%eax; jmp start`.
pub const CODE: usize = 4 * PAGE;

/// Pages of this process's memory: some to read and write, one that may only be read, and none
/// behind that. Never freed.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    start: usize,
    code: usize,
}

/// Pages to read and write.
const GOOD: usize = 16;

impl Memory {
    /// Maps it.
    pub fn new() -> Result<Self, String> {
        let size = (GOOD + 2) * PAGE;
        let start = map(size)?;
        for at in (0..PAGE).step_by(64) {
            // SAFETY: lies in the mapping that was just made, which nobody else knows of.
            unsafe { fill(start + GOOD * PAGE + at, 64) };
        }
        // SAFETY: both lie in the mapping that was just made, which nobody else knows of.
        let done = unsafe {
            libc::mprotect((start + GOOD * PAGE) as _, PAGE, libc::PROT_READ)
                | libc::munmap((start + (GOOD + 1) * PAGE) as _, PAGE)
        };
        if done != 0 {
            return Err("no memory as it is wanted".into());
        }
        let code = map(CODE)?;
        // SAFETY: the mapping is of this size, and nobody else has it yet.
        let bytes = unsafe { std::slice::from_raw_parts_mut(code as *mut u8, CODE) };
        for page in bytes.chunks_exact_mut(PAGE) {
            page.fill(0x90);
            page[PAGE - 7..].copy_from_slice(&[0x8b, 0x04, 0x24, 0xff, 0xd0, 0xeb, 0xf9]);
        }
        Ok(Self { start, code })
    }

    /// Where code lies that comes back at once.
    pub fn code(&self) -> u64 {
        self.code as u64
    }

    /// An address for an argument or a buffer: mostly good, but anything is possible that is not this
    /// program's own memory.
    pub fn address(&self, chance: &mut Chance) -> usize {
        let read_only = self.start + GOOD * PAGE;
        match chance.below(10) {
            // Runs into what may only be read, or lies there, or runs into nothing.
            0 => read_only - chance.below(600) as usize,
            1 => read_only + 64 * chance.below(64) as usize,
            2 => read_only + PAGE - chance.below(600) as usize,
            3 => [0, 0x10, 0xc000_0000, 0xc100_0000, 0xffff_f000, usize::MAX]
                [chance.below(6) as usize],
            4 => chance.edge() as usize | 0xc000_0000,
            _ => self.good(chance),
        }
    }

    /// Puts an argument at an address, as far as there is memory that can be written: the right version,
    /// and zeros, which are harmless in every call that [`super::calls`] makes with it.
    pub fn harmless(&self, at: usize) {
        let end = self.start + GOOD * PAGE;
        if (self.start..end).contains(&at) {
            // SAFETY: lies in memory that can be written and that nothing refers to.
            unsafe { fill(at, 256.min(end - at)) };
        }
    }

    /// An address with eight pages behind it that can be read and written.
    pub fn good(&self, chance: &mut Chance) -> usize {
        self.start + chance.below(((GOOD - 8) * PAGE) as u64) as usize
    }
}

/// The version, as far as there is room, and zeros.
///
/// # Safety
///
/// There are so many bytes to be written, and nothing refers to them.
unsafe fn fill(at: usize, bytes: usize) {
    let version = kjump_abi::ABI_VERSION.to_le_bytes();
    // SAFETY: as the caller promises.
    unsafe {
        std::ptr::write_bytes(at as *mut u8, 0, bytes);
        std::ptr::copy_nonoverlapping(version.as_ptr(), at as *mut u8, bytes.min(4));
    }
}

fn map(size: usize) -> Result<usize, String> {
    let (prot, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new mapping at an address of the kernel's choice.
    let start = unsafe { libc::mmap(null_mut(), size, prot, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err("no memory".into());
    }
    Ok(start as usize)
}
