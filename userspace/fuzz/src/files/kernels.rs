// SPDX-License-Identifier: GPL-2.0

//! Kernels: a bzImage and an ELF, and the memory map of the machine that they are for.

use kjump::untrusted::memmap::{Entry, RAM, RESERVED};

const fn entry(start: u64, end: u64, kind: u32) -> Entry {
    Entry { start, end, kind }
}

/// The map of a PC with 512 MiB.
pub const PC: &[Entry] = &[
    entry(0, 0x9fc00, RAM),
    entry(0x9fc00, 0xa0000, RESERVED),
    entry(0xf0000, 0x10_0000, RESERVED),
    entry(0x10_0000, 0x1ffe_0000, RAM),
    entry(0x1ffe_0000, 0x2000_0000, RESERVED),
];

/// A bzImage by boot protocol 2.15 with a version in its setup.
pub fn bzimage() -> Vec<u8> {
    let mut file = vec![0; 5 * 512];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[4]);
    put(0x1f4, &100u32.to_le_bytes());
    put(0x1fe, &[0x55, 0xaa]);
    put(0x201, &[0x6a]);
    put(0x202, b"HdrS");
    put(0x206, &0x20fu16.to_le_bytes());
    put(0x20e, &0x400u16.to_le_bytes());
    put(0x211, &[1]);
    put(0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(0x230, &0x10_0000u32.to_le_bytes());
    put(0x234, &[1]);
    put(0x238, &2047u32.to_le_bytes());
    put(0x258, &0x10_0000u64.to_le_bytes());
    put(0x260, &0x70_0000u32.to_le_bytes());
    put(0x600, b"7.3.4-x (me@here) #1 SMP Thu Jan 1\0");
    file.resize(5 * 512 + 1600, 0xcc);
    file
}

/// An ELF for i386 with segments that share pages, have zeros behind them, or stand alone.
pub fn elf() -> Vec<u8> {
    let loads: [(u32, u32, u32, &[u8]); 4] = [
        (0xc010_0000, 0x10_0000, 0x2345, b"text of a kernel"),
        (0xc010_2800, 0x10_2800, 0x1000, b"data"),
        (0xc020_0000, 0x20_0000, 0x8000, b""),
        (0xc030_0010, 0x30_0010, 0x20, b"more"),
    ];
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend_from_slice(&[2, 0, 3, 0, 1, 0, 0, 0]);
    let words = |file: &mut Vec<u8>, words: &[u32]| {
        words
            .iter()
            .for_each(|w| file.extend_from_slice(&w.to_le_bytes()));
    };
    words(&mut file, &[0xc010_0010, 52, 0, 0]);
    file.extend_from_slice(&[52, 0, 32, 0, loads.len() as u8, 0, 0, 0, 0, 0, 0, 0]);
    let mut offset = 52 + 32 * loads.len() as u32;
    for (vaddr, paddr, memsz, data) in loads {
        let size = data.len() as u32;
        words(&mut file, &[1, offset, vaddr, paddr, size, memsz, 5, 4096]);
        offset += size;
    }
    loads.iter().for_each(|l| file.extend_from_slice(l.3));
    file
}
