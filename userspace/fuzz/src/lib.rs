// SPDX-License-Identifier: GPL-2.0

//! What the fuzz targets share: good files, made by code ([`files`], [`disks`]), ways to damage them
//! as the fuzzer says ([`damage`]), and the memory that a parser may have ([`memory`]).
//!
//! Where a format has checksums, damage alone would never get behind them: the targets mend them
//! afterwards, as whoever wants to do harm would.

pub mod damage;
pub mod disks;
pub mod files;
pub mod memory;

use std::io;

use kjump_image::Source;

/// A file in memory.
#[derive(Clone, Debug)]
pub struct Bytes(pub Vec<u8>);

impl Source for Bytes {
    fn size(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.0.get(start..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

/// One that does not say how long it is, and gives what it likes at a time.
#[derive(Clone, Debug)]
pub struct Stream(pub Bytes);

impl Source for Stream {
    fn size(&self) -> Option<u64> {
        None
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let most = buf.len().min(4096);
        self.0.read_at(offset, &mut buf[..most])
    }
}
