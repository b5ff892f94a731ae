//! Which machine this is and which kernel runs, as an image has to remember: it goes on as if
//! nothing had happened, so nothing may have.

use kjump_abi::{crc32, Range, PAGE_SIZE};
use raw_cpuid::native_cpuid::cpuid_count;
use rustix::system::uname;

use super::request::Request;
use crate::error::Result;
use crate::loader::memmap::{self, Entry};
use crate::loader::{page_down, page_up};

/// Identity of a machine: CRC-32 of its memory map in the low half, of its CPU's vendor and
/// signature in the high one.
///
/// The map is the firmware's, which every kernel on the machine is given alike but one that was
/// told of a window only: that one has to be told the result.
pub fn fingerprint(map: &[Entry]) -> u64 {
    let mut low = 0;
    for e in merged(map) {
        for part in [e.start, e.end, e.kind.into()] {
            low = crc32(low, &part.to_le_bytes());
        }
    }
    let (vendor, signature) = (cpuid_count(0, 0), cpuid_count(1, 0).eax);
    let mut high = 0;
    for word in [vendor.ebx, vendor.edx, vendor.ecx, signature] {
        high = crc32(high, &word.to_le_bytes());
    }
    u64::from(low) | (u64::from(high) << 32)
}

/// The CPU as the module's fingerprint in a handoff block has it, in the high half: the same as in
/// [`fingerprint`], in another order.
pub fn cpu_in_handoff() -> u32 {
    let (vendor, signature) = (cpuid_count(0, 0), cpuid_count(1, 0).eax);
    let words = [vendor.ebx, vendor.ecx, vendor.edx, signature];
    let one = |crc, word: u32| crc32(crc, &word.to_le_bytes());
    words.into_iter().fold(0, one)
}

/// Entries of one kind that touch are one: kernels and loaders merge as they like.
fn merged(map: &[Entry]) -> Vec<Entry> {
    let mut out: Vec<Entry> = Vec::with_capacity(map.len());
    for e in map {
        match out.last_mut() {
            Some(last) if last.kind == e.kind && last.end == e.start => last.end = e.end,
            _ => out.push(*e),
        }
    }
    out
}

/// Pages that firmware keeps for itself below the end of RAM, and those that are nobody's.
pub fn other_pages(map: &[Entry]) -> (u64, u64) {
    let end = memmap::ram(map).map(|(_, end)| end).max().unwrap_or(0);
    let pages = |wanted: &dyn Fn(u32) -> bool| {
        let inside = map.iter().filter(|e| e.start < end && wanted(e.kind));
        inside
            .map(|e| (e.end.min(end) - e.start) / PAGE_SIZE)
            .sum::<u64>()
    };
    let (firmware, ram) = (pages(&|k| k != memmap::RAM), pages(&|k| k == memmap::RAM));
    (firmware, (end / PAGE_SIZE).saturating_sub(firmware + ram))
}

/// CPU features as CPUID tells them, less what a kernel switches on and off: leaf 1 ECX and EDX,
/// leaf 7 EBX, ECX and EDX, leaf 0xd.1 EAX, leaf 0x8000_0001 ECX and EDX; little-endian words.
pub fn cpu_features() -> [u8; 64] {
    const OSXSAVE: u32 = 1 << 27;
    const APIC: u32 = 1 << 9;
    const OSPKE: u32 = 1 << 4;
    let (most, extended) = (cpuid_count(0, 0).eax, cpuid_count(0x8000_0000, 0).eax);
    let leaf = |leaf, sub, there: bool| there.then(|| cpuid_count(leaf, sub));
    let one = cpuid_count(1, 0);
    let seven = leaf(7, 0, most >= 7);
    let state = leaf(0xd, 1, most >= 0xd);
    let far = leaf(0x8000_0001, 0, extended >= 0x8000_0001);
    let words = [
        one.ecx & !OSXSAVE,
        one.edx & !APIC,
        seven.map_or(0, |r| r.ebx),
        seven.map_or(0, |r| r.ecx & !OSPKE),
        seven.map_or(0, |r| r.edx),
        state.map_or(0, |r| r.eax),
        far.map_or(0, |r| r.ecx),
        far.map_or(0, |r| r.edx),
    ];
    let mut features = [0; 64];
    for (place, word) in features.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    features
}

