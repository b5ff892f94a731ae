//! What becomes of an image after it was written: marks, each in a sector of its own.

use zerocopy::IntoBytes;

use crate::buffer::Aligned;
use crate::chunks::Verified;
use crate::error::Error;
use crate::layout::{
    Mark, Seal, BLOCK, DISCARD_OFFSET, RESUME_OFFSET, STATE_DISCARDED, STATE_OFFSET, STATE_REFUSED,
    STATE_RESUMING, STATE_WITHDRAWN,
};
use crate::mark::{now, sealed};
use crate::target::Target;

/// Where an image is in its life; times in seconds since 1970 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Written as a stream: its end says whether it is complete.
    Stream,
    /// Complete.
    Committed,
    /// Complete; a restore from it was taken back before the saved kernel was entered.
    Withdrawn {
        /// When.
        time: u64,
    },
    /// Somebody restored memory from it and entered the saved kernel.
    Resuming {
        /// When.
        time: u64,
    },
    /// A restore from it failed in the middle; it is not tried again by itself.
    Refused {
        /// When.
        time: u64,
    },
    /// Given up.
    Discarded {
        /// When.
        time: u64,
    },
}

/// Says that memory was restored from the image and is about to be entered; flushed when this
/// returns. To be called with all pages in place, as the last thing before the way down. Does
/// nothing for a snapshot, which may be resumed again.
pub fn mark_resuming(target: &mut impl Target, verified: &Verified) -> Result<(), Error> {
    if verified.snapshot {
        return Ok(());
    }
    let mark = sealed(STATE_RESUMING, now(), &verified.seal, None);
    put(target, RESUME_OFFSET, &mark, "the mark of the restore")
}

/// Takes [`mark_resuming`] back: the saved kernel was not entered.
pub fn withdraw(target: &mut impl Target, verified: &Verified) -> Result<(), Error> {
    if verified.snapshot {
        return Ok(());
    }
    let mark = sealed(STATE_WITHDRAWN, now(), &verified.seal, None);
    put(target, RESUME_OFFSET, &mark, "the mark of the restore")
}

/// Says that a restore failed in the middle, so that the next boot does not fail the same way;
/// flushed when this returns. `seal` is [`Image::seal`](crate::Image::seal).
pub fn refuse(target: &mut impl Target, seal: &Seal) -> Result<(), Error> {
    let mark = sealed(STATE_REFUSED, now(), seal, None);
    put(target, RESUME_OFFSET, &mark, "the mark of the restore")
}

/// Gives an image up; flushed when this returns. `seal` is [`Image::seal`](crate::Image::seal).
pub fn discard(target: &mut impl Target, seal: &Seal) -> Result<(), Error> {
    let mark = sealed(STATE_DISCARDED, now(), seal, None);
    put(target, DISCARD_OFFSET, &mark, "the mark of the discard")
}

/// Makes sure that the target holds no image, whatever it holds now; flushed when this returns.
pub fn wipe(target: &mut impl Target) -> Result<(), Error> {
    let block = Aligned::new(BLOCK)?;
    put_block(target, STATE_OFFSET, &block, "the state")
}

fn put(
    target: &mut impl Target,
    offset: u64,
    mark: &Mark,
    what: &'static str,
) -> Result<(), Error> {
    put_block(target, offset, &block(mark)?, what)
}

fn put_block(
    target: &mut impl Target,
    offset: u64,
    block: &Aligned,
    what: &'static str,
) -> Result<(), Error> {
    if target.size().is_none() {
        return Err(Error::Stream);
    }
    let written = target.write_at(offset, block.bytes());
    let flushed = written.and_then(|()| target.flush());
    flushed.map_err(|source| Error::Mark { what, source })
}

/// A mark in a block of its own.
pub(crate) fn block(mark: &Mark) -> Result<Aligned, Error> {
    let mut block = Aligned::new(BLOCK)?;
    block.bytes_mut()[..size_of::<Mark>()].copy_from_slice(mark.as_bytes());
    Ok(block)
}
