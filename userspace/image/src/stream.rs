//! A pipe, a socket, or anything else that only goes forward.

use std::io::{self, ErrorKind, Read, Write};

use crate::target::{Source, Target};

fn backwards(at: u64, offset: u64) -> io::Error {
    let what = format!("a stream at byte {at} cannot go to byte {offset}");
    io::Error::new(ErrorKind::Unsupported, what)
}

/// A [`Target`] over any `Write`.
#[derive(Debug)]
pub struct StreamTarget<W> {
    inner: W,
    at: u64,
}

impl<W: Write> StreamTarget<W> {
    /// The image starts where `inner` is.
    pub fn new(inner: W) -> Self {
        Self { inner, at: 0 }
    }
    /// Gives it back.
    pub fn into_inner(self) -> W {
        self.inner
    }
}

impl<W: Write> Target for StreamTarget<W> {
    fn size(&self) -> Option<u64> {
        None
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if offset != self.at {
            return Err(backwards(self.at, offset));
        }
        self.inner.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A [`Source`] over any `Read`.
#[derive(Debug)]
pub struct StreamSource<R> {
    inner: R,
    at: u64,
}

impl<R: Read> StreamSource<R> {
    /// The image starts where `inner` is.
    pub fn new(inner: R) -> Self {
        Self { inner, at: 0 }
    }
}

impl<R: Read> Source for StreamSource<R> {
    fn size(&self) -> Option<u64> {
        None
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if offset != self.at {
            return Err(backwards(self.at, offset));
        }
        let done = loop {
            match self.inner.read(buf) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.at += done as u64;
        Ok(done)
    }
}
