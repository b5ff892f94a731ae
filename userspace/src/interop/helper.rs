//! The helper's code and its parameters: [`page`] makes the page that mainline is to load. The code
//! is in helper.S and ready.S.

use core::arch::global_asm;
use core::mem::offset_of;

use kjump_abi as abi;

/// Bytes of a page, and of the helper.
pub const PAGE: usize = 4096;

/// What the helper is told, and what it keeps, from byte [`AT`] of its page on.
#[repr(C)]
pub struct Parameters {
    /// Jump-back entry of the kernel that this one was entered from, physical.
    there: u32,
    /// Where this kernel is entered again; the helper fills it in.
    here: u32,
    /// Physical address of a [`Letter`], 0: none.
    letter: u32,
    /// The answer for the other kernel's mailbox.
    status: u32,
    /// 1: the other kernel could not be entered.
    failed: u32,
    /// What a page table spans, less one byte.
    span_mask: u32,
    /// Words that may still be read of the list of exchanged pages.
    budget: u32,
    /// Bytes of the other kernel's lowmem, at most.
    lowmem: u32,
    /// Room for GDTR, six bytes.
    gdtr: [u32; 2],
    /// Why, in words, for the mailbox too.
    reason: [u8; abi::REASON_SIZE],
}

/// What the helper tells the program that waits for this kernel's next entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    /// 1 when the rest is filled in.
    pub written: u32,
    /// Jump-back entry of the kernel that this one was entered from.
    pub entry: u32,
    /// Its command word, 0 without a mailbox.
    pub command: u32,
    /// 1: the other kernel was not entered, as its GDT was not to be found.
    pub failed: u32,
}

/// Where the parameters are in the page.
const AT: usize = 16;

const fn low(bytes: [u8; 8]) -> u32 {
    u64::from_le_bytes(bytes) as u32
}

const fn high(bytes: [u8; 8]) -> u32 {
    (u64::from_le_bytes(bytes) >> 32) as u32
}

/// Bytes that mainline keeps for its code in the control page, `KEXEC_CONTROL_CODE_MAX_SIZE`; then
/// its data, as arch/x86/kernel/relocate_kernel_32.S has it since 2.6.27.
const DATA: usize = 2048;

global_asm!(
    include_str!("helper.S"),
    include_str!("ready.S"),
    BITS = const usize::BITS,
    PARAMETERS_SIZE = const size_of::<Parameters>(),
    THERE = const AT + offset_of!(Parameters, there),
    HERE = const AT + offset_of!(Parameters, here),
    LETTER = const AT + offset_of!(Parameters, letter),
    STATUS = const AT + offset_of!(Parameters, status),
    FAILED = const AT + offset_of!(Parameters, failed),
    SPAN_MASK = const AT + offset_of!(Parameters, span_mask),
    BUDGET = const AT + offset_of!(Parameters, budget),
    // A window of 16 MiB has some 8,000 words, and is gone through for each page that is looked up.
    LIST_WORDS = const 1u32 << 26,
    LOWMEM = const AT + offset_of!(Parameters, lowmem),
    // arch/x86/Kconfig, PAGE_OFFSET: 0x40000000, 0x78000000, 0x80000000, 0xb0000000 or 0xc0000000.
    SPLIT_MASK = const 0x07ff_ffffu32,
    GDTR = const AT + offset_of!(Parameters, gdtr),
    REASON = const AT + offset_of!(Parameters, reason),
    REASON_SIZE = const abi::REASON_SIZE,
    LETTER_WRITTEN = const offset_of!(Letter, written),
    LETTER_ENTRY = const offset_of!(Letter, entry),
    LETTER_COMMAND = const offset_of!(Letter, command),
    LETTER_FAILED = const offset_of!(Letter, failed),
    CONTROL_MAGIC_LOW = const low(abi::CONTROL_MAGIC),
    CONTROL_MAGIC_HIGH = const high(abi::CONTROL_MAGIC),
    HANDOFF_MAGIC_LOW = const low(abi::HANDOFF_MAGIC),
    HANDOFF_MAGIC_HIGH = const high(abi::HANDOFF_MAGIC),
    MAILBOX_COMMAND = const offset_of!(abi::Handoff, mailbox) + offset_of!(abi::Mailbox, command),
    MAILBOX_STATUS = const offset_of!(abi::Handoff, mailbox) + offset_of!(abi::Mailbox, status),
    MAILBOX_REASON = const offset_of!(abi::Handoff, mailbox) + offset_of!(abi::Mailbox, reason),
    CP_CR0 = const DATA + 4,
    CP_CR3 = const DATA + 8,
    CP_CR4 = const DATA + 12,
    CP_VIRTUAL = const DATA + 16,
    CP_LIST = const DATA + 28,
    // The entry areas of up to 64 CPUs and the fixmap end at 4 GiB and are smaller than this.
    FIRST_VIRTUAL = const 0xfe00_0000u32,
    options(att_syntax)
);

