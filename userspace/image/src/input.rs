//! Large aligned reads in, small pieces out.

use crate::buffer::{is_zero, Aligned};
use crate::error::Refusal;
use crate::layout::BLOCK;
use crate::target::Source;

/// Bytes a read: who restores in a window has a MiB or two in all.
const BUFFER: usize = 256 << 10;

/// A source with a buffer behind.
pub struct Input<S> {
    source: S,
    buffer: Aligned,
    /// Where the buffer's first byte is in the source.
    at: u64,
    /// The bytes of the buffer that were not taken yet.
    next: usize,
    end: usize,
}

impl<S: Source> Input<S> {
    /// Starts at 0.
    pub fn new(source: S) -> Result<Self, Refusal> {
        Self::with_buffer(source, BUFFER)
    }

    /// The same, with a buffer of so many bytes, a multiple of [`BLOCK`].
    pub fn with_buffer(source: S, bytes: usize) -> Result<Self, Refusal> {
        Ok(Self {
            source,
            buffer: Aligned::new(bytes)?,
            at: 0,
            next: 0,
            end: 0,
        })
    }

    /// The source.
    pub fn source(&mut self) -> &mut S {
        &mut self.source
    }

    /// Gives the source back.
    pub fn into_source(self) -> S {
        self.source
    }

    /// Where the next byte comes from.
    pub fn position(&self) -> u64 {
        self.at + self.next as u64
    }

    /// Continues at `at`, a multiple of [`BLOCK`]. A stream can only stay where it is, which is
    /// found out by the next read.
    pub fn seek(&mut self, at: u64) {
        if at != self.position() {
            self.at = at;
            (self.next, self.end) = (0, 0);
        }
    }

    /// Fills `to`, or says that `what` is cut off.
    pub fn read(&mut self, to: &mut [u8], what: &'static str) -> Result<(), Refusal> {
        let mut done = 0;
        while done < to.len() {
            if self.next == self.end {
                self.refill(what)?;
            }
            let n = (self.end - self.next).min(to.len() - done);
            let from = &self.buffer.bytes()[self.next..self.next + n];
            to[done..done + n].copy_from_slice(from);
            self.next += n;
            done += n;
        }
        Ok(())
    }

    /// Passes over zeros up to a multiple of `align`, at most a block; says whether they were.
    pub fn skip_padding(&mut self, align: usize, what: &'static str) -> Result<bool, Refusal> {
        let mut zeros = [0; BLOCK];
        let over = (self.position() % align as u64) as usize;
        let zeros = &mut zeros[..if over == 0 { 0 } else { align - over }];
        self.read(zeros, what)?;
        Ok(is_zero(zeros))
    }

    fn refill(&mut self, what: &'static str) -> Result<(), Refusal> {
        self.at += self.end as u64;
        (self.next, self.end) = (0, 0);
        let read = self.source.read_at(self.at, self.buffer.bytes_mut());
        match read.map_err(|source| Refusal::Io { what, source })? {
            0 => Err(Refusal::Torn { what }),
            n => {
                self.end = n.min(self.buffer.bytes().len());
                Ok(())
            }
        }
    }
}
