//! A saved machine as the stream that the kernel's own `/dev/snapshot` takes (kernel/power/snapshot.c,
//! arch/x86/power/hibernate.c): a header, the list of frames, the pages.
//!
//! The stream has a page more than the image: a trampoline, in a frame of the window, where the
//! restoring kernel jumps when all pages are in place. It maps that frame at its physical address,
//! so the trampoline can switch paging off and go to A's jump-back entry.

use std::io::{self, Write};

use kjump_abi::{Range, PAGE_SIZE};
use kjump_image::{Piece, PAGE};

use crate::hibernation::word::{self, Word};

/// What the restoring kernel compares with its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// CRC-32 of the firmware's memory map, as the kernel keeps it.
    pub e820: u32,
    /// Frames that it manages.
    pub frames: u32,
}

/// `RESTORE_MAGIC` of a kernel of 32 bits.
const RESTORE_MAGIC: u32 = 0x1234_5679;
/// Where `struct swsusp_info` has what is not the architecture's.
const INFO_FRAMES: usize = 396;
const INFO_IMAGE_PAGES: usize = 404;
const INFO_PAGES: usize = 408;
const INFO_SIZE: usize = 412;
/// In the list of frames: a page of zeros, which is not in the stream; and the list's end.
const ZERO: u32 = 1 << 31;
const END: u32 = u32::MAX;
/// Frames in a page of the list.
const LISTED: usize = PAGE / 4;

/// Consecutive frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u32,
    count: u32,
    zero: bool,
}

/// What an image holds, learnt by reading it once.
#[derive(Debug)]
pub struct Survey {
    runs: Vec<Run>,
    entry: u64,
    handoff: Option<u64>,
}

impl Survey {
    /// Of an image whose kernel is entered at `entry`, physical.
    pub fn new(entry: u64) -> Self {
        Self {
            runs: Vec::new(),
            entry,
            handoff: None,
        }
    }

    /// Notes a piece; they come in ascending order, and lie below 4 GiB.
    pub fn add(&mut self, piece: &Piece<'_>) {
        let (first, count, zero) = match *piece {
            Piece::Data { pfn, bytes } => {
                self.look_at(pfn, bytes);
                (pfn, bytes.len() / PAGE, false)
            }
            Piece::Zero { pfn, count } => (pfn, count as usize, true),
        };
        let (first, count) = (first as u32, count as u32);
        match self.runs.last_mut() {
            Some(run) if run.first + run.count == first && run.zero == zero => run.count += count,
            _ => self.runs.push(Run { first, count, zero }),
        }
    }

    /// The head of the control page tells where the handoff block is.
    fn look_at(&mut self, pfn: u64, bytes: &[u8]) {
        let Some(at) = (self.entry / PAGE_SIZE).checked_sub(pfn) else {
            return;
        };
        let Some(page) = bytes.chunks_exact(PAGE).nth(at as usize) else {
            return;
        };
        self.handoff = word::handoff(page).or(self.handoff);
    }

    fn pages(&self, zero: bool) -> u32 {
        let of = self.runs.iter().filter(|run| run.zero == zero);
        of.map(|run| run.count).sum()
    }

    /// The frame for the trampoline: the last of A's RAM in the window, as the restoring kernel has
    /// most of its own below it. What was in it A has in the shadow.
    fn trampoline(&self, ram: &[Range], window_end: u64) -> Option<u32> {
        let below = self
            .runs
            .first()
            .map_or(0, |run| u64::from(run.first) * PAGE_SIZE);
        let end = window_end.min(below);
        let last = |r: &Range| Some(r.end.min(end) / PAGE_SIZE * PAGE_SIZE - r.start.min(end));
        let range = ram
            .iter()
            .rfind(|r| last(r).is_some_and(|n| n >= PAGE_SIZE))?;
        u32::try_from(range.end.min(end) / PAGE_SIZE - 1).ok()
    }
}

/// A stream that can be written.
#[derive(Debug)]
pub struct Stream {
    survey: Survey,
    handoff: u64,
    trampoline: u32,
    word: Word,
}

