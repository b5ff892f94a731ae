//! What is written is read again.

mod common;

use common::*;
use kjump_core::{decode_handoff, Kind, Layout, Notes, Reader, Refusal, Writer};
use kjump_image::Source;

#[test]
fn everything_comes_back() {
    let bytes = whole();
    assert_eq!(bytes.len() % 4096, 0);
    let core = read(bytes.clone()).unwrap();
    assert_eq!(core.kind, core_kind());
    assert_eq!(core.image, Some(image()));
    assert_eq!(core.vmcoreinfo("PAGESIZE"), Some("4096"));
    assert_eq!(core.vmcoreinfo("PAGE"), None);
    assert_eq!(core.prstatus, [vec![1; 144], vec![2; 144]]);
    let places: Vec<_> = core.segments.iter().map(|s| (s.paddr, s.memsz)).collect();
    let page = 4096;
    assert_eq!(
        places,
        [
            (0, 2 * page),
            (1 << 20, 3 * page),
            (32 << 20, page),
            (33 << 20, 2 * page)
        ]
    );
    assert!(core.segments.iter().all(|s| s.offset % 4096 == 0));
    assert_eq!(core.memory_bytes(), 8 * page);

    let mut reader = Reader::new(Bytes(bytes), 8192).unwrap();
    let mut got = [0; 5000];
    core.read_memory(&mut reader, (1 << 20) + 4000, &mut got, "x")
        .unwrap();
    assert_eq!(got[..96], common::page(1 << 20)[..96]);
    assert_eq!(got[96..4192], common::page((1 << 20) + 4096));
    let beyond = core.read_memory(&mut reader, (1 << 20) + 8000, &mut got, "x");
    assert!(matches!(
        beyond,
        Err(Refusal::Missing { at: 0x10_3000, .. })
    ));
}

#[test]
fn a_peer_comes_back() {
    let core = read(peer()).unwrap();
    assert_eq!(core.kind, peer_kind());
    assert!(core.image.is_none());
    let plain = read(common::write(&Kind::Plain, None, &[(0, 1)])).unwrap();
    assert_eq!(plain.kind, Kind::Plain);
}

#[test]
fn the_notes_of_an_image_can_be_written_again() {
    let (bytes, image, kind) = (whole(), image(), core_kind());
    let notes = Notes {
        prstatus: &[vec![1; 144], vec![2; 144]],
        vmcoreinfo: b"OSRELEASE=7.3.4-kjump\nPAGESIZE=4096\nA=x",
        kind: &kind,
        image: Some(&image),
    };
    let segments = read(bytes.clone()).unwrap().segments;
    let layout = Layout::new(&notes, &segments).unwrap();
    assert_eq!(layout.size, bytes.len() as u64);
    let at = layout.image_at.unwrap() as usize;
    assert_eq!(at % 4096, 0);
    let other = kjump_core::ImageNote {
        guards: Vec::new(),
        ..image
    };
    let core = read(patched(bytes, at, &other.encode().unwrap())).unwrap();
    assert_eq!(core.image, Some(other));
}

#[test]
fn a_writer_must_be_given_all_of_it() {
    let kind = Kind::Plain;
    let notes = Notes {
        prstatus: &[],
        vmcoreinfo: b"",
        kind: &kind,
        image: None,
    };
    let mut segments = segments(&[(0, 2)]);
    let mut writer = Writer::begin(Vec::new(), &notes, &mut segments).unwrap();
    writer.write(&[0; 4096]).unwrap();
    assert!(writer.finish().is_err());
}

/// Headers that lie somewhere in old memory, whose offsets are addresses.
#[test]
fn headers_in_old_memory() {
    struct Old(u64, Vec<u8>);
    impl Source for Old {
        fn size(&self) -> Option<u64> {
            None
        }
        fn read_at(&mut self, at: u64, buf: &mut [u8]) -> std::io::Result<usize> {
            let at = at.checked_sub(self.0).ok_or(std::io::ErrorKind::NotFound)?;
            Bytes(self.1.clone()).read_at(at, buf)
        }
    }
    let base = 0x1f0_0000;
    let mut bytes = common::write(&core_kind(), None, &[(32 << 20, 1)]);
    // The notes' offset, in the first entry of the table.
    let offset = u64::from_le_bytes(bytes[72..80].try_into().unwrap()) + base;
    bytes[72..80].copy_from_slice(&offset.to_le_bytes());
    let core = kjump_core::Core::read_based(&mut Old(base, bytes), base).unwrap();
    assert_eq!(core.kind, core_kind());
    assert_eq!(core.prstatus.len(), 2);
}

