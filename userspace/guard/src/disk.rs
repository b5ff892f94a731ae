//! Devices, read at any offset, however they were opened.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// What O_DIRECT wants of addresses, offsets and lengths, bytes, with every disk.
pub const ALIGN: usize = 4096;
/// Bytes that go through one buffer at once.
const BUFFER: usize = 65536;

/// Random access to a device or a file.
pub trait Disk {
    /// Reads all of `buf` at `offset`, whatever both are a multiple of; beyond the end is an error.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Bytes that it has; 0 where that cannot be told.
    fn size(&self) -> u64;
}

/// A [`Disk`] that can be written.
pub trait DiskWrite: Disk {
    /// Writes one block of 4096 bytes at `offset`, a multiple of that.
    fn write_block(&self, offset: u64, block: &[u8; 4096]) -> io::Result<()>;
    /// Returns when all that was written would survive a power cut.
    fn flush(&self) -> io::Result<()>;
}

impl Disk for File {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if fits(offset, buf) {
            return fill(self, offset, buf, buf.len());
        }
        let mut aligned = Aligned::new(BUFFER.min(buf.len().next_multiple_of(ALIGN) + ALIGN));
        let (mut offset, mut rest) = (offset, buf);
        while !rest.is_empty() {
            let skip = offset as usize % ALIGN;
            let bounce = aligned.bytes_mut();
            let len = rest.len().min(bounce.len() - skip);
            let want = (skip + len).next_multiple_of(ALIGN);
            fill(self, offset - skip as u64, &mut bounce[..want], skip + len)?;
            let (now, later) = rest.split_at_mut(len);
            now.copy_from_slice(&bounce[skip..skip + len]);
            (offset, rest) = (offset + len as u64, later);
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        let mut file = self;
        file.seek(SeekFrom::End(0)).unwrap_or(0)
    }
}

impl DiskWrite for File {
    fn write_block(&self, offset: u64, block: &[u8; 4096]) -> io::Result<()> {
        let mut aligned = Aligned::new(ALIGN);
        aligned.bytes_mut().copy_from_slice(block);
        self.write_all_at(aligned.bytes_mut(), offset)
    }

    fn flush(&self) -> io::Result<()> {
        // On a block device this also empties the drive's own cache.
        self.sync_data()
    }
}

impl<D: Disk + ?Sized> Disk for &D {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        (**self).read_at(offset, buf)
    }
    fn size(&self) -> u64 {
        (**self).size()
    }
}

/// Whether O_DIRECT would take it as it is.
fn fits(offset: u64, buf: &[u8]) -> bool {
    offset.is_multiple_of(ALIGN as u64)
        && buf.len().is_multiple_of(ALIGN)
        && buf.as_ptr().addr().is_multiple_of(ALIGN)
}

/// Reads at least `need` bytes of `buf`: a device may end before the rest.
fn fill(file: &File, offset: u64, buf: &mut [u8], need: usize) -> io::Result<()> {
    let mut done = 0;
    while done < need {
        match FileExt::read_at(file, &mut buf[done..], offset + done as u64) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => done += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Bytes at an address that is a multiple of [`ALIGN`].
pub struct Aligned {
    /// Never grows, so never moves.
    memory: Vec<u8>,
    start: usize,
}

impl Aligned {
    /// `len` zeros.
    pub fn new(len: usize) -> Self {
        let memory = vec![0; len + ALIGN];
        let start = memory.as_ptr().addr().wrapping_neg() % ALIGN;
        Self { memory, start }
    }

    /// All of it.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.memory.len() - ALIGN;
        &mut self.memory[self.start..self.start + len]
    }
}
