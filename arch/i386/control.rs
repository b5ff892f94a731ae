// SPDX-License-Identifier: GPL-2.0

//! Layout of the control page: one page that holds all that the stub needs while no kernel runs.
//!
//! Its head is a [`ControlSlot`], by which a peer finds the handoff; then come the stub's
//! parameters, the saved CPU context, the stub's own descriptor tables, its code and its stack.
//! Every offset that `relocate.S` uses is an `offset_of!` of this structure.

use crate::abi::ControlSlot;
use core::mem::{offset_of, size_of};

/// Bytes reserved for the copy of the stub.
pub(crate) const CODE_SIZE: usize = 0x800;

/// Entries of the stub's GDT: null, what the boot protocol names, up to the kernel's code selector.
pub(crate) const GDT_ENTRIES: usize = 13;
/// Entries of either IDT, up to the NMI's.
pub(crate) const IDT_ENTRIES: usize = 3;

/// In a watched page's address: it was not what it had been when the peer came back.
pub(crate) const WATCH_CHANGED: u32 = 1;

/// What [`ControlPage::features`] may say: what this CPU has, and the kind of the jump.
pub(crate) mod feature {
    /// There is an EFER (CPUID tells of NX, long mode or SYSCALL).
    pub(crate) const EFER: u32 = 2;
    /// IA32_MISC_ENABLE could be read without a fault.
    pub(crate) const MISC_ENABLE: u32 = 4;
    /// IA32_APIC_BASE could be read without a fault.
    pub(crate) const APIC_BASE: u32 = 8;
    /// Nobody comes back: the peer finds 0 at `[esp]`.
    pub(crate) const ONE_WAY: u32 = 16;
    /// There is MMX: pages are exchanged by eight bytes.
    pub(crate) const MMX: u32 = 32;
}

/// A pseudo-descriptor as `lgdt` and `lidt` take it, with padding to whole words.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct TableRegister {
    /// Bytes in the table, less one.
    pub(crate) limit: u16,
    /// Low half of the table's linear address.
    pub(crate) base_low: u16,
    /// High half.
    pub(crate) base_high: u16,
    /// Not read.
    pub(crate) pad: u16,
}

impl TableRegister {
    /// For a table of `size` bytes at linear address `base`.
    pub(crate) const fn new(base: u32, size: usize) -> Self {
        Self {
            limit: size as u16 - 1,
            base_low: base as u16,
            base_high: (base >> 16) as u16,
            pad: 0,
        }
    }
}

/// The control page.
#[repr(C)]
pub(crate) struct ControlPage {
    /// For the peer.
    pub(crate) slot: ControlSlot,

    // Parameters: physical addresses unless said otherwise, 0 for "none".
    /// This page.
    pub(crate) phys: u32,
    /// This page in the kernel's direct map, virtual.
    pub(crate) virt: u32,
    /// CR3 of the tables that map this page identically.
    pub(crate) tables: u32,
    /// First page of the exchange list.
    pub(crate) list: u32,
    /// Where to go: the peer's entry or re-entry address.
    pub(crate) target: u32,
    /// What the peer finds in ESI: boot_params on the first entry.
    pub(crate) params: u32,
    /// The handoff block's mailbox.
    pub(crate) mailbox: u32,
    /// The peer map.
    pub(crate) peer_map: u32,
    /// List of PCI functions, each `bus << 8 | devfn`, ended by all ones.
    pub(crate) bus_masters: u32,
    /// The local APIC's registers.
    pub(crate) lapic: u32,
    /// Bits of [`feature`].
    pub(crate) features: u32,
    /// First page of the table of watched pages.
    pub(crate) watched: u32,

    // Answers.
    /// The peer's re-entry address, 0 if it has none.
    pub(crate) peer_entry: u32,
    /// Pages copied to the shadow on the way out.
    pub(crate) backed_up: u32,
    /// Pages copied from the shadow on the way out.
    pub(crate) loaded: u32,
    /// Pages of the peer's kept on the way back.
    pub(crate) peer_kept: u32,
    /// Watched pages that were found changed on the way back.
    pub(crate) changed: u32,

    // The saved context.
    resume: u32,
    esp: u32,
    cr0: u32,
    cr3: u32,
    cr4: u32,
    efer: [u32; 2],
    misc_enable: [u32; 2],
    apic_base: [u32; 2],
    dr: [u32; 6],
    gdtr: TableRegister,
    idtr: TableRegister,
    selectors: [u16; 6],

    // The stub's own tables, at linear = physical addresses.
    pub(crate) stub_gdtr: TableRegister,
    pub(crate) stub_idtr: TableRegister,
    pub(crate) gdt: [u64; GDT_ENTRIES],
    pub(crate) idt: [u64; IDT_ENTRIES],
    /// For what runs in the module's text with neither kernel's handlers in reach: an IDT at this
    /// page's virtual address.
    pub(crate) crossing_idtr: TableRegister,
    pub(crate) crossing_idt: [u64; IDT_ENTRIES],

    pad: [u8; 0x400 - 252 - 8 * (GDT_ENTRIES - 4 + 1 + IDT_ENTRIES)],
    /// The copy of the stub.
    pub(crate) code: [u8; CODE_SIZE],
    /// The stub's stack, growing down from the end of the page.
    stack: [u32; (0x1000 - 0x400 - CODE_SIZE) / 4],
}

/// Offset of a member, as `relocate.S` uses them.
macro_rules! at {
    ($($name:ident = $field:ident $(+ $more:expr)?;)*) => {
        $(pub(in super::super) const $name: usize = offset_of!(ControlPage, $field) $(+ $more)?;)*
    };
}

/// The offsets by the names that `relocate.S` gives them.
pub(super) mod offset {
    use super::*;
    at! {
        PHYS = phys; VIRT = virt; TABLES = tables; LIST = list; TARGET = target; PARAMS = params;
        MAILBOX = mailbox; PEER_MAP = peer_map; BUS_MASTERS = bus_masters; LAPIC = lapic;
        FEATURES = features; PEER_ENTRY = peer_entry; BACKED_UP = backed_up; LOADED = loaded;
        PEER_KEPT = peer_kept; WATCHED = watched; CHANGED = changed; RESUME = resume; ESP = esp; CR0 = cr0; CR3 = cr3; CR4 = cr4;
        EFER = efer; MISC_ENABLE = misc_enable; APIC_BASE = apic_base; DR = dr; GDTR = gdtr;
        IDTR = idtr; SEL_CS = selectors; SEL_DS = selectors + 2; SEL_ES = selectors + 4;
        SEL_FS = selectors + 6; SEL_SS = selectors + 8; STUB_GDTR = stub_gdtr;
        STUB_IDTR = stub_idtr; GDT = gdt; IDT = idt; CROSSING_IDTR = crossing_idtr;
        CROSSING_IDT = crossing_idt; CODE = code;
    }
    pub(in super::super) const STACK_TOP: usize = size_of::<ControlPage>();
}

const _: () = {
    assert!(size_of::<ControlPage>() == 4096);
    assert!(offset_of!(ControlPage, slot) == 0);
    assert!(offset_of!(ControlPage, code) == 0x400);
    assert!(size_of::<TableRegister>() == 8);
};
