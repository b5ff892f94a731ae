// SPDX-License-Identifier: GPL-2.0

//! `spin`: the smallest peer there is, as a 32-bit ELF file made here byte by byte.
//!
//! It touches no device but the first serial port, so while it runs the machine is as the
//! module's way down has left it: what [quiet](crate::tests::quiet) looks at. Entered as the
//! design says (protected mode, flat segments, paging off, `[esp]` = jump-back entry) it sends a
//! SIPI to all other CPUs, prints a line, waits for a byte, and calls the jump-back entry, which leaves its own re-entry address
//! at `[esp]` as the protocol wants it. Entered again it starts over.

/// Where it runs, physical.
const BASE: u32 = 0x0020_0000;
/// Where the other CPUs start, if they waited for SIPI: a loop, in real mode.
const LOOP: u32 = 0x8000;
/// Real-mode code segment of [`LOOP`].
pub const LOOP_SEGMENT: u32 = LOOP >> 4;
/// What it prints.
pub const LINE: &str = "spin: here";

/// Bytes of the ELF header and of one program header.
const EHDR: usize = 52;
const PHDR: usize = 32;

/// The code and its text, to run at [`BASE`].
fn code() -> Vec<u8> {
    /// `jmp`/`jcc rel8` from the end of the instruction at `at` (two bytes) to `to`.
    fn rel(at: usize, to: usize) -> u8 {
        (to as i32 - (at as i32 + 2)) as i8 as u8
    }
    let mut c: Vec<u8> = Vec::new();
    c.extend([0xfc]); //                          start: cld
    c.extend([0x8b, 0x2c, 0x24]); //                     mov (%esp), %ebp
    c.extend([0xb8, (LOOP >> 12) as u8, 0x46, 0x0c, 0]); // mov $0xc4608, %eax SIPI, all but self
    c.extend([0xbf, 0x00, 0x03, 0xe0, 0xfe]); //         mov $0xfee00300, %edi local APIC's ICR
    c.extend([0x89, 0x07]); //                           mov %eax, (%edi)
    let text_at = c.len() + 1;
    c.extend([0xbe, 0, 0, 0, 0]); //                     mov $text, %esi
    let next = c.len();
    c.extend([0xac]); //                          next:  lodsb
    c.extend([0x84, 0xc0]); //                           test %al, %al
    let to_wait = c.len();
    c.extend([0x74, 0]); //                              jz wait
    c.extend([0x88, 0xc3]); //                           mov %al, %bl
    let full = c.len();
    c.extend([0x66, 0xba, 0xfd, 0x03]); //        full:  mov $0x3fd, %dx   line status
    c.extend([0xec]); //                                 in %dx, %al
    c.extend([0xa8, 0x20]); //                           test $0x20, %al   room for a byte
    c.extend([0x74, rel(c.len(), full)]); //             jz full
    c.extend([0x88, 0xd8]); //                           mov %bl, %al
    c.extend([0x66, 0xba, 0xf8, 0x03]); //               mov $0x3f8, %dx   data
    c.extend([0xee]); //                                 out %al, %dx
    c.extend([0xeb, rel(c.len(), next)]); //             jmp next
    let wait = c.len();
    c[to_wait + 1] = rel(to_wait, wait);
    c.extend([0x66, 0xba, 0xfd, 0x03]); //        wait:  mov $0x3fd, %dx
    c.extend([0xec]); //                                 in %dx, %al
    c.extend([0xa8, 0x01]); //                           test $1, %al      a byte is there
    c.extend([0x74, rel(c.len(), wait)]); //             jz wait
    c.extend([0x66, 0xba, 0xf8, 0x03]); //               mov $0x3f8, %dx
    c.extend([0xec]); //                                 in %dx, %al
    c.extend([0xff, 0xd5]); //                           call *%ebp
    c.extend([0xeb, rel(c.len(), 0)]); //                jmp start
    let text = BASE + c.len() as u32;
    c[text_at..text_at + 4].copy_from_slice(&text.to_le_bytes());
    c.extend(LINE.bytes());
    c.extend(b"\r\n\0");
    c
}

