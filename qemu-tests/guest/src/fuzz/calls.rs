// SPDX-License-Identifier: GPL-2.0

//! The ioctls. Each is first made right, as far as right goes where it is made, and then as a rule
//! spoilt: a version, a flag, a number, a pointer.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use kjump_abi as abi;
use kjump_abi::{
    Back, Claim, Commit, Enter, Jump, Label, List, Listed, Prepare, Range, Request, Segment,
    Select, Status, Unload, ABI_VERSION,
};

use super::bad::{Memory, CODE};
use super::threads::Shared;
use super::{Chance, Place, Tally};

/// An open file of the device.
pub struct Opened {
    pub file: File,
    /// Only for loads that go one way, under [`ONE_WAY`].
    pub one_way: bool,
}

/// Where code goes that comes back at once, and nothing else: [`CODE`] bytes.
const BASE: u64 = 2 << 20;
/// The name of loads that go one way.
const ONE_WAY: &[u8] = b"one-way";
/// Names of the others.
const NAMES: [&[u8]; 5] = [
    b"",
    b"",
    b"a",
    b"lean-7.3_x+",
    b"0123456789012345678901234567890",
];
/// A rung that is reached without much being done before.
const EARLY: u64 = 3;

fn call<T>(opened: &Opened, request: u32, value: &mut T) -> i32 {
    raw(opened, request, std::ptr::from_mut(value) as usize)
}

/// An ioctl, with an argument that lies in memory for it, in memory that is nobody's, or nowhere.
fn raw(opened: &Opened, request: u32, argument: usize) -> i32 {
    // SAFETY: the module reads and writes at most the size that `request` encodes (a page, for the
    // handoff), at the address of a live value of that size, in pages that nothing else is in, or
    // where nothing is mapped that could be written.
    let answer = unsafe { libc::ioctl(opened.file.as_raw_fd(), request as _, argument) };
    match answer {
        0.. => 0,
        _ => io::Error::last_os_error().raw_os_error().unwrap_or(-1),
    }
}

fn name_of(text: &[u8]) -> [u8; abi::NAME_SIZE] {
    let mut name = [0; abi::NAME_SIZE];
    name[..text.len()].copy_from_slice(text);
    name
}

/// Binds a file to loads that go one way, for as long as it is open.
pub fn select_one_way(opened: &Opened) -> Result<(), String> {
    let mut value = Select {
        version: ABI_VERSION,
        flags: 0,
        name: name_of(ONE_WAY),
    };
    match call(opened, abi::IOC_SELECT, &mut value) {
        0 => Ok(()),
        errno => Err(format!("select: errno {errno}")),
    }
}

/// What is common to the calls: the version and the flags, mostly right.
struct Head {
    version: u32,
    flags: u32,
}

impl Head {
    /// `flags` are those that there are.
    fn draw(chance: &mut Chance, flags: &[u32]) -> Self {
        let version = match chance.below(24) {
            0 => chance.edge() as u32,
            _ => ABI_VERSION,
        };
        let flags = match chance.below(16) {
            0 => chance.edge() as u32,
            1..=4 => chance.of(flags),
            _ => 0,
        };
        Self { version, flags }
    }
}

/// A number that is 0 but for once in a while.
fn reserved(chance: &mut Chance) -> u32 {
    if chance.once_in(16) {
        return chance.edge() as u32;
    }
    0
}

