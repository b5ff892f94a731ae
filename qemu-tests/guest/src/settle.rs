// SPDX-License-Identifier: GPL-2.0

//! A load that goes one way, is most of memory, and comes in the wrong order: each page of it is some
//! other one's place. What is entered looks whether all of it is right.

use kjump_abi as abi;

use crate::{number, raw, Outcome};

const MIB: u64 = 1 << 20;
/// Where it begins.
const START: u64 = 64 * MIB;
/// Where the code is that looks.
const CODE: u64 = 32 * MIB;
/// A word is its own address, but for this.
const PATTERN: u32 = 0x5ad_c0de;

/// The code: looks at so many words from [`START`] on, and says on the serial port what it finds.
fn code(words: u32) -> Vec<u8> {
    let say = |text: &str| -> Vec<u8> {
        let mut code = vec![0xba, 0xf8, 0x03, 0, 0]; // mov $0x3f8, %edx
        for byte in text.bytes() {
            code.extend([0xb0, byte, 0xee]); // mov $byte, %al; out %al, (%dx)
        }
        code.extend([0xf4, 0xeb, 0xfd]); // hlt; and again
        code
    };
    let good = say("settled\r\n");
    let mut code = vec![0xbe]; // mov $START, %esi
    code.extend((START as u32).to_le_bytes());
    code.push(0xb9); // mov $words, %ecx
    code.extend(words.to_le_bytes());
    code.extend([0x89, 0xf0, 0x35]); // 1: mov %esi, %eax; xor $PATTERN, %eax
    code.extend(PATTERN.to_le_bytes());
    let wrong = 3 + 1 + 2 + good.len() as u8;
    code.extend([0x39, 0x06, 0x75, wrong]); // cmp %eax, (%esi); jne to the other text
    code.extend([0x83, 0xc6, 0x04, 0x49]); // add $4, %esi; dec %ecx
    code.extend([0x75, (-17i8) as u8]); // jnz 1b
    code.extend(good);
    code.extend(say("a word is WRONG\r\n"));
    code
}

/// `settle MIB`: loads so much, the last piece first, and jumps. Does not come back.
pub fn run(args: &[String]) -> Outcome {
    let size = number(args, 0)? * MIB;
    let device = raw::open()?;
    let mut prepare = abi::Prepare {
        version: abi::ABI_VERSION,
        flags: abi::PREPARE_ONE_WAY,
        ..Default::default()
    };
    let done = |what: &str, errno| match errno {
        0 => Ok(()),
        errno => Err(format!("{what}: errno {errno}")),
    };
    let prepared = raw::call(&device, abi::IOC_PREPARE, &mut prepare);
    done("prepare", prepared)?;
    let segment = |mem: u64, bytes: &[u8]| {
        let mut segment = abi::Segment {
            version: abi::ABI_VERSION,
            flags: 0,
            buf: bytes.as_ptr() as u64,
            bufsz: bytes.len() as u64,
            mem,
            memsz: (bytes.len() as u64).next_multiple_of(abi::PAGE_SIZE),
        };
        let loaded = raw::call(&device, abi::IOC_SEGMENT, &mut segment);
        done("segment", loaded)
    };
    for at in (0..size / MIB).rev() {
        let start = START + at * MIB;
        let words = (start..start + MIB).step_by(4);
        let bytes: Vec<u8> = words
            .flat_map(|address| (address as u32 ^ PATTERN).to_le_bytes())
            .collect();
        segment(start, &bytes)?;
    }
    segment(CODE, &code((size / 4) as u32))?;
    if segment(START + size / 2, &[0; 4096]).is_ok() {
        return Err("a page was taken twice".into());
    }
    let mut commit = abi::Commit {
        version: abi::ABI_VERSION,
        entry: CODE,
        ..Default::default()
    };
    let committed = raw::call(&device, abi::IOC_COMMIT, &mut commit);
    done("commit", committed)?;
    let mut jump = abi::Jump {
        version: abi::ABI_VERSION,
        ..Default::default()
    };
    let jumped = raw::call(&device, abi::IOC_JUMP, &mut jump);
    done("jump", jumped)?;
    Err("it came back".into())
}
