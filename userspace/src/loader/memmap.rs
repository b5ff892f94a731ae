//! The machine's memory map: what the firmware gave this kernel, and what a peer is told.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// E820 type of usable memory.
pub const RAM: u32 = 1;
/// E820 type of memory to keep out of.
pub const RESERVED: u32 = 2;
/// Entries that boot_params has room for.
pub const MAX_ENTRIES: usize = 128;

/// A range of the map, half-open, with its e820 type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// E820 type.
    pub kind: u32,
}

/// The names of the types in /sys/firmware/memmap and /proc/iomem (`e820_type_to_string`).
const NAMES: &[(&str, u32)] = &[
    ("System RAM", RAM),
    ("Reserved", RESERVED),
    ("reserved", RESERVED),
    ("ACPI Tables", 3),
    ("ACPI Non-volatile Storage", 4),
    ("Unusable memory", 5),
    ("Persistent Memory", 7),
    ("Persistent Memory (legacy)", 12),
    ("Soft Reserved", 0xefff_ffff),
];

/// The type of that name.
pub fn known_kind(name: &str) -> Option<u32> {
    let found = NAMES.iter().find(|(n, _)| *n == name);
    found.map(|(_, kind)| *kind)
}

/// Unknown types are memory to keep out of.
fn kind_of(name: &str) -> u32 {
    known_kind(name).unwrap_or(RESERVED)
}

/// The map of the machine that this runs on: the firmware's, else what the kernel made of it.
pub fn read() -> Result<Vec<Entry>> {
    if let Some(map) = read_firmware(Path::new("/sys/firmware/memmap")) {
        return Ok(map);
    }
    log::info!("no /sys/firmware/memmap (CONFIG_FIRMWARE_MEMMAP): using /proc/iomem");
    let text = fs::read_to_string("/proc/iomem")
        .map_err(|e| Error::MemoryMap(format!("/proc/iomem: {e}; mount /proc")))?;
    let map = parse_iomem(&text);
    if !map.iter().any(|e| e.kind == RAM) {
        let why = "neither /sys/firmware/memmap nor /proc/iomem names any RAM; mount /sys";
        return Err(Error::MemoryMap(why.into()));
    }
    Ok(map)
}

/// One folder an entry, with files `start`, `end` (inclusive) and `type`.
fn read_firmware(folder: &Path) -> Option<Vec<Entry>> {
    let mut map = Vec::new();
    for entry in fs::read_dir(folder).ok()? {
        let file = |name| fs::read_to_string(entry.as_ref().ok()?.path().join(name)).ok();
        let number = |name| {
            let text: String = file(name)?;
            u64::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
        };
        let (start, last) = (number("start")?, number("end")?);
        map.push(Entry {
            start,
            end: last.checked_add(1)?,
            kind: kind_of(file("type")?.trim()),
        });
    }
    map.sort_unstable();
    map.iter().any(|e| e.kind == RAM).then_some(map)
}

/// The top level of /proc/iomem, as far as it is memory and not devices.
pub fn parse_iomem(text: &str) -> Vec<Entry> {
    let line = |line: &str| {
        let (range, name) = line.split_once(" : ")?;
        let kind = NAMES.iter().find(|(n, _)| *n == name.trim())?.1;
        let (start, last) = range.split_once('-')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        let end = u64::from_str_radix(last.trim(), 16).ok()?.checked_add(1)?;
        // To the unprivileged the file shows zeros.
        (end > start && end > 1).then_some(Entry { start, end, kind })
    };
    let mut map: Vec<Entry> = text.lines().filter_map(line).collect();
    map.sort_unstable();
    map
}

/// The map for peers: the firmware's RAM as far as this kernel uses it too. What it leaves alone
/// (`memmap=`, ramoops, trimmed by MTRRs) is not backed up, so it is no peer's either.
pub fn read_shared() -> Result<Vec<Entry>> {
    let map = read()?;
    let iomem = fs::read_to_string("/proc/iomem").unwrap_or_default();
    let ours: Vec<Entry> = parse_iomem(&iomem);
    if !ours.iter().any(|e| e.kind == RAM) {
        return Ok(map);
    }
    Ok(intersect(&map, &ours))
}

/// What this kernel itself uses, by /proc/iomem.
pub fn read_own() -> Result<Vec<Entry>> {
    let text = fs::read_to_string("/proc/iomem")
        .map_err(|e| Error::MemoryMap(format!("/proc/iomem: {e}; mount /proc")))?;
    let map = parse_iomem(&text);
    if !map.iter().any(|e| e.kind == RAM) {
        let why = "/proc/iomem names no RAM; run as root";
        return Err(Error::MemoryMap(why.into()));
    }
    Ok(map)
}

/// `map` with its RAM reserved where `ours` has none.
fn intersect(map: &[Entry], ours: &[Entry]) -> Vec<Entry> {
    let mut out = Vec::with_capacity(map.len() + ours.len());
    let mut push = |start, end, kind| {
        if start < end {
            out.push(Entry { start, end, kind });
        }
    };
    for e in map {
        if e.kind != RAM {
            push(e.start, e.end, e.kind);
            continue;
        }
        let mut at = e.start;
        for (start, end) in ram(ours) {
            let (start, end) = (start.clamp(at, e.end), end.clamp(at, e.end));
            push(at, start, RESERVED);
            push(start, end, RAM);
            at = end;
        }
        push(at, e.end, RESERVED);
    }
    out
}

/// The RAM of a map.
pub fn ram(map: &[Entry]) -> impl Iterator<Item = (u64, u64)> + '_ {
    map.iter()
        .filter(|e| e.kind == RAM)
        .map(|e| (e.start, e.end))
}

