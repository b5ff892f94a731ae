//! What an image is written to and read from.

use std::io;

use crate::buffer::Aligned;

/// A place for an image.
///
/// Every write starts at a multiple of 4096 bytes, has a multiple of 4096 bytes, and comes from
/// memory that is aligned to 4096: what O_DIRECT wants.
pub trait Target {
    /// Bytes that it holds. `None` for a stream: it is written strictly from front to back, and
    /// holds what comes.
    fn size(&self) -> Option<u64>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// The same of the first `len` bytes of a buffer. It may be exchanged for another one of the same size, and
    /// the write may go on when this returns: then a failure is told by a later call.
    fn write_buffer(&mut self, offset: u64, buffer: &mut Aligned, len: usize) -> io::Result<()> {
        self.write_at(offset, &buffer.bytes()[..len])
    }
    /// Returns when all that was written would survive a power cut.
    fn flush(&mut self) -> io::Result<()>;
}

/// Where an image comes from. Reads are aligned as a [`Target`]'s writes are.
pub trait Source {
    /// Bytes that it has. `None` for a stream: it is read strictly from front to back.
    fn size(&self) -> Option<u64>;
    /// Reads at `offset` and tells how much it was: 0 at the end; else all of `buf` or up to the
    /// end, but a stream may give any part of it.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
}

impl<T: Target + ?Sized> Target for &mut T {
    fn size(&self) -> Option<u64> {
        (**self).size()
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        (**self).write_at(offset, bytes)
    }
    fn write_buffer(&mut self, offset: u64, buffer: &mut Aligned, len: usize) -> io::Result<()> {
        (**self).write_buffer(offset, buffer, len)
    }
    fn flush(&mut self) -> io::Result<()> {
        (**self).flush()
    }
}

impl<S: Source + ?Sized> Source for &mut S {
    fn size(&self) -> Option<u64> {
        (**self).size()
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, buf)
    }
}

impl<T: Target + ?Sized> Target for Box<T> {
    fn size(&self) -> Option<u64> {
        (**self).size()
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        (**self).write_at(offset, bytes)
    }
    fn write_buffer(&mut self, offset: u64, buffer: &mut Aligned, len: usize) -> io::Result<()> {
        (**self).write_buffer(offset, buffer, len)
    }
    fn flush(&mut self) -> io::Result<()> {
        (**self).flush()
    }
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn size(&self) -> Option<u64> {
        (**self).size()
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, buf)
    }
}
