//! Writing an ELF64 core, from front to back.

use std::io::{self, Write};

use kjump_abi as abi;
use kjump_image::layout::BLOCK;

use crate::layout::{
    CLASS64, EHDR64, EM_386, ET_CORE, LITTLE, MAGIC, NAME_CORE, NAME_VMCOREINFO, NT_PRSTATUS,
    PHDR64, PN_XNUM, PT_LOAD, PT_NOTE,
};
use crate::notes::{encode_core, encode_peer, note_head, size_of_note, ImageNote, IMAGE_NOTE_SIZE};
use crate::read::{Kind, Segment};

/// What a core says beside the memory.
#[derive(Clone, Copy, Debug)]
pub struct Notes<'a> {
    /// Registers, a note for each CPU.
    pub prstatus: &'a [Vec<u8>],
    /// Left out if empty.
    pub vmcoreinfo: &'a [u8],
    /// What it is.
    pub kind: &'a Kind,
    /// What an image would say.
    pub image: Option<&'a ImageNote>,
}

impl Notes<'_> {
    /// Calls `put` with name, type and contents of each note but the image's.
    fn each(&self, mut put: impl FnMut(&str, u32, &[u8]) -> io::Result<()>) -> io::Result<()> {
        for registers in self.prstatus {
            put(NAME_CORE, NT_PRSTATUS, registers)?;
        }
        if !self.vmcoreinfo.is_empty() {
            put(NAME_VMCOREINFO, 0, self.vmcoreinfo)?;
        }
        match self.kind {
            Kind::Core(note) => put(abi::NOTE_NAME, abi::NOTE_CORE, &encode_core(note)),
            Kind::Peer(note, label) => {
                put(abi::NOTE_NAME, abi::NOTE_PEER, &encode_peer(note, label))
            }
            Kind::Plain => Ok(()),
        }
    }
}

/// Where everything lies, bytes from the start of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Segments of memory.
    pub count: usize,
    /// The notes.
    pub notes_at: u64,
    /// Their bytes.
    pub notes_len: u64,
    /// The contents of the image's note, a multiple of 4096, so that it can be written again.
    pub image_at: Option<u64>,
    /// The first page, a multiple of 4096.
    pub data_at: u64,
    /// The whole.
    pub size: u64,
}

impl Layout {
    /// Of a core with these notes and segments.
    ///
    /// # Errors
    ///
    /// `InvalidInput` with more segments than a core can have.
    pub fn new(notes: &Notes, segments: &[Segment]) -> io::Result<Self> {
        const PAGE: u64 = BLOCK as u64;
        let count = segments.len();
        if count + 1 >= usize::from(PN_XNUM) {
            return Err(invalid("more segments than a core can have"));
        }
        let table_end = (EHDR64 + (count + 1) * PHDR64) as u64;
        let mut notes_len = 0;
        notes.each(|name, _, data| {
            notes_len += size_of_note(name, data.len());
            Ok(())
        })?;
        let mut layout = Self {
            count,
            notes_at: table_end,
            notes_len,
            image_at: None,
            data_at: (table_end + notes_len).next_multiple_of(PAGE),
            size: 0,
        };
        if notes.image.is_some() {
            // The last of the notes: there is room in front of all of them.
            let before = notes_len + note_head(abi::NOTE_NAME, 0, 0).len() as u64;
            let at = (table_end + before).next_multiple_of(PAGE);
            layout.notes_at = at - before;
            layout.notes_len = before + IMAGE_NOTE_SIZE as u64;
            layout.image_at = Some(at);
            layout.data_at = at + IMAGE_NOTE_SIZE as u64;
        }
        layout.size = layout.data_at + segments.iter().map(|s| s.filesz).sum::<u64>();
        Ok(layout)
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Streams a core: everything in front of the memory first, then the memory, in the order of the
/// segments.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    at: u64,
    size: u64,
}

impl<W: Write> Writer<W> {
    /// Writes header, table and notes. Each segment's `offset` is set to where its contents will
    /// be, one after the other; `filesz` says how much there will be.
    ///
    /// # Errors
    ///
    /// Those of `out`, and `InvalidInput` for what makes no core.
    pub fn begin(out: W, notes: &Notes, segments: &mut [Segment]) -> io::Result<Self> {
        let layout = Layout::new(notes, segments)?;
        let mut offset = layout.data_at;
        for segment in segments.iter_mut() {
            segment.offset = offset;
            offset += segment.filesz;
        }
        let mut writer = Self {
            out,
            at: 0,
            size: layout.size,
        };
        writer.put(&header(layout.count + 1))?;
        writer.put(&entry(
            PT_NOTE,
            0,
            &Segment {
                offset: layout.notes_at,
                filesz: layout.notes_len,
                memsz: layout.notes_len,
                ..Segment::default()
            },
        ))?;
        for segment in segments.iter() {
            writer.put(&entry(PT_LOAD, 7, segment))?;
        }
        writer.pad(layout.notes_at)?;
        notes.each(|name, kind, data| {
            writer.put(&note_head(name, kind, data.len()))?;
            writer.put(data)?;
            writer.pad(writer.at.next_multiple_of(crate::layout::NOTE_ALIGN))
        })?;
        if let Some(image) = notes.image {
            let bytes = image.encode().map_err(io::Error::other)?;
            writer.put(&note_head(abi::NOTE_NAME, abi::NOTE_IMAGE, bytes.len()))?;
            writer.put(&bytes)?;
        }
        writer.pad(layout.data_at)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self, to: u64) -> io::Result<()> {
        while self.at < to {
            let n = (to - self.at).min(BLOCK as u64) as usize;
            self.put(&[0; BLOCK][..n])?;
        }
        Ok(())
    }

    /// Writes the next bytes of memory.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.put(bytes)
    }

    /// All of the memory was written: flushes, and gives the output back.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it was more or less than the segments say, and those of `out`.
    pub fn finish(mut self) -> io::Result<W> {
        if self.at != self.size {
            return Err(invalid("the segments have another length than was written"));
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

fn header(entries: usize) -> [u8; EHDR64] {
    let mut h = [0; EHDR64];
    h[..4].copy_from_slice(&MAGIC);
    // Class, byte order, version.
    h[4..7].copy_from_slice(&[CLASS64, LITTLE, 1]);
    let mut put = |at: usize, value: u32, size: usize| {
        h[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    };
    put(16, ET_CORE.into(), 2);
    put(18, EM_386.into(), 2);
    put(20, 1, 4);
    put(32, EHDR64 as u32, 4);
    put(52, EHDR64 as u32, 2);
    put(54, PHDR64 as u32, 2);
    put(56, entries as u32, 2);
    h
}

fn entry(kind: u32, flags: u32, segment: &Segment) -> [u8; PHDR64] {
    let mut e = [0; PHDR64];
    e[..4].copy_from_slice(&kind.to_le_bytes());
    e[4..8].copy_from_slice(&flags.to_le_bytes());
    let words = [
        segment.offset,
        segment.vaddr,
        segment.paddr,
        segment.filesz,
        segment.memsz,
        if kind == PT_LOAD { BLOCK as u64 } else { 4 },
    ];
    for (place, word) in e[8..].chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    e
}
