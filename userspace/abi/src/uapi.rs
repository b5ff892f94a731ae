// SPDX-License-Identifier: GPL-2.0

//! Every structure that two programs share: the ioctls of `/dev/kjump`, the handoff block, the
//! slot at the head of a control page, the entries of an exchange list.
//!
//! One `no_std` file, compiled into the command (crate `kjump-abi`) and into the module
//! (`#[path]`). Fields have fixed widths, padding is explicit, the version comes first, and the
//! 64-bit fields sit at multiples of 8, so that the layout is the same where `u64` aligns to 4
//! (i386) and where it aligns to 8. Addresses are physical, in bytes; ranges are half-open.

use core::mem::{offset_of, size_of};

/// Version of the ioctls below; in the first field of each argument. A module refuses another
/// with `EPROTONOSUPPORT`.
pub const ABI_VERSION: u32 = 4;

/// The device's path.
pub const DEVICE: &str = "/dev/kjump";

/// Bytes in a page, on every architecture that kjump knows.
pub const PAGE_SIZE: u64 = 4096;

/// Where a window ends unless the user says otherwise: 16 MiB.
pub const DEFAULT_WINDOW_END: u64 = 16 << 20;

/// Where the window of a peer ends that has a range of its own besides: 640 KiB, without which no
/// kernel boots on a PC.
pub const SHARED_WINDOW_END: u64 = 0xa_0000;

/// `_IOWR('k', nr, T)` as `include/uapi/asm-generic/ioctl.h` computes it.
const fn iowr<T>(nr: u32) -> u32 {
    (3 << 30) | ((size_of::<T>() as u32) << 16) | ((b'k' as u32) << 8) | nr
}

/// Starts a load: [`Prepare`].
pub const IOC_PREPARE: u32 = iowr::<Prepare>(0xe0);
/// Adds a segment to a load under way: [`Segment`]. Any number of times.
pub const IOC_SEGMENT: u32 = iowr::<Segment>(0xe1);
/// Ends a load: [`Commit`].
pub const IOC_COMMIT: u32 = iowr::<Commit>(0xe2);
/// Jumps to what is loaded, or to the resident peer: [`Jump`].
pub const IOC_JUMP: u32 = iowr::<Jump>(0xe3);
/// In a peer: goes back to the kernel that it was entered from: [`Back`].
pub const IOC_BACK: u32 = iowr::<Back>(0xe4);
/// Frees a load or a resident peer: [`Unload`].
pub const IOC_UNLOAD: u32 = iowr::<Unload>(0xe5);
/// Tells the state: [`Status`].
pub const IOC_STATUS: u32 = iowr::<Status>(0xe6);
/// In a peer: a copy of the handoff block: [`Handoff`].
pub const IOC_HANDOFF: u32 = iowr::<Handoff>(0xe7);
/// Leaves a text for the peer in the handoff block: [`Request`].
pub const IOC_REQUEST: u32 = iowr::<Request>(0xe8);
/// Takes RAM that is not this kernel's, to be written: [`Claim`].
pub const IOC_CLAIM: u32 = iowr::<Claim>(0xe9);
/// Enters what was written into claimed RAM, for good: [`Enter`].
pub const IOC_ENTER: u32 = iowr::<Enter>(0xea);
/// Says what a load is, for whoever reads `/proc/kimgcore`: [`Label`].
pub const IOC_LABEL: u32 = iowr::<Label>(0xeb);

/// Says which load this file's calls are about: [`Select`].
pub const IOC_SELECT: u32 = iowr::<Select>(0xec);
/// Tells what is loaded: [`List`].
pub const IOC_LIST: u32 = iowr::<List>(0xed);

/// For tests: makes an allocation of the module's fail: [`Fault`].
pub const IOC_FAULT: u32 = iowr::<Fault>(0xee);

/// Argument of [`IOC_FAULT`]. Refused with `EOPNOTSUPP` unless the module was loaded with
/// `testing=1`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Fault {
    /// In: [`ABI_VERSION`].
    pub version: u32,
    /// In: must be 0.
    pub flags: u32,
    /// In: which allocation fails, counted from 1 from this call on; 0 for none.
    pub fail_at: u32,
    /// Out: allocations that were made, or failed, between the call before and this one.
    pub counted: u32,
}

