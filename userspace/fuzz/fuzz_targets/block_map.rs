// SPDX-License-Identifier: GPL-2.0

//! The list of a file's blocks in front of an image, and the one for a core's.
#![no_main]

use std::sync::LazyLock;

use kjump::untrusted::CoreMap;
use kjump_fuzz::damage::{Base, Input};
use kjump_fuzz::files::mend;
use kjump_target::{Block, Map};
use libfuzzer_sys::fuzz_target;

const BLOCK: u64 = 4096;
/// Blocks of the device, and where the map's own are.
const DEVICE: u64 = 64;
const PLACES: [u64; 3] = [3, 9, 5];

static GOOD: LazyLock<Base> = LazyLock::new(|| Base::new(good()));

/// The blocks of a map, one after the other.
fn good() -> Vec<u8> {
    let extents: [&[(u64, u64)]; 3] = [&[(10, 5), (20, 1)], &[(30, 20)], &[]];
    let length: u64 = extents
        .iter()
        .flat_map(|e| e.iter())
        .map(|(_, n)| n * BLOCK)
        .sum();
    let mut out = Vec::new();
    for (index, list) in extents.iter().enumerate() {
        let mut block = b"KJUMPMAP".to_vec();
        for word in [
            1,
            0,
            index as u32,
            PLACES.len() as u32,
            list.len() as u32,
            0,
        ] {
            block.extend_from_slice(&word.to_le_bytes());
        }
        let next = PLACES.get(index + 1).map_or(0, |n| n * BLOCK);
        block.extend_from_slice(&next.to_le_bytes());
        block.extend_from_slice(&length.to_le_bytes());
        block.extend_from_slice(&[7; 16]);
        for (start, count) in *list {
            block.extend_from_slice(&(start * BLOCK).to_le_bytes());
            block.extend_from_slice(&(count * BLOCK).to_le_bytes());
        }
        block.resize(BLOCK as usize, 0);
        out.extend(block);
    }
    out
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let how = input.byte();
    if how & 1 != 0 {
        let text = String::from_utf8_lossy(input.0);
        if let Some(map) = CoreMap::parse(&text) {
            assert_eq!(
                CoreMap::parse(&map.text()).map(|m| m.pieces),
                Some(map.pieces)
            );
        }
        return;
    }
    let mut bytes = GOOD.damaged(&mut input);
    if how & 2 == 0 {
        let blocks = bytes.chunks_exact_mut(BLOCK as usize);
        blocks.for_each(|block| mend(block, BLOCK as usize, 12, crc32fast::hash));
    }
    let read = |at: u64, block: &mut Block| {
        let index = PLACES.iter().position(|place| place * BLOCK == at);
        let part = index.and_then(|i| bytes.chunks_exact(BLOCK as usize).nth(i));
        match part {
            Some(part) => block.0.copy_from_slice(part),
            None => block.0.fill(0),
        }
        Ok(())
    };
    let size = if how & 4 == 0 {
        DEVICE * BLOCK
    } else {
        u64::MAX
    };
    if let Ok(map) = Map::read(read, PLACES[0] * BLOCK, size, "vda") {
        let mut sum = 0;
        for extent in &map.extents {
            assert!(extent.length > 0 && extent.offset + extent.length <= size);
            sum += extent.length;
        }
        assert_eq!(sum, map.base() + map.length);
    }
});
