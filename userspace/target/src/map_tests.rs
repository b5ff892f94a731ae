//! Maps come back, and nothing wrong passes.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::*;

const SIZE: u64 = 1 << 30;

/// A file of so many blocks a piece, spread over a device.
fn file(lengths: &[u64], gap: u64) -> Vec<Extent> {
    let mut at = SIZE / 2;
    let extent = |blocks: &u64| {
        // Downwards, so that none goes on where the one before ended.
        at -= (blocks + gap) * BLOCK64;
        Extent {
            offset: at,
            length: blocks * BLOCK64,
        }
    };
    lengths.iter().map(extent).collect()
}

/// What a device has: its blocks that are not zeros.
struct Device(Vec<(u64, Block)>);

impl Device {
    fn with(file: &[Extent], blocks: Vec<Block>) -> Self {
        let places = file
            .iter()
            .flat_map(|e| (0..e.length / BLOCK64).map(|i| e.offset + i * BLOCK64));
        Self(places.zip(blocks).collect())
    }

    fn read(&self, first: u64) -> Result<Map> {
        let read = |at: u64, block: &mut Block| {
            let found = self.0.iter().find(|b| b.0 == at);
            *block = found.map_or(Block::ZERO, |b| b.1.clone());
            Ok(())
        };
        Map::read(read, first, SIZE, "/dev/x")
    }

    /// Changes block `index` of the map, and makes its checksum right.
    fn change(&mut self, index: usize, change: impl FnOnce(&mut MapBlock)) {
        let mut block = MapBlock::read_from_bytes(&self.0[index].1 .0).unwrap();
        change(&mut block);
        block.crc.set(0);
        block.crc.set(crc32fast::hash(block.as_bytes()));
        self.0[index].1 = Block::of(&block);
    }
}

/// A file in 300 pieces: its map has two blocks.
fn two_blocks() -> (Device, u64) {
    let file = file(&[3; 300], 1);
    let blocks = encode(&file, [7; 16]).unwrap().unwrap();
    assert_eq!(blocks.len(), 2);
    (Device::with(&file, blocks), file[0].offset)
}

proptest! {
    #[test]
    fn what_is_listed_is_read(lengths in vec(1u64..6, 1..700), gap in 0u64..3) {
        let mut file = file(&lengths, gap);
        if gap == 0 {
            file.reverse();
        }
        let mut merged = Vec::new();
        for e in &file {
            push(&mut merged, e.offset, e.length).unwrap();
        }
        let total: u64 = lengths.iter().sum();
        match encode(&file, [9; 16]).unwrap() {
            None => prop_assert!(total <= lengths.len().div_ceil(252) as u64),
            Some(blocks) => {
                let count = blocks.len() as u64;
                let map = Device::with(&file, blocks).read(file[0].offset).unwrap();
                prop_assert_eq!(&map.extents, &merged);
                prop_assert_eq!((map.base(), map.length), (count * BLOCK64, (total - count) * BLOCK64));
            }
        }
    }

    #[test]
    fn noise_is_no_panic(bytes in vec(any::<u8>(), 64), at in 0usize..4032) {
        let (mut device, first) = two_blocks();
        device.change(0, |block| {
            let mut raw = Block::of(block);
            raw.0[at..at + 64].copy_from_slice(&bytes);
            *block = MapBlock::read_from_bytes(&raw.0).unwrap();
        });
        let _ = device.read(first);
    }

    #[test]
    fn no_damaged_byte_passes(block in 0usize..2, at in 0usize..4096, bit in 0u8..8) {
        let (mut device, first) = two_blocks();
        device.0[block].1 .0[at] ^= 1 << bit;
        prop_assert!(device.read(first).is_err());
    }
}

#[test]
#[cfg_attr(miri, ignore = "16 thousand pieces")]
fn the_largest_map_fits() {
    let file = file(&[2; MAX_EXTENTS], 1);
    let blocks = encode(&file, [1; 16]).unwrap().unwrap();
    assert_eq!(blocks.len(), MAX_BLOCKS as usize);
    let map = Device::with(&file, blocks).read(file[0].offset).unwrap();
    assert_eq!(map.extents.len(), MAX_EXTENTS);
}

#[test]
fn every_contradiction_is_refused() {
    type Change = fn(&mut MapBlock);
    let changes: [(usize, Change); 19] = [
        (0, |b| b.version.set(2)),
        (0, |b| b.index.set(1)),
        (1, |b| b.index.set(0)),
        (0, |b| b.blocks.set(0)),
        (0, |b| b.blocks.set(1)),
        (0, |b| b.blocks.set(3)),
        (0, |b| b.blocks.set(MAX_BLOCKS + 1)),
        (0, |b| b.count.set(251)),
        (0, |b| b.count.set(253)),
        (1, |b| b.count.set(u32::MAX)),
        (0, |b| b.reserved.set(1)),
        (0, |b| b.next.set(0)),
        (0, |b| b.next.set(SIZE)),
        (1, |b| b.next.set(BLOCK64)),
        (0, |b| b.length += BLOCK64),
        (1, |b| b.id[3] ^= 1),
        (1, |b| b.extents[0].length.set(0)),
        (1, |b| b.extents[0].offset += 512),
        (1, |b| b.extents[0].offset.set(SIZE)),
    ];
    for (i, (index, change)) in changes.into_iter().enumerate() {
        let (mut device, first) = two_blocks();
        device.change(index, change);
        let result = device.read(first);
        assert!(
            matches!(result, Err(Error::BadMap { .. })),
            "change {i}: {result:?}"
        );
    }
    let (device, first) = two_blocks();
    assert!(device.read(first).is_ok());
    assert!(matches!(device.read(0), Err(Error::NoMap { .. })));
    assert!(matches!(
        device.read(first + BLOCK64 * 5000),
        Err(Error::NoMap { .. })
    ));
    assert!(matches!(device.read(SIZE), Err(Error::NoMap { .. })));
    assert!(matches!(device.read(first + 512), Err(Error::NoMap { .. })));
}

#[test]
fn extents_that_overlap_are_refused() {
    // Another extent's place; the map's own.
    for hostile in [|o: u64| o + 16 * BLOCK64, |_| 0] {
        let (mut device, first) = two_blocks();
        device.change(1, |b| {
            let at = b.extents[1].offset.get();
            let to = hostile(at);
            b.extents[1].offset.set(if to == 0 { first } else { to });
        });
        let result = device.read(first);
        let overlap =
            matches!(&result, Err(Error::BadMap { what, .. }) if what.contains("overlap"));
        assert!(overlap, "{result:?}");
    }
}

#[test]
fn messages_differ() {
    let mut seen = BTreeSet::new();
    let changes: [fn(&mut MapBlock); 5] = [
        |b| b.version.set(9),
        |b| b.blocks.set(0),
        |b| b.next.set(0),
        |b| b.length.set(0),
        |b| b.extents[0].offset.set(u64::MAX - 4095),
    ];
    for change in changes {
        let (mut device, first) = two_blocks();
        device.change(0, change);
        seen.insert(device.read(first).unwrap_err().to_string());
    }
    assert_eq!(seen.len(), 5, "{seen:?}");
}
