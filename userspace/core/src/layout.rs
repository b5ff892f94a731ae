//! The parts of ELF that a core has: <elf.h> has the names.

/// First four bytes of an ELF file.
pub const MAGIC: [u8; 4] = *b"\x7fELF";
/// `e_ident[EI_CLASS]` of a 32-bit file.
pub const CLASS32: u8 = 1;
/// `e_ident[EI_CLASS]` of a 64-bit file.
pub const CLASS64: u8 = 2;
/// `e_ident[EI_DATA]`: little-endian.
pub const LITTLE: u8 = 1;
/// `e_type` of a core.
pub const ET_CORE: u16 = 4;
/// `e_machine` of i386.
pub const EM_386: u16 = 3;
/// `p_type` of memory.
pub const PT_LOAD: u32 = 1;
/// `p_type` of notes.
pub const PT_NOTE: u32 = 4;
/// `e_phnum` from which on the number would be elsewhere, which no core of ours needs.
pub const PN_XNUM: u16 = 0xffff;

/// Bytes of a 64-bit file's header.
pub const EHDR64: usize = 64;
/// Bytes of an entry of its program header table.
pub const PHDR64: usize = 56;
/// The same of a 32-bit file.
pub const EHDR32: usize = 52;
/// The same of a 32-bit file.
pub const PHDR32: usize = 32;
/// Bytes in front of a note's name.
pub const NHDR: usize = 12;

/// Name of the note with a CPU's registers.
pub const NAME_CORE: &str = "CORE";
/// Its type.
pub const NT_PRSTATUS: u32 = 1;
/// Name of the note with what tools must know of the kernel; its type is 0.
pub const NAME_VMCOREINFO: &str = "VMCOREINFO";

/// Version of the note that makes a core resumable, once that has been taken back.
pub const GIVEN_UP: u32 = u32::MAX;
/// The same, once its kernel was resumed from it.
pub const USED: u32 = u32::MAX - 1;

/// A note's name and contents are filled up to this, in 64-bit files too: Linux does so.
pub const NOTE_ALIGN: u64 = 4;

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    array(bytes, at).map_or(0, u16::from_le_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    array(bytes, at).map_or(0, u32::from_le_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    array(bytes, at).map_or(0, u64::from_le_bytes)
}

/// `N` bytes from `at` on; `None` where there are fewer.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
