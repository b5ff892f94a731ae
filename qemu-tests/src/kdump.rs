// SPDX-License-Identifier: GPL-2.0

//! makedumpfile's own format, "kdump-compressed", as far as pages in it are not compressed: one
//! block of header, the sub-header, two bitmaps (what was memory, what was dumped), a descriptor
//! for each page that was dumped, the pages.

use std::fs;
use std::path::Path;

use anyhow::{ensure, Context, Result};

const PAGE: usize = kjump_abi::PAGE_SIZE as usize;

/// Offsets in the header, as an i386 lays it out.
const BLOCK_SIZE: usize = 416;
const SUB_BLOCKS: usize = 420;
const BITMAP_BLOCKS: usize = 424;
/// Bytes of a descriptor: offset (8), size (4), flags (4), flags of the page (8).
const DESCRIPTOR: usize = 24;

/// A dump.
pub struct Kdump {
    bytes: Vec<u8>,
    /// Where the bitmap of what was dumped starts, and its bytes.
    bitmap: (usize, usize),
}

impl Kdump {
    /// Reads a file.
    pub fn read(file: &Path) -> Result<Self> {
        let bytes = fs::read(file).with_context(|| file.display().to_string())?;
        ensure!(bytes.starts_with(b"KDUMP   "), "no dump of makedumpfile's");
        let mut dump = Self {
            bytes,
            bitmap: (0, 0),
        };
        ensure!(
            dump.word(BLOCK_SIZE)? == PAGE,
            "the blocks of the dump are no pages"
        );
        let (sub, both) = (dump.word(SUB_BLOCKS)?, dump.word(BITMAP_BLOCKS)? * PAGE);
        dump.bitmap = ((1 + sub) * PAGE + both / 2, both / 2);
        ensure!(
            dump.bytes.len() >= dump.bitmap.0 + dump.bitmap.1,
            "the dump is cut off"
        );
        Ok(dump)
    }

    fn word(&self, at: usize) -> Result<usize> {
        let bytes = self.bytes.get(at..at + 4).context("the dump is cut off")?;
        let mut word = [0; 4];
        word.copy_from_slice(bytes);
        Ok(u32::from_le_bytes(word) as usize)
    }

    /// The pages that were dumped, by frame.
    ///
    /// # Errors
    ///
    /// The dump is cut off, or a page is compressed.
    pub fn pages(&self) -> Result<Vec<(u64, &[u8])>> {
        let (start, length) = self.bitmap;
        let mut pages = Vec::new();
        for frame in 0..length * 8 {
            if self.bytes[start + frame / 8] >> (frame % 8) & 1 == 0 {
                continue;
            }
            let descriptor = start + length + pages.len() * DESCRIPTOR;
            let [offset, high, size, flags] =
                [0, 4, 8, 12].map(|field| self.word(descriptor + field));
            ensure!(
                high? == 0 && size? == PAGE && flags? == 0,
                "frame {frame:#x} is no plain page"
            );
            let at = offset?;
            let page = self.bytes.get(at..at + PAGE);
            pages.push((frame as u64, page.context("the dump is cut off")?));
        }
        Ok(pages)
    }
}
