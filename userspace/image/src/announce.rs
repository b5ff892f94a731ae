//! Announcing an image: who will write it runs in another kernel, where devices may have other
//! names, and finds its target by this.

use crate::buffer::Aligned;
use crate::error::{Error, Refusal};
use crate::layout::{BLOCK, STATE_OFFSET, STATE_WRITING};
use crate::mark::{now, open, parse, Totals};
use crate::state::block;
use crate::target::{Source, Target};

/// Says that an image with this UUID will be written here; flushed when this returns. An older
/// image is gone with it, for good.
pub fn announce(target: &mut impl Target, uuid: [u8; 16]) -> Result<(), Error> {
    if uuid == [0; 16] {
        return Err(Error::Invalid("its UUID is zeros"));
    }
    if target.size().is_none() {
        return Err(Error::Stream);
    }
    let mut seal = Totals::default().seal();
    seal.uuid = uuid;
    let mark = block(&open(STATE_WRITING, now(), &seal))?;
    let written = target.write_at(STATE_OFFSET, mark.bytes());
    let flushed = written.and_then(|()| target.flush());
    let what = "announcing the image";
    flushed.map_err(|source| Error::Io { what, source })
}

/// UUID of the image that is here, whatever its state, or that was [`announce`]d. `None` if the
/// first block is no mark that can be trusted.
pub fn announced(source: &mut impl Source) -> Result<Option<[u8; 16]>, Refusal> {
    let what = "the first block";
    let mut block = Aligned::new(BLOCK)?;
    let read = source.read_at(STATE_OFFSET, block.bytes_mut());
    if read.map_err(|source| Refusal::Io { what, source })? != BLOCK {
        return Ok(None);
    }
    let mark = parse(block.bytes(), what).ok().flatten();
    Ok(mark.map(|m| m.seal.uuid))
}