/// Bytes of a load's name, its NUL included. ASCII letters, digits and `-_.+`.
pub const NAME_SIZE: usize = 32;

/// Argument of [`IOC_SELECT`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Select {
    /// In: [`ABI_VERSION`].
    pub version: u32,
    /// In: must be 0.
    pub flags: u32,
    /// In: the name, NUL-terminated, zeros behind it; empty for the load without a name, which is
    /// what a file's calls are about until it says otherwise.
    pub name: [u8; NAME_SIZE],
}

/// Argument of [`IOC_LIST`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct List {
    /// In: [`ABI_VERSION`].
    pub version: u32,
    /// In: must be 0.
    pub flags: u32,
    /// In: entries that there is room for at `buf`.
    pub room: u32,
    /// Out: loads that there are; as many as there is room for are written.
    pub count: u32,
    /// In: address of an array of [`Listed`] in the caller.
    pub buf: u64,
}

/// A load, as [`IOC_LIST`] tells it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Listed {
    /// Its name, NUL-terminated.
    pub name: [u8; NAME_SIZE],
    /// [`STATE_LOADED`], [`STATE_RETURNED`] or [`STATE_GONE`].
    pub state: u32,
    /// [`STATUS_FLAG_ONE_WAY`].
    pub flags: u32,
    /// Bytes; 0 if it goes one way.
    pub window_end: u64,
    /// Pages that it keeps in all.
    pub kept_pages: u32,
    /// Completed round trips.
    pub jumps: u32,
    /// The answer of the last one, as [`Jump::status`].
    pub last_status: u32,
    /// 0.
    pub reserved: u32,
    /// RAM that is the peer's own and not exchanged; empty if it has none.
    pub own: Range,
}

/// Argument of [`IOC_PREPARE`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Prepare {
    /// In: [`ABI_VERSION`].
    pub version: u32,
    /// In: `PREPARE_*`.
    pub flags: u32,
    /// In: the window is RAM in `[0, window_end)`, bytes, a multiple of the page size. Ignored
    /// with [`PREPARE_ONE_WAY`].
    pub window_end: u64,
    /// Out: physical address of the jump-back entry; 0 with [`PREPARE_ONE_WAY`].
    pub jump_back_entry: u64,
    /// Out: physical address of the handoff block; 0 with [`PREPARE_ONE_WAY`].
    pub handoff: u64,
    /// Out: physical address of ELF core headers of this kernel's memory, for the peer's
    /// `elfcorehdr=`; 0 with [`PREPARE_ONE_WAY`], or if there was no contiguous memory for them.
    pub elfcorehdr: u64,
    /// In: with [`PREPARE_OWN_WINDOW`] bytes of the range that is the peer's own, a multiple of the
    /// page size; else must be 0.
    pub own_size: u64,
    /// Out: physical address of that range, or 0.
    pub own_start: u64,
}
/// [`Prepare::flags`]: nothing is preserved, segments may lie in any RAM, nobody comes back.
pub const PREPARE_ONE_WAY: u32 = 1;
/// [`Prepare::flags`]: beside the window the peer gets a range of RAM that is its own as long as it
/// is loaded. It lies above the window, in one piece, and is not exchanged.
pub const PREPARE_OWN_WINDOW: u32 = 2;

/// Argument of [`IOC_SEGMENT`]: `bufsz` bytes at `buf`, then zeros up to `memsz`, go to `mem`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment {
    /// In: [`ABI_VERSION`].
    pub version: u32,
    /// In: must be 0.
    pub flags: u32,
    /// In: address of the contents in the caller.
    pub buf: u64,
    /// In: bytes at `buf`, at most `memsz`.
    pub bufsz: u64,
    /// In: physical destination, page-aligned.
    pub mem: u64,
    /// In: bytes at the destination; rounded up to whole pages. Not 0.
    pub memsz: u64,
}

