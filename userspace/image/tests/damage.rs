//! No damage goes unseen, no image makes the reader panic or leave its bounds.
#![allow(missing_docs)]

mod common;

use common::*;
use kjump_image::*;
use proptest::prelude::*;
use proptest::sample::Index;

fn image_bytes(disk: &Disk) -> usize {
    let image = Image::open(disk.clone(), &machine()).unwrap();
    image.totals().unwrap().image_bytes as usize
}

/// A disk cut to its image, or the same image as a stream.
fn image(codec: Codec, memory: &Memory, stream: bool) -> Disk {
    let header = header(1, codec, memory);
    if stream {
        let mut bytes = Vec::new();
        save(StreamTarget::new(&mut bytes), &header, memory).unwrap();
        return Disk(bytes);
    }
    let mut disk = saved(&header, memory);
    let len = image_bytes(&disk);
    disk.0.truncate(len);
    disk
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_changed_byte_is_seen(
        memory in memory(12),
        codec in codec(),
        stream: bool,
        hits in prop::collection::vec((any::<Index>(), 1u8..=255), 24),
    ) {
        let mut disk = image(codec, &memory, stream);
        verify(disk.clone()).unwrap();
        for (at, change) in hits {
            let at = at.index(disk.0.len());
            disk.0[at] ^= change;
            prop_assert!(verify(&mut disk).is_err(), "byte {at} ^ {change:#x}");
            prop_assert!(verify(StreamSource::new(disk.0.as_slice())).is_err());
            disk.0[at] ^= change;
        }
    }

    #[test]
    fn a_cut_is_seen(memory in memory(12), codec in codec(), stream: bool, at in any::<Index>()) {
        let mut disk = image(codec, &memory, stream);
        let at = at.index(disk.0.len());
        disk.0.truncate(at);
        prop_assert!(verify(StreamSource::new(disk.0.as_slice())).is_err());
        // What says "committed" is refused before its first chunk.
        let opened = Image::open(&mut disk, &machine());
        prop_assert!(stream || opened.is_err());
        drop(opened);
        prop_assert!(verify(disk).is_err());
    }

    #[test]
    fn noise_is_no_image(noise in prop::collection::vec(any::<u8>(), 0..9000), at in 0usize..70000) {
        prop_assert!(verify(Disk(noise.clone())).is_err());
        let good = image(Codec::Lz4, &Memory::from([(FIRST, common::noise(1))]), false);
        let mut disk = good.clone();
        let at = at.min(disk.0.len());
        let end = (at + noise.len()).min(disk.0.len());
        disk.0[at..end].copy_from_slice(&noise[..end - at]);
        prop_assert_eq!(verify(&mut disk).is_ok(), disk == good);
    }
}

/// Every byte of the head and of a small image's body, and every length.
#[test]
fn every_byte_and_every_cut_of_a_small_image() {
    let memory = Memory::from([
        (FIRST, vec![0; PAGE]),
        (FIRST + 1, b"kjump".repeat(PAGE)[..PAGE].to_vec()),
        (FIRST + 9, vec![7; PAGE]),
    ]);
    let mut disk = image(Codec::Lz4, &memory, false);
    let len = disk.0.len();
    for at in (0..len).filter(|at| at % 61 == 0 || at % 4096 < 600 || *at >= 65536) {
        disk.0[at] ^= 1 << (at % 8);
        assert!(verify(&mut disk).is_err(), "byte {at}");
        disk.0[at] ^= 1 << (at % 8);
    }
    verify(&mut disk).unwrap();
    for at in (0..len).filter(|at| at % 509 == 0 || *at >= len - 9) {
        assert!(verify(Disk(disk.0[..at].to_vec())).is_err(), "cut at {at}");
    }
}

/// Chunks of an older image, or swapped ones, do not pass for this one's.
#[test]
fn chunks_of_another_time_or_place() {
    let memory: Memory = (0..8).map(|i| (FIRST + i, noise(i))).collect();
    let one = image(Codec::None, &memory, false);
    let two = {
        let header = header(2, Codec::None, &memory);
        saved(&header, &memory)
    };
    let chunk = 64 + 16 + 4 * PAGE;
    let mut mixed = one.clone();
    mixed.0[65536..65536 + chunk].copy_from_slice(&two.0[65536..65536 + chunk]);
    assert!(matches!(
        verify(mixed),
        Err(Refusal::DamagedChunk { index: 0, .. })
    ));
    let mut swapped = one.clone();
    let (first, second) = swapped.0[65536..65536 + 2 * chunk].split_at_mut(chunk);
    first.swap_with_slice(second);
    assert!(matches!(
        verify(swapped),
        Err(Refusal::DamagedChunk { index: 0, .. })
    ));
    // The head of one over the body of the other.
    let mut head = two.clone();
    head.0[..65536].copy_from_slice(&one.0[..65536]);
    assert!(verify(head).is_err());
}

