// SPDX-License-Identifier: GPL-2.0

//! The relocate stub from Rust's side: its constants, its copy in a control page, the call.

use super::control::{
    feature, offset, ControlPage, TableRegister, CODE_SIZE, GDT_ENTRIES, IDT_ENTRIES, WATCH_CHANGED,
};
use super::cpu;
use crate::abi;
use core::mem::offset_of;

/// Flat 4 GiB code and data descriptors at the selectors that Linux's 32-bit boot protocol names.
const SELECTOR_CODE: usize = 0x10;
const SELECTOR_DATA: usize = 0x18;
const FLAT_CODE: u64 = 0x00cf_9b00_0000_ffff;
const FLAT_DATA: u64 = 0x00cf_9300_0000_ffff;
/// Vector of the only interrupt the stub answers.
const NMI: usize = 2;

core::arch::global_asm!(
    include_str!("relocate.S"),
    include_str!("watch.S"),
    include_str!("exchange.S"),
    include_str!("resume.S"),
    PHYS = const offset::PHYS,
    VIRT = const offset::VIRT,
    TABLES = const offset::TABLES,
    LIST = const offset::LIST,
    TARGET = const offset::TARGET,
    PARAMS = const offset::PARAMS,
    MAILBOX = const offset::MAILBOX,
    MAP_VALID = const offset_of!(abi::Mailbox, peer_map_valid),
    PEER_MAP = const offset::PEER_MAP,
    BUS_MASTERS = const offset::BUS_MASTERS,
    LAPIC = const offset::LAPIC,
    FEATURES = const offset::FEATURES,
    PEER_ENTRY = const offset::PEER_ENTRY,
    BACKED_UP = const offset::BACKED_UP,
    LOADED = const offset::LOADED,
    PEER_KEPT = const offset::PEER_KEPT,
    WATCHED = const offset::WATCHED,
    CHANGED = const offset::CHANGED,
    WATCH_CHANGED = const WATCH_CHANGED,
    RESUME = const offset::RESUME,
    ESP = const offset::ESP,
    CR0 = const offset::CR0,
    CR3 = const offset::CR3,
    CR4 = const offset::CR4,
    EFER = const offset::EFER,
    MISC_ENABLE = const offset::MISC_ENABLE,
    APIC_BASE = const offset::APIC_BASE,
    DR = const offset::DR,
    GDTR = const offset::GDTR,
    IDTR = const offset::IDTR,
    SEL_CS = const offset::SEL_CS,
    SEL_DS = const offset::SEL_DS,
    SEL_ES = const offset::SEL_ES,
    SEL_FS = const offset::SEL_FS,
    SEL_SS = const offset::SEL_SS,
    STUB_GDTR = const offset::STUB_GDTR,
    STUB_IDTR = const offset::STUB_IDTR,
    CROSSING_IDTR = const offset::CROSSING_IDTR,
    CODE = const offset::CODE,
    STACK_TOP = const offset::STACK_TOP,
    SEL_FLAT_CODE = const SELECTOR_CODE,
    SEL_FLAT_DATA = const SELECTOR_DATA,
    HAS_EFER = const feature::EFER,
    HAS_MISC_ENABLE = const feature::MISC_ENABLE,
    HAS_APIC_BASE = const feature::APIC_BASE,
    ONE_WAY = const feature::ONE_WAY,
    HAS_MMX = const feature::MMX,
    MSR_EFER = const cpu::MSR_EFER,
    MSR_MISC_ENABLE = const cpu::MSR_MISC_ENABLE,
    MSR_APIC_BASE = const cpu::MSR_APIC_BASE,
    CR0_PE = const cpu::cr0::PE,
    CR0_EM = const cpu::cr0::EM,
    CR0_TS = const cpu::cr0::TS,
    CR0_WP = const cpu::cr0::WP,
    CR0_AM = const cpu::cr0::AM,
    CR0_PG = const cpu::cr0::PG,
    ICR_INIT_OTHERS = const super::apic::ICR_INIT_OTHERS,
    ICR_DEASSERT = const super::apic::ICR_DEASSERT,
    ENTRY_OURS = const abi::ENTRY_OURS,
    ENTRY_FIXED = const abi::ENTRY_FIXED,
    ENTRY_THEIRS = const abi::ENTRY_THEIRS,
    options(att_syntax)
);