/// Argument of [`IOC_COMMIT`]. For claimed RAM it notes what [`IOC_ENTER`] enters if that says 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Commit {
    /// In: [`ABI_VERSION`].
    pub version: u32,
    /// In: `COMMIT_*`.
    pub flags: u32,
    /// In: physical address of the first instruction; must lie in a segment.
    pub entry: u64,
    /// In: physical address of boot_params (i386: handed over in ESI), or 0.
    pub boot_params: u64,
    /// Must be 0.
    pub reserved: u64,
}
/// [`Commit::flags`]: the load outlives the open file.
pub const COMMIT_KEEP: u32 = 1;

/// Argument of [`IOC_JUMP`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Jump {
    /// In: [`ABI_VERSION`].
    pub version: u32,
    /// In: `JUMP_*`.
    pub flags: u32,
    /// In: the command word for the peer, see [`COMMANDS`].
    pub command: u32,
    /// In: number of a rung of the way down that is to fail, 0 for none. For tests: refused with
    /// `EOPNOTSUPP` unless the module was loaded with `testing=1`.
    pub fail_at: u32,
    /// Out: what the peer answered; `STATUS_*` where it did not.
    pub status: u32,
    /// Out: number of the rung that failed, 0 if none did; see [`RUNGS`].
    pub failed_rung: u32,
    /// Out, with [`JUMP_PARANOID`]: pages that the peer was not given and that have changed all
    /// the same. [`Status::changed`] has their frames.
    pub changed: u32,
    /// Must be 0.
    pub reserved: u32,
}
/// [`Jump::flags`]: look whether the peer leaves alone what it was not given: this kernel's pages
/// in use outside the window and below 4 GiB. Not for what goes one way.
pub const JUMP_PARANOID: u32 = 4;
/// [`Jump::flags`] and [`Back::flags`]: leave user space and kernel threads running until the
/// interrupts go off.
pub const JUMP_NO_FREEZER: u32 = 1;
/// [`Jump::flags`] and [`Back::flags`]: take CPUs down by hotplug (`remove_cpu`) and call no PM
/// notifiers, although the other set could be resolved.
pub const JUMP_HOTPLUG_CPUS: u32 = 2;

/// Argument of [`IOC_BACK`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Back {
    /// In: [`ABI_VERSION`].
    pub version: u32,
    /// In: `JUMP_*`.
    pub flags: u32,
    /// In: the answer, `0..=STATUS_MAX`.
    pub status: u32,
    /// In: as [`Jump::fail_at`].
    pub fail_at: u32,
    /// Out, when the peer is entered again: the new command word.
    pub command: u32,
    /// Out: as [`Jump::failed_rung`].
    pub failed_rung: u32,
    /// In: 0; or, if this kernel is no peer by a handoff, the physical address to leave to, in
    /// memory that stays as it is. Answer and reason go nowhere then, and no word comes back.
    pub entry: u32,
    /// Must be 0.
    pub reserved: u32,
    /// In: why, in words; NUL-terminated, or empty.
    pub reason: [u8; REASON_SIZE],
}

impl Default for Back {
    fn default() -> Self {
        // SAFETY: all fields are integers or arrays of integers, for which zero is a value.
        unsafe { core::mem::zeroed() }
    }
}

/// Argument of [`IOC_REQUEST`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// In: [`ABI_VERSION`].
    pub version: u32,
    /// In: must be 0.
    pub flags: u32,
    /// In: address of the text in the caller.
    pub buf: u64,
    /// In: its length, bytes; less than [`REQUEST_SIZE`].
    pub len: u64,
}

/// Argument of [`IOC_LABEL`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Label {
    /// In: [`ABI_VERSION`].
    pub version: u32,
    /// In: must be 0.
    pub flags: u32,
    /// In: address of the text in the caller: lines of `key=value`, UTF-8.
    pub buf: u64,
    /// In: its length, bytes; less than [`LABEL_SIZE`].
    pub len: u64,
}
/// Bytes that a load has for its label, its NUL included.
pub const LABEL_SIZE: usize = 1024;