/// Puts right every checksum, as somebody who means harm would: bounds hold all the same.
#[test]
fn a_forged_run_is_out_of_bounds() {
    use zerocopy::{FromBytes, IntoBytes};
    let memory: Memory = (0..4).map(|i| (FIRST + i, vec![0; PAGE])).collect();
    let disk = image(Codec::None, &memory, false);
    for (pfn, count, kind) in [
        (0, 4, 2),
        (FIRST - 1, 4, 2),
        (FIRST + HALF - 1, 4, 2),
        (FIRST + HALF, 4, 2),
        (u64::MAX, 4, 2),
        (u64::MAX / 4096, 4, 2),
        (FIRST, 0, 2),
        (FIRST, u32::MAX, 2),
        (FIRST, 5, 2),
        (FIRST, 3, 2),
        (FIRST, 4, 1),
        (FIRST, u32::MAX, 1),
        (FIRST, 4, 3),
    ] {
        let mut disk = disk.clone();
        let run = layout::Run {
            pfn: pfn.into(),
            count: count.into(),
            kind: kind.into(),
        };
        let body = &mut disk.0[65536..];
        let mut head = layout::ChunkHead::read_from_bytes(&body[..64]).unwrap();
        head.crc.set(0);
        body[..64].copy_from_slice(head.as_bytes());
        body[64..80].copy_from_slice(run.as_bytes());
        head.crc.set(crc32fast::hash(&body[..80]));
        body[..64].copy_from_slice(head.as_bytes());
        let e = verify(disk).err();
        assert!(
            matches!(
                e,
                Some(
                    Refusal::OutOfBounds { .. }
                        | Refusal::DamagedChunk { .. }
                        | Refusal::Damaged { .. }
                        | Refusal::Torn { .. }
                )
            ),
            "{run:?}: {e:?}"
        );
    }
}

#[test]
fn other_machines_are_refused() {
    let memory: Memory = (0..8).map(|i| (FIRST + i, noise(i))).collect();
    let disk = saved(&header(1, Codec::Lz4, &memory), &memory);
    let refused = |change: fn(&mut Machine)| {
        let mut machine = machine();
        change(&mut machine);
        let e = Image::open(disk.clone(), &machine).err();
        assert!(matches!(e, Some(Refusal::Foreign { .. })), "{e:?}");
        e.map(|e| e.to_string()).unwrap_or_default()
    };
    assert!(refused(|m| m.arch = ARCH_X86_64).contains("architecture"));
    assert!(refused(|m| m.fingerprint = Some(0x9abc_def0)).contains("the CPU"));
    assert!(refused(|m| m.fingerprint = Some(5)).contains("memory map"));
    assert!(refused(|m| m.build_id = Some([1; 32])).contains("7.3.4-kjump"));
    assert!(refused(|m| m.window_end = 32 << 20).contains("window"));
    assert!(refused(|m| m.ram[2].end -= 4096).contains("memory map"));
    assert!(refused(|m| m.ram.clear()).contains("memory map"));
    assert!(refused(|m| m.ram.reverse()).contains("memory map"));
}

/// What has a valid checksum and another version is named as such.
#[test]
fn later_versions_are_refused_by_name() {
    let memory = Memory::from([(FIRST, noise(1))]);
    let disk = saved(&header(1, Codec::Lz4, &memory), &memory);
    let changed = |block: usize, crc: usize, len: usize, at: usize, value: u32| {
        let mut disk = disk.clone();
        let bytes = &mut disk.0[block..block + len];
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        bytes[crc..crc + 4].fill(0);
        let sum = crc32fast::hash(bytes);
        bytes[crc..crc + 4].copy_from_slice(&sum.to_le_bytes());
        verify(disk).unwrap_err()
    };
    let header = |at, value| changed(16384, 16, 4096, at, value);
    for (at, value) in [(8, 3), (20, 16), (336, 3)] {
        let e = header(at, value);
        assert!(matches!(e, Refusal::BadVersion { .. }), "{at}: {e}");
    }
    for (at, value) in [(28, 8192), (344, 65), (340, 0), (224, 1)] {
        let e = header(at, value);
        assert!(matches!(e, Refusal::BadHeader(_)), "{at}: {e}");
    }
    let e = changed(0, 12, 512, 8, 3);
    assert!(matches!(e, Refusal::BadVersion { .. }), "{e}");
    let e = changed(0, 12, 512, 16, 9);
    assert!(matches!(e, Refusal::BadVersion { .. }), "{e}");
    let e = changed(20480, 16, 45056, 8, 3);
    assert!(matches!(e, Refusal::BadVersion { .. }), "{e}");
    // A header of nobody's: right in itself, but not the one that was committed.
    let e = header(48, 5);
    assert!(matches!(e, Refusal::Damaged { .. }), "{e}");
}
