//! States and seals, to and from their sectors.

use std::time::SystemTime;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::buffer::is_zero;
use crate::crypt::Keys;
use crate::error::Refusal;
use crate::layout::{Mark, Seal, BLOCK, MARK_MAGIC, SECTOR, VERSION};

/// An image in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of the image, from its start to its end.
    pub image_bytes: u64,
    /// Chunks.
    pub chunks: u64,
    /// Runs of pages.
    pub runs: u64,
    /// Pages with contents.
    pub data_pages: u64,
    /// Pages of zeros.
    pub zero_pages: u64,
    /// Pages that are in the base. Not in a seal: the header's pages less those above.
    pub base_pages: u64,
    /// Bytes of the pages with contents as stored.
    pub stored_bytes: u64,
    /// Chunks with contents that compression would have made larger.
    pub raw_chunks: u64,
}

impl Totals {
    /// All pages.
    pub fn pages(&self) -> u64 {
        self.data_pages + self.zero_pages + self.base_pages
    }

    /// As on the disk; the identity and the hashes are left to the caller.
    pub(crate) fn seal(&self) -> Seal {
        let mut seal = Seal::new_zeroed();
        seal.image_bytes.set(self.image_bytes);
        seal.chunks.set(self.chunks);
        seal.runs.set(self.runs);
        seal.data_pages.set(self.data_pages);
        seal.zero_pages.set(self.zero_pages);
        seal.stored_bytes.set(self.stored_bytes);
        seal.raw_chunks.set(self.raw_chunks);
        seal
    }
}

impl From<&Seal> for Totals {
    fn from(seal: &Seal) -> Self {
        Self {
            image_bytes: seal.image_bytes.get(),
            chunks: seal.chunks.get(),
            runs: seal.runs.get(),
            data_pages: seal.data_pages.get(),
            zero_pages: seal.zero_pages.get(),
            base_pages: 0,
            stored_bytes: seal.stored_bytes.get(),
            raw_chunks: seal.raw_chunks.get(),
        }
    }
}

/// BLAKE3.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// Seconds since 1970 UTC by this machine's clock.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs())
}

/// A mark of a complete image; of an encrypted one if `keys` are given.
pub fn sealed(state: u32, time: u64, seal: &Seal, keys: Option<&Keys>) -> Mark {
    let mut mark = open(state, time, seal);
    mark.image_digest = digest(seal.as_bytes());
    if let Some(keys) = keys {
        mark.image_seal = keys.image(&mark.image_digest);
    }
    mark.crc.set(checksum(&mark));
    mark
}

/// A mark of an image that is not complete yet.
pub fn open(state: u32, time: u64, seal: &Seal) -> Mark {
    let mut mark = Mark::new_zeroed();
    mark.magic = MARK_MAGIC;
    mark.version.set(VERSION);
    mark.state.set(state);
    mark.time.set(time);
    mark.seal = *seal;
    mark.crc.set(checksum(&mark));
    mark
}

fn checksum(mark: &Mark) -> u32 {
    let mut copy = *mark;
    copy.crc.set(0);
    crc32fast::hash(copy.as_bytes())
}

/// Reads the mark in a block. `None` if the block is not one: another program's, or damaged so
/// badly that nobody can tell.
pub fn parse(block: &[u8], what: &'static str) -> Result<Option<Mark>, Refusal> {
    let Ok((mark, rest)) = Mark::read_from_prefix(block) else {
        return Err(Refusal::Torn { what });
    };
    if mark.magic != MARK_MAGIC {
        return Ok(None);
    }
    if mark.crc.get() != checksum(&mark) {
        return Err(Refusal::Damaged { what });
    }
    if mark.version.get() != VERSION {
        let number = mark.version.get();
        return Err(Refusal::BadVersion { what, number });
    }
    if rest.len() != BLOCK - SECTOR || !is_zero(rest) {
        return Err(Refusal::Damaged { what });
    }
    Ok(Some(mark))
}

/// Reads the mark in a block that may also be zeros.
pub fn parse_optional(block: &[u8], what: &'static str) -> Result<Option<Mark>, Refusal> {
    if is_zero(block) {
        return Ok(None);
    }
    match parse(block, what)? {
        None => Err(Refusal::Damaged { what }),
        mark => Ok(mark),
    }
}

/// Whether a mark's seal hashes to its digest.
pub fn is_sealed(mark: &Mark) -> bool {
    mark.image_digest == digest(mark.seal.as_bytes())
}