/// Argument of [`IOC_CLAIM`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Claim {
    /// In: [`ABI_VERSION`].
    pub version: u32,
    /// In: `CLAIM_*`.
    pub flags: u32,
    /// In: entries at `ranges`, `1..=HANDOFF_RANGES`.
    pub count: u32,
    /// Must be 0.
    pub reserved: u32,
    /// In: address of an array of [`Range`] in the caller: whole pages of RAM below 4 GiB,
    /// ascending.
    pub ranges: u64,
}

/// [`Claim::flags`]: the claim outlives the open file; [`IOC_UNLOAD`] gives the RAM up.
pub const CLAIM_KEEP: u32 = 1;

/// Argument of [`IOC_ENTER`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Enter {
    /// In: [`ABI_VERSION`].
    pub version: u32,
    /// In: `JUMP_*`.
    pub flags: u32,
    /// In: physical address of the first instruction, in claimed RAM: a jump-back entry, or a
    /// kernel's 32-bit entry. 0: what [`IOC_COMMIT`] said, and its boot_params.
    pub entry: u64,
    /// In: physical address of boot_params (i386: handed over in ESI), or 0.
    pub boot_params: u64,
    /// In: as [`Jump::fail_at`].
    pub fail_at: u32,
    /// Out: as [`Jump::failed_rung`].
    pub failed_rung: u32,
    /// Must be 0.
    pub reserved: [u32; 2],
}

/// Argument of [`IOC_UNLOAD`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Unload {
    /// In: [`ABI_VERSION`].
    pub version: u32,
    /// In: must be 0.
    pub flags: u32,
}

/// The largest answer a peer may give.
pub const STATUS_MAX: u32 = 0x7fff_ffff;
/// [`Jump::status`]: the peer came back without an answer (a peer without kjump, say).
pub const STATUS_NONE: u32 = 0x8000_0000;
/// [`Jump::status`]: the peer panicked; [`Mailbox::reason`] has the message.
pub const STATUS_PANIC: u32 = 0x8000_0001;
/// [`Jump::status`]: this kernel's memory was saved and has been restored; whoever restored it
/// wrote this into the mailbox. The peer that the jump went to is gone.
pub const STATUS_RESUMED: u32 = 0x8000_0002;
/// Bytes of a reason in words, its NUL included.
pub const REASON_SIZE: usize = 128;

/// Command words by name. Words of `0x6b63xxxx` ("kc") are kjump's; `0x6b630001` is the number
/// that seed 000 gives. Others are the users' own.
pub const COMMANDS: &[(&str, u32)] = &[
    ("none", 0),
    ("hibernate", 0x6b63_0001),
    ("shell", 0x6b63_0002),
    ("run", 0x6b63_0003),
    ("resume", 0x6b63_0004),
];

/// The rungs of the way down by name, in the order they are taken; rung N is `RUNGS[N - 1]`.
pub const RUNGS: &[&str] = &[
    "sleep-lock",
    "vt-switch",
    "notifiers",
    "sync",
    "tasks",
    "kernel-threads",
    "consoles",
    "devices",
    "devices-late",
    "cpus",
    "interrupts",
    "syscore",
    "page-map",
    "platform",
    "processor",
];
/// Number of [`RUNGS`].
pub const RUNG_COUNT: usize = 15;

/// [`Status::state`]: nothing is loaded.
pub const STATE_EMPTY: u32 = 0;
/// [`Status::state`]: between [`IOC_PREPARE`] and [`IOC_COMMIT`].
pub const STATE_PREPARING: u32 = 1;
/// [`Status::state`]: loaded, never entered.
pub const STATE_LOADED: u32 = 2;
/// [`Status::state`]: a jump is under way.
pub const STATE_AWAY: u32 = 3;
/// [`Status::state`]: the peer came back and can be entered again.
pub const STATE_RETURNED: u32 = 4;
/// [`Status::state`]: this kernel is itself a peer: a handoff was found.
pub const STATE_PEER: u32 = 5;
/// [`Status::state`]: RAM that is not this kernel's was claimed, to restore another one.
pub const STATE_CLAIMED: u32 = 6;
/// [`Status::state`]: the peer came back, cannot be entered again, and its memory is freed.
pub const STATE_GONE: u32 = 7;
/// Names of the states by number.
pub const STATES: &[&str] = &[
    "empty",
    "preparing",
    "loaded",
    "away",
    "returned",
    "peer",
    "claimed",
    "gone",
];

