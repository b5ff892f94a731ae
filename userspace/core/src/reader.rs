//! Any bytes of a source, read by whole aligned blocks: what O_DIRECT wants.

use kjump_image::{Aligned, Source};

use crate::refusal::Refusal;

/// A source with a buffer in front.
pub struct Reader<S> {
    source: S,
    buffer: Aligned,
    /// Where the buffer's bytes are from.
    at: u64,
    /// How many of them there are.
    len: usize,
}

impl<S: Source> Reader<S> {
    /// `size` in bytes, a multiple of 4096: what is read at a time.
    pub fn new(source: S, size: usize) -> Result<Self, Refusal> {
        Ok(Self {
            source,
            buffer: Aligned::new(size)?,
            at: 0,
            len: 0,
        })
    }

    /// The source.
    pub fn source(&mut self) -> &mut S {
        &mut self.source
    }

    /// Fills `to` from `at`, bytes; `what` is for messages.
    ///
    /// # Errors
    ///
    /// [`Refusal::Truncated`] where the source ends, [`Refusal::Io`].
    pub fn read(&mut self, at: u64, to: &mut [u8], what: &'static str) -> Result<(), Refusal> {
        let mut done = 0;
        while done < to.len() {
            let at = at + done as u64;
            if !(self.at..self.at + self.len as u64).contains(&at) {
                self.refill(at, what)?;
            }
            let over = (at - self.at) as usize;
            let Some(bytes) = self.buffer.bytes().get(over..self.len) else {
                return Err(self.cut_off(at, what));
            };
            if bytes.is_empty() {
                return Err(self.cut_off(at, what));
            }
            let n = bytes.len().min(to.len() - done);
            to[done..done + n].copy_from_slice(&bytes[..n]);
            done += n;
        }
        Ok(())
    }

    fn refill(&mut self, at: u64, what: &'static str) -> Result<(), Refusal> {
        const BLOCK: u64 = kjump_image::PAGE as u64;
        (self.at, self.len) = (at / BLOCK * BLOCK, 0);
        let buffer = self.buffer.bytes_mut();
        while self.len < buffer.len() {
            let next = self.at + self.len as u64;
            match self.source.read_at(next, &mut buffer[self.len..]) {
                Ok(0) => break,
                Ok(n) => self.len = (self.len + n).min(buffer.len()),
                // What was asked for may lie before the place that cannot be read.
                Err(_) if next > at => break,
                Err(source) => return Err(Refusal::Io { what, source }),
            }
        }
        Ok(())
    }

    fn cut_off(&self, at: u64, what: &'static str) -> Refusal {
        Refusal::Truncated {
            what,
            end: at.saturating_add(1),
            size: self.source.size().unwrap_or(at),
        }
    }
}