impl Stream {
    /// Of the image that was surveyed. `ram` and `window_end` are A's, `from` is the image's name,
    /// for A's user.
    ///
    /// # Errors
    ///
    /// What is wrong with the image, in words.
    pub fn new(
        survey: Survey,
        ram: &[Range],
        window_end: u64,
        from: &str,
    ) -> Result<Self, &'static str> {
        let handoff = survey
            .handoff
            .ok_or("there is no control page at the jump-back entry")?;
        if survey.entry > u64::from(u32::MAX) {
            return Err("the jump-back entry lies beyond 4 GiB");
        }
        let trampoline = survey
            .trampoline(ram, window_end)
            .ok_or("there is no RAM in the window")?;
        Ok(Self {
            survey,
            handoff,
            trampoline,
            word: Word::new(&format!("{from}, by /dev/snapshot")),
        })
    }

    /// Bytes of memory that the restoring kernel needs for it, beside its own.
    pub fn memory(&self) -> u64 {
        let pages = self.survey.pages(false) + self.survey.pages(true) + 1;
        u64::from(pages) * PAGE_SIZE
    }

    /// Writes all that comes before the image's pages, a page a write: header, list, trampoline.
    pub fn write_head(&self, kernel: Kernel, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.header(kernel))?;
        let mut listed = Vec::with_capacity(LISTED);
        let mut list = |frame: u32, out: &mut dyn Write| {
            listed.push(frame);
            if listed.len() < LISTED {
                return Ok(());
            }
            let page: Vec<u8> = listed.drain(..).flat_map(u32::to_le_bytes).collect();
            out.write_all(&page)
        };
        list(self.trampoline, out)?;
        for run in &self.survey.runs {
            let flag = if run.zero { ZERO } else { 0 };
            for frame in run.first..run.first + run.count {
                list(frame | flag, out)?;
            }
        }
        // A page that is full needs no end.
        for _ in 0..self.listed().next_multiple_of(LISTED) - self.listed() {
            list(END, out)?;
        }
        out.write_all(&self.code())
    }

    /// Frames in the list.
    fn listed(&self) -> usize {
        (self.survey.pages(false) + self.survey.pages(true) + 1) as usize
    }

    /// Writes a piece's pages, a page a write; pages of zeros are in the list only. A's mailbox gets
    /// the word that it was restored.
    pub fn write(&self, piece: &Piece<'_>, out: &mut impl Write) -> io::Result<()> {
        let Piece::Data { pfn, bytes } = *piece else {
            return Ok(());
        };
        for (frame, page) in (pfn..).zip(bytes.chunks_exact(PAGE)) {
            if frame * PAGE_SIZE == self.handoff {
                out.write_all(&self.with_word(page))?;
            } else {
                out.write_all(page)?;
            }
        }
        Ok(())
    }

    /// The handoff block, with the answer in its mailbox.
    fn with_word(&self, page: &[u8]) -> Vec<u8> {
        let mut page = page.to_vec();
        self.word.put(&mut page);
        page
    }

    /// `struct swsusp_info`, whose first words are `struct restore_data_record`.
    fn header(&self, kernel: Kernel) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        let mut put = |at: usize, word: u32| page[at..at + 4].copy_from_slice(&word.to_le_bytes());
        let jump = self.trampoline * PAGE as u32;
        // Virtual address, physical address, CR3 for the code there, which needs none.
        for (n, word) in [jump, jump, 0, RESTORE_MAGIC, kernel.e820]
            .into_iter()
            .enumerate()
        {
            put(4 * n, word);
        }
        let data = self.survey.pages(false) + 1;
        let pages = 1 + self.listed().div_ceil(LISTED) as u32 + data;
        put(INFO_FRAMES, kernel.frames);
        put(INFO_IMAGE_PAGES, data);
        put(INFO_PAGES, pages);
        put(INFO_SIZE, pages.wrapping_mul(PAGE as u32));
        page
    }

    /// The trampoline. It is entered with paging on, mapped at its physical address, with flat
    /// segments.
    fn code(&self) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        let base = self.trampoline * PAGE as u32;
        let stack = base + PAGE as u32 - 4;
        let entry = self.survey.entry as u32;
        let mut code = vec![
            0xfa, // cli
            0xfc, // cld
            0x0f, 0x20, 0xc0, // mov %cr0, %eax
            0x25, 0xf3, 0xff, 0xfa, 0x7f, // and $~(PG | AM | WP | TS | EM), %eax
            0x0f, 0x22, 0xc0, // mov %eax, %cr0
            0xeb, 0x00, // jmp to the next instruction
            0x31, 0xc0, // xor %eax, %eax
            0x0f, 0x22, 0xd8, // mov %eax, %cr3
            0x0f, 0x22, 0xe0, // mov %eax, %cr4
            0xbc, // mov $stack, %esp: [esp] = 0, as this kernel cannot be gone back to
        ];
        code.extend(stack.to_le_bytes());
        code.push(0xba); // mov $entry, %edx
        code.extend(entry.to_le_bytes());
        code.extend([0xff, 0xe2]); // jmp *%edx
        page[..code.len()].copy_from_slice(&code);
        page
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
