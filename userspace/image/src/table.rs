//! Images that build on others: what a header says of that, and the table of pages by which what has
//! not changed is told.
//!
//! The table has the first 16 bytes of each page's BLAKE3, so that a base's pages need not be read to
//! compare with them. With 128 bits, two pages that differ have the same by chance once in 2^64 pages
//! or so, and nobody can make such two with less than 2^64 tries, whose only harm would be to that
//! somebody's own memory. A page that comes from a base is compared with the table of the image
//! that needs it, so a base that is not what it was is found out.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::buffer::{is_zero, Aligned};
use crate::chunk::tag;
use crate::error::{Error, Refusal};
use crate::guard::text;
use crate::header::Header;
use crate::layout::{
    self, Incremental, TableEntry, TableHead, BASE_AT_SIZE, BLOCK, CHUNKS_OFFSET, FLAG_BASE,
    FLAG_TABLE, MAX_DEPTH, TABLE_ENTRIES,
};
use crate::output::Output;
use crate::target::{Source, Target};

/// Blocks of the table in memory.
const BUFFERED: usize = 4;

/// The image that an incremental one builds on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its UUID.
    pub uuid: [u8; 16],
    /// Checksum of all of it, as its commit record has it.
    pub digest: [u8; 32],
    /// Images below the one that this is the base of: 1 if the base has none itself.
    pub depth: u32,
    /// Where it was when the image was saved, as targets are named; up to 255 bytes.
    pub at: String,
}

impl Base {
    pub(crate) fn check(&self, table: bool) -> Result<(), &'static str> {
        if !table {
            return Err("it has a base and no table of pages");
        }
        if self.uuid == [0; 16] || !(1..=MAX_DEPTH).contains(&self.depth) {
            return Err("its base has no UUID, or is the top of more than 4 images");
        }
        if self.at.len() >= BASE_AT_SIZE || self.at.contains('\0') {
            return Err("the place of its base is longer than 255 bytes or has a NUL");
        }
        Ok(())
    }

    /// For messages.
    pub fn name(&self) -> String {
        let at: String = self.at.chars().filter(|c| !c.is_control()).collect();
        format!("{} ({at})", crate::inspect::uuid(&self.uuid))
    }

    /// What is wrong with it, as a refusal.
    pub fn refusal(&self, why: impl Into<String>) -> Refusal {
        let (base, why) = (self.name(), why.into());
        Refusal::Base { base, why }
    }
}

/// The flags of a header.
pub fn flags(header: &Header) -> u32 {
    let flag = |on: bool, flag: u32| if on { flag } else { 0 };
    flag(header.table, FLAG_TABLE) | flag(header.base.is_some(), FLAG_BASE)
}

/// A header's part on the disk.
pub fn encode(header: &Header) -> Incremental {
    let mut i = Incremental::new_zeroed();
    i.table_size.set(header.table_size());
    if let Some(base) = &header.base {
        i.depth.set(base.depth);
        (i.base_uuid, i.base_digest) = (base.uuid, base.digest);
        let at = base.at.bytes().take(BASE_AT_SIZE - 1);
        i.base_at
            .iter_mut()
            .zip(at)
            .for_each(|(to, from)| *to = from);
    }
    i
}

/// Reads it: whether there is a table, and the base.
pub fn decode(h: &layout::Header) -> Result<(bool, Option<Base>), Refusal> {
    let (i, has) = (&h.incremental, |flag| h.flags.get() & flag != 0);
    let size = match has(FLAG_TABLE) {
        true => table_size(h.pages.get()),
        false => 0,
    };
    if i.table_size != size {
        return Err(Refusal::BadHeader("the table of pages has another size"));
    }
    let base = has(FLAG_BASE).then(|| Base {
        uuid: i.base_uuid,
        digest: i.base_digest,
        depth: i.depth.get(),
        at: text(&i.base_at),
    });
    Ok((has(FLAG_TABLE), base))
}

/// Bytes of the table of an image with so many pages; a multiple of 4096.
pub fn table_size(pages: u64) -> u64 {
    pages
        .div_ceil(TABLE_ENTRIES as u64)
        .saturating_mul(BLOCK as u64)
}

