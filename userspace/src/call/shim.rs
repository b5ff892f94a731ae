//! The shim's code and its frame: what it is told, what it tells, and the tables that the CPU wants.
//! The code is in shim.S.

use core::arch::global_asm;
use core::mem::{offset_of, size_of};

use super::Timer;

/// Where the shim lies, physical; its frame is in the next page, its stacks in the one after that.
pub const BASE: u32 = 0x1000;
/// Bytes that it takes.
pub const SIZE: u32 = 0x3000;
const FRAME: u32 = BASE + 0x1000;
const STACK: u32 = BASE + 0x2800;
/// The tasks' stacks end here: the two are never needed at once.
const TASK_STACK: u32 = BASE + SIZE;

/// Registers, 32 bits each; of segments and of a real-mode program's flags the low half counts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
    pub esi: u32,
    pub edi: u32,
    pub ebp: u32,
    /// Carry is bit 0, interrupts allowed bit 9; bit 1 is always set.
    pub flags: u32,
    /// Segments count in real mode only.
    pub ds: u32,
    pub es: u32,
    pub fs: u32,
    pub gs: u32,
}

/// `struct tss_struct` of the architecture, as far as a switch with paging off reads it.
#[repr(C)]
struct Task {
    link: u32,
    stacks: [u32; 6],
    cr3: u32,
    eip: u32,
    flags: u32,
    general: [u32; 8],
    segments: [u32; 6],
    ldt: u32,
    map: u32,
}

/// The page after the code.
#[repr(C)]
struct Frame {
    /// A's jump-back entry.
    back: u32,
    outcome: u32,
    vector: u32,
    fault_eip: u32,
    /// 1: real mode.
    real: u32,
    /// Where the program is entered: address, or segment and offset.
    entry: u32,
    /// Its stack, the same way.
    stack: u32,
    /// And where it had it when it returned.
    stack_out: u32,
    /// Physical address of the HPET's registers, 0: no deadline.
    hpet: u32,
    ioapic: u32,
    apic_id: u32,
    /// How long the program is given.
    microseconds: u32,
    /// How long the HPET's ticks are, femtoseconds, as it says.
    period: u32,
    /// In ticks of the real-mode timer, 18.2 a second; 0: no deadline.
    ticks: u32,
    ticks_left: u32,
    /// Firmware's NMI vector.
    saved_nmi: u32,
    /// Where the program is given its registers from, and where they go.
    given: Registers,
    left: Registers,
    gdtr: [u16; 4],
    idtr: [u16; 4],
    real_idtr: [u16; 4],
    gdt: [[u32; 2]; 8],
    idt: [[u32; 2]; 32],
    task: Task,
    nmi_task: Task,
    double_task: Task,
}

// Selectors: the index in the GDT, times 8.
const CODE: u16 = 0x08;
const DATA: u16 = 0x10;
const CODE16: u16 = 0x18;
const DATA16: u16 = 0x20;
const TASK: u16 = 0x28;
const NMI_TASK: u16 = 0x30;
const DOUBLE_TASK: u16 = 0x38;

const RETURNED: u32 = 1;
const TIMED_OUT: u32 = 2;
const FAULTED: u32 = 3;
const TOO_LONG: u32 = 4;

const fn at(field: usize) -> u32 {
    FRAME + field as u32
}

const fn gdt_at(selector: u16) -> u32 {
    at(offset_of!(Frame, gdt)) + selector as u32
}