/// A call at random.
pub fn any(
    chance: &mut Chance,
    opened: &Opened,
    memory: &Memory,
    shared: &Shared,
    tally: &mut Tally,
) {
    match chance.below(44) {
        0..=3 => tally.add("prepare", prepare(chance, opened)),
        4..=13 => tally.add("segment", segment(chance, opened, memory)),
        14..=18 => tally.add("commit", commit(chance, opened, shared)),
        19..=23 => tally.add("jump", jump(chance, opened, shared)),
        24 => tally.add("back", back(chance, opened, shared)),
        25..=26 => tally.add("unload", unload(chance, opened)),
        27..=29 => status(chance, opened, tally),
        30 => tally.add(
            "handoff",
            raw(opened, abi::IOC_HANDOFF, memory.good(chance)),
        ),
        31..=32 => tally.add(
            "request",
            text(chance, opened, memory, abi::REQUEST_SIZE, abi::IOC_REQUEST),
        ),
        33..=34 => tally.add(
            "label",
            text(chance, opened, memory, abi::LABEL_SIZE, abi::IOC_LABEL),
        ),
        35..=36 if !opened.one_way => tally.add("select", select(chance, opened)),
        37 => tally.add("list", list(chance, opened, memory)),
        38 => tally.add("claim", claim(chance, opened, memory, shared.place)),
        39 => tally.add("enter", enter(chance, opened)),
        _ => pointer(chance, opened, memory, tally),
    }
}

/// Any ioctl with an argument that is nowhere, or is the version and zeros as far as it is there. Not
/// `JUMP`, `BACK` or `ENTER` with such an argument: zeros are right there.
fn pointer(chance: &mut Chance, opened: &Opened, memory: &Memory, tally: &mut Tally) {
    let all = [
        abi::IOC_PREPARE,
        abi::IOC_SEGMENT,
        abi::IOC_COMMIT,
        abi::IOC_UNLOAD,
        abi::IOC_STATUS,
        abi::IOC_REQUEST,
        abi::IOC_LABEL,
        abi::IOC_LIST,
        abi::IOC_CLAIM,
        abi::IOC_HANDOFF,
    ];
    let leaves = [abi::IOC_JUMP, abi::IOC_BACK, abi::IOC_ENTER];
    match chance.below(4) {
        0 => {
            // Where nothing is mapped: all of them, those that leave too.
            let nowhere = chance.of(&[0, 0x10, 0xc000_0000usize, 0xc100_0000, 0xffff_fff0]);
            let request = if chance.once_in(3) {
                chance.of(&leaves)
            } else {
                chance.of(&all)
            };
            tally.add("nowhere", raw(opened, request, nowhere));
        }
        1 => {
            let request = match chance.below(3) {
                0 => chance.next() as u32,
                1 => chance.of(&all) ^ 1 << chance.below(32),
                _ => chance.of(&all) & !0xff | chance.below(256) as u32,
            };
            let address = memory.good(chance);
            memory.harmless(address);
            if !leaves.contains(&request) {
                tally.add("other", raw(opened, request, address));
            }
        }
        _ => {
            let request = chance.of(&all);
            let address = memory.address(chance);
            memory.harmless(address);
            tally.add("pointer", raw(opened, request, address));
        }
    }
}

/// Frees whatever there is, under any name; the files that it was loaded through are closed. How many
/// there were.
pub fn finish(opened: &Opened) -> Result<u32, String> {
    let mut all = [Listed::default(); 64];
    let mut list = List {
        version: ABI_VERSION,
        room: all.len() as u32,
        buf: all.as_mut_ptr() as u64,
        ..Default::default()
    };
    let errno = call(opened, abi::IOC_LIST, &mut list);
    if errno != 0 {
        return Err(format!("list: errno {errno}"));
    }
    let found = all
        .iter()
        .take(list.count as usize)
        .map(|listed| listed.name);
    // And what was claimed, or is being loaded.
    for name in found.chain([name_of(b"")]) {
        let (version, flags) = (ABI_VERSION, 0);
        call(
            opened,
            abi::IOC_SELECT,
            &mut Select {
                version,
                flags,
                name,
            },
        );
        call(opened, abi::IOC_UNLOAD, &mut Unload { version, flags });
    }
    Ok(list.count)
}

/// Frees what is loaded through this file under any of the names, as far as it is this file's.
pub fn clear(opened: &Opened, tally: &mut Tally) {
    let unload = |tally: &mut Tally| {
        let mut value = Unload {
            version: ABI_VERSION,
            flags: 0,
        };
        tally.add("unload", call(opened, abi::IOC_UNLOAD, &mut value));
    };
    if opened.one_way {
        return unload(tally);
    }
    for name in NAMES {
        let mut value = Select {
            version: ABI_VERSION,
            flags: 0,
            name: name_of(name),
        };
        tally.add("select", call(opened, abi::IOC_SELECT, &mut value));
        unload(tally);
    }
}