/// Slots of [`Status::stamps`]: `stamps[0]` is the start, `stamps[N]` the moment rung N was
/// reached, `stamps[STAMP_LEAVE]` just before the stub, `stamps[STAMP_RETURN]` just after it,
/// `stamps[STAMP_UP + N]` the moment rung N was undone, `stamps[STAMP_END]` the end.
pub const STAMP_COUNT: usize = 36;
/// See [`STAMP_COUNT`].
pub const STAMP_LEAVE: usize = 16;
/// See [`STAMP_COUNT`].
pub const STAMP_RETURN: usize = 17;
/// See [`STAMP_COUNT`].
pub const STAMP_UP: usize = 18;
/// See [`STAMP_COUNT`].
pub const STAMP_END: usize = 34;

/// Argument of [`IOC_STATUS`]; everything but `version` is an answer.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// In: [`ABI_VERSION`].
    pub version: u32,
    /// `STATUS_FLAG_*`.
    pub flags: u32,
    /// `STATE_*`.
    pub state: u32,
    /// Bit N: `OPTIONAL_SYMBOLS[N]` was found.
    pub symbols: u32,
    /// Bytes.
    pub window_end: u64,
    /// Physical address, 0 if nothing is loaded; in a peer that of the kernel it came from.
    pub jump_back_entry: u64,
    /// Physical address of the handoff block, 0 if none.
    pub handoff: u64,
    /// Physical address at which the resident peer is entered next, 0 if none.
    pub peer_entry: u64,
    /// RAM pages in the window.
    pub window_pages: u32,
    /// Pages that hold the other side's window contents.
    pub shadow_pages: u32,
    /// Pages that a load keeps in all: shadow, lists, tables, control, handoff, maps.
    pub kept_pages: u32,
    /// Window pages that the last jump backed up.
    pub backed_up: u32,
    /// Window pages that the last jump loaded from the shadow.
    pub loaded: u32,
    /// Window pages of the peer that were kept when it last came back.
    pub peer_kept: u32,
    /// Completed round trips since the load.
    pub jumps: u32,
    /// The answer of the last one, as [`Jump::status`].
    pub last_status: u32,
    /// Pages allocated by the module and not yet freed, of any kind.
    pub allocated_pages: u32,
    /// Frequency of the time stamps, kHz; 0 if the CPU has no TSC.
    pub tsc_khz: u32,
    /// Bytes from the jump-back entry to the instruction before which the other side's CPUs and
    /// bus masters have been silenced and no page has been exchanged: for a debugger.
    pub quiet_offset: u32,
    /// Page frames that the page map of the last jump counts as to be saved.
    pub saved_pages: u32,
    /// The same: free.
    pub free_pages: u32,
    /// The same: not to be read (offline, guard, poisoned by hardware).
    pub unreadable_pages: u32,
    /// Time stamps of the last jump in TSC ticks; 0 where a moment was not reached.
    pub stamps: [u64; STAMP_COUNT],
    /// Why the peer came back, if it said so in words; NUL-terminated.
    pub reason: [u8; REASON_SIZE],
    /// RAM that is the peer's own and not exchanged; empty if it has none. Counted among
    /// `window_pages` and `shadow_pages`.
    pub own: Range,
    /// As [`Jump::changed`], of the last jump.
    pub changed_pages: u32,
    /// Page frames of the first of them; 0 behind the last.
    pub changed: [u32; CHANGED_FRAMES],
}
/// Frames that a [`Status`] has room for.
pub const CHANGED_FRAMES: usize = 15;
/// [`Status::flags`]: what is loaded goes one way.
pub const STATUS_FLAG_ONE_WAY: u32 = 1;
/// [`Status::flags`]: some open file owns the load.
pub const STATUS_FLAG_OWNED: u32 = 2;
/// [`Status::flags`]: this kernel is under lockdown.
pub const STATUS_FLAG_LOCKDOWN: u32 = 4;
/// [`Status::flags`]: the module was loaded with `testing=1`.
pub const STATUS_FLAG_TESTING: u32 = 8;

