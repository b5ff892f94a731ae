//! Block maps: a file's blocks, listed in the first blocks of the file itself.

use std::io;

use kjump_image::Extent;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::block::{blocks, Block, BLOCK64};
use crate::error::{io as failed, Error};
use crate::layout::{MapBlock, MapExtent, MAP_EXTENTS, MAP_MAGIC, VERSION};
use crate::Result;

/// Extents that a file may be in; more than any filesystem that is not nearly full makes.
pub const MAX_EXTENTS: usize = 16384;
/// Blocks that a map has at most.
const MAX_BLOCKS: u32 = (MAX_EXTENTS as u32).div_ceil(MAP_EXTENTS as u32);

/// A file on a device, as its map lists it.
#[derive(Debug)]
pub struct Map {
    /// All of the file, the map's own blocks too; adjacent extents are one.
    pub extents: Vec<Extent>,
    /// Blocks of the map: the image's first byte is behind them.
    pub blocks: u32,
    /// Bytes behind the map.
    pub length: u64,
}

impl Map {
    /// Reads and checks the map of the file that starts at byte `first` of a device.
    ///
    /// `read` fills a block from a device of `size` bytes; `place` is for messages.
    pub fn read(
        mut read: impl FnMut(u64, &mut Block) -> io::Result<()>,
        first: u64,
        size: u64,
        place: &str,
    ) -> Result<Self> {
        let bad = |what| {
            let place = place.into();
            Err(Error::BadMap { place, what })
        };
        let mut map = Self {
            extents: Vec::new(),
            blocks: 1,
            length: 0,
        };
        let mut rest: Vec<Extent> = Vec::new();
        let (mut at, mut index, mut id, mut sum) = (first, 0, [0; 16], 0u64);
        let inside = |offset: u64, length: u64| {
            let whole = |n: u64| n.is_multiple_of(BLOCK64);
            let end = offset.checked_add(length);
            length > 0 && whole(offset) && whole(length) && end.is_some_and(|end| end <= size)
        };
        while index < map.blocks {
            if at == 0 || !inside(at, BLOCK64) {
                if index == 0 {
                    let place = place.into();
                    return Err(Error::NoMap { place });
                }
                return bad("a block of it lies outside the device");
            }
            let mut block = Block::ZERO;
            read(at, &mut block).map_err(failed(format!("{place}: reading the block map")))?;
            let (block, place) = (parse(&block, place)?, place.into());
            let Some(block) = block else {
                return match index {
                    0 => Err(Error::NoMap { place }),
                    _ => bad("a block of it was written over"),
                };
            };
            if index == 0 {
                (map.blocks, map.length, id) = (block.blocks.get(), block.length.get(), block.id);
                if !(1..=MAX_BLOCKS).contains(&map.blocks) {
                    return bad("it has too many blocks, or none");
                }
            }
            let same = block.index == index && block.blocks == map.blocks;
            if !same || block.length != map.length || block.id != id {
                return bad("its blocks do not belong together");
            }
            push(&mut map.extents, at, BLOCK64)?;
            let (used, free) = match block.extents.split_at_checked(block.count.get() as usize) {
                Some(parts) if block.reserved == 0 => parts,
                _ => return bad("a block of it contradicts itself"),
            };
            if free.iter().any(|e| e.offset != 0 || e.length != 0) {
                return bad("a block of it contradicts itself");
            }
            for extent in used {
                let (offset, length) = (extent.offset.get(), extent.length.get());
                if !inside(offset, length) {
                    return bad("an extent lies outside the device, or is not whole blocks");
                }
                sum = sum.saturating_add(length);
                push(&mut rest, offset, length)?;
            }
            (at, index) = (block.next.get(), index + 1);
        }
        if at != 0 {
            return bad("it goes on behind its end");
        }
        if sum != map.length || sum == 0 {
            return bad("its extents are not as long as it says");
        }
        for extent in rest {
            push(&mut map.extents, extent.offset, extent.length)?;
        }
        if overlap(&map.extents)? {
            return bad("extents overlap");
        }
        Ok(map)
    }

