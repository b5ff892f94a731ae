//! The header, to and from its block.

use kjump_abi::Range;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::bounds::Bounds;
use crate::codec::Codec;
use crate::crypt::{Encryption, KeySource, Keys, Proofs};
use crate::error::{Error, Refusal};
use crate::guard::text;
use crate::layout::{
    self, KeyInfo, RamRange, BLOCK, CHUNKS_OFFSET, FLAGS, FLAG_ENCRYPTED, FLAG_SNAPSHOT,
    GUARDS_OFFSET, GUARDS_SIZE, HEADER_MAGIC, KEY_FILE, KEY_PASSPHRASE, MAX_CHUNK_PAGES,
    RAM_RANGES, SKIPPED_KINDS, VERSION,
};
use crate::mark::digest;
use crate::table::{self, table_size, Base};

/// Pages with contents of a chunk, unless a header says otherwise.
pub const CHUNK_PAGES: u32 = 32;

/// What is known about an image before its first page is read. Addresses in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The image's UUID; not zeros.
    pub uuid: [u8; 16],
    /// When saving began, seconds since 1970 UTC.
    pub created: u64,
    /// The saved kernel's architecture: [`ARCH_I386`](crate::ARCH_I386) or another.
    pub arch: u32,
    /// May be resumed more than once.
    pub snapshot: bool,
    /// The machine's fingerprint, as in the handoff block.
    pub fingerprint: u64,
    /// The saved kernel's `uname -r`, up to 63 bytes without NUL.
    pub release: String,
    /// Identity of that kernel's build.
    pub build_id: [u8; 32],
    /// CPU features that the saved kernel relies on, opaque here.
    pub cpu_features: [u8; 64],
    /// The window is RAM in `[0, window_end)`; a multiple of 4096.
    pub window_end: u64,
    /// Physical address at which the saved kernel is entered.
    pub jump_back_entry: u64,
    /// Pages in the image.
    pub pages: u64,
    /// Pages that are not in it, by kind: [`layout::SKIPPED`].
    pub skipped: [u64; SKIPPED_KINDS],
    /// How pages are compressed.
    pub codec: Codec,
    /// Pages with contents that a chunk holds at most.
    pub chunk_pages: u32,
    /// The machine's RAM, ascending.
    pub ram: Vec<Range>,
    /// How it is encrypted, if it is.
    pub encryption: Option<Encryption>,
    /// There is a table of its pages, so that another image can build on this one.
    pub table: bool,
    /// What it builds on itself.
    pub base: Option<Base>,
}

impl Default for Header {
    fn default() -> Self {
        Self {
            uuid: [0; 16],
            created: 0,
            arch: kjump_abi::ARCH_I386,
            snapshot: false,
            fingerprint: 0,
            release: String::new(),
            build_id: [0; 32],
            cpu_features: [0; 64],
            window_end: kjump_abi::DEFAULT_WINDOW_END,
            jump_back_entry: 0,
            pages: 0,
            skipped: [0; SKIPPED_KINDS],
            codec: Codec::Lz4,
            chunk_pages: CHUNK_PAGES,
            ram: Vec::new(),
            encryption: None,
            table: false,
            base: None,
        }
    }
}

