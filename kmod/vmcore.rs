// SPDX-License-Identifier: GPL-2.0

//! ELF core headers of this kernel's memory, for a peer's `elfcorehdr=`: with them `/proc/vmcore`
//! of a kernel that knows nothing of kjump shows it.
//!
//! Such headers (fs/proc/vmcore.c) say where memory was with `p_paddr`, and where it is to be read
//! with `p_offset`: for the window that is the shadow. The notes are a copy of the kernel's own
//! VMCOREINFO, the registers of the CPU that jumps, and the jump-back entry, which makes a copy of
//! `/proc/vmcore` something that can be resumed. All of it is one contiguous piece of memory.

use crate::abi::{CoreNote, Range, HANDOFF_RANGES, NOTE_CORE, NOTE_NAME};
use crate::alloc::KVVec;
use crate::elf::{self, Load, EHDR_SIZE, PHDR_SIZE};
use crate::list::ExchangeList;
use crate::pages::{Page, PageSource, PAGE_SIZE};
use crate::sys::{self, memory};
use kernel::prelude::*;

/// Program headers, at most. A peer keeps a copy of each and some more, and has little memory; a
/// shadow in so many pieces comes of memory that is full to the brim.
const MOST: usize = 1024;
/// Bytes of notes, at most: VMCOREINFO is limited to a page, the rest is small.
const NOTES: usize = 2 * PAGE_SIZE;

/// The headers, in memory.
pub(crate) struct CoreHeaders {
    pages: KVVec<Page>,
    /// Where the registers go, bytes from the start.
    registers: usize,
}

impl CoreHeaders {
    /// Describes this kernel's memory but `own`, with the contents of the window where `list` says. `None`
    /// if there is no contiguous memory for it, or it would be in too many pieces.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `E2BIG` if RAM is in too many pieces.
    pub(crate) fn new(
        list: &ExchangeList,
        note: &CoreNote,
        own: Range,
        source: &mut PageSource<'_>,
    ) -> Result<Option<Self>> {
        let loads = loads(list, note.window_end as u32, own)?;
        if loads.len() + 1 > MOST {
            return Ok(None);
        }
        let mut notes = KVVec::new();
        elf::note(
            &mut notes,
            "CORE",
            elf::NT_PRSTATUS,
            &[0; elf::PRSTATUS_SIZE],
        )?;
        let at = notes.len() - elf::PRSTATUS_SIZE;
        let start = notes.len();
        notes.resize(start + NOTES, 0, GFP_KERNEL)?;
        let length = memory::vmcoreinfo(&mut notes[start..]);
        notes.truncate(start + length);
        elf::note(&mut notes, NOTE_NAME, NOTE_CORE, elf::bytes_of(note))?;

        let head = EHDR_SIZE + (loads.len() + 1) * PHDR_SIZE;
        let size = head + notes.len();
        let order = size.div_ceil(PAGE_SIZE).next_power_of_two().ilog2();
        let Some(mut pages) = source.block(order)? else {
            return Ok(None);
        };
        let phys = u64::from(pages[0].phys());
        let mut out = KVVec::with_capacity(size, GFP_KERNEL)?;
        elf::header(&mut out, loads.len() + 1)?;
        elf::note_header(&mut out, phys + head as u64, notes.len() as u64)?;
        for load in &loads {
            elf::load_header(&mut out, load)?;
        }
        out.extend_from_slice(&notes, GFP_KERNEL)?;
        for (page, bytes) in pages.iter_mut().zip(out.chunks(PAGE_SIZE)) {
            page.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        }
        Ok(Some(Self {
            pages,
            registers: head + at + elf::PRSTATUS_REGISTERS,
        }))
    }

    /// Physical address, bytes.
    pub(crate) fn phys(&self) -> u32 {
        self.pages[0].phys()
    }

    /// Pages they take.
    pub(crate) fn pages(&self) -> u32 {
        self.pages.len() as u32
    }

    /// Notes the registers of this CPU, and which task it runs.
    pub(crate) fn note_registers(&mut self) {
        let registers = crate::arch::registers();
        for (n, word) in registers.iter().enumerate() {
            self.put(self.registers + 4 * n, *word);
        }
        let pid = self.registers - elf::PRSTATUS_REGISTERS + elf::PRSTATUS_PID;
        self.put(pid, sys::task_pid());
    }

    /// Writes a word; notes are aligned to words, so it lies in one page.
    fn put(&mut self, at: usize, word: u32) {
        if let Some(page) = self.pages.get_mut(at / PAGE_SIZE) {
            page.words_mut()[at % PAGE_SIZE / 4] = word;
        }
    }
}

/// What there is of RAM, by addresses: the window's from the list, what is above it as it is, less
/// what is the peer's own.
fn loads(list: &ExchangeList, window_end: u32, own: Range) -> Result<KVVec<Load>> {
    let mut loads: KVVec<Load> = KVVec::new();
    let page = PAGE_SIZE as u64;
    list.for_each(|window, shadow| {
        elf::extend(
            &mut loads,
            window.into(),
            shadow.into(),
            page,
            virt(window.into()),
        )
    })?;
    let mut ranges = [[0u32; 2]; HANDOFF_RANGES];
    let count = memory::ram_ranges(&mut ranges)?;
    let low_end = u64::from(memory::low_memory_end());
    for [first, end] in &ranges[..count] {
        let start = (u64::from(*first) * page).max(window_end.into());
        let end = u64::from(*end) * page;
        // Memory without a fixed address is not mixed with memory that has one.
        let pieces = [
            (start, end.min(low_end).min(own.start)),
            (start.max(own.end), end.min(low_end)),
            (start.max(low_end), end),
        ];
        for (start, end) in pieces {
            if start < end {
                elf::extend(&mut loads, start, start, end - start, virt(start))?;
            }
        }
    }
    Ok(loads)
}

/// Where physical address `at` is in the direct map; all ones if it is not in it.
fn virt(at: u64) -> u64 {
    if at < memory::low_memory_end().into() {
        memory::page_offset() as u64 + at
    } else {
        u64::MAX
    }
}
