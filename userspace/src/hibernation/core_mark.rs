//! The mark in a core that its kernel must not be entered from any more: it went on after it was saved,
//! or it was resumed once. The core can still be looked at.

use std::io;

use kjump_core::{Core, Refusal};
use kjump_image::{Aligned, Source, Target, PAGE};

use crate::error::{Error, Result};

/// A core with a mark in it, which can be taken away again.
pub struct Marked<T> {
    target: T,
    name: String,
    /// Where the mark is, bytes.
    at: u64,
    /// What was there before.
    before: [u8; 4],
}

impl<T: Source + Target> Marked<T> {
    /// Puts `word` (`kjump_core::layout::GIVEN_UP` or `USED`) into the core in `target`; it is on the
    /// disk then. `None` for what cannot be resumed anyway: it has a mark, is no whole core, or does
    /// not say where its kernel is entered.
    ///
    /// # Errors
    ///
    /// [`Error::Core`] for what cannot be read; [`Error::Io`] for what cannot be written: the mark may
    /// be there or not then.
    pub fn mark(mut target: T, name: &str, word: u32) -> Result<Option<Self>> {
        let at = match Core::read(&mut target) {
            Ok(core) => core.core_note_at,
            Err(Refusal::NotElf | Refusal::GivenUp | Refusal::Used) => None,
            Err(source) => {
                let file = name.into();
                return Err(Error::Core { file, source });
            }
        };
        let Some(at) = at else {
            return Ok(None);
        };
        let (name, before) = (name.to_owned(), [0; 4]);
        let mut marked = Self {
            target,
            name,
            at,
            before,
        };
        marked.before = marked.swap(word.to_le_bytes())?;
        Ok(Some(marked))
    }

    /// Takes the mark away: nothing has come of it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn withdraw(mut self) -> Result<()> {
        self.swap(self.before).map(drop)
    }

    /// Writes four bytes, in their block, and flushes; gives what was there.
    fn swap(&mut self, bytes: [u8; 4]) -> Result<[u8; 4]> {
        let io = |e| Error::io(self.name.as_str(), e);
        let mut block = Aligned::new(PAGE).map_err(|_| io(io::ErrorKind::OutOfMemory.into()))?;
        // Notes are aligned to four bytes, so it is in one block.
        let (start, over) = (self.at & !(PAGE as u64 - 1), self.at as usize % PAGE);
        let read = self.target.read_at(start, block.bytes_mut()).map_err(io)?;
        if read != PAGE {
            return Err(io(io::ErrorKind::UnexpectedEof.into()));
        }
        let place = &mut block.bytes_mut()[over..over + 4];
        let mut before = [0; 4];
        before.copy_from_slice(place);
        place.copy_from_slice(&bytes);
        self.target.write_at(start, block.bytes()).map_err(io)?;
        self.target.flush().map_err(io)?;
        Ok(before)
    }
}