global_asm!(
    include_str!("shim.S"),
    BITS = const usize::BITS,
    BASE = const BASE,
    STACK = const STACK,
    BACK = const at(offset_of!(Frame, back)),
    OUTCOME = const at(offset_of!(Frame, outcome)),
    VECTOR = const at(offset_of!(Frame, vector)),
    FAULT_EIP = const at(offset_of!(Frame, fault_eip)),
    REAL = const at(offset_of!(Frame, real)),
    ENTRY = const at(offset_of!(Frame, entry)),
    STACK_POINTER = const at(offset_of!(Frame, stack)),
    STACK_POINTER_OUT = const at(offset_of!(Frame, stack_out)),
    HPET = const at(offset_of!(Frame, hpet)),
    IOAPIC = const at(offset_of!(Frame, ioapic)),
    APIC_ID = const at(offset_of!(Frame, apic_id)),
    MICROSECONDS = const at(offset_of!(Frame, microseconds)),
    PERIOD = const at(offset_of!(Frame, period)),
    TICKS = const at(offset_of!(Frame, ticks)),
    TICKS_LEFT = const at(offset_of!(Frame, ticks_left)),
    SAVED_NMI = const at(offset_of!(Frame, saved_nmi)),
    IN = const at(offset_of!(Frame, given)),
    OUT = const at(offset_of!(Frame, left)),
    EAX = const offset_of!(Registers, eax),
    EBX = const offset_of!(Registers, ebx),
    ECX = const offset_of!(Registers, ecx),
    EDX = const offset_of!(Registers, edx),
    ESI = const offset_of!(Registers, esi),
    EDI = const offset_of!(Registers, edi),
    EBP = const offset_of!(Registers, ebp),
    FLAGS = const offset_of!(Registers, flags),
    DS = const offset_of!(Registers, ds),
    ES = const offset_of!(Registers, es),
    FS = const offset_of!(Registers, fs),
    GS = const offset_of!(Registers, gs),
    GDTR = const at(offset_of!(Frame, gdtr)),
    IDTR = const at(offset_of!(Frame, idtr)),
    REAL_IDTR = const at(offset_of!(Frame, real_idtr)),
    TASK_EIP = const at(offset_of!(Frame, task) + offset_of!(Task, eip)),
    TASK_DESCRIPTOR = const gdt_at(TASK),
    NMI_DESCRIPTOR = const gdt_at(NMI_TASK),
    DOUBLE_DESCRIPTOR = const gdt_at(DOUBLE_TASK),
    CODE = const CODE,
    DATA = const DATA,
    CODE16 = const CODE16,
    DATA16 = const DATA16,
    TASK = const TASK,
    RETURNED = const RETURNED,
    TIMED_OUT = const TIMED_OUT,
    FAULTED = const FAULTED,
    TOO_LONG = const TOO_LONG,
    options(att_syntax),
);

extern "C" {
    static kjump_shim_start: u8;
    static kjump_shim_nmi: u8;
    static kjump_shim_double: u8;
    static kjump_shim_faults: u8;
    static kjump_shim_end: u8;
}

const PAGE: usize = 0x1000;

/// Bytes from the shim's head to one of its labels.
fn offset(label: *const u8) -> usize {
    label.addr() - (&raw const kjump_shim_start).addr()
}

/// The shim's code, as assembled.
fn code() -> &'static [u8] {
    let (start, end) = (
        &raw const kjump_shim_start,
        offset(&raw const kjump_shim_end),
    );
    // SAFETY: the bytes between the two labels, which shim.S has put into read-only data.
    unsafe { core::slice::from_raw_parts(start, end) }
}

/// What the shim is to do.
pub struct Told {
    /// Real mode, or protected mode with paging off.
    pub real: bool,
    /// Where the program is entered: physical address; in real mode segment in the high half,
    /// offset in the low.
    pub entry: u32,
    /// Its stack, the same way.
    pub stack: u32,
    /// Its registers.
    pub registers: Registers,
    /// What ends it, if there is such a thing.
    pub timer: Option<Timer>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It returned, with these registers and that stack.
    Returned(Registers, u32),
    /// It had not when the time was over.
    TimedOut,
    /// The CPU refused to go on: exception, and address of the instruction.
    Faulted(u32, u32),
    /// It was not begun: the HPET counts that many milliseconds at most.
    TooLong(u32),
    /// The shim did not run to its end.
    Lost,
}

fn put(page: &mut [u8], at: usize, word: u32) {
    page[at..at + 4].copy_from_slice(&word.to_le_bytes());
}

fn get(page: &[u8], at: usize) -> u32 {
    let bytes = page.get(at..at + 4);
    bytes.map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

impl Registers {
    const NAMES: [&'static str; 12] = [
        "eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "flags", "ds", "es", "fs", "gs",
    ];

    fn words(&self) -> [u32; 12] {
        [
            self.eax, self.ebx, self.ecx, self.edx, self.esi, self.edi, self.ebp, self.flags,
            self.ds, self.es, self.fs, self.gs,
        ]
    }

    /// Names and values.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u32)> {
        Self::NAMES.into_iter().zip(self.words())
    }

    /// Gives registers values by name; names that are none are passed over.
    pub fn set(&mut self, values: &[(String, u32)]) {
        for (name, value) in values {
            if let Some(register) = self.by_name(name) {
                *register = *value;
            }
        }
    }

    /// The register of that name.
    pub fn by_name(&mut self, name: &str) -> Option<&mut u32> {
        Some(match name {
            "eax" => &mut self.eax,
            "ebx" => &mut self.ebx,
            "ecx" => &mut self.ecx,
            "edx" => &mut self.edx,
            "esi" => &mut self.esi,
            "edi" => &mut self.edi,
            "ebp" => &mut self.ebp,
            "flags" => &mut self.flags,
            "ds" => &mut self.ds,
            "es" => &mut self.es,
            "fs" => &mut self.fs,
            "gs" => &mut self.gs,
            _ => return None,
        })
    }
}