/// What the table has of a page.
pub fn hash(page: &[u8]) -> [u8; 16] {
    if is_zero(page) {
        return [0; 16];
    }
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::hash(page).as_bytes()[..16]);
    hash
}

/// A block's checksum.
fn checksum(block: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[0; 4]);
    crc.update(&block[4..]);
    crc.finalize()
}

/// Writes a table while the pages go by.
pub struct TableWriter {
    tag: u64,
    buffer: Aligned,
    /// Entries in the buffer, and blocks written before it.
    entries: usize,
    blocks: u64,
    hasher: blake3::Hasher,
}

impl TableWriter {
    /// Of the image with that digest of its header.
    pub fn new(header_digest: &[u8; 32]) -> Result<Self, Error> {
        Ok(Self {
            tag: tag(header_digest),
            buffer: Aligned::new(BUFFERED * BLOCK)?,
            entries: 0,
            blocks: 0,
            hasher: blake3::Hasher::new(),
        })
    }

    /// Adds a page; numbers ascend.
    pub fn push<T: Target>(
        &mut self,
        pfn: u64,
        hash: [u8; 16],
        out: &mut Output<T>,
    ) -> Result<(), Error> {
        let (block, entry) = (self.entries / TABLE_ENTRIES, self.entries % TABLE_ENTRIES);
        let at = block * BLOCK + size_of::<TableHead>() + entry * size_of::<TableEntry>();
        let pfn = pfn.into();
        let entry = TableEntry { pfn, hash };
        self.buffer.bytes_mut()[at..at + size_of::<TableEntry>()].copy_from_slice(entry.as_bytes());
        self.entries += 1;
        match self.entries == BUFFERED * TABLE_ENTRIES {
            true => self.write(out),
            false => Ok(()),
        }
    }

    fn write<T: Target>(&mut self, out: &mut Output<T>) -> Result<(), Error> {
        let blocks = self.entries.div_ceil(TABLE_ENTRIES);
        let bytes = &mut self.buffer.bytes_mut()[..blocks * BLOCK];
        for (block, index) in bytes.chunks_exact_mut(BLOCK).zip(self.blocks..) {
            let mut head = TableHead {
                crc: U32::ZERO,
                // CAST: pages have 52 bits at most, and RAM far less; a reader compares.
                index: U32::new(index as u32),
                tag: self.tag.into(),
            };
            block[..size_of::<TableHead>()].copy_from_slice(head.as_bytes());
            head.crc.set(checksum(block));
            block[..size_of::<TableHead>()].copy_from_slice(head.as_bytes());
        }
        self.hasher.update(bytes);
        let at = CHUNKS_OFFSET + self.blocks * BLOCK as u64;
        out.write_at(at, bytes, "writing the table of pages")?;
        bytes.fill(0);
        self.blocks += blocks as u64;
        self.entries = 0;
        Ok(())
    }

    /// Writes the rest; gives the digest of the whole.
    pub fn finish<T: Target>(&mut self, out: &mut Output<T>) -> Result<[u8; 32], Error> {
        self.write(out)?;
        Ok(*self.hasher.finalize().as_bytes())
    }
}

/// A block that was checked: its entries.
fn entries(block: &[u8], tag: u64, index: u64, next: &mut u64) -> Result<Entries, Refusal> {
    let damaged = |what| Refusal::Damaged { what };
    let what = "the table of pages does not match its checksums";
    let (Ok((head, rest)), true) = (TableHead::read_from_prefix(block), block.len() == BLOCK)
    else {
        return Err(damaged(what));
    };
    if head.crc != checksum(block) || head.tag != tag || u64::from(head.index) != index {
        return Err(damaged(what));
    }
    let Ok(list) = Entries::read_from_bytes(rest) else {
        return Err(damaged(what));
    };
    for entry in list.iter().filter(|e| e.pfn != 0) {
        if entry.pfn.get() < *next {
            return Err(damaged("the table of pages does not ascend"));
        }
        *next = entry.pfn.get() + 1;
    }
    Ok(list)
}