fn prepare(chance: &mut Chance, opened: &Opened) -> i32 {
    let Head { version, mut flags } = Head::draw(chance, &[0]);
    // One way goes what is loaded through that file, and nothing else.
    flags &= !abi::PREPARE_ONE_WAY;
    if opened.one_way {
        flags |= abi::PREPARE_ONE_WAY;
    }
    let window_end = match chance.below(12) {
        0 => chance.edge(),
        1 => chance.below(1 << 20),
        2 => 4096 << chance.below(8),
        3 if chance.once_in(8) => abi::DEFAULT_WINDOW_END,
        _ => (2 << 20) + (1 + chance.below(96)) * 4096,
    };
    let mut value = Prepare {
        version,
        flags,
        window_end,
        ..Default::default()
    };
    call(opened, abi::IOC_PREPARE, &mut value)
}

fn segment(chance: &mut Chance, opened: &Opened, memory: &Memory) -> i32 {
    let Head { version, flags } = Head::draw(chance, &[0]);
    let mut value = Segment {
        version,
        flags,
        buf: memory.code(),
        bufsz: CODE as u64,
        mem: BASE,
        memsz: CODE as u64,
    };
    if chance.below(3) > 0 {
        // Anything anywhere but where the code is.
        value.buf = memory.address(chance) as u64;
        value.memsz = if chance.once_in(6) {
            chance.edge()
        } else {
            1 + chance.below(20_000)
        };
        value.bufsz = if chance.once_in(6) {
            chance.edge()
        } else {
            chance.below(value.memsz.max(1)).min(16384)
        };
        value.mem = match chance.below(6) {
            0 => chance.edge(),
            1 => chance.below(512) << 12,
            _ => (1 << 20) + (chance.below(300) << 12),
        };
        let end = value.mem.checked_add(value.memsz.saturating_add(4096));
        let apart = end.is_none_or(|end| end <= BASE || value.mem >= BASE + CODE as u64);
        if !apart || end.is_none() && value.mem <= BASE {
            value.mem = 0x8000_0000;
        }
    }
    call(opened, abi::IOC_SEGMENT, &mut value)
}

fn commit(chance: &mut Chance, opened: &Opened, shared: &Shared) -> i32 {
    let Head { version, flags } = Head::draw(chance, &[abi::COMMIT_KEEP]);
    // A load is only ever entered where the code is.
    let claimed = match shared.place {
        Place::Kernel(start, _) => start,
        _ => 0,
    };
    let entry = match chance.below(8) {
        0 => chance.of(&[0, 0xfff, 0xa_0000, 0xffff_ffff, 1 << 32, u64::MAX]),
        1 => claimed,
        // Not in the last bytes of a page, which are more than one instruction.
        _ => BASE + (chance.below(CODE as u64 >> 12) << 12) + chance.below(4000),
    };
    let mut value = Commit {
        version,
        flags,
        entry,
        boot_params: if chance.once_in(4) { chance.edge() } else { 0 },
        reserved: reserved(chance).into(),
    };
    call(opened, abi::IOC_COMMIT, &mut value)
}

/// A rung that is to fail; one far down only as long as there are jumps left.
fn rung(chance: &mut Chance, shared: &Shared) -> u32 {
    let far = chance.once_in(60) && spend(shared);
    let most = if far { abi::RUNG_COUNT as u64 } else { EARLY };
    1 + chance.below(most) as u32
}

/// Takes one of the jumps that may go far, if there is one.
fn spend(shared: &Shared) -> bool {
    let take = |left: u64| left.checked_sub(1);
    let jumps = &shared.jumps;
    jumps
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        .is_ok()
}

/// Whether something is loaded through this file, or would be jumped to through it.
fn is_loaded(opened: &Opened) -> bool {
    let mut value = Status {
        version: ABI_VERSION,
        ..Default::default()
    };
    let errno = call(opened, abi::IOC_STATUS, &mut value);
    errno == 0 && [abi::STATE_LOADED, abi::STATE_RETURNED].contains(&value.state)
}

