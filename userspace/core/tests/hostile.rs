//! Bad, truncated and foreign files are refused with a reason; nothing makes a reader panic.

mod common;

use common::*;
use kjump_core::{Kind, Refusal};
use proptest::prelude::*;

/// Where the table's entry `n` is.
const fn entry(n: usize) -> usize {
    64 + 56 * n
}

#[test]
fn each_damage_has_its_reason() {
    let refused = |at: usize, word: &[u8]| read(patched(whole(), at, word)).unwrap_err();
    let long = |n: u64| n.to_le_bytes();
    assert!(matches!(refused(0, b"MZ"), Refusal::NotElf));
    assert!(matches!(refused(16, &[2, 0]), Refusal::NotCore { kind: 2 }));
    assert!(matches!(refused(18, &[62, 0]), Refusal::Foreign { .. }));
    assert!(matches!(refused(5, &[2]), Refusal::Foreign { .. }));
    assert!(matches!(refused(4, &[3]), Refusal::Bad(_)));
    // No segments; the number elsewhere; entries of another size.
    for (at, word) in [(56, [0, 0]), (56, [0xff, 0xff]), (54, [64, 0])] {
        assert!(matches!(refused(at, &word), Refusal::Bad(_)));
    }
    assert!(matches!(refused(32, &long(u64::MAX)), Refusal::Bad(_)));
    assert!(matches!(
        refused(32, &long(1 << 40)),
        Refusal::Truncated { .. }
    ));
    // A segment's contents, its memory, more of the one than of the other, overlap.
    let e = entry(1);
    assert!(matches!(
        refused(e + 8, &long(1 << 40)),
        Refusal::Truncated { .. }
    ));
    assert!(matches!(refused(e + 24, &long(u64::MAX)), Refusal::Bad(_)));
    assert!(matches!(refused(e + 40, &long(1)), Refusal::Bad(_)));
    assert!(matches!(refused(e + 24, &long(1 << 20)), Refusal::Bad(_)));
    // The entry and the control page are in the third.
    let gone = refused(entry(3) + 24, &long(64 << 20));
    assert!(matches!(gone, Refusal::Missing { at: ENTRY, .. }), "{gone}");
}

#[test]
fn notes_are_checked() {
    let bytes = whole();
    let find = |needle: &[u8]| {
        let at = bytes.windows(needle.len()).position(|w| w == needle);
        at.unwrap()
    };
    let version = find(b"KJUMP\0\0\0") + 8;
    let refused = |at: usize, word: &[u8]| read(patched(bytes.clone(), at, word)).unwrap_err();
    assert!(matches!(
        refused(version, &[2]),
        Refusal::BadVersion { number: 2, .. }
    ));
    assert_eq!(
        read(bytes.clone()).unwrap().core_note_at,
        Some(version as u64)
    );
    let given_up = kjump_core::layout::GIVEN_UP.to_le_bytes();
    assert!(matches!(refused(version, &given_up), Refusal::GivenUp));
    let used = kjump_core::layout::USED.to_le_bytes();
    assert!(matches!(refused(version, &used), Refusal::Used));
    assert!(matches!(refused(version + 4, &[8]), Refusal::Bad(_)));
    // The entry in the window; a window that ends within a page; a handoff likewise.
    assert!(matches!(
        refused(version + 8, &0x1000u64.to_le_bytes()),
        Refusal::Bad(_)
    ));
    assert!(matches!(
        refused(version + 24, &0x1001u64.to_le_bytes()),
        Refusal::Bad(_)
    ));
    assert!(matches!(refused(version + 16, &[1]), Refusal::Bad(_)));
    // Length of the name, of the contents.
    let head = version - 20;
    assert!(matches!(
        refused(head, &u32::MAX.to_le_bytes()),
        Refusal::Bad(_)
    ));
    assert!(matches!(
        refused(head + 4, &u32::MAX.to_le_bytes()),
        Refusal::Bad(_)
    ));
    assert!(matches!(refused(head + 4, &[4]), Refusal::Bad(_)));
    // The image's header, its guards.
    assert!(matches!(
        refused(find(b"KJUMPIMG") + 100, &[1]),
        Refusal::Image(_)
    ));
    assert!(matches!(
        refused(find(b"KJUMPGRD") + 100, &[1]),
        Refusal::Image(_)
    ));
}

