//! Tests of `elf.rs` with synthetic files.

use super::*;
use proptest::prelude::*;

/// A PT_LOAD of a synthetic file: virtual and physical address, bytes in memory, contents.
pub type Load<'a> = (u32, u32, u32, &'a [u8]);

/// A synthetic ELF.
pub fn elf(entry: u32, loads: &[Load]) -> Vec<u8> {
    let mut f = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let mut put = |bytes: &[u8]| f.extend_from_slice(bytes);
    put(&[2, 0, 3, 0, 1, 0, 0, 0]);
    put(&entry.to_le_bytes());
    put(&52u32.to_le_bytes());
    put(&[0; 8]);
    put(&[52, 0, 32, 0, loads.len() as u8, 0, 0, 0, 0, 0, 0, 0]);
    let mut offset = 52 + 32 * loads.len() as u32;
    for (vaddr, paddr, memsz, data) in loads {
        for n in [
            1,
            offset,
            *vaddr,
            *paddr,
            data.len() as u32,
            *memsz,
            5,
            4096,
        ] {
            put(&n.to_le_bytes());
        }
        offset += data.len() as u32;
    }
    loads.iter().for_each(|l| put(l.3));
    f
}

fn read(file: &[u8]) -> std::result::Result<Elf, u8> {
    parse(file, Path::new("k")).map_err(|e| e.exit_code())
}

#[test]
fn loads_at_physical_addresses() {
    let file = elf(
        0x10_0000,
        &[
            (0xc020_0000, 0x20_0000, 0x3000, b"two"),
            (0xc010_0000, 0x10_0000, 4, b"one!"),
        ],
    );
    let e = read(&file).unwrap();
    let at = |mem, memsz, data: &[u8]| Piece {
        mem,
        memsz,
        data: data.to_vec(),
    };
    assert_eq!(
        e.pieces,
        [at(0x10_0000, 4, b"one!"), at(0x20_0000, 0x3000, b"two")]
    );
    assert_eq!(e.entry, 0x10_0000);
}

#[test]
fn a_virtual_entry_becomes_physical() {
    let loads: &[Load] = &[(0xc010_0000, 0x10_0000, 0x1000, b"x")];
    assert_eq!(read(&elf(0xc010_0010, loads)).unwrap().entry, 0x10_0010);
    assert_eq!(read(&elf(0xc010_1000, loads)).unwrap().entry, 0xc010_1000);
    assert_eq!(read(&elf(0x10_0fff, loads)).unwrap().entry, 0x10_0fff);
}

#[test]
fn unaligned_loads_start_on_a_page_and_share_it() {
    let loads: &[Load] = &[
        (0x5010, 0x5010, 0x20, b"ab"),
        (0x5800, 0x5800, 0x1000, b"cd"),
    ];
    let e = read(&elf(0x5010, loads)).unwrap();
    assert_eq!(e.pieces.len(), 1);
    let piece = &e.pieces[0];
    assert_eq!(
        (piece.mem, piece.memsz, piece.data.len()),
        (0x5000, 0x1800, 0x802)
    );
    assert_eq!(
        (&piece.data[0x10..0x12], &piece.data[0x800..]),
        (&b"ab"[..], &b"cd"[..])
    );
    assert!(piece.data[0x12..0x800].iter().all(|b| *b == 0));
}

#[test]
fn a_load_of_zeros_between_others_keeps_its_zeros() {
    let loads: &[Load] = &[
        (0, 0x5000, 0x10, b"a"),
        (0, 0x5010, 0x10, b""),
        (0, 0x5020, 1, b"z"),
    ];
    let e = read(&elf(0x5000, loads)).unwrap();
    assert_eq!(
        (e.pieces.len(), e.pieces[0].memsz, e.pieces[0].data.len()),
        (1, 0x21, 0x21)
    );
}

#[test]
fn zeros_that_end_in_the_next_ones_page_cost_nothing() {
    let loads: &[Load] = &[(0, 0x5000, 0x8000_0010, b"a"), (0, 0x8000_5020, 1, b"z")];
    let e = read(&elf(0x5000, loads)).unwrap();
    let sizes: Vec<_> = e
        .pieces
        .iter()
        .map(|p| (p.mem, p.memsz, p.data.len()))
        .collect();
    assert_eq!(sizes, [(0x5000, 0x8000_0000, 1), (0x8000_5000, 0x21, 0x21)]);
}

#[test]
fn overlap_and_wrap_are_left_to_the_module() {
    let overlap: &[Load] = &[(0, 0x5000, 0x2000, b"a"), (0, 0x6000, 0x1000, b"b")];
    assert_eq!(read(&elf(0x5000, overlap)).unwrap().pieces.len(), 2);
    let wrap = read(&elf(0xffff_f000, &[(0, 0xffff_f000, 0x2000, b"a")])).unwrap();
    assert_eq!(wrap.pieces[0].mem + wrap.pieces[0].memsz, 0x1_0000_1000);
}

#[test]
fn every_truncation_is_refused() {
    let file = elf(
        0x5000,
        &[
            (0, 0x5000, 0x1000, b"abcdefgh"),
            (0, 0x8000, 9, b"12345678"),
        ],
    );
    for len in 5..file.len() {
        assert_eq!(read(&file[..len]).unwrap_err(), 14, "{len}");
    }
    assert!(read(&file).is_ok());
}

#[test]
fn other_elfs_are_no_kernels() {
    let file = elf(0x5000, &[(0, 0x5000, 0x1000, b"abcdefgh")]);
    let changed = |at: usize, byte: u8| {
        let mut f = file.clone();
        f[at] = byte;
        read(&f).unwrap_err()
    };
    assert_eq!(changed(4, 2), 13); // 64-bit
    assert_eq!(changed(5, 2), 13); // big-endian
    assert_eq!(changed(16, 1), 13); // an object file
    assert_eq!(changed(18, 40), 13); // ARM
    assert_eq!(changed(52, 0), 13); // no PT_LOAD
    assert_eq!(changed(52 + 16, 0xff), 14); // p_filesz up...
    assert_eq!(changed(52 + 17, 0xff), 13); // ...beyond p_memsz
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        at in prop::collection::vec((16usize..148, any::<u8>()), 0..12),
        cut in 0usize..200,
    ) {
        let mut f = elf(0x5000, &[(0, 0x5000, 0x1000, b"abcdefgh"), (0, 0x8000, 9, b"12345678"),
            (1, 2, 3, b"abc")]);
        at.iter().for_each(|(i, b)| f[*i] = *b);
        f.truncate(cut);
        let _ = parse(&f[..], Path::new("k"));
    }
}
