// SPDX-License-Identifier: GPL-2.0

//! What a guest wrote to a disk, in order, as QEMU's `blklogwrites` has recorded it (the format is
//! dm-log-writes'), and disks as they would be had the power gone in the middle of that.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use kjump_image::Source;

/// Bytes in a sector, the smallest thing that is written whole.
pub const SECTOR: usize = 512;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// Something that the guest asked of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Bytes at an offset.
    Write(u64, Vec<u8>),
    /// All that was written before is on the disk when this is done.
    Flush,
}

/// Reads a log.
pub fn read(path: &Path) -> Result<Vec<Op>> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<Vec<Op>> {
    let number = |at: usize| -> Result<u64> {
        let field = bytes.get(at..at + 8).context("the log ends early")?;
        Ok(u64::from_le_bytes(field.try_into()?))
    };
    ensure!(number(0)? == MAGIC, "no log of writes: {:#x}", number(0)?);
    ensure!(number(8)? == 1, "a log of version {}", number(8)?);
    let (entries, sector) = (number(16)?, number(24)? as u32 as usize);
    ensure!(sector == SECTOR, "a log with sectors of {sector} bytes");
    let mut ops = Vec::new();
    let mut at = sector;
    for _ in 0..entries {
        let (start, count) = (number(at)?, number(at + 8)?);
        let flags = number(at + 16)?;
        at += sector;
        ensure!(flags & MARK == 0, "a mark in the log");
        if flags & FLUSH != 0 {
            ops.push(Op::Flush);
        }
        let length = count as usize * sector;
        if flags & DISCARD != 0 {
            ops.push(Op::Write(start * sector as u64, vec![0; length]));
        } else if length != 0 {
            let data = bytes.get(at..at + length).context("the log ends early")?;
            ops.push(Op::Write(start * sector as u64, data.to_vec()));
            at += length;
        }
        if flags & FUA != 0 {
            ops.push(Op::Flush);
        }
    }
    Ok(ops)
}

/// A disk: what it had, and sectors that came on top of it.
#[derive(Clone)]
pub struct Disk<'a> {
    below: &'a [u8],
    above: BTreeMap<u64, &'a [u8]>,
}

impl<'a> Disk<'a> {
    /// With nothing on top.
    pub fn new(below: &'a [u8]) -> Self {
        Self {
            below,
            above: BTreeMap::new(),
        }
    }

    /// Writes those sectors of `bytes` that `keep` says, which gets their numbers among them.
    pub fn write(&mut self, offset: u64, bytes: &'a [u8], mut keep: impl FnMut(usize) -> bool) {
        let first = offset / SECTOR as u64;
        for (number, sector) in bytes.chunks(SECTOR).enumerate() {
            if keep(number) {
                self.above.insert(first + number as u64, sector);
            }
        }
    }

    /// All of it.
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = self.below.to_vec();
        for (sector, bytes) in &self.above {
            let at = *sector as usize * SECTOR;
            all[at..at + SECTOR].copy_from_slice(bytes);
        }
        all
    }
}

impl Source for Disk<'_> {
    fn size(&self) -> Option<u64> {
        Some(self.below.len() as u64)
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let start = (offset as usize).min(self.below.len());
        let count = buf.len().min(self.below.len() - start);
        buf[..count].copy_from_slice(&self.below[start..start + count]);
        let sectors = start / SECTOR..(start + count).div_ceil(SECTOR);
        for (sector, bytes) in self.above.range(sectors.start as u64..sectors.end as u64) {
            let at = *sector as usize * SECTOR - start;
            let length = SECTOR.min(count - at);
            buf[at..at + length].copy_from_slice(&bytes[..length]);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(entries: &[(u64, u64, u64, &[u8])]) -> Vec<u8> {
        let mut bytes: Vec<u8> = [MAGIC, 1, entries.len() as u64, SECTOR as u64]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect();
        bytes.resize(SECTOR, 0);
        for (sector, count, flags, data) in entries {
            let at = bytes.len();
            for field in [*sector, *count, *flags, 0] {
                bytes.extend(field.to_le_bytes());
            }
            bytes.resize(at + SECTOR, 0);
            bytes.extend(*data);
        }
        bytes
    }

    #[test]
    fn logs_are_read() {
        let data = [7; 2 * SECTOR];
        let all = log(&[
            (3, 2, 0, &data),
            (0, 0, FLUSH, &[]),
            (1, 1, FUA, &data[..512]),
        ]);
        let ops = parse(&all).unwrap();
        let wanted = [
            Op::Write(1536, data.to_vec()),
            Op::Flush,
            Op::Write(512, data[..512].to_vec()),
            Op::Flush,
        ];
        assert_eq!(ops, wanted);
        assert!(parse(&all[..all.len() - 1]).is_err() && parse(b"x").is_err());
    }

    #[test]
    fn disks_in_the_middle() {
        let below = vec![1; 8 * SECTOR];
        let over = vec![2; 3 * SECTOR];
        let mut disk = Disk::new(&below);
        disk.write(SECTOR as u64, &over, |sector| sector != 1);
        let mut wanted = below.clone();
        wanted[512..1024].fill(2);
        wanted[1536..2048].fill(2);
        assert_eq!(disk.bytes(), wanted);
        let mut read = vec![0; 3 * SECTOR];
        assert_eq!(disk.read_at(512, &mut read).unwrap(), read.len());
        assert_eq!(read, wanted[512..2048]);
        let mut end = [0; 4096];
        assert_eq!(disk.read_at(4096 - 1024, &mut end).unwrap(), 1024);
        assert_eq!(disk.read_at(4096, &mut end).unwrap(), 0);
    }
}