#[test]
fn a_peer_stays_in_its_window() {
    let refused = |places: &[(u64, u64)]| {
        let bytes = common::write(&peer_kind(), None, places);
        read(bytes).unwrap_err()
    };
    assert!(matches!(
        refused(&[(1 << 20, 1), (WINDOW_END, 1)]),
        Refusal::Bad(_)
    ));
    assert!(matches!(refused(&[(2 << 20, 1)]), Refusal::Missing { .. }));
    let mut kind = peer_kind();
    if let Kind::Peer(note, _) = &mut kind {
        note.entry = WINDOW_END;
    }
    let bytes = common::write(&kind, None, &[(1 << 20, 1)]);
    assert!(matches!(read(bytes), Err(Refusal::Bad(_))));
}

/// Found by the fuzz target `core`: the last byte that an address can have.
#[test]
fn headers_at_the_end_of_all_addresses() {
    for base in [u64::MAX, u64::MAX - 15, u64::MAX - 4096] {
        let read = kjump_core::Core::read_based(&mut Bytes(whole()), base);
        assert!(matches!(read, Err(Refusal::NotElf)));
    }
}

#[test]
fn cut_off_anywhere() {
    let bytes = whole();
    for len in (0..bytes.len()).step_by(997).chain([bytes.len() - 1]) {
        let e = read(bytes[..len].to_vec()).unwrap_err();
        assert!(
            matches!(e, Refusal::Truncated { .. } | Refusal::NotElf),
            "{len}: {e}"
        );
        assert_eq!(e.to_string().lines().count(), 1);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = read(bytes.clone());
        // And with a header that lets it go on.
        let mut core = whole();
        core[24..].iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
        let _ = read(core);
    }

    #[test]
    fn no_changed_byte_makes_it_panic(at in 0usize..8192, to in any::<u8>(), peer_too in any::<bool>()) {
        let bytes = if peer_too { peer() } else { whole() };
        let at = at % bytes.len();
        if let Ok(core) = read(patched(bytes.clone(), at, &[to])) {
            let size = bytes.len() as u64;
            prop_assert!(core.segments.iter().all(|s| s.offset + s.filesz <= size));
        }
    }
}

/// A peer with the checksum that docs/protocol.md describes, put together from the file's own bytes.
fn summed_peer() -> (Vec<u8>, usize) {
    let bytes = peer();
    let core = read(bytes.clone()).unwrap();
    let name = bytes.windows(8).position(|w| w == b"KJUMP\0\0\0").unwrap();
    let note = name + 8;
    let mut summed = bytes[note..note + 44].to_vec();
    summed.extend_from_slice(&bytes[note + 48..note + 48 + 1024]);
    for s in &core.segments {
        summed.extend_from_slice(&s.paddr.to_le_bytes());
        summed.extend_from_slice(&s.memsz.to_le_bytes());
        let at = s.offset as usize;
        summed.extend_from_slice(&bytes[at..at + s.filesz as usize]);
    }
    let crc = kjump_abi::crc32(0, &summed);
    (patched(bytes, note + 44, &crc.to_le_bytes()), note)
}

#[test]
fn a_damaged_peer_is_known_by_its_checksum() {
    let check = |bytes: Vec<u8>| {
        let core = read(bytes.clone()).unwrap();
        core.check_sum(&mut Bytes(bytes))
    };
    let (good, note) = summed_peer();
    check(good.clone()).unwrap();
    // One byte: where it is entered, its label, where a page goes, the last page.
    let moved = (2u64 << 20).to_le_bytes();
    for (at, word) in [
        (note + 8, &[1u8][..]),
        (note + 48, b"R"),
        (entry(1) + 24, &moved),
        (good.len() - 1, &[0xee]),
    ] {
        let refused = check(patched(good.clone(), at, word));
        assert!(matches!(refused, Err(Refusal::Bad(_))), "byte {at}");
    }
    // What an older kjump has written says nothing.
    check(patched(good, note + 44, &[0; 4])).unwrap();
}
