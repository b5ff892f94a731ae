// SPDX-License-Identifier: GPL-2.0

//! The peer's side: this kernel was entered by a jump, and can go back.

use crate::abi::{self, Handoff, Mailbox};
use crate::alloc::KBox;
use crate::gate::Gate;
use crate::handoff;
use crate::jump::Side;
use crate::old;
use crate::pages::{Nowhere, Page, PageSource, PAGE_SIZE};
use crate::panic::{self, PanicExit};
use crate::sys::memory::{self, FreeFill};
use crate::sys::{self, OldMemory};
use core::mem::offset_of;
use kernel::prelude::*;

/// What a peer needs to go back.
pub(crate) struct Peer {
    gate: Gate,
    /// Where to: the jump-back entry of the kernel it was entered from last.
    entry: u32,
    /// That kernel's handoff block; `None` if it left none (mainline's kexec).
    block: Option<OldMemory>,
    /// Which load of it this is; what was said of old memory at boot is about this load only.
    load: [u8; 16],
    /// Its peer map.
    map: Option<OldMemory>,
    /// Its control page, whose head says where the block is.
    slot: Option<OldMemory>,
    window_end: u32,
    /// Where the block lies, physical; 0 if there is none.
    block_phys: u32,
    /// Which frames of the window were in use when this kernel left, a bit each.
    kept: Page,
    /// How a panic goes back; `None` if panics are to take their usual course.
    exit: Option<KBox<PanicExit>>,
}

/// Maps and checks the handoff block at `address`, physical.
fn open_block(address: u64) -> Result<OldMemory> {
    let phys = u32::try_from(address).map_err(|_| EINVAL)?;
    if phys == 0 || phys as usize % PAGE_SIZE != 0 {
        return Err(EINVAL);
    }
    let memory = OldMemory::map(phys, PAGE_SIZE)?;
    if let Err(why) = handoff::check(block_of(&memory)) {
        pr_err!("handoff block at {phys:#x} refused: {why}\n");
        return Err(EINVAL);
    }
    Ok(memory)
}

fn block_of(memory: &OldMemory) -> &Handoff {
    // SAFETY: the mapping is a page, as long as a block, page-aligned; a block is integers only.
    unsafe { &*memory.bytes().as_ptr().cast() }
}

/// What the head of a control page says.
fn slot_of(page: &OldMemory) -> abi::ControlSlot {
    // SAFETY: integers only.
    unsafe { page.read(0) }
}

impl Peer {
    /// Takes the handoff at `address`, physical, as given on the command line. With `panic_back`
    /// a panic of this kernel goes back from now on.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no good handoff block; `ENOMEM`.
    pub(crate) fn find(address: u64, panic_back: bool) -> Result<Self> {
        let memory = open_block(address)?;
        let entry = block_of(&memory).jump_back_entry as u32;
        let mut source = PageSource::new(&Nowhere);
        let mut peer = Self {
            gate: Gate::new(&mut source)?,
            entry,
            block: None,
            load: [0; 16],
            map: None,
            slot: None,
            window_end: 0,
            block_phys: 0,
            kept: source.page()?,
            exit: if panic_back {
                Some(PanicExit::new()?)
            } else {
                None
            },
        };
        peer.load = block_of(&memory).load_uuid;
        let slot = peer.map_slot()?;
        peer.adopt(memory, address as u32, slot)?;
        Ok(peer)
    }

    /// Takes the block of the kernel that this one was entered from, and the page with its entry.
    fn adopt(&mut self, memory: OldMemory, phys: u32, slot: OldMemory) -> Result {
        let block = block_of(&memory);
        old::take(block)?;
        self.window_end = u32::try_from(block.window_end).map_err(|_| EINVAL)?;
        let frames = self.window_end as usize / PAGE_SIZE;
        self.map = match (block.peer_map as u32, block.peer_map_size as usize) {
            (0, _) => None,
            (phys, size) if size <= PAGE_SIZE && size * 8 >= frames => {
                Some(OldMemory::map(phys, PAGE_SIZE)?)
            }
            _ => return Err(EINVAL),
        };
        self.block = Some(memory);
        self.block_phys = phys;
        self.slot = Some(slot);
        if let Some(exit) = &mut self.exit {
            exit.arm(self.entry, phys)?;
        }
        Ok(())
    }

    /// After an entry: the jump-back entry was in `[esp]`; the slot in its page tells the
    /// handoff. Everything known from an earlier entry is dropped first.
    pub(crate) fn entered(&mut self) {
        self.entry = self.gate.answers().peer_entry;
        self.block = None;
        self.block_phys = 0;
        self.map = None;
        self.slot = None;
        if let Err(e) = self.read_slot() {
            pr_warn!("entered without a handoff ({e:?}): old memory is not to be had\n");
        }
        let load = self.block.as_ref().map(|m| block_of(m).load_uuid);
        if load != Some(self.load) {
            // It shows what is at the addresses of another load.
            sys::hide_vmcore();
        }
    }

    /// Maps the page that the jump-back entry lies in.
    fn map_slot(&self) -> Result<OldMemory> {
        OldMemory::map(self.entry & !(PAGE_SIZE as u32 - 1), PAGE_SIZE)
    }

