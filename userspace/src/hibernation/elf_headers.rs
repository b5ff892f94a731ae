//! The core headers that A's module has made in A's memory: registers, VMCOREINFO, and where A's
//! kernel sees its memory.

use std::io;

use kjump_abi::Handoff;
use kjump_core::{Core, Kind, Refusal, Source};

use super::old::OldMemory;

/// Old memory, as a source; offsets are physical addresses.
struct Old<'a>(&'a dyn OldMemory);

impl Source for Old<'_> {
    fn size(&self) -> Option<u64> {
        None
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buf)?;
        Ok(buf.len())
    }
}

/// What they say.
#[derive(Debug, Default)]
pub struct Headers {
    /// Registers, a note for each CPU.
    pub prstatus: Vec<Vec<u8>>,
    /// What tools must know of A's kernel.
    pub vmcoreinfo: Vec<u8>,
    /// From which physical address on A's kernel sees memory how far away; ascending.
    shifts: Vec<(u64, Option<u64>)>,
}

impl Headers {
    /// Reads those of the kernel that a handoff block is of; empty if it has none.
    ///
    /// # Errors
    ///
    /// [`Refusal`], also if they are another kernel's.
    pub fn read(old: &dyn OldMemory, handoff: &Handoff) -> Result<Self, Refusal> {
        if handoff.elfcorehdr == 0 {
            return Ok(Self::default());
        }
        let core = Core::read_based(&mut Old(old), handoff.elfcorehdr)?;
        let entry = handoff.jump_back_entry;
        match core.kind {
            Kind::Core(note) if note.jump_back_entry == entry => Ok(Self::of(core)),
            _ => Err(Refusal::Bad("they are not those of the kernel to be saved")),
        }
    }

    fn of(mut core: Core) -> Self {
        core.segments.sort_unstable_by_key(|s| s.paddr);
        let mut shifts: Vec<(u64, Option<u64>)> = Vec::new();
        for s in &core.segments {
            let end = s.vaddr.checked_add(s.memsz);
            // Memory that the kernel does not see all the time has no address of its own.
            let seen = end.is_some_and(|end| end <= 1 << 32);
            let shift = seen.then(|| s.vaddr.wrapping_sub(s.paddr));
            if shifts.last().is_none_or(|(_, last)| *last != shift) {
                shifts.push((s.paddr, shift));
            }
        }
        Self {
            prstatus: core.prstatus,
            vmcoreinfo: core.vmcoreinfo,
            shifts,
        }
    }

    /// Where the kernel sees physical address `at`, and up to where that goes on so.
    pub fn vaddr(&self, at: u64) -> (u64, u64) {
        let next = self.shifts.partition_point(|(start, _)| *start <= at);
        let shift = next.checked_sub(1).and_then(|i| self.shifts[i].1);
        let end = self.shifts.get(next).map_or(u64::MAX, |(start, _)| *start);
        // What kexec-tools writes for memory without an address.
        (shift.map_or(u64::MAX, |s| at.wrapping_add(s)), end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kjump_core::Segment;

    #[test]
    fn where_memory_is_seen() {
        let segment = |paddr, vaddr| Segment {
            paddr,
            vaddr,
            memsz: 0x1000,
            ..Segment::default()
        };
        let core = Core {
            segments: vec![
                segment(0x3000_0000, u64::MAX),
                segment(0, 0xc000_0000),
                segment(0x10_0000, 0xc010_0000),
                segment(0x3000_1000, u64::MAX),
            ],
            kind: Kind::Plain,
            image: None,
            vmcoreinfo: Vec::new(),
            prstatus: Vec::new(),
            core_note_at: None,
        };
        let headers = Headers::of(core);
        assert_eq!(headers.vaddr(0x5000), (0xc000_5000, 0x3000_0000));
        assert_eq!(headers.vaddr(0x3000_1000), (u64::MAX, u64::MAX));
        assert_eq!(Headers::default().vaddr(0), (u64::MAX, u64::MAX));
    }
}