extern "C" {
    static kjump_helper_start: u8;
    static kjump_helper_patch_out: u8;
    #[cfg(test)]
    static kjump_helper_parameters: u8;
    static kjump_helper_patch_in: u8;
    static kjump_helper_end: u8;
}

/// Bytes from the helper's head to one of its labels.
fn offset(label: *const u8) -> usize {
    label.addr() - (&raw const kjump_helper_start).addr()
}

/// The helper's code, as assembled.
fn code() -> &'static [u8] {
    let (start, end) = (
        &raw const kjump_helper_start,
        offset(&raw const kjump_helper_end),
    );
    // SAFETY: the bytes between the two labels, which helper.S has put into read-only data.
    unsafe { core::slice::from_raw_parts(start, end) }
}

/// What the loader tells the helper.
pub struct Told {
    /// Jump-back entry of the other kernel, physical.
    pub entry: u32,
    /// Physical address of a [`Letter`] that stays where it is while this kernel is away, 0: none.
    pub letter: u32,
    /// The answer for the other kernel.
    pub status: u32,
    /// Why, in words, NUL-terminated.
    pub reason: [u8; abi::REASON_SIZE],
}

/// The helper as it is to lie at `base`, a page's physical address.
pub fn page(base: u32, told: &Told) -> Box<[u8; PAGE]> {
    let mut page = Box::new([0; PAGE]);
    let code = code();
    page[..code.len()].copy_from_slice(code);
    let mut put = |at: usize, word: u32| page[at..at + 4].copy_from_slice(&word.to_le_bytes());
    // Behind the opcode of a move to %ebx.
    put(offset(&raw const kjump_helper_patch_out) + 1, base);
    put(offset(&raw const kjump_helper_patch_in) + 1, base);
    put(AT + offset_of!(Parameters, there), told.entry);
    put(AT + offset_of!(Parameters, letter), told.letter);
    put(AT + offset_of!(Parameters, status), told.status);
    let reason = AT + offset_of!(Parameters, reason);
    page[reason..reason + told.reason.len()].copy_from_slice(&told.reason);
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_where_the_code_looks() {
        assert_eq!(offset(&raw const kjump_helper_start), 0);
        assert_eq!(offset(&raw const kjump_helper_patch_out), 0);
        assert_eq!(offset(&raw const kjump_helper_parameters), AT);
        // The rest of the page is its stack.
        assert!(code().len() < PAGE - 512, "{} bytes", code().len());
    }

    #[test]
    fn both_ways_in_know_the_page() {
        let told = Told {
            entry: 0x1f0_1234,
            letter: 0x7000,
            status: 7,
            reason: [b'r'; abi::REASON_SIZE],
        };
        let (page, base) = (page(0xabc_d000, &told), 0xabc_d000u32.to_le_bytes());
        for label in [
            &raw const kjump_helper_patch_out,
            &raw const kjump_helper_patch_in,
        ] {
            let at = offset(label);
            assert_eq!(page[at], 0xbb, "no move to %ebx");
            assert_eq!(page[at + 1..at + 5], base);
        }
        assert_eq!(page[AT..AT + 4], 0x1f0_1234u32.to_le_bytes());
        assert_eq!(page.windows(128).filter(|w| w == &[b'r'; 128]).count(), 1);
        assert_eq!(page[code().len()..], [0; PAGE][code().len()..]);
    }
}