extern "C" {
    fn kjump_stub_enter(control: *mut ControlPage);
    static kjump_stub_start: u8;
    static kjump_stub_patch: u8;
    static kjump_stub_back: u8;
    static kjump_stub_quiet: u8;
    static kjump_stub_nmi: u8;
    static kjump_stub_end: u8;
}

/// Distance in bytes of a label from the stub's start.
fn distance(label: *const u8) -> usize {
    label as usize - &raw const kjump_stub_start as usize
}

/// An IDT that has a 32-bit interrupt gate, present, ring 0, for the NMI, to linear address `handler`.
fn idt(selector: u16, handler: u32) -> [u64; IDT_ENTRIES] {
    let handler = u64::from(handler);
    let mut idt = [0; IDT_ENTRIES];
    idt[NMI] = (handler & 0xffff)
        | (u64::from(selector) << 16)
        | (0x8e00 << 32)
        | ((handler & 0xffff_0000) << 32);
    idt
}

/// Copies the stub into `control` and fills in what does not change from jump to jump.
///
/// `phys` is the page's physical address, bytes. Returns the jump-back entry, physical.
///
/// # Panics
///
/// Never: that the stub fits, and the kernel's code selector, is checked here and reported as `None`.
pub(crate) fn install(control: &mut ControlPage, phys: u32) -> Option<u32> {
    let length = distance(&raw const kjump_stub_end);
    if length > CODE_SIZE {
        return None;
    }
    // SAFETY: `start..end` is one contiguous piece of this module's text, `length` bytes long.
    let stub = unsafe { core::slice::from_raw_parts(&raw const kjump_stub_start, length) };
    control.code[..length].copy_from_slice(stub);

    let code = phys + offset::CODE as u32;
    // `movl $imm32, %ebp` is one opcode byte and the immediate.
    let patch = distance(&raw const kjump_stub_patch) + 1;
    control.code[patch..patch + 4].copy_from_slice(&phys.to_le_bytes());

    // The same selector for the kernel's code in its GDT and in the stub's; and one more that others have,
    // whom an NMI's handler may return to.
    let selector = cpu::code_selector();
    control.gdt = [0; GDT_ENTRIES];
    control.gdt[1] = FLAT_CODE;
    control.gdt[SELECTOR_CODE / 8] = FLAT_CODE;
    control.gdt[SELECTOR_DATA / 8] = FLAT_DATA;
    *control.gdt.get_mut(usize::from(selector) / 8)? = FLAT_CODE;
    let nmi = distance(&raw const kjump_stub_nmi) as u32;
    control.idt = idt(SELECTOR_CODE as u16, code + nmi);
    // The stub's own text, not the copy of it.
    control.crossing_idt = idt(selector, &raw const kjump_stub_nmi as u32);
    control.stub_gdtr = TableRegister::new(phys + offset::GDT as u32, size_of_val(&control.gdt));
    control.stub_idtr = TableRegister::new(phys + offset::IDT as u32, size_of_val(&control.idt));

    let virt = &raw const *control as u32;
    control.crossing_idtr = TableRegister::new(
        virt + offset::CROSSING_IDT as u32,
        size_of_val(&control.crossing_idt),
    );

    control.phys = phys;
    control.virt = virt;
    control.features = cpu::features();
    Some(code + distance(&raw const kjump_stub_back) as u32)
}

/// Bytes from the jump-back entry to the point where the other side's CPUs and bus masters are
/// silent and no page has been exchanged yet: a place for a debugger's breakpoint.
pub(crate) fn quiet_offset() -> usize {
    distance(&raw const kjump_stub_quiet) - distance(&raw const kjump_stub_back)
}

/// Leaves this kernel for `control.target`; returns when the peer has come back.
///
/// # Safety
///
/// Interrupts are off, no other CPU runs, devices are frozen, `save_processor_state` has been
/// called and nothing but `restore_processor_state` follows. `control` was filled in by
/// [`install`] and lies, with everything it points to, outside the window.
#[inline(always)]
pub(crate) unsafe fn enter(control: *mut ControlPage) {
    // SAFETY: the caller keeps the conditions above; the stub preserves what the C ABI wants
    // preserved.
    unsafe { kjump_stub_enter(control) };
}