const JUMP_FLAGS: [u32; 4] = [
    0,
    abi::JUMP_NO_FREEZER,
    abi::JUMP_HOTPLUG_CPUS,
    abi::JUMP_NO_FREEZER | abi::JUMP_HOTPLUG_CPUS,
];

fn jump(chance: &mut Chance, opened: &Opened, shared: &Shared) -> i32 {
    let kernel = matches!(shared.place, Place::Kernel(..));
    if !opened.one_way && kernel && chance.once_in(2) && is_loaded(opened) && spend(shared) {
        return good_jump(chance, opened, shared);
    }
    let Head { version, flags } = Head::draw(chance, &JUMP_FLAGS);
    let fail_at = match chance.below(4) {
        0 => (abi::RUNG_COUNT as u32 + 1).saturating_add(chance.edge() as u32 & 0xffff),
        // With nothing loaded it is refused before any rung, and would take a jump from those that go far.
        _ if is_loaded(opened) => rung(chance, shared),
        _ => 1 + chance.below(EARLY) as u32,
    };
    let mut value = Jump {
        version,
        flags,
        command: chance.edge() as u32,
        fail_at,
        status: chance.edge() as u32,
        failed_rung: chance.edge() as u32,
        changed: chance.below(3) as u32,
        reserved: reserved(chance),
    };
    call(opened, abi::IOC_JUMP, &mut value)
}

/// One that goes there and comes back, unless another thread is faster.
fn good_jump(chance: &mut Chance, opened: &Opened, shared: &Shared) -> i32 {
    let mut value = Jump {
        version: ABI_VERSION,
        flags: chance.of(&JUMP_FLAGS),
        command: chance.edge() as u32,
        ..Default::default()
    };
    let errno = call(opened, abi::IOC_JUMP, &mut value);
    if errno != 0 {
        shared.jumps.fetch_add(1, Ordering::Relaxed);
    }
    errno
}

fn back(chance: &mut Chance, opened: &Opened, shared: &Shared) -> i32 {
    let Head { version, flags } = Head::draw(chance, &[abi::JUMP_NO_FREEZER]);
    let mut value = Back {
        version,
        flags,
        status: chance.edge() as u32,
        // In A there is nowhere to go back to.
        fail_at: match shared.place {
            Place::Kernel(..) => 1 + chance.below(EARLY) as u32,
            _ => rung(chance, shared),
        },
        entry: if chance.once_in(2) {
            0
        } else {
            chance.edge() as u32
        },
        reserved: reserved(chance),
        ..Default::default()
    };
    value.reason.fill_with(|| chance.next() as u8);
    call(opened, abi::IOC_BACK, &mut value)
}

fn unload(chance: &mut Chance, opened: &Opened) -> i32 {
    let Head { version, flags } = Head::draw(chance, &[0]);
    call(opened, abi::IOC_UNLOAD, &mut Unload { version, flags })
}

fn status(chance: &mut Chance, opened: &Opened, tally: &mut Tally) {
    let mut value = Status {
        version: Head::draw(chance, &[0]).version,
        ..Default::default()
    };
    let errno = call(opened, abi::IOC_STATUS, &mut value);
    tally.add("status", errno);
    if errno == 0 {
        tally.saw(value.state);
    }
}

/// A request or a label.
fn text(chance: &mut Chance, opened: &Opened, memory: &Memory, room: usize, request: u32) -> i32 {
    let Head { version, flags } = Head::draw(chance, &[0]);
    let len = match chance.below(4) {
        0 => chance.edge(),
        1 => room as u64 - chance.below(3),
        _ => chance.below(room as u64),
    };
    let buf = memory.address(chance) as u64 | if chance.once_in(16) { 1 << 32 } else { 0 };
    // Both have this layout.
    let mut value = Request {
        version,
        flags,
        buf,
        len,
    };
    const { assert!(size_of::<Request>() == size_of::<Label>()) };
    call(opened, request, &mut value)
}