/// Kernel functions that are not exported to modules and are looked up; bit numbers of
/// [`Status::symbols`]. docs/symbols.md says what each is for and what happens without it.
pub const OPTIONAL_SYMBOLS: &[&str] = &[
    "freeze_processes",
    "thaw_processes",
    "freeze_kernel_threads",
    "freeze_secondary_cpus",
    "thaw_secondary_cpus",
    "pm_notifier_call_chain_robust",
    "pm_notifier_call_chain",
    "console_suspend_all",
    "console_resume_all",
    "pm_prepare_console",
    "pm_restore_console",
    "drain_local_pages",
];

impl Default for Status {
    fn default() -> Self {
        // SAFETY: all fields are integers or arrays of integers, for which zero is a value.
        unsafe { core::mem::zeroed() }
    }
}

/// Half-open range of physical addresses, bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

/// Ranges that a handoff block has room for.
pub const HANDOFF_RANGES: usize = 64;
/// [`Handoff::magic`].
pub const HANDOFF_MAGIC: [u8; 8] = *b"KJUMPHO1";
/// [`Handoff::version`].
pub const HANDOFF_VERSION: u32 = 1;
/// [`Handoff::arch`].
pub const ARCH_I386: u32 = 1;
/// [`Handoff::arch`].
pub const ARCH_X86_64: u32 = 2;

/// What kernel A tells a peer: one page in A's memory. docs/protocol.md is its specification.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Handoff {
    /// [`HANDOFF_MAGIC`].
    pub magic: [u8; 8],
    /// [`HANDOFF_VERSION`].
    pub version: u32,
    /// Bytes that `crc` covers, from the start of the block.
    pub size: u32,
    /// CRC-32 ([`crc32`]) over the first `size` bytes with this field as 0.
    pub crc: u32,
    /// `ARCH_*` of kernel A.
    pub arch: u32,
    /// Must be 0.
    pub flags: u32,
    /// Entries of `ram` in use.
    pub ram_count: u32,
    /// `uname -r` of kernel A, NUL-terminated.
    pub release: [u8; 64],
    /// Machine fingerprint: CRC-32 of the RAM ranges in the low half, of CPUID's vendor and
    /// signature in the high half.
    pub fingerprint: u64,
    /// The window is RAM in `[0, window_end)`, bytes.
    pub window_end: u64,
    /// Physical address of the jump-back entry; its page starts with a [`ControlSlot`].
    pub jump_back_entry: u64,
    /// Physical address of the first [`ListPage`] of the exchange list.
    pub list: u64,
    /// Physical address of the page map's index page, 0 if there is no map: word N of it is the
    /// physical address of the page with the bits of frames `N * 32768` and on, 1 = must be saved.
    pub page_map: u64,
    /// Frames (bits) in the page map.
    pub page_map_pages: u64,
    /// Physical address of the peer map: a bit for each 4 KiB frame of the window, to be set by
    /// the peer for what it wants kept until it is entered again.
    pub peer_map: u64,
    /// Bytes of the peer map.
    pub peer_map_size: u64,
    /// Random, another one for each load: a peer sees whether it is still the same.
    pub load_uuid: [u8; 16],
    /// A's RAM, ascending.
    pub ram: [Range; HANDOFF_RANGES],
    /// What A asks of the peer, in words: lines of `key=value`, NUL-terminated; docs/protocol.md
    /// lists the keys.
    pub request: [u8; REQUEST_SIZE],
    /// Physical address of the ELF core headers of A's memory, as in [`Prepare::elfcorehdr`]; 0 if
    /// there are none. A peer that A did not boot has another on its command line.
    pub elfcorehdr: u64,
    /// RAM of A's that is the peer's own beside the window, and not exchanged; empty if there is
    /// none. For the peer it is no memory of A's.
    pub own: Range,
    /// Zeros.
    pub reserved: [u8; HANDOFF_RESERVED],
    /// Outside the checksum: written by either side at each crossing.
    pub mailbox: Mailbox,
}
/// Bytes that a handoff block has for a request, its NUL included.
pub const REQUEST_SIZE: usize = 2560;
const HANDOFF_RESERVED: usize = 4096 - 176 - 16 * HANDOFF_RANGES - REQUEST_SIZE - 8 - 16 - 256;