/// What kexec-tools writes with `--elf32-core-headers`.
#[test]
fn a_32_bit_core() {
    let mut b = vec![0; 4096 + 8192];
    b[..7].copy_from_slice(b"\x7fELF\x01\x01\x01");
    let words: [(usize, u32); 12] = [
        (16, 4 | 3 << 16),
        (20, 1),
        (28, 52),
        (40, 52 | 32 << 16),
        (44, 1),
        (52, 1),
        (56, 4096),
        (60, 0xc010_0000),
        (64, 0x10_0000),
        (68, 8192),
        (72, 12288),
        (76, 7),
    ];
    for (at, word) in words {
        b[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    b[4096..].fill(9);
    let core = read(b.clone()).unwrap();
    let s = core.segments[0];
    assert_eq!((s.paddr, s.vaddr, s.offset), (0x10_0000, 0xc010_0000, 4096));
    // What is beyond the contents is zero.
    let mut reader = Reader::new(Bytes(b), 4096).unwrap();
    let mut got = [1; 8192];
    core.read_memory(&mut reader, 0x10_1000, &mut got, "x")
        .unwrap();
    assert!(got[..4096].iter().all(|b| *b == 9) && got[4096..].iter().all(|b| *b == 0));
}

#[test]
fn the_handoff_is_found_by_the_entry() {
    let mut page = vec![0; 4096];
    page[..8].copy_from_slice(b"KJUMPHO1");
    page[8..12].copy_from_slice(&1u32.to_le_bytes());
    page[12..16].copy_from_slice(&3840u32.to_le_bytes());
    page[20..24].copy_from_slice(&1u32.to_le_bytes());
    page[28..32].copy_from_slice(&2u32.to_le_bytes());
    page[112..120].copy_from_slice(&ENTRY.to_le_bytes());
    page[176 + 24..176 + 32].copy_from_slice(&0x1000_0000u64.to_le_bytes());
    let crc = kjump_abi::crc32(0, &page[..3840]).to_le_bytes();
    page[16..20].copy_from_slice(&crc);
    page[3844..3848].copy_from_slice(&0x8000_0000u32.to_le_bytes());
    let handoff = decode_handoff(&page).unwrap();
    assert_eq!(handoff.ram[1].end, 0x1000_0000);
    assert_eq!(handoff.mailbox.status, 0x8000_0000);

    let core = read(whole()).unwrap();
    let at = |paddr: u64| core.find(paddr).unwrap().offset as usize;
    let with = |handoff: u64| {
        let slot = [&b"KJUMPCTL"[..], &handoff.to_le_bytes()].concat();
        let bytes = patched(whole(), at(32 << 20), &slot);
        let mut reader = Reader::new(Bytes(patched(bytes, at(33 << 20), &page)), 4096).unwrap();
        core.handoff(&mut reader, ENTRY).map(|(at, h)| (at, h.arch))
    };
    assert_eq!(with(33 << 20).unwrap(), (33 << 20, 1));
    assert!(matches!(with(34 << 20), Err(Refusal::Missing { .. })));
    assert!(matches!(with((33 << 20) + 4096), Err(Refusal::Bad(_))));
    let mut reader = Reader::new(Bytes(whole()), 4096).unwrap();
    assert!(matches!(
        core.handoff(&mut reader, ENTRY),
        Err(Refusal::Bad(_))
    ));

    for at in [0, 8, 12, 16, 28, 100, 3839] {
        let mut bad = page.clone();
        bad[at] ^= 1;
        assert!(decode_handoff(&bad).is_err(), "{at}");
    }
}
