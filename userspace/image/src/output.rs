//! Small pieces in, large aligned writes out.

use std::io::ErrorKind;

use crate::buffer::Aligned;
use crate::error::Error;
use crate::layout::BLOCK;
use crate::target::Target;

/// A target with a buffer in front.
pub struct Output<T> {
    target: T,
    buffer: Aligned,
    /// Where the buffer goes, bytes.
    at: u64,
    /// Bytes in it.
    fill: usize,
}

impl<T: Target> Output<T> {
    /// Starts at 0. `size` in bytes, rounded to whole blocks.
    pub fn new(target: T, size: usize) -> Result<Self, Error> {
        let blocks = size.div_ceil(BLOCK).max(1);
        let buffer = Aligned::new(blocks.saturating_mul(BLOCK).min(16 << 20))?;
        Ok(Self {
            target,
            buffer,
            at: 0,
            fill: 0,
        })
    }

    /// Bytes so far.
    pub fn position(&self) -> u64 {
        self.at + self.fill as u64
    }

    /// Bytes that the target holds, `None` for a stream.
    pub fn size(&self) -> Option<u64> {
        self.target.size()
    }

    /// Appends.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let free = &mut self.buffer.bytes_mut()[self.fill..];
            let (now, rest) = bytes.split_at(bytes.len().min(free.len()));
            free[..now.len()].copy_from_slice(now);
            self.fill += now.len();
            bytes = rest;
            if self.fill == self.buffer.bytes().len() {
                self.write_out()?;
            }
        }
        Ok(())
    }

    /// Goes on at `at`, a multiple of [`BLOCK`], with nothing in the buffer; what is left out is
    /// written by [`write_at`](Self::write_at).
    pub fn skip_to(&mut self, at: u64) {
        if self.fill == 0 {
            self.at = at;
        }
    }

    /// Appends zeros up to a multiple of `align`, at most a block.
    pub fn pad(&mut self, align: usize) -> Result<(), Error> {
        let over = (self.position() % align as u64) as usize;
        let zeros = [0; BLOCK];
        self.push(&zeros[..if over == 0 { 0 } else { align - over }])
    }

    /// Writes the buffer, filled up to a block.
    pub fn write_out(&mut self) -> Result<(), Error> {
        let end = self.fill.next_multiple_of(BLOCK);
        self.buffer.bytes_mut()[self.fill..end].fill(0);
        let (at, what) = (self.at, "writing the image");
        put(&mut self.target, at, end, what, |target| {
            target.write_buffer(at, &mut self.buffer, end)
        })?;
        self.at += end as u64;
        self.fill = 0;
        Ok(())
    }

    /// Writes somewhere else, past the buffer.
    pub fn write_at(&mut self, at: u64, bytes: &[u8], what: &'static str) -> Result<(), Error> {
        put(&mut self.target, at, bytes.len(), what, |target| {
            target.write_at(at, bytes)
        })
    }

    /// See [`Target::flush`].
    pub fn flush(&mut self, what: &'static str) -> Result<(), Error> {
        let io = |source| Error::Io { what, source };
        self.target.flush().map_err(io)
    }
}

fn put<T: Target>(
    target: &mut T,
    at: u64,
    len: usize,
    what: &'static str,
    write: impl FnOnce(&mut T) -> std::io::Result<()>,
) -> Result<(), Error> {
    let need = at + len as u64;
    if let Some(have) = target.size().filter(|size| need > *size) {
        return Err(Error::NoRoom { need, have });
    }
    write(target).map_err(|source| {
        let have = at;
        match source.kind() {
            ErrorKind::StorageFull => Error::NoRoom { need, have },
            _ => Error::Io { what, source },
        }
    })
}
