//! What tells A that it was restored: the mailbox of its own handoff block, which its control page
//! names.

use std::mem::offset_of;

use kjump_abi::{self as abi, ControlSlot, Handoff, Mailbox, PAGE_SIZE, REASON_SIZE};

/// Where the handoff block is, bytes, by the head of the control page that begins with these bytes; `None`
/// if that is no control page.
pub fn handoff(control: &[u8]) -> Option<u64> {
    let address = control.get(offset_of!(ControlSlot, handoff)..)?;
    let address = u64::from_le_bytes(*address.first_chunk()?);
    let good = control.starts_with(&abi::CONTROL_MAGIC) && address % PAGE_SIZE == 0 && address != 0;
    good.then_some(address)
}

/// The word: that it was restored, and `from` where, for A's user.
#[derive(Debug)]
pub struct Word {
    reason: [u8; REASON_SIZE],
}

impl Word {
    /// See the type.
    pub fn new(from: &str) -> Self {
        let mut reason = [0; REASON_SIZE];
        let text = format!("restored from {from}");
        let length = text.floor_char_boundary(REASON_SIZE - 1);
        reason[..length].copy_from_slice(&text.as_bytes()[..length]);
        Self { reason }
    }

    /// Its parts, with their offsets in a handoff block, bytes.
    pub fn parts(&self) -> [(usize, &[u8]); 2] {
        const STATUS: [u8; 4] = abi::STATUS_RESUMED.to_le_bytes();
        let mailbox = offset_of!(Handoff, mailbox);
        [
            (mailbox + offset_of!(Mailbox, reason), &self.reason),
            (mailbox + offset_of!(Mailbox, status), &STATUS),
        ]
    }

    /// Puts it into the page that holds the handoff block.
    pub fn put(&self, page: &mut [u8]) {
        for (at, bytes) in self.parts() {
            page[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }
}