/// The last 256 bytes of a handoff block.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Mailbox {
    /// A → peer: the command word.
    pub command: u32,
    /// Peer → A: the answer; A writes [`STATUS_NONE`] before each entry.
    pub status: u32,
    /// Peer → A: 1 if the peer map is filled in; A writes 0 before each entry.
    pub peer_map_valid: u32,
    /// Counts the entries into the peer, from 1.
    pub entries: u32,
    /// Peer → A: why it came back, in words; NUL-terminated.
    pub reason: [u8; REASON_SIZE],
    /// Zeros.
    pub reserved: [u8; 112],
}

/// [`ControlSlot::magic`].
pub const CONTROL_MAGIC: [u8; 8] = *b"KJUMPCTL";

/// Head of a control page. A peer that is entered finds the page by rounding the jump-back entry
/// down, and with it the handoff of the kernel that it was entered from **this** time.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ControlSlot {
    /// [`CONTROL_MAGIC`].
    pub magic: [u8; 8],
    /// Physical address of the handoff block, 0 if there is none.
    pub handoff: u64,
}

/// Entry of an exchange list: a window page and its shadow page, by physical address. The
/// addresses are page-aligned; the low bits are flags.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ListEntry {
    /// The page in the window, and [`ENTRY_OURS`], [`ENTRY_FIXED`].
    pub window: u32,
    /// Its page in the shadow, and [`ENTRY_THEIRS`].
    pub shadow: u32,
}
/// [`ListEntry::window`]: our contents of the page matter: back them up on the way to the peer,
/// put them back on the way home.
pub const ENTRY_OURS: u32 = 1;
/// [`ListEntry::window`]: the page is backed up and put back, but never replaced (page 0 and others
/// below 640 KiB that hold the firmware's data).
pub const ENTRY_FIXED: u32 = 2;
/// [`ListEntry::shadow`]: the peer's contents matter: load them on the way to it.
pub const ENTRY_THEIRS: u32 = 1;

/// Entries of a [`ListPage`].
pub const LIST_ENTRIES: usize = 511;

/// A page of an exchange list.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ListPage {
    /// Physical address of the next page, 0 at the end.
    pub next: u32,
    /// Entries in use, `0..=LIST_ENTRIES`.
    pub count: u32,
    /// The entries.
    pub entries: [ListEntry; LIST_ENTRIES],
}

/// Name of the notes below in an ELF core, without the NUL that ends it there.
pub const NOTE_NAME: &str = "KJUMP";
/// Type of the note that makes a core resumable: [`CoreNote`].
pub const NOTE_CORE: u32 = 1;
/// Type of the note that makes a core a peer: [`PeerNote`], then its label of [`LABEL_SIZE`] bytes.
pub const NOTE_PEER: u32 = 2;
/// Type of the note with what `kjump save --format elf` knows beside the memory; docs/image-format.md.
pub const NOTE_IMAGE: u32 = 3;

/// Where to find what, in a core of kernel A's memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreNote {
    /// 1.
    pub version: u32,
    /// Bytes of this structure.
    pub size: u32,
    /// Physical address of the jump-back entry.
    pub jump_back_entry: u64,
    /// Physical address of the handoff block.
    pub handoff: u64,
    /// The window is RAM in `[0, window_end)`, bytes.
    pub window_end: u64,
    /// As [`Handoff::fingerprint`].
    pub fingerprint: u64,
}

