//! Compression of a chunk's pages. Pure Rust, so that it builds for any target.

use std::collections::TryReserveError;
use std::fmt;

use lz4_flex::block::{
    compress_into_with_table, decompress_into, get_maximum_output_size, CompressTable,
};
use ruzstd::decoding::FrameDecoder;
use ruzstd::encoding::{compress, CompressionLevel};
use zeroize::Zeroizing;

use crate::buffer::zeros;
use crate::layout::{CODEC_LZ4, CODEC_NONE, CODEC_ZSTD};

/// How pages are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// LZ4's block format: fast both ways.
    #[default]
    Lz4,
    /// Zstandard: smaller, several times slower.
    Zstd,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::None, Self::Lz4, Self::Zstd];

    /// Its name, as users write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }

    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::None => CODEC_NONE,
            Self::Lz4 => CODEC_LZ4,
            Self::Zstd => CODEC_ZSTD,
        }
    }

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.number() == number)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Compresses chunks up to a size, with buffers that are allocated once.
pub struct Compressor {
    codec: Codec,
    table: CompressTable,
    /// Wiped, as what is compressed is as secret as what it was made of.
    out: Zeroizing<Vec<u8>>,
    check: Zeroizing<Vec<u8>>,
}

impl Compressor {
    /// `largest` in bytes.
    pub fn new(codec: Codec, largest: usize) -> Result<Self, TryReserveError> {
        let (out, check) = match codec {
            Codec::None => (0, 0),
            Codec::Lz4 => (get_maximum_output_size(largest), 0),
            // What cannot be compressed comes out with heads around it.
            Codec::Zstd => (largest + ZSTD_HEADS, largest),
        };
        Ok(Self {
            codec,
            table: CompressTable::large(),
            out: zeros(out)?.into(),
            check: zeros(check)?.into(),
        })
    }

    /// How many bytes of [`output`](Self::output) it comes to; `None` if that is not fewer.
    pub fn compress(&mut self, raw: &[u8]) -> Option<usize> {
        let len = match self.codec {
            Codec::None => return None,
            Codec::Lz4 => compress_into_with_table(raw, &mut self.out, &mut self.table).ok()?,
            Codec::Zstd => {
                self.out.clear();
                compress(raw, &mut *self.out, CompressionLevel::Fastest);
                // The encoder is young; what it made is only used if it reads back.
                let check = self.check.get_mut(..raw.len())?;
                if !decompress(Codec::Zstd, &self.out, check) || check != raw {
                    return None;
                }
                self.out.len()
            }
        };
        (len < raw.len()).then_some(len)
    }

    /// The first so many bytes of what was made.
    pub fn output(&mut self, len: usize) -> &mut [u8] {
        &mut self.out[..len]
    }
}

/// Fills `raw` exactly from `stored`, or says no; without a panic or a large allocation whatever
/// `stored` is.
pub fn decompress(codec: Codec, stored: &[u8], raw: &mut [u8]) -> bool {
    match codec {
        Codec::None => {
            let fits = stored.len() == raw.len();
            if fits {
                raw.copy_from_slice(stored);
            }
            fits
        }
        Codec::Lz4 => decompress_into(stored, raw).is_ok_and(|n| n == raw.len()),
        Codec::Zstd => {
            zstd_window(stored).is_some_and(|w| w <= MAX_ZSTD_WINDOW)
                && FrameDecoder::new()
                    .decode_all(stored, raw)
                    .is_ok_and(|n| n == raw.len())
        }
    }
}

/// Bytes that Zstandard adds at most to a chunk that it cannot make smaller, and some.
const ZSTD_HEADS: usize = 1024;

/// What a decoder has to keep; a chunk is not larger than this.
const MAX_ZSTD_WINDOW: u64 = 1 << 20;

/// The window that a Zstandard frame asks for, bytes (RFC 8878, 3.1.1.1). `None` if it is none of
/// the frames used here, which have no dictionary.
fn zstd_window(frame: &[u8]) -> Option<u64> {
    let (magic, rest) = frame.split_at_checked(4)?;
    let (descriptor, rest) = rest.split_first()?;
    if magic != [0x28, 0xb5, 0x2f, 0xfd] || descriptor & 0x0b != 0 {
        return None;
    }
    if descriptor & 0x20 == 0 {
        let window = rest.first()?;
        let base = 1u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // A single segment: the window is the content's size.
    let (width, plus) = [(1, 0), (2, 256), (4, 0), (8, 0)][usize::from(descriptor >> 6)];
    let mut size = [0; 8];
    size[..width].copy_from_slice(rest.get(..width)?);
    u64::from_le_bytes(size).checked_add(plus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn compressed(codec: Codec, raw: &[u8]) -> Option<Vec<u8>> {
        let mut c = Compressor::new(codec, raw.len()).unwrap();
        c.compress(raw).map(|len| c.output(len).to_vec())
    }

    /// Text-like bytes: runs, repeats and noise.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            vec(any::<u8>(), 1..200),
            (any::<u8>(), 1usize..3000).prop_map(|(b, n)| vec![b; n]),
            (vec(any::<u8>(), 1..9), 1usize..400).prop_map(|(p, n)| p.repeat(n)),
        ];
        vec(piece, 1..60).prop_map(|p| p.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_compressed_comes_back(raw in bytes(), which in 1usize..3) {
            let codec = Codec::ALL[which];
            if let Some(stored) = compressed(codec, &raw) {
                prop_assert!(stored.len() < raw.len());
                let mut back = vec![0; raw.len()];
                prop_assert!(decompress(codec, &stored, &mut back));
                prop_assert_eq!(&back, &raw);
                // Not with another length.
                prop_assert!(!decompress(codec, &stored, &mut vec![0; raw.len() + 1]));
                prop_assert!(!decompress(codec, &stored, &mut back[1..]));
            }
        }

        #[test]
        fn damaged_input_is_no_panic(
            raw in bytes(),
            which in 1usize..3,
            hits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let codec = Codec::ALL[which];
            if let Some(mut stored) = compressed(codec, &raw) {
                for (at, value) in hits {
                    let at = at.index(stored.len());
                    stored[at] = value;
                }
                decompress(codec, &stored, &mut vec![0; raw.len()]);
            }
        }

        #[test]
        fn noise_is_no_panic(noise in vec(any::<u8>(), 0..600)) {
            for codec in Codec::ALL {
                decompress(codec, &noise, &mut [0; 4096]);
            }
            let frame = [&[0x28, 0xb5, 0x2f, 0xfd][..], &noise].concat();
            decompress(Codec::Zstd, &frame, &mut [0; 4096]);
        }
    }

    #[test]
    fn a_window_is_bounded() {
        let frame = |rest: &[u8]| [&[0x28, 0xb5, 0x2f, 0xfd][..], rest].concat();
        assert_eq!(zstd_window(&frame(&[0, 7 << 3])), Some(128 << 10));
        assert_eq!(zstd_window(&frame(&[0x60, 1, 0])), Some(257));
        assert_eq!(
            zstd_window(&frame(&[0xe0, 0, 0, 0, 0, 1, 0, 0, 0])),
            Some(1 << 32)
        );
        assert_eq!(zstd_window(&frame(&[0x01, 0])), None);
        assert_eq!(zstd_window(&frame(&[0xe0, 0])), None);
    }
}
