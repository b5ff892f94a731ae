// SPDX-License-Identifier: GPL-2.0

//! The few ELF structures that a core consists of. Cores are ELF64 whatever the kernel is, as the
//! readers of the first kexec jump expect; numbers are from the System V ABI and
//! include/uapi/linux/elf.h.

use crate::alloc::KVVec;
use crate::arch;
use kernel::prelude::*;

/// Bytes of an ELF64 header.
pub(crate) const EHDR_SIZE: usize = 64;
/// Bytes of an ELF64 program header.
pub(crate) const PHDR_SIZE: usize = 56;
/// Type of the note with a thread's registers.
pub(crate) const NT_PRSTATUS: u32 = 1;
/// Bytes of its contents: `struct elf_prstatus`.
pub(crate) const PRSTATUS_SIZE: usize = arch::PRSTATUS_SIZE;
/// Where in it the registers are.
pub(crate) const PRSTATUS_REGISTERS: usize = arch::PRSTATUS_REGISTERS;
/// Where in it the task's number is.
pub(crate) const PRSTATUS_PID: usize = arch::PRSTATUS_PID;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// Readable, writable, executable.
const RWX: u32 = 7;

/// Pages that are next to each other where they were and where they are.
pub(crate) struct Load {
    /// Physical address, bytes.
    pub(crate) paddr: u64,
    /// Where its contents are: address, or position in the file.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// Virtual address of the first byte; all ones if it has none.
    pub(crate) vaddr: u64,
}

/// Adds memory to the last of `loads` if it goes on there, or as another one.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn extend(
    loads: &mut KVVec<Load>,
    paddr: u64,
    offset: u64,
    size: u64,
    vaddr: u64,
) -> Result {
    if let Some(last) = loads.last_mut() {
        let mapped = (last.vaddr == u64::MAX) == (vaddr == u64::MAX);
        if last.paddr + last.size == paddr && last.offset + last.size == offset && mapped {
            last.size += size;
            return Ok(());
        }
    }
    let load = Load {
        paddr,
        offset,
        size,
        vaddr,
    };
    Ok(loads.push(load, GFP_KERNEL)?)
}

fn put(out: &mut KVVec<u8>, bytes: &[u8]) -> Result {
    Ok(out.extend_from_slice(bytes, GFP_KERNEL)?)
}

/// Appends the header of a core with `count` program headers behind it.
pub(crate) fn header(out: &mut KVVec<u8>, count: usize) -> Result {
    // ELFCLASS64, little-endian, version 1.
    put(out, b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0")?;
    // ET_CORE
    for half in [4, arch::ELF_MACHINE] {
        put(out, &half.to_le_bytes())?;
    }
    put(out, &1u32.to_le_bytes())?;
    // No entry; program headers behind this; no sections.
    for word in [0, EHDR_SIZE as u64, 0] {
        put(out, &word.to_le_bytes())?;
    }
    put(out, &0u32.to_le_bytes())?;
    for half in [EHDR_SIZE, PHDR_SIZE, count, 0, 0, 0] {
        put(out, &(half as u16).to_le_bytes())?;
    }
    Ok(())
}

fn program_header(out: &mut KVVec<u8>, kind: u32, flags: u32, words: [u64; 6]) -> Result {
    put(out, &kind.to_le_bytes())?;
    put(out, &flags.to_le_bytes())?;
    for word in words {
        put(out, &word.to_le_bytes())?;
    }
    Ok(())
}

/// Appends the program header of notes: `size` bytes at `offset`.
pub(crate) fn note_header(out: &mut KVVec<u8>, offset: u64, size: u64) -> Result {
    program_header(out, PT_NOTE, 0, [offset, 0, offset, size, size, 4])
}

/// Appends the program header of memory.
pub(crate) fn load_header(out: &mut KVVec<u8>, load: &Load) -> Result {
    let words = [load.offset, load.vaddr, load.paddr, load.size, load.size, 0];
    program_header(out, PT_LOAD, RWX, words)
}

/// Appends a note.
pub(crate) fn note(out: &mut KVVec<u8>, name: &str, kind: u32, contents: &[u8]) -> Result {
    for word in [name.len() as u32 + 1, contents.len() as u32, kind] {
        put(out, &word.to_le_bytes())?;
    }
    put(out, name.as_bytes())?;
    put(out, &[0])?;
    pad(out, 4)?;
    put(out, contents)?;
    pad(out, 4)
}

/// Appends zeros up to a multiple of `to` bytes.
pub(crate) fn pad(out: &mut KVVec<u8>, to: usize) -> Result {
    let length = out.len().next_multiple_of(to);
    Ok(out.resize(length, 0, GFP_KERNEL)?)
}

/// Structures of the ABI that notes consist of.
///
/// # Safety
///
/// No padding.
pub(crate) unsafe trait Plain {}
// SAFETY: integers only, sizes and offsets asserted in the ABI.
unsafe impl Plain for crate::abi::CoreNote {}
// SAFETY: as above.
unsafe impl Plain for crate::abi::PeerNote {}

/// The bytes of a structure.
pub(crate) fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: `Plain` has no padding, so every byte is initialised.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast(), size_of::<T>()) }
}