fn select(chance: &mut Chance, opened: &Opened) -> i32 {
    let Head { version, flags } = Head::draw(chance, &[0]);
    let mut name = name_of(chance.of(&NAMES));
    match chance.below(8) {
        0 => name[chance.below(32) as usize] = chance.next() as u8,
        1 => name.fill_with(|| chance.next() as u8),
        _ => {}
    }
    if name == name_of(ONE_WAY) {
        return 0;
    }
    call(
        opened,
        abi::IOC_SELECT,
        &mut Select {
            version,
            flags,
            name,
        },
    )
}

fn list(chance: &mut Chance, opened: &Opened, memory: &Memory) -> i32 {
    let Head { version, flags } = Head::draw(chance, &[0]);
    // With more room than there is behind an address the module still writes only what is loaded.
    let fits = (8 * 4096 / size_of::<Listed>()) as u64;
    let room = if chance.once_in(3) {
        chance.edge()
    } else {
        chance.below(fits)
    };
    let buf = match chance.below(3) {
        0 => chance.of(&[0, 0xc000_0000, 1 << 32, u64::MAX]),
        _ => memory.good(chance) as u64,
    };
    let mut value = List {
        version,
        flags,
        room: room as u32,
        count: chance.edge() as u32,
        buf,
    };
    call(opened, abi::IOC_LIST, &mut value)
}

pub fn claim(chance: &mut Chance, opened: &Opened, memory: &Memory, place: Place) -> i32 {
    let Head { version, flags } = Head::draw(chance, &[abi::CLAIM_KEEP]);
    let mut ranges = [Range::default(); 3];
    for range in &mut ranges {
        let start = match place {
            // Nobody's; where that is at hand.
            Place::Kernel(start, end) if start < end => {
                start + chance.below((end - start) >> 13 << 12)
            }
            // In a peer only what the other kernel has not: its window, and what lies behind RAM.
            _ => chance.of(&[0, 4096, 0xa_0000, 0x10_0000, 0x20_0000, 0xf000_0000]),
        };
        range.start = start & !0xfff;
        // Many pages, so that something is read and written there, or few.
        let most = if chance.once_in(2) { 3800 } else { 64 };
        range.end = range.start + (chance.below(most) << 12);
        if chance.once_in(6) && place != Place::Peer {
            range.end = chance.edge();
        }
        if chance.once_in(12) {
            range.start |= chance.below(4096);
        }
    }
    ranges.sort_unstable_by_key(|r| r.start);
    let count = match chance.below(8) {
        0 => chance.edge() as u32,
        _ => 1 + chance.below(3) as u32,
    };
    // More ranges than there are here are read from what lies behind: nothing, in pages of our own.
    let at = memory.good(chance) & !7;
    // SAFETY: there are eight pages of nobody else's behind a good address, and one has room for 64.
    unsafe {
        std::ptr::write_bytes(at as *mut Range, 0, abi::HANDOFF_RANGES);
        std::ptr::copy_nonoverlapping(ranges.as_ptr(), at as *mut Range, ranges.len());
    }
    let mut value = Claim {
        version,
        flags,
        count,
        reserved: reserved(chance),
        ranges: if chance.once_in(10) {
            chance.edge()
        } else {
            at as u64
        },
    };
    if place == Place::Peer && value.ranges != at as u64 {
        value.ranges = 0x10;
    }
    call(opened, abi::IOC_CLAIM, &mut value)
}

fn enter(chance: &mut Chance, opened: &Opened) -> i32 {
    let Head { version, flags } = Head::draw(chance, &[abi::JUMP_NO_FREEZER]);
    let mut value = Enter {
        version,
        flags,
        // Below 1 MiB nothing can be claimed.
        entry: if chance.once_in(3) {
            0
        } else {
            1 + chance.below((1 << 20) - 1)
        },
        boot_params: chance.edge(),
        fail_at: 1 + chance.below(EARLY) as u32,
        failed_rung: chance.edge() as u32,
        reserved: [reserved(chance), reserved(chance)],
    };
    call(opened, abi::IOC_ENTER, &mut value)
}
