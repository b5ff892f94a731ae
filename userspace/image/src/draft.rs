//! A chunk before it is written: its pages, and what was made of them.

use zerocopy::{FromZeros, IntoBytes};
use zeroize::Zeroizing;

use crate::chunk::{bound, checksum, sum_of};
use crate::codec::{Codec, Compressor};
use crate::crypt::{Keys, Part, TAG};
use crate::error::Error;
use crate::layout::{ChunkHead, Run, CHUNK_ALIGN, CHUNK_MAGIC, CODEC_NONE, MAX_RUNS};
use crate::output::Output;
use crate::target::Target;

/// What all chunks of an image have in common.
pub struct Setting {
    /// See [`crate::chunk::tag`].
    pub tag: u64,
    /// How pages are compressed.
    pub codec: Codec,
    /// Bytes of pages in a chunk.
    pub capacity: usize,
    /// With them it is encrypted.
    pub keys: Option<Box<Keys>>,
}

/// A chunk.
pub struct Draft {
    compressor: Compressor,
    /// What its pages are.
    pub runs: Vec<Run>,
    /// The pages with contents; of an image that is encrypted nothing else may tell.
    pub raw: Zeroizing<Vec<u8>>,
    /// Chunks before it.
    pub number: u64,
    /// Pages in those.
    pub first_page: u64,
    head: ChunkHead,
    /// Bytes of the pages compressed, if that makes them fewer.
    smaller: Option<usize>,
    runs_tag: [u8; TAG],
    payload_tag: [u8; TAG],
}

impl Draft {
    /// With room for a whole chunk.
    pub fn new(setting: &Setting) -> Result<Self, Error> {
        let (mut runs, mut raw) = (Vec::new(), Vec::new());
        runs.try_reserve_exact(MAX_RUNS)?;
        raw.try_reserve_exact(setting.capacity)?;
        Ok(Self {
            compressor: Compressor::new(setting.codec, setting.capacity)?,
            runs,
            raw: raw.into(),
            number: 0,
            first_page: 0,
            head: ChunkHead::new_zeroed(),
            smaller: None,
            runs_tag: [0; TAG],
            payload_tag: [0; TAG],
        })
    }

    /// Compresses, sums and encrypts it: once, as a second time it would be plain again.
    pub fn press(&mut self, setting: &Setting) {
        let (raw_len, plain) = (self.raw.len(), setting.keys.is_none());
        self.smaller = self.compressor.compress(&self.raw);
        // What is stored as it is needs no second look; and what is encrypted must not be told about.
        let raw_sum = (plain && self.smaller.is_some()).then(|| sum_of(&self.raw));
        let (payload, codec) = match self.smaller {
            Some(len) => (self.compressor.output(len), setting.codec.number()),
            None => (&mut self.raw[..], CODEC_NONE),
        };
        let mut head = ChunkHead::new_zeroed();
        head.magic = CHUNK_MAGIC;
        head.tag.set(setting.tag);
        head.index.set(self.number);
        head.run_count.set(self.runs.len() as u32);
        head.raw_len.set(raw_len as u32);
        head.stored_len.set(payload.len() as u32);
        head.codec.set(codec);
        head.first_page.set(self.first_page);
        if let Some(keys) = &setting.keys {
            let sealed = bound(&head);
            let (index, sealed) = (head.index.get(), sealed.as_bytes());
            let runs = self.runs.as_mut_bytes();
            self.runs_tag = keys.encrypt(index, Part::Runs, sealed, runs);
            self.payload_tag = keys.encrypt(index, Part::Payload, sealed, payload);
        }
        let sum = sum_of(payload);
        head.stored_sum.set(sum);
        if plain {
            head.raw_sum.set(raw_sum.unwrap_or(sum));
        }
        head.crc.set(checksum(&head, self.runs.as_bytes()));
        self.head = head;
    }

    /// Appends what [`press`](Self::press) has made of it, and digests what the image's digest is of. Gives its
    /// head.
    pub fn put<T: Target>(
        &mut self,
        sealed: bool,
        hasher: &mut blake3::Hasher,
        out: &mut Output<T>,
    ) -> Result<ChunkHead, Error> {
        let tags = |tag| if sealed { tag } else { &[][..] };
        for part in [
            self.head.as_bytes(),
            self.runs.as_bytes(),
            tags(&self.runs_tag),
        ] {
            hasher.update(part);
            out.push(part)?;
        }
        match self.smaller {
            Some(len) => out.push(self.compressor.output(len))?,
            None => out.push(&self.raw)?,
        }
        let tag = tags(&self.payload_tag);
        hasher.update(tag);
        out.push(tag)?;
        out.pad(CHUNK_ALIGN)?;
        Ok(self.head)
    }

    /// Without pages, for the next chunk.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.raw.clear();
    }
}
