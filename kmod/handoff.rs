// SPDX-License-Identifier: GPL-2.0

//! The handoff block: A writes it, a peer reads it. docs/protocol.md is the specification.

use crate::abi::{
    crc32, Handoff, Mailbox, Range, ARCH_I386, ARCH_X86_64, HANDOFF_MAGIC, HANDOFF_RANGES,
    HANDOFF_VERSION, REQUEST_SIZE, STATUS_NONE,
};
use crate::arch;
use crate::sys::{self, memory};
use core::mem::offset_of;
use kernel::prelude::*;

/// Bytes that the checksum covers: all but the mailbox.
const COVERED: usize = offset_of!(Handoff, mailbox);

/// What A has to tell that only the load knows; physical addresses, bytes.
pub(crate) struct Contents {
    pub(crate) window_end: u32,
    /// The peer's own; empty if there is none.
    pub(crate) own: Range,
    pub(crate) jump_back_entry: u32,
    pub(crate) list: u32,
    pub(crate) page_map: u32,
    pub(crate) page_map_frames: u32,
    pub(crate) peer_map: u32,
    pub(crate) peer_map_size: u32,
}

/// Fills in a zeroed block.
///
/// # Errors
///
/// `E2BIG` if the machine's RAM is in more pieces than the block has room for.
pub(crate) fn fill(block: &mut Handoff, contents: &Contents) -> Result {
    let mut frames = [[0u32; 2]; HANDOFF_RANGES];
    let count = memory::ram_ranges(&mut frames)?;
    let page = u64::from(crate::pages::PAGE_SIZE as u32);
    for (range, [first, end]) in block.ram.iter_mut().zip(&frames[..count]) {
        *range = Range {
            start: u64::from(*first) * page,
            end: u64::from(*end) * page,
        };
    }

    block.magic = HANDOFF_MAGIC;
    block.version = HANDOFF_VERSION;
    block.size = COVERED as u32;
    block.arch = arch::ARCH;
    block.ram_count = count as u32;
    let release = sys::release();
    let length = release.len().min(block.release.len() - 1);
    block.release[..length].copy_from_slice(&release[..length]);
    block.fingerprint = u64::from(ranges_crc(block)) | (u64::from(arch::fingerprint()) << 32);
    block.load_uuid = sys::random();
    block.window_end = contents.window_end.into();
    block.own = contents.own;
    block.jump_back_entry = contents.jump_back_entry.into();
    block.list = contents.list.into();
    block.page_map = contents.page_map.into();
    block.page_map_pages = contents.page_map_frames.into();
    block.peer_map = contents.peer_map.into();
    block.peer_map_size = contents.peer_map_size.into();
    block.mailbox.status = STATUS_NONE;
    seal(block);
    Ok(())
}

/// Leaves `text` for the peer. It is shorter than the block's room.
pub(crate) fn request(block: &mut Handoff, text: &[u8]) {
    block.request = [0; REQUEST_SIZE];
    block.request[..text.len()].copy_from_slice(text);
    seal(block);
}

/// Tells where the core headers are, which need the block's address themselves.
pub(crate) fn core_headers(block: &mut Handoff, phys: u32) {
    block.elfcorehdr = phys.into();
    seal(block);
}

/// Brings the checksum up to date.
fn seal(block: &mut Handoff) {
    block.crc = 0;
    block.crc = crc32(0, &covered(block)[..COVERED]);
}

/// Readies the mailbox for an entry into the peer with `command`.
pub(crate) fn address(mailbox: &mut Mailbox, command: u32) {
    mailbox.command = command;
    mailbox.status = STATUS_NONE;
    mailbox.peer_map_valid = 0;
    mailbox.entries = mailbox.entries.wrapping_add(1);
    mailbox.reason = [0; 128];
}

/// Why a block was refused, in words.
pub(crate) fn check(block: &Handoff) -> core::result::Result<(), &'static str> {
    if block.magic != HANDOFF_MAGIC {
        return Err("there is no handoff block at that address");
    }
    if block.version != HANDOFF_VERSION {
        return Err("its version is not the one this module knows");
    }
    if block.size as usize != COVERED {
        return Err("its size is not that of its version");
    }
    // The field itself counts as 0.
    let bytes = covered(block);
    let at = offset_of!(Handoff, crc);
    let crc = crc32(
        crc32(crc32(0, &bytes[..at]), &[0; 4]),
        &bytes[at + 4..COVERED],
    );
    if crc != block.crc {
        return Err("its checksum is wrong");
    }
    if block.arch != ARCH_I386 && block.arch != ARCH_X86_64 {
        return Err("its architecture is unknown");
    }
    if block.ram_count as usize > HANDOFF_RANGES {
        return Err("it counts more RAM ranges than it has room for");
    }
    let addresses = [
        block.window_end,
        block.jump_back_entry,
        block.list,
        block.page_map,
        block.peer_map,
        block.own.start,
    ];
    if addresses.iter().any(|&address| address >= 1 << 32) {
        return Err("it points beyond 4 GiB");
    }
    if [block.jump_back_entry, block.list]
        .iter()
        .any(|&address| address < block.window_end)
    {
        return Err("it points into the window");
    }
    let own = block.own;
    if own.start > own.end || own.end > 1 << 32 || (own.end != 0 && own.start < block.window_end) {
        return Err("the peer's own window makes no sense");
    }
    if [block.jump_back_entry, block.list]
        .iter()
        .any(|&address| own.start <= address && address < own.end)
    {
        return Err("it points into the peer's own window");
    }
    Ok(())
}

fn ranges_crc(block: &Handoff) -> u32 {
    block.ram[..block.ram_count as usize]
        .iter()
        .fold(0, |crc, range| {
            crc32(
                crc32(crc, &range.start.to_le_bytes()),
                &range.end.to_le_bytes(),
            )
        })
}

/// The block as bytes.
fn covered(block: &Handoff) -> &[u8] {
    // SAFETY: a structure of integers without padding (asserted in the ABI), read as bytes.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(block).cast(), size_of::<Handoff>()) }
}