type Entries = [TableEntry; TABLE_ENTRIES];

/// Goes through a table, wherever it is read from.
pub struct Cursor {
    tag: u64,
    /// Bytes of the table, and how much of it was read.
    size: u64,
    read: u64,
    buffer: Aligned,
    /// Bytes in the buffer, and the block of it that comes next.
    filled: usize,
    block: usize,
    entries: Entries,
    entry: usize,
    next: u64,
}

impl Cursor {
    /// At the start of an image's table.
    pub fn new(header: &Header, header_digest: &[u8; 32]) -> Result<Self, Refusal> {
        Ok(Self {
            tag: tag(header_digest),
            size: header.table_size(),
            read: 0,
            buffer: Aligned::new(BUFFERED * BLOCK)?,
            filled: 0,
            block: 0,
            entries: [TableEntry::new_zeroed(); TABLE_ENTRIES],
            entry: TABLE_ENTRIES,
            next: 0,
        })
    }

    /// What the table has of page `pfn`. Numbers ascend from call to call.
    pub fn find(
        &mut self,
        source: &mut impl Source,
        pfn: u64,
    ) -> Result<Option<[u8; 16]>, Refusal> {
        loop {
            while let Some(entry) = self.entries.get(self.entry) {
                match entry.pfn.get() {
                    at if at == pfn => return Ok(Some(entry.hash)),
                    at if at > pfn => return Ok(None),
                    _ => self.entry += 1,
                }
            }
            if !self.next_block(source)? {
                return Ok(None);
            }
        }
    }

    fn next_block(&mut self, source: &mut impl Source) -> Result<bool, Refusal> {
        let what = "the table of pages";
        if self.block * BLOCK == self.filled {
            let want = (self.size - self.read).min((BUFFERED * BLOCK) as u64) as usize;
            if want == 0 {
                return Ok(false);
            }
            let bytes = &mut self.buffer.bytes_mut()[..want];
            let read = source.read_at(CHUNKS_OFFSET + self.read, bytes);
            if read.map_err(|source| Refusal::Io { what, source })? != want {
                return Err(Refusal::Torn { what });
            }
            (self.filled, self.block) = (want, 0);
            self.read += want as u64;
        }
        let index = (self.read - self.filled as u64) / BLOCK as u64 + self.block as u64;
        let at = self.block * BLOCK;
        let block = &self.buffer.bytes()[at..at + BLOCK];
        self.entries = entries(block, self.tag, index, &mut self.next)?;
        (self.entry, self.block) = (0, self.block + 1);
        Ok(true)
    }
}

/// Reads all of a table through `read`, which gets the next block; gives its digest.
pub fn digest_of(
    header: &Header,
    header_digest: &[u8; 32],
    mut read: impl FnMut(&mut [u8]) -> Result<(), Refusal>,
) -> Result<[u8; 32], Refusal> {
    let (mut hasher, mut block, mut next) = (blake3::Hasher::new(), [0; BLOCK], 0);
    for index in 0..header.table_size() / BLOCK as u64 {
        read(&mut block)?;
        entries(&block, tag(header_digest), index, &mut next)?;
        hasher.update(&block);
    }
    Ok(*hasher.finalize().as_bytes())
}

/// The table of an image that another is to build on: all that is read of it while that is written.
pub struct PageTable {
    source: Box<dyn Source>,
    cursor: Cursor,
}

impl PageTable {
    pub(crate) fn new(source: Box<dyn Source>, cursor: Cursor) -> Self {
        Self { source, cursor }
    }

    /// What it has of a page; numbers ascend from call to call.
    pub(crate) fn find(&mut self, pfn: u64) -> Result<Option<[u8; 16]>, Refusal> {
        self.cursor.find(&mut self.source, pfn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(
            (table_size(0), table_size(1), table_size(170)),
            (0, 4096, 4096)
        );
        assert_eq!(table_size(171), 8192);
        assert_eq!(hash(&[0; BLOCK]), [0; 16]);
        assert_ne!(hash(&[1; BLOCK]), [0; 16]);
    }
}