/// What a core of a peer's memory, `/proc/kimgcore`, is entered with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerNote {
    /// 1.
    pub version: u32,
    /// Bytes of this structure, without the label.
    pub size: u32,
    /// Physical address at which it is entered.
    pub entry: u64,
    /// Physical address of boot_params (i386: handed over in ESI), or 0.
    pub boot_params: u64,
    /// The window is RAM in `[0, window_end)`, bytes.
    pub window_end: u64,
    /// As [`Handoff::fingerprint`].
    pub fingerprint: u64,
    /// Completed round trips: 0 for a peer that has never run.
    pub jumps: u32,
    /// CRC-32 ([`crc32`]) over this structure without it, the label's [`LABEL_SIZE`] bytes, and for
    /// each segment of memory, as the table has them, its address and size (8 bytes each), then its
    /// contents. 0: nobody has counted.
    pub crc: u32,
}

/// What a byte does to a CRC-32.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// CRC-32 (IEEE 802.3, reflected, as in zlib and gzip) of `bytes`, going on from `crc` (0 first).
pub const fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    let mut crc = !crc;
    let mut i = 0;
    while i < bytes.len() {
        crc = (crc >> 8) ^ CRC_TABLE[((crc ^ bytes[i] as u32) & 0xff) as usize];
        i += 1;
    }
    !crc
}

// The layouts, checked for whatever width this is compiled for.
const _: () = {
    assert!(crc32(0, b"123456789") == 0xcbf4_3926);
    assert!(RUNGS.len() == RUNG_COUNT && STAMP_LEAVE == RUNG_COUNT + 1);
    assert!(size_of::<Prepare>() == 56 && offset_of!(Prepare, elfcorehdr) == 32);
    assert!(offset_of!(Prepare, own_size) == 40 && offset_of!(Prepare, own_start) == 48);
    assert!(size_of::<Select>() == 40 && size_of::<List>() == 24 && size_of::<Listed>() == 80);
    assert!(offset_of!(Listed, own) == 64);
    assert!(size_of::<Fault>() == 16 && offset_of!(Jump, changed) == 24);
    assert!(size_of::<Label>() == 24 && size_of::<CoreNote>() == 40);
    assert!(size_of::<PeerNote>() == 48 && offset_of!(PeerNote, crc) == 44);
    assert!(offset_of!(Prepare, window_end) == 8 && offset_of!(Prepare, handoff) == 24);
    assert!(size_of::<Segment>() == 40);
    assert!(offset_of!(Segment, buf) == 8 && offset_of!(Segment, memsz) == 32);
    assert!(size_of::<Commit>() == 32);
    assert!(offset_of!(Commit, entry) == 8 && offset_of!(Commit, boot_params) == 16);
    assert!(size_of::<Jump>() == 32 && size_of::<Back>() == 160 && size_of::<Unload>() == 8);
    assert!(offset_of!(Back, reason) == 32 && size_of::<Request>() == 24);
    assert!(size_of::<Claim>() == 24 && size_of::<Enter>() == 40);
    assert!(offset_of!(Claim, ranges) == 16 && offset_of!(Enter, entry) == 8);
    assert!(offset_of!(Enter, fail_at) == 24);
    assert!(size_of::<Status>() == 104 + 8 * STAMP_COUNT + 128 + 16 + 64);
    assert!(offset_of!(Status, own) == 104 + 8 * STAMP_COUNT + 128);
    assert!(offset_of!(Status, window_end) == 16 && offset_of!(Status, window_pages) == 48);
    assert!(offset_of!(Status, stamps) == 104);
    assert!(size_of::<Handoff>() == 4096);
    assert!(offset_of!(Handoff, release) == 32 && offset_of!(Handoff, fingerprint) == 96);
    assert!(offset_of!(Handoff, load_uuid) == 160 && offset_of!(Handoff, ram) == 176);
    assert!(offset_of!(Handoff, request) == 1200 && offset_of!(Handoff, elfcorehdr) == 3760);
    assert!(offset_of!(Handoff, own) == 3768);
    assert!(offset_of!(Handoff, mailbox) == 4096 - 256 && size_of::<Mailbox>() == 256);
    assert!(size_of::<ControlSlot>() == 16 && size_of::<Range>() == 16);
    assert!(size_of::<ListEntry>() == 8 && size_of::<ListPage>() == 4096);
};