impl Header {
    /// Where its pages may lie, or what is wrong with it.
    pub(crate) fn check(&self) -> Result<Bounds, &'static str> {
        if self.uuid == [0; 16] {
            return Err("the UUID is zeros");
        }
        if self.release.len() > 63 || self.release.contains('\0') {
            return Err("the kernel release is longer than 63 bytes or has a NUL");
        }
        if !self.window_end.is_multiple_of(BLOCK as u64) {
            return Err("the window does not end at a page");
        }
        if !(1..=MAX_CHUNK_PAGES).contains(&self.chunk_pages) {
            return Err("the pages a chunk are not 1 to 256");
        }
        if self.ram.len() > RAM_RANGES {
            return Err("more than 64 RAM ranges");
        }
        let Some(bounds) = Bounds::new(&self.ram, self.window_end) else {
            return Err("the RAM ranges do not ascend");
        };
        if self.pages > bounds.pages() {
            return Err("more pages than RAM above the window");
        }
        if !bounds.has(self.jump_back_entry / BLOCK as u64, 1) {
            return Err("the jump-back entry is not in RAM above the window");
        }
        if let Some(encryption) = &self.encryption {
            encryption.check()?;
            // It has a digest of each page, by which a guess could be tried.
            if self.table || self.base.is_some() {
                return Err("an encrypted image has no table of pages, and no base");
            }
        }
        if let Some(base) = &self.base {
            base.check(self.table)?;
        }
        Ok(bounds)
    }

    /// Bytes of the table of pages.
    pub fn table_size(&self) -> u64 {
        match self.table {
            true => table_size(self.pages),
            false => 0,
        }
    }

    /// Where the first chunk is.
    pub(crate) fn chunks_offset(&self) -> u64 {
        CHUNKS_OFFSET + self.table_size()
    }

    /// The header's block, for what carries it elsewhere than in an image.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with what is wrong with it.
    pub fn to_block(&self) -> Result<[u8; BLOCK], Error> {
        self.check().map_err(Error::Invalid)?;
        let mut block = [0; BLOCK];
        block.copy_from_slice(self.encode(None).as_bytes());
        Ok(block)
    }

    /// Reads and checks such a block.
    pub fn from_block(block: &[u8]) -> Result<Self, Refusal> {
        Self::decode(block).map(|(header, _)| header)
    }

    /// As on the disk. [`check`](Self::check) comes first. `keys` are those of [`Header::encryption`].
    pub(crate) fn encode(&self, keys: Option<&Keys>) -> layout::Header {
        let mut h = layout::Header::new_zeroed();
        h.magic = HEADER_MAGIC;
        h.version.set(VERSION);
        h.size.set(BLOCK as u32);
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        let encrypted = flag(self.encryption.is_some(), FLAG_ENCRYPTED);
        let snapshot = flag(self.snapshot, FLAG_SNAPSHOT);
        h.flags.set(snapshot | encrypted | table::flags(self));
        h.incremental = table::encode(self);
        h.arch.set(self.arch);
        h.page_size.set(BLOCK as u32);
        h.uuid = self.uuid;
        h.created.set(self.created);
        h.fingerprint.set(self.fingerprint);
        for (to, from) in h.release.iter_mut().zip(self.release.bytes().take(63)) {
            *to = from;
        }
        h.build_id = self.build_id;
        h.cpu_features = self.cpu_features;
        h.window_end.set(self.window_end);
        h.jump_back_entry.set(self.jump_back_entry);
        h.pages.set(self.pages);
        h.skipped = self.skipped.map(U64::new);
        h.guards_offset.set(GUARDS_OFFSET);
        h.guards_size.set(GUARDS_SIZE);
        h.chunks_offset.set(self.chunks_offset());
        h.codec.set(self.codec.number());
        h.chunk_pages.set(self.chunk_pages);
        h.ram_count.set(self.ram.len().min(RAM_RANGES) as u32);
        for (to, from) in h.ram.iter_mut().zip(&self.ram) {
            let (start, end) = (from.start.into(), from.end.into());
            *to = RamRange { start, end };
        }
        if let Some(encryption) = &self.encryption {
            h.key = key_info(encryption);
        }
        if let Some(keys) = keys {
            h.key.check = keys.key_check();
            h.key.seal = keys.header(&digest(h.as_bytes()));
        }
        h.crc.set(crc32fast::hash(h.as_bytes()));
        h
    }

    /// Reads and checks a header's block.
    pub(crate) fn decode(block: &[u8]) -> Result<(Self, Bounds), Refusal> {
        let Ok(mut h) = layout::Header::read_from_bytes(block) else {
            return Err(Refusal::Torn { what: "the header" });
        };
        let damaged = |what| Err(Refusal::Damaged { what });
        if h.magic != HEADER_MAGIC {
            return damaged("the header has no magic");
        }
        let crc = h.crc.get();
        h.crc.set(0);
        if crc32fast::hash(h.as_bytes()) != crc {
            return damaged("the header does not match its checksum");
        }
        let unknown = |what, number| Err(Refusal::BadVersion { what, number });
        if h.version != VERSION || h.size != BLOCK as u32 {
            return unknown("version of the header", h.version.get());
        }
        if h.flags.get() & !FLAGS != 0 {
            return unknown("flags", h.flags.get());
        }
        let Some(codec) = Codec::from_number(h.codec.get()) else {
            return unknown("compression", h.codec.get());
        };
        let (table, base) = table::decode(&h)?;
        let chunks_offset = CHUNKS_OFFSET.saturating_add(h.incremental.table_size.get());
        let places = [h.guards_offset, h.guards_size, h.chunks_offset].map(U64::get);
        if h.page_size != BLOCK as u32 || places != [GUARDS_OFFSET, GUARDS_SIZE, chunks_offset] {
            return Err(Refusal::BadHeader(
                "page size or offsets are not those of version 1",
            ));
        }
        let Some(ram) = h.ram.get(..h.ram_count.get() as usize) else {
            return Err(Refusal::BadHeader("more than 64 RAM ranges"));
        };
        let range = |r: &RamRange| Range {
            start: r.start.get(),
            end: r.end.get(),
        };
        let header = Self {
            uuid: h.uuid,
            created: h.created.get(),
            arch: h.arch.get(),
            snapshot: h.flags.get() & FLAG_SNAPSHOT != 0,
            fingerprint: h.fingerprint.get(),
            release: text(&h.release),
            build_id: h.build_id,
            cpu_features: h.cpu_features,
            window_end: h.window_end.get(),
            jump_back_entry: h.jump_back_entry.get(),
            pages: h.pages.get(),
            skipped: h.skipped.map(U64::get),
            codec,
            chunk_pages: h.chunk_pages.get(),
            ram: ram.iter().map(range).collect(),
            encryption: encryption(&h)?,
            table,
            base,
        };
        let bounds = header.check().map_err(Refusal::BadHeader)?;
        Ok((header, bounds))
    }
}