/// Bits of `wanted` that are missing `here`, counted.
pub fn missing_features(wanted: &[u8; 64], here: &[u8; 64]) -> u32 {
    let missing = wanted.iter().zip(here).map(|(w, h)| (w & !h).count_ones());
    missing.sum()
}

/// Identity of the running kernel's build: the release and the version with the build's number and
/// date, which a bzImage's header has too.
pub fn build() -> [u8; 32] {
    let uts = uname();
    build_of(
        &uts.release().to_string_lossy(),
        &uts.version().to_string_lossy(),
    )
}

/// Identity of a kernel's build by its `uname -r` and `uname -v`.
pub fn build_of(release: &str, version: &str) -> [u8; 32] {
    *blake3::hash(format!("{release} {version}").as_bytes()).as_bytes()
}

/// A request that says which machine and kernel this is, and nothing else. `map` is the firmware's.
pub fn introduce(map: &[Entry]) -> Request {
    Request {
        build: Some(build()),
        fingerprint: Some(fingerprint(map)),
        firmware_pages: other_pages(map).0,
        ..Request::default()
    }
}

/// One past the last byte of this kernel's own RAM.
pub fn own_end() -> Result<u64> {
    let map = memmap::read_own()?;
    Ok(memmap::ram(&map)
        .map(|(_, end)| page_up(end))
        .max()
        .unwrap_or(0))
}

/// The machine's RAM from `floor`, bytes, up and below 4 GiB, in whole pages; touching ranges are
/// one.
pub fn ram_above(map: &[Entry], floor: u64) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for (start, end) in memmap::ram(map) {
        let range = Range {
            start: page_up(start.max(floor)),
            end: page_down(end.min(1 << 32)),
        };
        match ranges.last_mut() {
            _ if range.start >= range.end => {}
            Some(last) if last.end == range.start => last.end = range.end,
            _ => ranges.push(range),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::memmap::tests::PC;

    #[test]
    fn a_fingerprint_is_of_the_memory_map_and_the_cpu() {
        let mut other = PC.to_vec();
        assert_eq!(fingerprint(PC), fingerprint(&other));
        // The same map, cut in two elsewhere.
        let middle = other[3].start + 0x10_0000;
        let rest = Entry {
            start: middle,
            ..other[3]
        };
        other[3].end = middle;
        other.insert(4, rest);
        assert_eq!(fingerprint(PC), fingerprint(&other));
        other[4].end -= 0x1000;
        assert_ne!(fingerprint(PC) as u32, fingerprint(&other) as u32);
        assert_eq!(fingerprint(PC) >> 32, fingerprint(&other) >> 32);
    }

    #[test]
    fn pages_of_other_kinds() {
        // 0x9fc00-0xa0000 is less than a page, 0xf0000-0x100000 are 16.
        assert_eq!(other_pages(PC).0, 16);
        assert_eq!(other_pages(PC).1, 0x1ffe0 - 16 - (0x9f + 0x1fee0));
    }

    #[test]
    fn features_of_this_cpu_are_here() {
        let here = cpu_features();
        assert_eq!(missing_features(&here, &here), 0);
        assert!(missing_features(&here, &[0; 64]) > 0);
        assert_eq!(missing_features(&[0; 64], &here), 0);
    }

    #[test]
    fn ram_above_a_window() {
        let ranges = ram_above(PC, 16 << 20);
        assert_eq!(
            ranges,
            [Range {
                start: 16 << 20,
                end: 0x1ffe0000
            }]
        );
        assert_eq!(
            ram_above(PC, 0x9f000)[0],
            Range {
                start: 0x100000,
                end: 0x1ffe0000
            }
        );
        assert_eq!(ram_above(PC, 0).len(), 2);
    }
}
