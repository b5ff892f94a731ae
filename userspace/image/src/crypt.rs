//! Encrypted images: the keys of one, what they seal, and how a chunk is encrypted.
//!
//! A master key comes from a passphrase or a key file and may serve many images. Each image has keys
//! of its own, derived from the master key, 32 random bytes in its header, and its UUID. So no key
//! ever encrypts a chunk of the same number twice, and the number can be the nonce.
//!
//! What is to be read before a page is (header, guards, commit record) is not secret but sealed,
//! by BLAKE3 with a key. Chunks are encrypted and sealed by XChaCha20-Poly1305, twice each: the run
//! table and the payload.

use std::fmt;

use blake3::Hash;
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, Tag, XChaCha20Poly1305, XNonce};
use zeroize::{Zeroize, Zeroizing};

use crate::error::Refusal;

/// Bytes of a tag behind what is encrypted.
pub const TAG: usize = 16;

/// What BLAKE3 is told each key is for; the dates are those of the format's change.
const FOR_FILE: &str = "kjump image 2026-11-26 key file";
const FOR_CHUNKS: &str = "kjump image 2026-11-26 chunks";
const FOR_SEALS: &str = "kjump image 2026-11-26 seals";

/// What is sealed, so that one seal does not pass for another.
const CHECK: &[u8] = b"check";
const HEADER: &[u8] = b"header";
const GUARDS: &[u8] = b"guards";
const IMAGE: &[u8] = b"image";

/// Kibibytes of memory that a passphrase's derivation may ask for: Argon2's least for one lane, and
/// what a small machine still has.
pub const KDF_MEMORY: std::ops::RangeInclusive<u32> = 8..=1 << 20;
/// Passes that it may ask for.
pub const KDF_PASSES: std::ops::RangeInclusive<u32> = 1..=1000;
/// Kibibytes times passes that it may ask for, 16 GiB: nothing of a header is known to be right before
/// the derivation is done, so whoever wrote it must not make that last for hours.
pub const KDF_WORK: u64 = 16 << 20;
/// Lanes that it may ask for.
pub const KDF_LANES: std::ops::RangeInclusive<u32> = 1..=16;

/// The key that a passphrase or a key file comes to: 32 bytes, wiped when dropped, and never moved.
#[derive(Clone)]
pub struct MasterKey(Box<Zeroizing<[u8; 32]>>);

impl MasterKey {
    /// Room for a key, to be filled in.
    pub fn blank() -> Self {
        Self(Box::new(Zeroizing::new([0; 32])))
    }

    /// The key that a key file's contents come to: BLAKE3 in its mode for deriving keys.
    pub fn of_file(contents: &[u8]) -> Self {
        let mut key = Self::blank();
        let mut hasher = blake3::Hasher::new_derive_key(FOR_FILE);
        hasher.update(contents);
        squeeze(hasher, key.bytes_mut());
        key
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its bytes, to be filled in.
    pub fn bytes_mut(&mut self) -> &mut [u8; 32] {
        &mut self.0
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("MasterKey")
    }
}

impl PartialEq for MasterKey {
    fn eq(&self, other: &Self) -> bool {
        same(self.bytes(), other.bytes())
    }
}

impl Eq for MasterKey {}

/// Where an image's master key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A passphrase, by Argon2id, version 0x13, 32 bytes.
    Passphrase {
        /// Its salt.
        salt: [u8; 16],
        /// Kibibytes of memory, [`KDF_MEMORY`].
        memory: u32,
        /// Passes over it, [`KDF_PASSES`]; with the memory no more than [`KDF_WORK`].
        passes: u32,
        /// Lanes, [`KDF_LANES`].
        lanes: u32,
    },
    /// A key file, by [`MasterKey::of_file`].
    File,
}

/// That an image is encrypted, and by what key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// Where its master key comes from.
    pub source: KeySource,
    /// Random, never used for another image.
    pub nonce: [u8; 32],
}

impl Encryption {
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let KeySource::Passphrase {
            memory,
            passes,
            lanes,
            ..
        } = self.source
        else {
            return Ok(());
        };
        let fits = KDF_MEMORY.contains(&memory)
            && KDF_PASSES.contains(&passes)
            && KDF_LANES.contains(&lanes)
            && memory >= 8 * lanes
            && u64::from(memory) * u64::from(passes) <= KDF_WORK;
        match fits {
            true => Ok(()),
            false => Err("what the passphrase's derivation asks for is out of range"),
        }
    }
}

/// The keys of one image.
pub(crate) struct Keys {
    chunks: XChaCha20Poly1305,
    seals: Zeroizing<[u8; 32]>,
}

