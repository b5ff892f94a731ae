//! Which frames of A's memory an image has: the page map of docs/protocol.md, without the window,
//! and the shadow's frames that hold A's window.

use std::io;

use kjump_abi::{Handoff, Range, ENTRY_OURS, LIST_ENTRIES, PAGE_SIZE};

/// Frames whose bits fit a page.
const BITS: u64 = PAGE_SIZE * 8;
/// Words of an index page.
const INDEX: u64 = PAGE_SIZE / 4;

/// The frames to be saved, a bit each: 32 KiB for a GiB of RAM.
pub struct SavedPages {
    words: Vec<u32>,
    /// How many.
    pub count: u64,
}

/// Reads old memory: all of the buffer, from a physical address on.
pub type ReadAt<'a> = &'a dyn Fn(u64, &mut [u8]) -> io::Result<()>;

fn word(bytes: &[u8], index: usize) -> u32 {
    let bytes = bytes.get(4 * index..4 * index + 4);
    bytes.map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl SavedPages {
    /// Reads what the handoff block points to.
    ///
    /// # Errors
    ///
    /// Those of `read_at`; `InvalidData` without a page map, or with one or a list that makes no
    /// sense.
    pub fn read(read_at: ReadAt, handoff: &Handoff) -> io::Result<Self> {
        let (mut saved, mut page) = Self::read_map(read_at, handoff)?;
        // The window's contents are in the shadow now, and are saved as that.
        let window = saved.frames().min(handoff.window_end / PAGE_SIZE);
        (0..window).for_each(|frame| saved.set(frame, false));
        saved.add_shadow(read_at, handoff, &mut page)?;
        saved.count = saved.count_from(0);
        Ok(saved)
    }

    /// What an ELF core has: the window's frames too, at their own addresses, beside the shadow's;
    /// and with `free` all that is RAM.
    ///
    /// # Errors
    ///
    /// As [`SavedPages::read`].
    pub fn read_for_core(read_at: ReadAt, handoff: &Handoff, free: bool) -> io::Result<Self> {
        let (mut saved, mut page) = Self::read_map(read_at, handoff)?;
        saved.add_shadow(read_at, handoff, &mut page)?;
        if free {
            for r in handoff.ram.iter().take(handoff.ram_count as usize) {
                let end = saved.frames().min(r.end / PAGE_SIZE);
                let frames = r.start.div_ceil(PAGE_SIZE)..end;
                frames.for_each(|frame| saved.set(frame, true));
            }
        }
        saved.count = saved.count_from(0);
        Ok(saved)
    }

    /// The map as it is, and a page to read others into.
    fn read_map(read_at: ReadAt, handoff: &Handoff) -> io::Result<(Self, Vec<u8>)> {
        let pages = handoff.page_map_pages.div_ceil(BITS);
        if handoff.page_map == 0 || pages > INDEX {
            return Err(bad("the handoff has no page map that can be used"));
        }
        let ram = handoff.ram.iter().take(handoff.ram_count as usize);
        if ram.clone().any(|r| r.end > 1 << 32) {
            return Err(bad(
                "the machine has RAM above 4 GiB, which cannot be saved yet",
            ));
        }
        let mut page = vec![0; PAGE_SIZE as usize];
        let mut index = page.clone();
        read_at(handoff.page_map, &mut index)?;
        let mut words = Vec::new();
        words
            .try_reserve_exact((pages * INDEX) as usize)
            .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        for n in 0..pages as usize {
            read_at(word(&index, n).into(), &mut page)?;
            words.extend((0..INDEX as usize).map(|i| word(&page, i)));
        }
        Ok((Self { words, count: 0 }, page))
    }

    fn add_shadow(
        &mut self,
        read_at: ReadAt,
        handoff: &Handoff,
        page: &mut [u8],
    ) -> io::Result<()> {
        each_shadow(read_at, handoff, page, |_, shadow| {
            self.set(shadow / PAGE_SIZE, true);
            Ok(())
        })
    }

    fn set(&mut self, frame: u64, to: bool) {
        if let Some(word) = self.words.get_mut((frame / 32) as usize) {
            let bit = 1 << (frame % 32);
            *word = if to { *word | bit } else { *word & !bit };
        }
    }

    /// Frames that there are bits for.
    pub fn frames(&self) -> u64 {
        self.words.len() as u64 * 32
    }

    /// Frames to be saved from `frame` on.
    pub fn count_from(&self, frame: u64) -> u64 {
        let (word, bit) = ((frame / 32) as usize, frame % 32);
        let rest = self.words.get(word..).unwrap_or_default();
        let below = rest.first().map_or(0, |w| w & ((1 << bit) - 1));
        let all: u64 = rest.iter().map(|w| u64::from(w.count_ones())).sum();
        all - u64::from(below.count_ones())
    }

    /// Whether a frame is to be saved.
    pub fn has(&self, frame: u64) -> bool {
        let word = self.words.get((frame / 32) as usize);
        word.is_some_and(|w| w & (1 << (frame % 32)) != 0)
    }

    /// The first run of frames to be saved in `[from, end)`: its start and length.
    pub fn next_run(&self, from: u64, end: u64) -> Option<(u64, u64)> {
        let mut at = from;
        while at < end && !self.has(at) {
            let empty = at.is_multiple_of(32) && self.words.get((at / 32) as usize) == Some(&0);
            at += if empty { 32 } else { 1 };
        }
        let start = at;
        while at < end && self.has(at) {
            at += 1;
        }
        (start < at).then_some((start, at - start))
    }
}

/// Calls with each page of the window that is A's: where it belongs, and where its contents are now,
/// both physical addresses. `page` is a page to read into.
///
/// # Errors
///
/// Those of `read_at` and `each`; `InvalidData` for a list without an end.
pub fn each_shadow(
    read_at: ReadAt,
    handoff: &Handoff,
    page: &mut [u8],
    mut each: impl FnMut(u64, u64) -> io::Result<()>,
) -> io::Result<()> {
    let mut at = handoff.list;
    // Each entry is another page of the window, which lies below 4 GiB.
    let window = handoff.window_end.min(1 << 32);
    let most = window / PAGE_SIZE / LIST_ENTRIES as u64 + 2;
    let address = |word: u32| u64::from(word) & !(PAGE_SIZE - 1);
    for _ in 0..=most {
        if at == 0 {
            return Ok(());
        }
        read_at(at, page)?;
        for n in 0..(word(page, 1) as usize).min(LIST_ENTRIES) {
            let (window, shadow) = (word(page, 2 + 2 * n), word(page, 3 + 2 * n));
            if window & ENTRY_OURS != 0 {
                each(address(window), address(shadow))?;
            }
        }
        at = word(page, 0).into();
    }
    Err(bad("the exchange list has no end"))
}

/// Whole frames of some RAM from `floor`, bytes, up.
pub fn frames_of(ram: &[Range], floor: u64) -> u64 {
    let frames = |r: &Range| {
        let start = r.start.max(floor).div_ceil(PAGE_SIZE);
        (r.end / PAGE_SIZE).saturating_sub(start)
    };
    ram.iter().map(frames).sum()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::collections::HashMap;

    /// These frames, of half a GiB.
    pub fn of(frames: &[u64]) -> SavedPages {
        let words = vec![0; 4096];
        let mut saved = SavedPages { words, count: 0 };
        frames.iter().for_each(|frame| saved.set(*frame, true));
        saved.count = saved.count_from(0);
        saved
    }

    /// A handoff, and pages of old memory by address.
    fn old() -> (Box<Handoff>, HashMap<u64, Vec<u32>>) {
        let mut handoff = crate::device::blank_handoff();
        handoff.window_end = 8 * PAGE_SIZE;
        handoff.page_map = 0x10_0000;
        handoff.page_map_pages = 2 * BITS;
        handoff.list = 0x20_0000;
        let page = |words: &[(usize, u32)]| {
            let mut page = vec![0; INDEX as usize];
            words.iter().for_each(|(i, w)| page[*i] = *w);
            page
        };
        let pages = HashMap::from([
            (0x10_0000, page(&[(0, 0x10_1000), (1, 0x10_2000)])),
            // Frames 0, 7, 8, 31; 64 to 95.
            (0x10_1000, page(&[(0, 0x8000_0181), (2, u32::MAX)])),
            (0x10_2000, page(&[(0, 1)])),
            (
                0x20_0000,
                page(&[(0, 0x20_1000), (1, 1), (2, 0x3000), (3, 0x2_0001)]),
            ),
            // OURS, and its shadow is frame 0x21; not ours: frame 0x22.
            (
                0x20_1000,
                page(&[
                    (1, 2),
                    (2, 0x4001),
                    (3, 0x2_1000),
                    (4, 0x5000),
                    (5, 0x2_2001),
                ]),
            ),
        ]);
        (handoff, pages)
    }

    fn read(handoff: &Handoff, pages: &HashMap<u64, Vec<u32>>) -> io::Result<SavedPages> {
        let read_at = |at: u64, buf: &mut [u8]| {
            let page = pages.get(&at).ok_or(io::ErrorKind::NotFound)?;
            let bytes: Vec<u8> = page.iter().flat_map(|w| w.to_le_bytes()).collect();
            buf.copy_from_slice(&bytes);
            Ok(())
        };
        SavedPages::read(&read_at, handoff)
    }

    #[test]
    fn the_map_without_the_window_and_with_the_shadow() {
        let (handoff, pages) = old();
        let saved = read(&handoff, &pages).unwrap();
        let (mut runs, mut at) = (Vec::new(), 0);
        while let Some((start, count)) = saved.next_run(at, saved.frames()) {
            runs.push((start, count));
            at = start + count;
        }
        assert_eq!(runs, [(8, 1), (31, 1), (0x21, 1), (64, 32), (BITS, 1)]);
        assert_eq!(saved.count, 36);
        assert_eq!(saved.next_run(70, 80), Some((70, 10)));
        assert_eq!(saved.next_run(96, BITS), None);
    }

    #[test]
    fn a_core_has_the_window_too() {
        let (mut handoff, pages) = old();
        let read_at = |at: u64, buf: &mut [u8]| {
            let page = pages.get(&at).ok_or(io::ErrorKind::NotFound)?;
            let bytes: Vec<u8> = page.iter().flat_map(|w| w.to_le_bytes()).collect();
            buf.copy_from_slice(&bytes);
            Ok(())
        };
        let core = SavedPages::read_for_core(&read_at, &handoff, false).unwrap();
        assert!([0, 7, 8, 31, 0x21].iter().all(|f| core.has(*f)));
        assert_eq!(
            (core.count, core.count_from(8), core.count_from(9)),
            (38, 36, 35)
        );
        assert_eq!((core.count_from(0x22), core.count_from(u64::MAX)), (33, 0));
        // And with what is free: RAM that is whole frames.
        handoff.ram[0] = Range {
            start: 0x1800,
            end: 0x3800,
        };
        handoff.ram_count = 1;
        let all = SavedPages::read_for_core(&read_at, &handoff, true).unwrap();
        assert!(all.has(2) && !all.has(1) && !all.has(3));
        assert_eq!(all.count, 39);
    }

    #[test]
    fn nonsense_is_refused() {
        let (mut handoff, mut pages) = old();
        // A list that bites its tail.
        pages.get_mut(&0x20_1000).unwrap()[0] = 0x20_0000;
        assert!(read(&handoff, &pages).is_err());
        handoff.page_map = 0;
        assert!(read(&handoff, &pages).is_err());
        handoff.page_map = 0x10_0000;
        handoff.page_map_pages = u64::MAX;
        assert!(read(&handoff, &pages).is_err());
    }

    /// Found by the fuzz target `handoff`: this went on for years.
    #[test]
    #[cfg_attr(miri, ignore = "a million frames")]
    fn a_window_without_end_comes_to_an_end() {
        let (mut handoff, mut pages) = old();
        handoff.window_end = u64::MAX;
        assert_eq!(read(&handoff, &pages).unwrap().count, 1);
        // With a list that bites its tail as well.
        pages.get_mut(&0x20_1000).unwrap()[0] = 0x20_0000;
        assert!(read(&handoff, &pages).is_err());
    }

    #[test]
    fn whole_frames_above_a_floor() {
        let ram = [
            Range {
                start: 0x1000,
                end: 0x3800,
            },
            Range {
                start: 0x8000,
                end: 0xa000,
            },
        ];
        assert_eq!(frames_of(&ram, 0), 4);
        assert_eq!(frames_of(&ram, 0x2001), 2);
    }
}
