// SPDX-License-Identifier: GPL-2.0

//! The boot bundle at the end of a target: its last block.
#![no_main]

use std::sync::LazyLock;

use kjump_fuzz::damage::{Base, Input};
use kjump_fuzz::files::mend;
use kjump_target::{Block, Bundle};
use libfuzzer_sys::fuzz_target;

const BLOCK: usize = 4096;
const CONTAINER: u64 = 1 << 20;

static GOOD: LazyLock<Base> = LazyLock::new(|| Base::new(good()));

fn good() -> Vec<u8> {
    let mut block = b"KJUMPBUN".to_vec();
    block.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
    let (kernel, initrd) = (300_001u64, 65536u64);
    let place = CONTAINER - BLOCK as u64 - initrd;
    let first = place - kernel.next_multiple_of(BLOCK as u64);
    block.extend_from_slice(&CONTAINER.to_le_bytes());
    for (offset, length) in [(first, kernel), (place, initrd)] {
        block.extend_from_slice(&offset.to_le_bytes());
        block.extend_from_slice(&length.to_le_bytes());
        block.extend_from_slice(&[9; 32]);
    }
    let line = b"root=/dev/sda1 ro";
    block.extend_from_slice(&(line.len() as u64).to_le_bytes());
    block.extend_from_slice(line);
    block.resize(BLOCK, 0);
    block
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let how = input.byte();
    let container = if how & 1 == 0 {
        CONTAINER
    } else {
        input.long()
    };
    let mut bytes = GOOD.damaged(&mut input);
    bytes.resize(BLOCK, 0);
    if how & 2 == 0 {
        mend(&mut bytes, BLOCK, 12, crc32fast::hash);
    }
    let mut block = Block::ZERO;
    block.0.copy_from_slice(&bytes);
    if let Ok(Some(bundle)) = Bundle::parse(&block, container) {
        let initrd = bundle.initrd.map_or(0, |part| part.length);
        assert!(bundle.kernel.length + initrd < container);
        assert!(bundle.command_line.len() <= 2048);
    }
});