impl std::fmt::Display for Registers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, (name, value)) in self.named().enumerate() {
            let space = if n == 0 { "" } else { " " };
            write!(f, "{space}{name}={value:#x}")?;
        }
        Ok(())
    }
}

/// A segment's descriptor: base, limit in bytes or pages, type, flags (0xc: 32 bits, in pages).
fn descriptor(base: u32, limit: u32, kind: u32, flags: u32) -> [u32; 2] {
    [
        (base << 16) | (limit & 0xffff),
        (base & 0xff00_0000)
            | (flags << 20)
            | (limit & 0xf_0000)
            | (kind << 8)
            | (base >> 16 & 0xff),
    ]
}

fn task_descriptor(field: usize) -> [u32; 2] {
    descriptor(at(field), size_of::<Task>() as u32 - 1, 0x89, 0)
}

/// The shim as it is to lie at [`BASE`], [`SIZE`] bytes.
pub fn pages(told: &Told) -> Vec<u8> {
    let mut all = vec![0; SIZE as usize];
    let code = code();
    all[..code.len()].copy_from_slice(code);
    let frame = &mut all[PAGE..2 * PAGE];
    put(frame, offset_of!(Frame, real), told.real.into());
    put(frame, offset_of!(Frame, entry), told.entry);
    put(frame, offset_of!(Frame, stack), told.stack);
    if let Some(timer) = &told.timer {
        put(frame, offset_of!(Frame, ioapic), timer.ioapic);
        put(frame, offset_of!(Frame, apic_id), timer.apic_id);
        if told.real {
            // The first one comes in less than a period.
            let ticks = (timer.milliseconds.saturating_mul(182) / 10_000 + 1).min(u32::MAX.into());
            put(frame, offset_of!(Frame, ticks), ticks as u32);
        } else {
            // Of the longest ticks that there may be, 100 ns, 32 bits last seven minutes.
            let time = timer.milliseconds.saturating_mul(1000);
            let time = u32::try_from(time).unwrap_or(u32::MAX);
            put(frame, offset_of!(Frame, hpet), timer.hpet);
            put(frame, offset_of!(Frame, microseconds), time);
        }
    }
    for (n, word) in told.registers.words().into_iter().enumerate() {
        put(frame, offset_of!(Frame, given) + 4 * n, word);
    }
    tables(frame);
    all
}

/// GDT, IDT, tasks, and what points to them.
fn tables(frame: &mut [u8]) {
    let gdt = [
        [0, 0],
        descriptor(0, 0xf_ffff, 0x9b, 0xc),
        descriptor(0, 0xf_ffff, 0x93, 0xc),
        descriptor(BASE, 0xffff, 0x9b, 0),
        descriptor(0, 0xffff, 0x93, 0),
        task_descriptor(offset_of!(Frame, task)),
        task_descriptor(offset_of!(Frame, nmi_task)),
        task_descriptor(offset_of!(Frame, double_task)),
    ];
    let mut both = |at, [low, high]: [u32; 2]| {
        put(frame, at, low);
        put(frame, at + 4, high);
    };
    for (n, entry) in gdt.into_iter().enumerate() {
        both(offset_of!(Frame, gdt) + 8 * n, entry);
    }
    let faults = BASE + offset(&raw const kjump_shim_faults) as u32;
    for vector in 0..32 {
        let gate = match vector {
            2 => [u32::from(NMI_TASK) << 16, 0x8500],
            8 => [u32::from(DOUBLE_TASK) << 16, 0x8500],
            _ => {
                let handler = faults + 16 * vector;
                let low = (u32::from(CODE) << 16) | (handler & 0xffff);
                [low, (handler & 0xffff_0000) | 0x8e00]
            }
        };
        both(offset_of!(Frame, idt) + 8 * vector as usize, gate);
    }
    // A limit of 16 bits, then a base of 32.
    let mut pointer = |field: usize, base: u32, limit: u32| {
        both(field, [(base << 16) | limit, base >> 16]);
    };
    let sizes = [8 * gdt.len() as u32 - 1, 32 * 8 - 1];
    pointer(
        offset_of!(Frame, gdtr),
        at(offset_of!(Frame, gdt)),
        sizes[0],
    );
    pointer(
        offset_of!(Frame, idtr),
        at(offset_of!(Frame, idt)),
        sizes[1],
    );
    pointer(offset_of!(Frame, real_idtr), 0, 0x3ff);
    let tasks = [
        (offset_of!(Frame, nmi_task), &raw const kjump_shim_nmi),
        (offset_of!(Frame, double_task), &raw const kjump_shim_double),
    ];
    for (task, handler) in tasks {
        put(
            frame,
            task + offset_of!(Task, eip),
            BASE + offset(handler) as u32,
        );
        put(frame, task + offset_of!(Task, flags), 2);
        put(frame, task + offset_of!(Task, general) + 4 * 4, TASK_STACK);
        let selectors = [DATA, CODE, DATA, DATA, DATA, DATA];
        for (n, selector) in selectors.into_iter().enumerate() {
            put(
                frame,
                task + offset_of!(Task, segments) + 4 * n,
                selector.into(),
            );
        }
    }
}

