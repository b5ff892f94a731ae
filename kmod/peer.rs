// SPDX-License-Identifier: GPL-2.0

//! The peer's side: this kernel was entered by a jump, and can go back.

use crate::abi::{self, Handoff, Mailbox, STATUS_PANIC};
use crate::gate::Gate;
use crate::handoff;
use crate::jump::Side;
use crate::old;
use crate::pages::{Nowhere, Page, PageSource, PAGE_SIZE};
use crate::sys::memory::{self, FreeFill};
use crate::sys::OldMemory;
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::prelude::*;

/// What a peer needs to go back.
pub(crate) struct Peer {
    gate: Gate,
    /// Where to: the jump-back entry of the kernel it was entered from last.
    entry: u32,
    /// That kernel's handoff block; `None` if it left none (mainline's kexec).
    block: Option<OldMemory>,
    /// Its peer map.
    map: Option<OldMemory>,
    window_end: u32,
    /// Where the block lies, physical; 0 if there is none.
    block_phys: u32,
    /// Which frames of the window were in use when this kernel left, a bit each.
    kept: Page,
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

impl Peer {
    /// Takes the handoff at `address`, physical, as given on the command line.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no good handoff block; `ENOMEM`.
    pub(crate) fn find(address: u64) -> Result<Self> {
        let memory = open_block(address)?;
        let entry = block_of(&memory).jump_back_entry as u32;
        let mut source = PageSource::new(&Nowhere);
        let mut peer = Self {
            gate: Gate::new(&mut source)?,
            entry,
            block: None,
            map: None,
            window_end: 0,
            block_phys: 0,
            kept: source.page()?,
        };
        peer.adopt(memory, address as u32)?;
        Ok(peer)
    }

    /// Takes the block of the kernel that this one was entered from.
    fn adopt(&mut self, memory: OldMemory, phys: u32) -> Result {
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
        Ok(())
    }

    /// After an entry: the jump-back entry was in `[esp]`; the slot in its page tells the
    /// handoff. Everything known from an earlier entry is dropped first.
    pub(crate) fn entered(&mut self) {
        self.entry = self.gate.answers().peer_entry;
        self.block = None;
        self.block_phys = 0;
        self.map = None;
        old::forget();
        if let Err(e) = self.read_slot() {
            pr_warn!("entered without a handoff ({e:?}): old memory is not to be had\n");
        }
    }

    fn read_slot(&mut self) -> Result {
        let slot = OldMemory::map(self.entry & !(PAGE_SIZE as u32 - 1), PAGE_SIZE)?;
        // SAFETY: integers only.
        let slot: abi::ControlSlot = unsafe { slot.read(0) };
        if slot.magic != abi::CONTROL_MAGIC {
            return Err(ENOENT);
        }
        self.adopt(open_block(slot.handoff)?, slot.handoff as u32)
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

    /// The command word of the last entry.
    pub(crate) fn command(&self) -> u32 {
        self.block
            .as_ref()
            .map_or(0, |memory| block_of(memory).mailbox.command)
    }

    fn mailbox(&mut self) -> Option<&mut Mailbox> {
        // SAFETY: the mapping is of a checked block, and a mailbox is integers only.
        self.block
            .as_mut()
            .map(|m| unsafe { m.get_mut(offset_of!(Handoff, mailbox)) })
    }

    /// Readies the way back with `status` as the answer.
    pub(crate) fn answer(&mut self, status: u32) {
        let entry = self.entry;
        self.gate.control().target = entry;
        if let Some(mailbox) = self.mailbox() {
            mailbox.status = status;
        }
    }
}

impl Side for Peer {
    fn gate(&mut self) -> &mut Gate {
        &mut self.gate
    }

    /// Tells which frames this kernel wants kept: all but its free ones.
    fn map_pages(&mut self) {
        let all = memory::free_pages_unmapped();
        let words = self.kept.words_mut();
        words.fill(u32::MAX);
        let frames = (self.window_end / PAGE_SIZE as u32).min(PAGE_SIZE as u32 * 8);
        for frame in 0..frames {
            if !all && memory::is_free(frame) {
                words[frame as usize / 32] &= !(1 << (frame % 32));
            }
        }
        if let Some(map) = &mut self.map {
            map.bytes_mut().copy_from_slice(self.kept.bytes_mut());
            if let Some(mailbox) = self.mailbox() {
                mailbox.peer_map_valid = 1;
            }
        }
    }

    fn returned(&mut self) {
        let fill = FreeFill::current();
        if fill == FreeFill::None {
            return;
        }
        let frames = (self.window_end / PAGE_SIZE as u32).min(PAGE_SIZE as u32 * 8);
        for frame in 0..frames {
            if self.kept.words_mut()[frame as usize / 32] & (1 << (frame % 32)) == 0 {
                // SAFETY: this kernel's RAM, free when it left and since: interrupts are off.
                unsafe { fill.fill(frame) }
            }
        }
    }
}

/// What a panic needs to go back, ready at any time.
struct PanicExit {
    gate: Gate,
    block: OldMemory,
}

static PANIC_EXIT: AtomicPtr<PanicExit> = AtomicPtr::new(core::ptr::null_mut());

/// From now on a panic of this kernel goes back to where it was entered from last, with the
/// message as the reason. `None`, or a peer without a handoff: panics take their usual course.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn arm_panic_exit(peer: Option<&Peer>) -> Result {
    let old = PANIC_EXIT.swap(core::ptr::null_mut(), Ordering::AcqRel);
    if !old.is_null() {
        // SAFETY: put there by this function, and nobody else takes it out but a panic, after
        // which nothing is freed any more.
        drop(unsafe { KBox::from_raw(old) });
    }
    if let Some(peer) = peer.filter(|peer| peer.block_phys != 0) {
        let mut gate = Gate::new(&mut PageSource::new(&Nowhere))?;
        gate.control().target = peer.entry;
        let exit = PanicExit {
            gate,
            block: OldMemory::map(peer.block_phys, PAGE_SIZE)?,
        };
        PANIC_EXIT.store(
            KBox::into_raw(KBox::new(exit, GFP_KERNEL)?),
            Ordering::Release,
        );
    }
    Ok(())
}

/// Called when this kernel panics, interrupts off, the other CPUs stopped.
pub(crate) fn panicked(message: &[u8]) {
    let exit = PANIC_EXIT.swap(core::ptr::null_mut(), Ordering::AcqRel);
    if exit.is_null() {
        return;
    }
    // SAFETY: put there by `arm_panic_exit`; taken out just now, so nobody else has it.
    let exit = unsafe { &mut *exit };
    // SAFETY: the mapping is of a checked block, and a mailbox is integers only.
    let mailbox: &mut Mailbox = unsafe { exit.block.get_mut(offset_of!(Handoff, mailbox)) };
    let length = message.len().min(mailbox.reason.len() - 1);
    mailbox.reason = [0; 128];
    mailbox.reason[..length].copy_from_slice(&message[..length]);
    mailbox.status = STATUS_PANIC;
    mailbox.peer_map_valid = 0;
    pr_emerg!("going back to the kernel that this one was entered from\n");
    // SAFETY: interrupts are off; the target is that kernel's jump-back entry, whose stub
    // silences this kernel's CPUs and bus masters.
    unsafe { exit.gate.leave_for_good() }
}
