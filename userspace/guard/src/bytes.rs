//! Reading structures and hashing ranges.

use std::io::ErrorKind;

use blake3::Hasher;
use zerocopy::{FromBytes, IntoBytes};

use crate::disk::{Aligned, Disk, ALIGN};
use crate::error::{io, Error};

/// BLAKE3.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    blake3::hash(bytes).into()
}

/// A structure at `offset`, or `None` where the device ends before.
pub fn structure<T: FromBytes + IntoBytes>(
    disk: &dyn Disk,
    offset: u64,
    what: &'static str,
) -> Result<Option<T>, Error> {
    let mut value = T::new_zeroed();
    let bytes = value.as_mut_bytes();
    let end = offset.checked_add(bytes.len() as u64);
    if end.is_none_or(|end| end > disk.size()) {
        return Ok(None);
    }
    disk.read_at(offset, bytes).map_err(io(what))?;
    Ok(Some(value))
}

/// Text up to the first NUL, without spaces at the end.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim_end().into()
}

/// Bytes that a [`Window`] holds, and that are read at once.
pub const WINDOW: usize = 32768;

/// A piece of a disk that is kept, for many small looks at it, and for long ranges.
pub struct Window<'a> {
    disk: &'a dyn Disk,
    /// For error messages.
    what: &'static str,
    buffer: Aligned,
    /// What the buffer holds: offset, a multiple of [`ALIGN`], and bytes.
    held: (u64, usize),
}

impl<'a> Window<'a> {
    pub fn new(disk: &'a dyn Disk, what: &'static str) -> Self {
        let (buffer, held) = (Aligned::new(WINDOW), (0, 0));
        Self {
            disk,
            what,
            buffer,
            held,
        }
    }

    /// `len` bytes at `offset`, or as many as one window has; at least one.
    pub fn at(&mut self, offset: u64, len: u64) -> Result<&[u8], Error> {
        let (start, held) = self.held;
        if offset < start || offset >= start + held as u64 {
            let start = offset - offset % ALIGN as u64;
            let left = self.disk.size().saturating_sub(start);
            let want = usize::try_from(left).unwrap_or(WINDOW).min(WINDOW);
            let buffer = &mut self.buffer.bytes_mut()[..want];
            // Nothing, until it is there.
            self.held = (start, 0);
            let read = match start + want as u64 > offset {
                true => self.disk.read_at(start, buffer),
                false => Err(ErrorKind::UnexpectedEof.into()),
            };
            read.map_err(io(self.what))?;
            self.held = (start, want);
        }
        let skip = (offset - self.held.0) as usize;
        let bytes = &self.buffer.bytes_mut()[skip..self.held.1];
        let len = usize::try_from(len).unwrap_or(WINDOW).min(bytes.len());
        Ok(&bytes[..len])
    }

    /// Hashes a range.
    pub fn hash(&mut self, offset: u64, len: u64, hasher: &mut Hasher) -> Result<(), Error> {
        let (mut offset, mut left) = (offset, len);
        while left > 0 {
            let bytes = self.at(offset, left)?;
            hasher.update(bytes);
            (offset, left) = (offset + bytes.len() as u64, left - bytes.len() as u64);
        }
        Ok(())
    }
}