/// How it is encrypted, as on the disk; without what needs the key.
fn key_info(encryption: &Encryption) -> KeyInfo {
    let mut key = KeyInfo::new_zeroed();
    key.nonce = encryption.nonce;
    match encryption.source {
        KeySource::File => key.source.set(KEY_FILE),
        KeySource::Passphrase {
            salt,
            memory,
            passes,
            lanes,
        } => {
            key.source.set(KEY_PASSPHRASE);
            key.salt = salt;
            key.memory.set(memory);
            key.passes.set(passes);
            key.lanes.set(lanes);
        }
    }
    key
}

/// How an image is encrypted, if it is.
fn encryption(h: &layout::Header) -> Result<Option<Encryption>, Refusal> {
    if h.flags.get() & FLAG_ENCRYPTED == 0 {
        return Ok(None);
    }
    let source = match h.key.source.get() {
        KEY_FILE => KeySource::File,
        KEY_PASSPHRASE => KeySource::Passphrase {
            salt: h.key.salt,
            memory: h.key.memory.get(),
            passes: h.key.passes.get(),
            lanes: h.key.lanes.get(),
        },
        number => {
            let what = "source of the key";
            return Err(Refusal::BadVersion { what, number });
        }
    };
    let nonce = h.key.nonce;
    Ok(Some(Encryption { source, nonce }))
}

/// What of a header's block is sealed, into `proofs`.
pub(crate) fn prove(block: &[u8], proofs: &mut Proofs) {
    if let Ok(mut h) = layout::Header::read_from_bytes(block) {
        proofs.check = h.key.check;
        let seal = std::mem::take(&mut h.key.seal);
        h.crc.set(0);
        proofs.header = (digest(h.as_bytes()), seal);
    }
}