/// A segment of an ELF file: where it goes, how much memory it wants, and its contents.
struct Segment<'a> {
    address: u32,
    memory: u32,
    contents: &'a [u8],
}

/// A 32-bit ELF file with these segments, entered at [`BASE`].
fn elf(segments: &[Segment<'_>]) -> Vec<u8> {
    let mut elf = Vec::new();
    let half = |elf: &mut Vec<u8>, value: u16| elf.extend(value.to_le_bytes());
    let word = |elf: &mut Vec<u8>, value: u32| elf.extend(value.to_le_bytes());
    elf.extend(b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0"); // 32 bits, little-endian
    half(&mut elf, 2); // ET_EXEC
    half(&mut elf, 3); // EM_386
    word(&mut elf, 1); // version
    word(&mut elf, BASE); // entry
    word(&mut elf, EHDR as u32); // program headers
    word(&mut elf, 0); // section headers: none
    word(&mut elf, 0); // flags
    for value in [EHDR as u16, PHDR as u16, segments.len() as u16, 40, 0, 0] {
        half(&mut elf, value);
    }
    for (i, segment) in segments.iter().enumerate() {
        let (offset, size) = (4096 * (i as u32 + 1), segment.contents.len() as u32);
        let (at, memory) = (segment.address, segment.memory);
        // PT_LOAD: offset, virtual and physical address, sizes, flags R|W|X, alignment.
        for value in [1, offset, at, at, size, memory, 7, 4096] {
            word(&mut elf, value);
        }
    }
    for (i, segment) in segments.iter().enumerate() {
        assert!(segment.contents.len() <= 4096, "one page of the file each");
        elf.resize(4096 * (i + 1), 0);
        elf.extend(segment.contents);
    }
    elf
}

/// The file.
pub fn spin() -> Vec<u8> {
    let code = code();
    elf(&[
        Segment {
            address: BASE,
            memory: code.len() as u32,
            contents: &code,
        },
        // cli; here: jmp here
        Segment {
            address: LOOP,
            memory: 3,
            contents: &[0xfa, 0xeb, 0xfe],
        },
    ])
}

/// A peer that comes back at once, each time: `start: mov (%esp), %eax; call *%eax; jmp start`.
pub fn bounce() -> Vec<u8> {
    let code = [0x8b, 0x04, 0x24, 0xff, 0xd0, 0xeb, 0xf9];
    elf(&[Segment {
        address: BASE,
        memory: code.len() as u32,
        contents: &code,
    }])
}

/// Files that look like kernels and cannot be loaded, by what is wrong with them: a segment
/// outside the window, two that overlap, one that wraps around 4 GiB.
pub fn misfits() -> [(&'static str, Vec<u8>); 3] {
    let code = code();
    let good = || Segment {
        address: BASE,
        memory: code.len() as u32,
        contents: &code,
    };
    let with = |address, memory| {
        elf(&[
            good(),
            Segment {
                address,
                memory,
                contents: b"x",
            },
        ])
    };
    [
        ("outside", with(0x0200_0000, 4096)),
        (
            "overlap",
            elf(&[
                Segment {
                    address: BASE - 8192,
                    memory: 16384,
                    contents: b"x",
                },
                good(),
            ]),
        ),
        ("wrap", with(0xffff_f000, 8192)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{Object, ObjectSegment};

    #[test]
    fn the_file_is_an_elf_kernel() {
        let file = spin();
        let elf = object::File::parse(&*file).unwrap();
        assert_eq!(elf.entry(), u64::from(BASE));
        let segment = elf.segments().next().unwrap();
        assert_eq!(segment.address(), u64::from(BASE));
        assert_eq!(segment.data().unwrap(), code());
    }

    #[test]
    fn the_text_is_where_the_code_looks() {
        let code = code();
        let text = u32::from_le_bytes(code[17..21].try_into().unwrap()) - BASE;
        assert!(code[text as usize..].starts_with(LINE.as_bytes()));
    }
}