    fn read_slot(&mut self) -> Result {
        let page = self.map_slot()?;
        let slot = slot_of(&page);
        if slot.magic != abi::CONTROL_MAGIC {
            return Err(ENOENT);
        }
        self.adopt(open_block(slot.handoff)?, slot.handoff as u32, page)
    }

    /// Whether this kernel was entered again from where it was entered before: the same jump-back
    /// entry, and the same block, which is good. Only what is mapped is looked at.
    fn from_where_it_was(&self) -> bool {
        let (Some(page), Some(memory)) = (&self.slot, &self.block) else {
            return false;
        };
        // The entry first: where it is another one the pages may be anything now.
        self.gate.answers().peer_entry == self.entry
            && slot_of(page).magic == abi::CONTROL_MAGIC
            && slot_of(page).handoff == u64::from(self.block_phys)
            && handoff::check(block_of(memory)).is_ok()
    }

    /// After a way back that failed: old memory, which was forgotten for it, is what it was.
    pub(crate) fn stayed(&self) {
        if let Some(memory) = &self.block {
            if let Err(e) = old::take(block_of(memory)) {
                pr_warn!("old memory is not to be had any more ({e:?})\n");
            }
        }
    }

    /// Physical address of the jump-back entry.
    pub(crate) fn entry(&self) -> u32 {
        self.entry
    }

    /// The handoff block's bytes, if there is one.
    pub(crate) fn block(&self) -> Option<&[u8]> {
        self.block.as_ref().map(OldMemory::bytes)
    }

    /// Physical address of the handoff block, 0 if there is none.
    pub(crate) fn block_phys(&self) -> u32 {
        self.block_phys
    }

    /// Bytes; 0 without a handoff.
    pub(crate) fn window_end(&self) -> u32 {
        self.window_end
    }

    /// What this kernel has of the other's RAM beside the window; empty if nothing.
    pub(crate) fn own(&self) -> abi::Range {
        self.block
            .as_ref()
            .map_or_else(abi::Range::default, |memory| block_of(memory).own)
    }

    /// The command word of the last entry.
    pub(crate) fn command(&self) -> u32 {
        self.block
            .as_ref()
            .map_or(0, |memory| block_of(memory).mailbox.command)
    }

    /// Frames of the window that `kept` has bits for.
    fn mapped_frames(&self) -> u32 {
        (self.window_end / PAGE_SIZE as u32).min(PAGE_SIZE as u32 * 8)
    }

    fn mailbox(&mut self) -> Option<&mut Mailbox> {
        // SAFETY: the mapping is of a checked block, and a mailbox is integers only.
        self.block
            .as_mut()
            .map(|m| unsafe { m.get_mut(offset_of!(Handoff, mailbox)) })
    }

    /// Readies the way back with `status` as the answer, and why in words.
    pub(crate) fn answer(&mut self, status: u32, reason: &[u8; abi::REASON_SIZE]) {
        let entry = self.entry;
        self.gate.control().target = entry;
        if let Some(mailbox) = self.mailbox() {
            mailbox.status = status;
            mailbox.reason = *reason;
            mailbox.reason[abi::REASON_SIZE - 1] = 0;
        }
    }

    /// Whether all of these ranges are RAM of the kernel that this one was entered from; true if
    /// it left no handoff.
    pub(crate) fn owns(&self, ranges: &[abi::Range]) -> bool {
        self.block.as_ref().is_none_or(|memory| {
            let block = block_of(memory);
            let ram = &block.ram[..(block.ram_count as usize).min(block.ram.len())];
            ranges
                .iter()
                .all(|r| ram.iter().any(|o| o.start <= r.start && r.end <= o.end))
        })
    }
}

impl Side for Peer {
    fn gate(&mut self) -> &mut Gate {
        &mut self.gate
    }

    /// Tells which frames this kernel wants kept: all but its free ones.
    fn map_pages(&mut self) {
        let all = memory::free_pages_unmapped();
        let frames = self.mapped_frames();
        let words = self.kept.words_mut();
        words.fill(u32::MAX);
        for frame in 0..frames {
            if !all && memory::is_free(frame) {
                words[frame as usize / 32] &= !(1 << (frame % 32));
            }
        }
        if let Some(map) = &mut self.map {
            let length = (frames as usize).div_ceil(8);
            map.bytes_mut()[..length].copy_from_slice(&self.kept.bytes_mut()[..length]);
            if let Some(mailbox) = self.mailbox() {
                mailbox.peer_map_valid = 1;
            }
        }
    }

    fn returned(&mut self) {
        // It may be another kernel, or another boot of it, that this one was entered from now: a
        // panic on the way up must not go where that is not. If it is the same one, it goes back.
        if !self.from_where_it_was() {
            panic::disarm();
        }
        let fill = FreeFill::current();
        if fill == FreeFill::None {
            return;
        }
        let frames = self.mapped_frames();
        for frame in 0..frames {
            if self.kept.words_mut()[frame as usize / 32] & (1 << (frame % 32)) == 0 {
                // SAFETY: this kernel's RAM, free when it left and since: interrupts are off.
                unsafe { fill.fill(frame) }
            }
        }
    }
}
