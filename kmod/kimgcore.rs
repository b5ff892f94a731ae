// SPDX-License-Identifier: GPL-2.0

//! `/proc/kimgcore`: what is loaded for a window, as an ELF core. Once the peer has been there it is
//! a booted kernel, and loading the core makes a peer that need not boot.
//!
//! In it are the pages of the window that the peer wants kept, as they are in the shadow, and a note
//! that says where it is entered and what the load's label says, with a checksum over all of it.

use crate::abi::{crc32, PeerNote, LABEL_SIZE, NOTE_NAME, NOTE_PEER};
use crate::alloc::KVVec;
use crate::elf::{self, Load as Segment, EHDR_SIZE, PHDR_SIZE};
use crate::load::Load;
use crate::pages::PAGE_SIZE;
use kernel::prelude::*;

/// An open one: what is where. The pages are looked up in the load at each read.
pub(crate) struct Kimgcore {
    header: KVVec<u8>,
    /// Window address, and position in the file of each run of pages.
    runs: KVVec<Segment>,
    /// Which load, and after which jump: how often what is loaded had changed by then.
    pub(crate) changes: u32,
}

/// Where the checksum is in the note's contents.
const CRC_AT: usize = core::mem::offset_of!(PeerNote, crc);

/// The note's contents, with room for the checksum.
fn contents(load: &Load) -> Result<KVVec<u8>> {
    let (note, label) = load.peer_note().ok_or(EOPNOTSUPP)?;
    let mut contents = KVVec::new();
    contents.extend_from_slice(elf::bytes_of::<PeerNote>(&note), GFP_KERNEL)?;
    contents.extend_from_slice(label, GFP_KERNEL)?;
    contents.resize(size_of::<PeerNote>() + LABEL_SIZE, 0, GFP_KERNEL)?;
    Ok(contents)
}

/// As [`PeerNote::crc`] has it.
fn checksum(load: &mut Load, contents: &[u8], runs: &[Segment]) -> Result<u32> {
    let mut crc = crc32(0, &contents[..CRC_AT]);
    crc = crc32(crc, &contents[CRC_AT + 4..]);
    for run in runs {
        crc = crc32(crc, &run.paddr.to_le_bytes());
        crc = crc32(crc, &run.size.to_le_bytes());
        let mut at = run.paddr;
        while at < run.paddr + run.size {
            let frame = (at / PAGE_SIZE as u64) as u32;
            let index = load.list.find(frame).ok_or(EINVAL)?;
            crc = crc32(crc, load.list.shadow_mut(index).bytes_mut());
            at += PAGE_SIZE as u64;
        }
    }
    Ok(crc)
}

impl Kimgcore {
    /// Describes `load`.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if it goes one way, or has a window of its own, which could not be had again;
    /// `E2BIG` for more runs of pages than a core can have;
    /// `ENOMEM`.
    pub(crate) fn new(load: &mut Load, changes: u32) -> Result<Self> {
        if load.own.is_some() {
            return Err(EOPNOTSUPP);
        }
        let mut contents = contents(load)?;
        let mut runs = KVVec::new();
        let mut pages = 0u64;
        load.list.for_each_theirs(|window| {
            let at = pages * PAGE_SIZE as u64;
            pages += 1;
            elf::extend(&mut runs, window.into(), at, PAGE_SIZE as u64, u64::MAX)
        })?;
        if runs.len() + 1 >= 0xffff {
            return Err(E2BIG);
        }
        let crc = checksum(load, &contents, &runs)?;
        contents[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        let mut notes = KVVec::new();
        elf::note(&mut notes, NOTE_NAME, NOTE_PEER, &contents)?;

        let head = EHDR_SIZE + (runs.len() + 1) * PHDR_SIZE;
        let first = (head + notes.len()).next_multiple_of(PAGE_SIZE) as u64;
        let mut header = KVVec::new();
        elf::header(&mut header, runs.len() + 1)?;
        elf::note_header(&mut header, head as u64, notes.len() as u64)?;
        for run in runs.iter_mut() {
            run.offset += first;
            elf::load_header(&mut header, run)?;
        }
        header.extend_from_slice(&notes, GFP_KERNEL)?;
        elf::pad(&mut header, PAGE_SIZE)?;
        Ok(Self {
            header,
            runs,
            changes,
        })
    }

    /// The bytes from position `at` on, as many as are next to each other in memory; empty at the
    /// end. `load` is the one that this is of.
    pub(crate) fn bytes<'a>(&'a self, load: &'a mut Load, at: u32) -> &'a [u8] {
        let at = at as usize;
        if let Some(rest) = self.header.get(at..).filter(|rest| !rest.is_empty()) {
            return rest;
        }
        let at = at as u64;
        let inside = |run: &&Segment| run.offset <= at && at < run.offset + run.size;
        let Some(run) = self.runs.iter().find(inside) else {
            return &[];
        };
        let address = run.paddr + (at - run.offset);
        match load.list.find((address / PAGE_SIZE as u64) as u32) {
            Some(index) => &load.list.shadow_mut(index).bytes_mut()[address as usize % PAGE_SIZE..],
            None => &[],
        }
    }
}