/// Milliseconds that 31 bits of ticks last, of so many femtoseconds each.
fn longest(period: u32) -> u32 {
    ((1 << 31) * u64::from(period) / 1_000_000_000_000) as u32
}

/// What came of it, from the frame as the shim left it: the page at [`frame_address`].
pub fn outcome(frame: &[u8]) -> Outcome {
    match get(frame, offset_of!(Frame, outcome)) {
        RETURNED => {
            let left = |n: usize| get(frame, offset_of!(Frame, left) + 4 * n);
            let registers = Registers {
                eax: left(0),
                ebx: left(1),
                ecx: left(2),
                edx: left(3),
                esi: left(4),
                edi: left(5),
                ebp: left(6),
                flags: left(7),
                ds: left(8),
                es: left(9),
                fs: left(10),
                gs: left(11),
            };
            Outcome::Returned(registers, get(frame, offset_of!(Frame, stack_out)))
        }
        TIMED_OUT => Outcome::TimedOut,
        FAULTED => Outcome::Faulted(
            get(frame, offset_of!(Frame, vector)),
            get(frame, offset_of!(Frame, fault_eip)),
        ),
        TOO_LONG => Outcome::TooLong(longest(get(frame, offset_of!(Frame, period)))),
        _ => Outcome::Lost,
    }
}

/// Where the frame is, physical.
pub const fn frame_address() -> u64 {
    FRAME as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_frame_fit_a_page_each() {
        assert!(code().len() <= PAGE && size_of::<Frame>() <= PAGE);
        assert!(size_of::<Task>() == 104);
        // A jump from one of them is as short as from another.
        let (faults, end) = (offset(&raw const kjump_shim_faults), code().len());
        for vector in 0..32usize {
            let at = faults + 16 * vector;
            assert!(at + 16 < end);
            // movb $vector, VECTOR
            assert_eq!(code()[at..at + 2], [0xc6, 0x05]);
            assert_eq!(code()[at + 6], vector as u8);
        }
    }

    #[test]
    fn descriptors() {
        assert_eq!(descriptor(0, 0xf_ffff, 0x9b, 0xc), [0xffff, 0x00cf_9b00]);
        assert_eq!(
            descriptor(0x1234_5678, 0x67, 0x89, 0),
            [0x5678_0067, 0x1200_8934]
        );
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let mut registers = Registers::default();
        for (n, name) in Registers::NAMES.into_iter().enumerate() {
            *registers.by_name(name).unwrap() = n as u32 + 1;
        }
        assert!(registers.by_name("esp").is_none());
        let told = Told {
            real: true,
            entry: 0x7c00,
            stack: 0x7c00,
            registers,
            timer: None,
        };
        let mut frame = pages(&told)[PAGE..2 * PAGE].to_vec();
        assert_eq!(outcome(&frame), Outcome::Lost);
        let given = offset_of!(Frame, given);
        frame.copy_within(
            given..given + size_of::<Registers>(),
            offset_of!(Frame, left),
        );
        put(&mut frame, offset_of!(Frame, outcome), RETURNED);
        assert_eq!(outcome(&frame), Outcome::Returned(registers, 0));
        put(&mut frame, offset_of!(Frame, outcome), TOO_LONG);
        put(&mut frame, offset_of!(Frame, period), 10_000_000);
        assert_eq!(outcome(&frame), Outcome::TooLong(21_474));
        put(&mut frame, offset_of!(Frame, outcome), FAULTED);
        assert_eq!(outcome(&frame), Outcome::Faulted(0, 0));
    }
}
