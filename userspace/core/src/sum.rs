//! The checksum of a peer's core: without it a file that was damaged in the middle would be entered.

use kjump_abi::{crc32, PeerNote, LABEL_SIZE};
use kjump_image::Source;

use crate::notes::encode_peer;
use crate::read::{Core, Kind};
use crate::reader::Reader;
use crate::refusal::Refusal;

/// Bytes that are read at a time, whole pages.
const PIECE: usize = 64 << 10;

impl Core {
    /// Reads all of a peer's memory and compares it with the checksum in the peer's note. A note that
    /// has none, and any other core, pass.
    ///
    /// # Errors
    ///
    /// [`Refusal::Bad`] if they differ; those of the source.
    pub fn check_sum<S: Source>(&self, source: &mut S) -> Result<(), Refusal> {
        let Kind::Peer(note, label) = &self.kind else {
            return Ok(());
        };
        if note.crc == 0 || self.sum(note, label, source)? == note.crc {
            return Ok(());
        }
        Err(Refusal::Bad(
            "its checksum is another one, so it is not what was written",
        ))
    }

    fn sum<S: Source>(&self, note: &PeerNote, label: &str, source: &mut S) -> Result<u32, Refusal> {
        const CRC_AT: usize = core::mem::offset_of!(PeerNote, crc);
        let bytes: [u8; size_of::<PeerNote>() + LABEL_SIZE] = encode_peer(note, label);
        let mut crc = crc32(0, &bytes[..CRC_AT]);
        crc = crc32(crc, &bytes[CRC_AT + 4..]);
        let mut reader = Reader::new(source, PIECE)?;
        let mut piece = Vec::new();
        piece.try_reserve_exact(PIECE)?;
        piece.resize(PIECE, 0);
        for segment in &self.segments {
            crc = crc32(crc, &segment.paddr.to_le_bytes());
            crc = crc32(crc, &segment.memsz.to_le_bytes());
            let mut done = 0;
            while done < segment.memsz {
                let len = (segment.memsz - done).min(PIECE as u64) as usize;
                let at = segment.paddr + done;
                self.read_memory(&mut reader, at, &mut piece[..len], "the peer's memory")?;
                crc = crc32(crc, &piece[..len]);
                done += len as u64;
            }
        }
        Ok(crc)
    }
}