    /// Bytes of the map's own blocks, with which the file begins.
    pub fn base(&self) -> u64 {
        u64::from(self.blocks) * BLOCK64
    }
}

/// The blocks of a map for a file, to be written at its start. `extents` is all of the file, checked,
/// at most [`MAX_EXTENTS`]; `None` if the file has no room for an image behind the map.
pub fn encode(extents: &[Extent], id: [u8; 16]) -> Result<Option<Vec<Block>>> {
    let count = extents.len().div_ceil(MAP_EXTENTS).max(1);
    let base = count as u64 * BLOCK64;
    // Where the map's blocks are, and what is behind them.
    let mut places: Vec<u64> = Vec::new();
    places.try_reserve_exact(count)?;
    let mut rest: Vec<Extent> = Vec::new();
    rest.try_reserve_exact(extents.len())?;
    let mut start = 0;
    for extent in extents {
        let own = extent.length.min(base.saturating_sub(start));
        places.extend((0..own / BLOCK64).map(|i| extent.offset + i * BLOCK64));
        if own < extent.length {
            push(&mut rest, extent.offset + own, extent.length - own)?;
        }
        start += extent.length;
    }
    if rest.is_empty() {
        return Ok(None);
    }
    let mut encoded = blocks(count)?;
    let mut lists = rest.chunks(MAP_EXTENTS);
    for (index, place) in encoded.iter_mut().enumerate() {
        let list = lists.next().unwrap_or(&[]);
        let mut block = MapBlock::new_zeroed();
        block.magic = MAP_MAGIC;
        block.version.set(VERSION);
        // CAST: at most MAX_BLOCKS and MAP_EXTENTS.
        block.index.set(index as u32);
        block.blocks.set(count as u32);
        block.count.set(list.len() as u32);
        block.next.set(places.get(index + 1).copied().unwrap_or(0));
        block.length.set(start - base);
        block.id = id;
        for (slot, extent) in block.extents.iter_mut().zip(list) {
            *slot = MapExtent {
                offset: extent.offset.into(),
                length: extent.length.into(),
            };
        }
        block.crc.set(crc32fast::hash(block.as_bytes()));
        *place = Block::of(&block);
    }
    Ok(Some(encoded))
}

/// Blocks of the map in whose first block a file begins; `None` if it is not one.
pub fn blocks_of(first: &Block, place: &str) -> Result<Option<u32>> {
    let block = parse(first, place)?;
    Ok(block.map(|b| b.blocks.get()))
}

/// A block of a map, whole. `None`: another program's.
fn parse(block: &Block, place: &str) -> Result<Option<MapBlock>> {
    let mut map = MapBlock::read_from_bytes(&block.0).unwrap_or(MapBlock::new_zeroed());
    if map.magic != MAP_MAGIC {
        return Ok(None);
    }
    let bad = |what| {
        let place = place.into();
        Err(Error::BadMap { place, what })
    };
    let crc = map.crc.get();
    map.crc.set(0);
    if crc != crc32fast::hash(map.as_bytes()) {
        return bad("a block of it does not match its checksum");
    }
    if map.version != VERSION {
        return bad("it is of another version of kjump");
    }
    Ok(Some(map))
}

/// Appends, to the last one if it goes on from there.
pub fn push(extents: &mut Vec<Extent>, offset: u64, length: u64) -> Result<()> {
    match extents.last_mut() {
        Some(last) if last.offset.checked_add(last.length) == Some(offset) => last.length += length,
        _ => {
            extents.try_reserve(1)?;
            extents.push(Extent { offset, length });
        }
    }
    Ok(())
}

fn overlap(extents: &[Extent]) -> Result<bool> {
    let mut sorted: Vec<Extent> = Vec::new();
    sorted.try_reserve_exact(extents.len())?;
    sorted.extend_from_slice(extents);
    sorted.sort_unstable_by_key(|e| e.offset);
    let mut pairs = sorted.windows(2);
    Ok(pairs.any(|w| w[0].offset + w[0].length > w[1].offset))
}

#[cfg(test)]
#[path = "map_tests.rs"]
mod tests;
