// SPDX-License-Identifier: GPL-2.0

//! A's memory as the host sees it while A is away: QEMU's view of physical memory, and where in it
//! A's pages are, by the handoff block, the page map and the exchange list. Written apart from
//! what reads them in the guest.

use std::collections::HashMap;
use std::mem::offset_of;

use anyhow::{ensure, Context, Result};
use kjump_abi::{
    Handoff, ListPage, ENTRY_FIXED, ENTRY_OURS, HANDOFF_MAGIC, LIST_ENTRIES, PAGE_SIZE,
};

use crate::vm::Vm;

const PAGE: usize = PAGE_SIZE as usize;

/// All of it.
pub struct OldMemory {
    physical: Vec<u8>,
    handoff: u64,
    /// Window pages that A's contents were taken from, and the pages where these are now.
    shadow: HashMap<u64, u64>,
}

impl OldMemory {
    /// Takes a copy of physical memory while a peer of A runs. `mebibytes` is all that the machine
    /// has, `handoff` the address of the handoff block.
    pub fn take(vm: &mut Vm, mebibytes: u32, handoff: u64) -> Result<Self> {
        let physical = vm.memory(0, u64::from(mebibytes) << 20)?;
        let mut old = Self {
            physical,
            handoff,
            shadow: HashMap::new(),
        };
        let block = old.at(handoff)?;
        ensure!(
            block[..8] == HANDOFF_MAGIC,
            "no handoff block at {handoff:#x}"
        );
        let mut list = old.field(offset_of!(Handoff, list))?;
        while list != 0 {
            let page = old.at(list)?;
            let word = |at: usize| u32_at(page, at);
            let (next, count) = (
                word(offset_of!(ListPage, next)),
                word(offset_of!(ListPage, count)),
            );
            ensure!(
                count as usize <= LIST_ENTRIES,
                "a list page with {count} entries"
            );
            let mut found = Vec::new();
            for entry in 0..count as usize {
                let at = offset_of!(ListPage, entries) + 8 * entry;
                let (window, shadow) = (word(at), word(at + 4));
                if window & (ENTRY_OURS | ENTRY_FIXED) != 0 {
                    found.push((u64::from(window), u64::from(shadow)));
                }
            }
            let frames = |(window, shadow)| (window / PAGE_SIZE, shadow / PAGE_SIZE);
            old.shadow.extend(found.into_iter().map(frames));
            list = next.into();
        }
        Ok(old)
    }

    /// The page at that physical address.
    fn at(&self, address: u64) -> Result<&[u8]> {
        let start = usize::try_from(address)?;
        self.physical
            .get(start..start + PAGE)
            .with_context(|| format!("no memory at {address:#x}"))
    }

    /// A field of the handoff block.
    fn field(&self, offset: usize) -> Result<u64> {
        let block = self.at(self.handoff)?;
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&block[offset..offset + 8]);
        Ok(u64::from_le_bytes(bytes))
    }

    /// Where the window ends, in frames.
    pub fn window_end(&self) -> Result<u64> {
        Ok(self.field(offset_of!(Handoff, window_end))? / PAGE_SIZE)
    }

    /// Checks that all planted frames are among those to be saved, and that at least eight of them,
    /// those that were sought in 16 MiB, lie in the window, which may be wider.
    pub fn has_planted(&self, planted: &[u64], wanted: &[u64]) -> Result<()> {
        let window = self.window_end()?;
        let inside = planted.iter().filter(|&&frame| frame < window).count();
        ensure!(
            inside >= 8
                && planted
                    .iter()
                    .all(|frame| wanted.binary_search(frame).is_ok()),
            "a page that A uses is not in the page map: {planted:?}"
        );
        Ok(())
    }

    /// The frames that the page map says must be saved, ascending.
    pub fn to_be_saved(&self) -> Result<Vec<u64>> {
        let index = self.at(self.field(offset_of!(Handoff, page_map))?)?;
        let frames = self.field(offset_of!(Handoff, page_map_pages))?;
        let mut saved = Vec::new();
        for frame in 0..frames {
            let bits = self.at(u32_at(index, (frame / 32768) as usize * 4).into())?;
            let bit = (frame % 32768) as usize;
            if bits[bit / 8] >> (bit % 8) & 1 == 1 {
                saved.push(frame);
            }
        }
        Ok(saved)
    }

    /// What A has in a frame; `None` for a page of the window that A had free.
    pub fn page(&self, frame: u64) -> Result<Option<&[u8]>> {
        let place = if frame < self.window_end()? {
            match self.shadow.get(&frame) {
                Some(shadow) => *shadow,
                None => return Ok(None),
            }
        } else {
            frame
        };
        self.at(place * PAGE_SIZE).map(Some)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}