/// The map for a peer: RAM below `window_end` and in `own`, which is above it, stays RAM, the rest
/// becomes reserved (it is this kernel's), everything else stays.
pub fn for_window(map: &[Entry], window_end: u64, own: Option<(u64, u64)>) -> Vec<Entry> {
    let (own_start, own_end) = own.unwrap_or((u64::MAX, u64::MAX));
    let mut out: Vec<Entry> = Vec::with_capacity(map.len() + 1);
    let mut push = |start: u64, end: u64, kind: u32| {
        if start >= end {
            return;
        }
        match out.last_mut() {
            Some(last) if last.kind == kind && last.end == start => last.end = end,
            _ => out.push(Entry { start, end, kind }),
        }
    };
    for e in map {
        if e.kind == RAM {
            push(e.start, e.end.min(window_end), RAM);
            push(e.start.max(window_end), e.end.min(own_start), RESERVED);
            push(e.start.max(own_start), e.end.min(own_end), RAM);
            push(e.start.max(own_end), e.end, RESERVED);
        } else {
            push(e.start, e.end, e.kind);
        }
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn entry(start: u64, end: u64, kind: u32) -> Entry {
        Entry { start, end, kind }
    }

    #[test]
    fn a_peer_gets_no_ram_that_this_kernel_leaves_alone() {
        let map = [
            entry(0, 0x9000, RAM),
            entry(0xf000, 0x10000, 3),
            entry(0x10000, 0x40000, RAM),
        ];
        let ours = [entry(0x1000, 0x9000, RAM), entry(0x20000, 0x30000, RAM)];
        let shared = [
            entry(0, 0x1000, RESERVED),
            entry(0x1000, 0x9000, RAM),
            entry(0xf000, 0x10000, 3),
            entry(0x10000, 0x20000, RESERVED),
            entry(0x20000, 0x30000, RAM),
            entry(0x30000, 0x40000, RESERVED),
        ];
        assert_eq!(intersect(&map, &ours), shared);
        assert_eq!(intersect(&map, &map), map);
    }

    /// The map of a QEMU PC with 512 MiB.
    pub const PC: &[Entry] = &[
        entry(0, 0x9fc00, RAM),
        entry(0x9fc00, 0xa0000, RESERVED),
        entry(0xf0000, 0x100000, RESERVED),
        entry(0x100000, 0x1ffe0000, RAM),
        entry(0x1ffe0000, 0x20000000, RESERVED),
        entry(0xfffc0000, 0x1_0000_0000, RESERVED),
    ];

    #[test]
    fn a_peer_sees_the_window_only() {
        let map = for_window(PC, 16 << 20, None);
        assert_eq!(
            ram(&map).collect::<Vec<_>>(),
            [(0, 0x9fc00), (0x100000, 0x1000000)]
        );
        // A's RAM and the reserved range after it are one.
        assert!(map.contains(&entry(0x1000000, 0x20000000, RESERVED)));
        assert_eq!(map.len(), 6);
    }

    #[test]
    fn a_peer_sees_its_own_window_too() {
        let own = (0x400_0000, 0x500_0000);
        let map = for_window(PC, 0xa_0000, Some(own));
        assert_eq!(ram(&map).collect::<Vec<_>>(), [(0, 0x9fc00), own]);
        // Around it lies A's RAM.
        assert!(map.contains(&entry(0xf0000, 0x400_0000, RESERVED)));
        assert!(map.contains(&entry(0x500_0000, 0x2000_0000, RESERVED)));
        // The last byte of RAM, and the first one.
        let all = [entry(0x1000, 0x8000, RAM)];
        let tail = for_window(&all, 0x2000, Some((0x6000, 0x8000)));
        assert_eq!(
            ram(&tail).collect::<Vec<_>>(),
            [(0x1000, 0x2000), (0x6000, 0x8000)]
        );
        let touching = for_window(&all, 0x2000, Some((0x2000, 0x8000)));
        assert_eq!(touching, all);
    }

    #[test]
    fn other_types_pass() {
        let map = [
            entry(0, 0x1000, RAM),
            entry(0x2000, 0x3000, 3),
            entry(0x3000, 0x4000, 4),
        ];
        assert_eq!(for_window(&map, 1 << 20, None), map);
        assert_eq!(for_window(&map, 0, None)[0].kind, RESERVED);
    }

    #[test]
    fn iomem_top_level_only() {
        let text = "00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n\
                    00100000-1ffdffff : System RAM\n  00200000-0076dfff : Kernel code\n\
                    \x20 00300000-00300fff : System RAM\n\
                    1ffe0000-1fffffff : Reserved\nfebc0000-febdffff : 0000:00:03.0\nnonsense\n";
        let map = parse_iomem(text);
        assert_eq!(map.len(), 4);
        assert_eq!(
            ram(&map).collect::<Vec<_>>(),
            [(0x1000, 0x9fc00), (0x100000, 0x1ffe0000)]
        );
        assert!(parse_iomem("00000000-00000000 : System RAM\n").is_empty());
    }

    #[test]
    fn names_have_their_numbers() {
        assert_eq!(kind_of("ACPI Non-volatile Storage"), 4);
        assert_eq!(kind_of("Unknown E820 type"), RESERVED);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}", n in any::<u64>()) {
            for_window(&parse_iomem(&text), n, Some((n, n.saturating_add(0x1000))));
        }

        #[test]
        fn ram_and_nothing_else_is_clipped(window_end in any::<u64>()) {
            let bytes = |m: &[Entry]| m.iter().map(|e| e.end - e.start).sum::<u64>();
            let map = for_window(PC, window_end, None);
            prop_assert_eq!(bytes(&map), bytes(PC));
            prop_assert!(ram(&map).all(|(_, end)| end <= window_end));
            prop_assert!(map.windows(2).all(|w| w[0].end <= w[1].start));
        }
    }
}