/// Which part of a chunk.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Runs = 1,
    Payload = 2,
}

impl Keys {
    /// On the heap, as what is moved leaves a copy behind.
    pub fn new(master: &MasterKey, encryption: &Encryption, uuid: &[u8; 16]) -> Box<Self> {
        let derive = |purpose| {
            let mut key = Zeroizing::new([0; 32]);
            let mut hasher = blake3::Hasher::new_derive_key(purpose);
            hasher.update(master.bytes());
            hasher.update(&encryption.nonce);
            hasher.update(uuid);
            squeeze(hasher, &mut key);
            key
        };
        let chunks = derive(FOR_CHUNKS);
        Box::new(Self {
            chunks: XChaCha20Poly1305::new((&*chunks).into()),
            seals: derive(FOR_SEALS),
        })
    }

    fn seal(&self, what: &[u8], digest: &[u8; 32]) -> Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.seals);
        hasher.update(what);
        hasher.update(digest);
        hasher.finalize()
    }

    /// What tells this key from another.
    pub fn key_check(&self) -> [u8; 32] {
        self.seal(CHECK, &[0; 32]).into()
    }

    /// Seals a header; `digest` is of its block without check sum and seal.
    pub fn header(&self, digest: &[u8; 32]) -> [u8; 32] {
        self.seal(HEADER, digest).into()
    }

    /// Seals guards; `digest` likewise.
    pub fn guards(&self, digest: &[u8; 32]) -> [u8; 32] {
        self.seal(GUARDS, digest).into()
    }

    /// Seals a whole image; `digest` is of the marks' seal.
    pub fn image(&self, digest: &[u8; 32]) -> [u8; 32] {
        self.seal(IMAGE, digest).into()
    }

    /// Encrypts a part of chunk `index` where it is; `head` is the chunk's.
    pub fn encrypt(&self, index: u64, part: Part, head: &[u8], bytes: &mut [u8]) -> [u8; TAG] {
        let nonce = nonce(index, part);
        match self
            .chunks
            .encrypt_inout_detached(&nonce, head, bytes.into())
        {
            Ok(tag) => tag.into(),
            // For more than 256 GiB at a time only.
            Err(_) => unreachable!("a chunk is small"),
        }
    }

    /// Decrypts it; says whether it is what was encrypted. If not `bytes` are of no use.
    pub fn decrypt(
        &self,
        index: u64,
        part: Part,
        head: &[u8],
        bytes: &mut [u8],
        tag: &[u8; TAG],
    ) -> bool {
        let (nonce, tag) = (nonce(index, part), Tag::from(*tag));
        self.chunks
            .decrypt_inout_detached(&nonce, head, bytes.into(), &tag)
            .is_ok()
    }
}

/// What a hasher comes to; it is wiped, as what it was given last is still in it.
fn squeeze(mut hasher: blake3::Hasher, key: &mut [u8; 32]) {
    let mut reader = hasher.finalize_xof();
    reader.fill(key);
    reader.zeroize();
    hasher.zeroize();
}

/// Compares without telling by the time how far they are the same.
pub(crate) fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    Hash::from_bytes(*a) == Hash::from_bytes(*b)
}

fn nonce(index: u64, part: Part) -> XNonce {
    let mut nonce = [0; 24];
    nonce[..8].copy_from_slice(&index.to_le_bytes());
    nonce[8] = part as u8;
    nonce.into()
}

/// What an encrypted image shows before its key is known, to be checked once it is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Proofs {
    pub check: [u8; 32],
    /// Digest without the seal, and the seal.
    pub header: ([u8; 32], [u8; 32]),
    /// Likewise.
    pub guards: ([u8; 32], [u8; 32]),
    /// Digest of the commit record's seal, and its own; `None` in a stream.
    pub image: Option<([u8; 32], [u8; 32])>,
}

impl Proofs {
    /// Whether all of it was made with these keys.
    pub fn check(&self, keys: &Keys) -> Result<(), Refusal> {
        if !same(&self.check, &keys.key_check()) {
            return Err(Refusal::WrongKey);
        }
        let altered = |what| Err(Refusal::Altered { what });
        if !same(&self.header.1, &keys.header(&self.header.0)) {
            return altered("the header");
        }
        if !same(&self.guards.1, &keys.guards(&self.guards.0)) {
            return altered("the guards");
        }
        match &self.image {
            Some((digest, seal)) if !same(seal, &keys.image(digest)) => {
                altered("the commit record")
            }
            _ => Ok(()),
        }
    }
}
