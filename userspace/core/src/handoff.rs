//! The handoff block of the kernel whose memory a core has.

use std::mem::offset_of;

use kjump_abi as abi;
use kjump_abi::{ControlSlot, Handoff, Mailbox, Range, HANDOFF_RANGES, PAGE_SIZE};
use kjump_image::{Source, PAGE};

use crate::layout::{array, u32_at, u64_at};
use crate::notes::is_control;
use crate::read::Core;
use crate::reader::Reader;
use crate::refusal::Refusal;

/// The address of the handoff block that a control page names; `slot` is the page's head.
///
/// # Errors
///
/// [`Refusal::Bad`] if it is no control page, or names none.
pub fn handoff_address(slot: &[u8]) -> Result<u64, Refusal> {
    let at = u64_at(slot, offset_of!(ControlSlot, handoff));
    if !is_control(slot) || at == 0 || !at.is_multiple_of(PAGE_SIZE) {
        return Err(Refusal::Bad("there is no control page at the entry"));
    }
    Ok(at)
}

/// A field that is an array of bytes.
fn bytes<const N: usize>(page: &[u8], at: usize) -> [u8; N] {
    array(page, at).unwrap_or([0; N])
}

/// A handoff block from its page, checked as a peer checks it.
///
/// # Errors
///
/// [`Refusal::Bad`], [`Refusal::BadVersion`].
pub fn decode_handoff(page: &[u8]) -> Result<Box<Handoff>, Refusal> {
    let size = u32_at(page, offset_of!(Handoff, size)) as usize;
    if array(page, 0) != Some(abi::HANDOFF_MAGIC) {
        return Err(Refusal::Bad("there is no handoff block"));
    }
    let number = u32_at(page, offset_of!(Handoff, version));
    if number != abi::HANDOFF_VERSION {
        let what = "the handoff block";
        return Err(Refusal::BadVersion { what, number });
    }
    let Some(covered) = page.get(..size).filter(|_| page.len() >= PAGE) else {
        return Err(Refusal::Bad("the handoff block is cut off"));
    };
    const CRC: usize = offset_of!(Handoff, crc);
    if covered.len() < CRC + 4 {
        return Err(Refusal::Bad("the handoff block is cut off"));
    }
    let sum = abi::crc32(0, &covered[..CRC]);
    let sum = abi::crc32(abi::crc32(sum, &[0; 4]), &covered[CRC + 4..]);
    if sum != u32_at(page, CRC) {
        return Err(Refusal::Bad(
            "the handoff block does not match its checksum",
        ));
    }
    let mut ram = [Range::default(); HANDOFF_RANGES];
    for (n, range) in ram.iter_mut().enumerate() {
        let at = offset_of!(Handoff, ram) + n * size_of::<Range>();
        range.start = u64_at(page, at);
        range.end = u64_at(page, at + 8);
    }
    let word = |at: usize| u32_at(page, at);
    let long = |at: usize| u64_at(page, at);
    let mail = |at: usize| offset_of!(Handoff, mailbox) + at;
    let handoff = Handoff {
        magic: abi::HANDOFF_MAGIC,
        version: number,
        size: size as u32,
        crc: word(CRC),
        arch: word(offset_of!(Handoff, arch)),
        flags: word(offset_of!(Handoff, flags)),
        ram_count: word(offset_of!(Handoff, ram_count)),
        release: bytes(page, offset_of!(Handoff, release)),
        fingerprint: long(offset_of!(Handoff, fingerprint)),
        window_end: long(offset_of!(Handoff, window_end)),
        jump_back_entry: long(offset_of!(Handoff, jump_back_entry)),
        list: long(offset_of!(Handoff, list)),
        page_map: long(offset_of!(Handoff, page_map)),
        page_map_pages: long(offset_of!(Handoff, page_map_pages)),
        peer_map: long(offset_of!(Handoff, peer_map)),
        peer_map_size: long(offset_of!(Handoff, peer_map_size)),
        load_uuid: bytes(page, offset_of!(Handoff, load_uuid)),
        ram,
        request: bytes(page, offset_of!(Handoff, request)),
        elfcorehdr: long(offset_of!(Handoff, elfcorehdr)),
        own: Range {
            start: long(offset_of!(Handoff, own)),
            end: long(offset_of!(Handoff, own) + 8),
        },
        reserved: bytes(page, offset_of!(Handoff, reserved)),
        mailbox: Mailbox {
            command: word(mail(offset_of!(Mailbox, command))),
            status: word(mail(offset_of!(Mailbox, status))),
            peer_map_valid: word(mail(offset_of!(Mailbox, peer_map_valid))),
            entries: word(mail(offset_of!(Mailbox, entries))),
            reason: bytes(page, mail(offset_of!(Mailbox, reason))),
            reserved: bytes(page, mail(offset_of!(Mailbox, reserved))),
        },
    };
    if handoff.ram_count as usize > HANDOFF_RANGES {
        return Err(Refusal::Bad("the handoff block has too many RAM ranges"));
    }
    Ok(Box::new(handoff))
}

impl Core {
    /// The handoff block that belongs to the jump-back entry `entry`, and its address.
    ///
    /// # Errors
    ///
    /// [`Refusal::Missing`], [`Refusal::Bad`] if `entry` is none, and those of the source.
    pub fn handoff<S: Source>(
        &self,
        reader: &mut Reader<S>,
        entry: u64,
    ) -> Result<(u64, Box<Handoff>), Refusal> {
        let mut slot = [0; size_of::<ControlSlot>()];
        let page = entry & !(PAGE_SIZE - 1);
        self.read_memory(reader, page, &mut slot, "the control page")?;
        let at = handoff_address(&slot)?;
        let mut page = [0; PAGE];
        self.read_memory(reader, at, &mut page, "the handoff block")?;
        let handoff = decode_handoff(&page)?;
        if handoff.jump_back_entry != entry {
            return Err(Refusal::Bad(
                "the entry is not the one that the handoff block names",
            ));
        }
        Ok((at, handoff))
    }
}
