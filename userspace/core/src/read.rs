//! Reading a core: its header, its table of segments, its notes.

use kjump_abi::{CoreNote, PeerNote, PAGE_SIZE};
use kjump_image::{Source, PAGE};

use crate::layout::{
    u16_at, u32_at, u64_at, CLASS32, CLASS64, EHDR32, EHDR64, EM_386, ET_CORE, LITTLE, MAGIC,
    PHDR32, PHDR64, PN_XNUM, PT_LOAD, PT_NOTE,
};
use crate::notes::{Found, ImageNote};
use crate::reader::Reader;
use crate::refusal::Refusal;

/// A piece of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Physical address.
    pub paddr: u64,
    /// Where the kernel sees it, or what the file says.
    pub vaddr: u64,
    /// Where its contents are in the file, bytes.
    pub offset: u64,
    /// Bytes of contents.
    pub filesz: u64,
    /// Bytes of memory; what is beyond `filesz` is zero.
    pub memsz: u64,
}

/// What a core is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of a kernel that can be gone back to.
    Core(CoreNote),
    /// Of a peer that can be entered, with its label.
    Peer(PeerNote, String),
    /// Any other.
    Plain,
}

/// What a core says beside the memory itself.
#[derive(Debug)]
pub struct Core {
    /// Its memory, in the order of the file's table; no two overlap.
    pub segments: Vec<Segment>,
    /// What it is.
    pub kind: Kind,
    /// Of `kjump save --format elf`: what an image's header says, and the guards.
    pub image: Option<ImageNote>,
    /// What tools must know of the kernel, lines of `KEY=value`; empty if there is none.
    pub vmcoreinfo: Vec<u8>,
    /// Registers, a note for each CPU, as `struct elf_prstatus` has them.
    pub prstatus: Vec<Vec<u8>>,
    /// Where the contents of the note that makes it resumable are, bytes.
    pub core_note_at: Option<u64>,
}

/// Header and table of either class.
struct Shape {
    table: u64,
    count: u16,
    wide: bool,
}

impl Core {
    /// Reads and checks everything but the memory itself.
    ///
    /// # Errors
    ///
    /// All of [`Refusal`].
    pub fn read(source: &mut impl Source) -> Result<Self, Refusal> {
        Self::read_based(source, 0)
    }

    /// The same for headers that lie at `base` of a source in which all offsets but the table's
    /// count from its start: what `elfcorehdr=` points to, in old memory.
    ///
    /// # Errors
    ///
    /// All of [`Refusal`].
    pub fn read_based(source: &mut impl Source, base: u64) -> Result<Self, Refusal> {
        let size = source.size();
        let mut reader = Reader::new(source, PAGE)?;
        let shape = shape(&mut reader, base)?;
        let end_of = |at: u64, len: u64, what| {
            let end = at.checked_add(len);
            let end = end.ok_or(Refusal::Bad("a part of it wraps around"))?;
            match size {
                Some(size) if end > size => Err(Refusal::Truncated { what, end, size }),
                _ => Ok(()),
            }
        };
        let entry = if shape.wide { PHDR64 } else { PHDR32 };
        let table = u64::from(shape.count) * entry as u64;
        end_of(shape.table, table, "the table of segments")?;

        let mut segments = Vec::new();
        segments.try_reserve_exact(shape.count.into())?;
        let mut notes = Vec::new();
        for n in 0..shape.count.into() {
            let mut bytes = [0; PHDR64];
            let at = shape.table + n * entry as u64;
            reader.read(at, &mut bytes[..entry], "the table of segments")?;
            let (kind, segment) = segment(&bytes, shape.wide);
            match kind {
                PT_LOAD => {
                    check(&segment)?;
                    end_of(segment.offset, segment.filesz, "a segment of memory")?;
                    segments.push(segment);
                }
                PT_NOTE => {
                    end_of(segment.offset, segment.filesz, "a segment of notes")?;
                    notes.push((segment.offset, segment.filesz));
                }
                _ => {}
            }
        }
        no_overlap(&segments)?;
        let mut found = Found::default();
        for (at, len) in notes {
            found.walk(&mut reader, at, len)?;
        }
        let kind = match (found.core, found.peer) {
            (Some(_), Some(_)) => return Err(Refusal::Bad("it says that it is a core and a peer")),
            (Some(note), None) => Kind::Core(note),
            (None, Some((note, label))) => Kind::Peer(note, label),
            (None, None) => Kind::Plain,
        };
        let core = Self {
            segments,
            kind,
            image: found.image,
            vmcoreinfo: found.vmcoreinfo,
            prstatus: found.prstatus,
            core_note_at: found.core_at,
        };
        core.check_entry()?;
        Ok(core)
    }

    /// What the notes point to must be there.
    fn check_entry(&self) -> Result<(), Refusal> {
        let (entry, window_end, peer) = match &self.kind {
            Kind::Plain => return Ok(()),
            Kind::Core(note) => (note.jump_back_entry, note.window_end, false),
            Kind::Peer(note, _) => (note.entry, note.window_end, true),
        };
        if window_end == 0 || !window_end.is_multiple_of(PAGE_SIZE) {
            return Err(Refusal::Bad("its window does not end at a page"));
        }
        if peer != (entry < window_end) {
            return Err(Refusal::Bad(match peer {
                true => "the peer's entry is not in the window",
                false => "the jump-back entry is in the window",
            }));
        }
        let outside = |s: &Segment| s.paddr + s.memsz > window_end;
        if peer && self.segments.iter().any(outside) {
            return Err(Refusal::Bad("the peer has memory outside the window"));
        }
        if self.find(entry).is_none() {
            let what = "its entry";
            return Err(Refusal::Missing { what, at: entry });
        }
        match &self.kind {
            Kind::Core(note) if !note.handoff.is_multiple_of(PAGE_SIZE) => {
                Err(Refusal::Bad("its handoff is not at a page"))
            }
            _ => Ok(()),
        }
    }

    /// The segment with the memory at `paddr`.
    pub fn find(&self, paddr: u64) -> Option<&Segment> {
        let has = |s: &&Segment| s.paddr <= paddr && paddr - s.paddr < s.memsz;
        self.segments.iter().find(has)
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.memsz).sum()
    }

    /// Reads memory of the core at physical address `at`; `what` is for messages.
    ///
    /// # Errors
    ///
    /// [`Refusal::Missing`] where the core has none, and those of the source.
    pub fn read_memory<S: Source>(
        &self,
        reader: &mut Reader<S>,
        at: u64,
        to: &mut [u8],
        what: &'static str,
    ) -> Result<(), Refusal> {
        let mut done = 0;
        while done < to.len() {
            let at = at + done as u64;
            let segment = self.find(at).ok_or(Refusal::Missing { what, at })?;
            let over = at - segment.paddr;
            let rest = (to.len() - done) as u64;
            let n = if over < segment.filesz {
                let n = rest.min(segment.filesz - over) as usize;
                reader.read(segment.offset + over, &mut to[done..done + n], what)?;
                n
            } else {
                let n = rest.min(segment.memsz - over) as usize;
                to[done..done + n].fill(0);
                n
            };
            done += n;
        }
        Ok(())
    }

    /// The value of `key` in VMCOREINFO.
    pub fn vmcoreinfo(&self, key: &str) -> Option<&str> {
        let text = std::str::from_utf8(&self.vmcoreinfo).ok()?;
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }
}

/// Checks the header.
fn shape<S: Source>(reader: &mut Reader<S>, base: u64) -> Result<Shape, Refusal> {
    let mut head = [0; EHDR64];
    match reader.read(base, &mut head[..16], "its first bytes") {
        Err(Refusal::Truncated { .. }) => return Err(Refusal::NotElf),
        other => other?,
    }
    if head[..4] != MAGIC {
        return Err(Refusal::NotElf);
    }
    let foreign = |what, file: String, here: &str| {
        let here = here.to_owned();
        Err(Refusal::Foreign { what, file, here })
    };
    let wide = match head[4] {
        CLASS32 => false,
        CLASS64 => true,
        _ => return Err(Refusal::Bad("it is neither 32-bit nor 64-bit")),
    };
    if head[5] != LITTLE {
        return foreign("the byte order", head[5].to_string(), "1 (little-endian)");
    }
    let size = if wide { EHDR64 } else { EHDR32 };
    reader.read(base, &mut head[..size], "its header")?;
    let [kind, machine] = [16, 18].map(|at| u16_at(&head, at));
    if kind != ET_CORE {
        return Err(Refusal::NotCore { kind });
    }
    if machine != EM_386 {
        return foreign("the machine", machine.to_string(), "3 (i386)");
    }
    let (table, entry, count) = match wide {
        true => (u64_at(&head, 32), u16_at(&head, 54), u16_at(&head, 56)),
        false => (
            u32_at(&head, 28).into(),
            u16_at(&head, 42),
            u16_at(&head, 44),
        ),
    };
    let right = if wide { PHDR64 } else { PHDR32 };
    if usize::from(entry) != right || count == 0 || count == PN_XNUM {
        return Err(Refusal::Bad(
            "its table of segments has none, too many, or of another size",
        ));
    }
    let table = base.checked_add(table);
    let table = table.ok_or(Refusal::Bad("a part of it wraps around"))?;
    Ok(Shape { table, count, wide })
}

/// An entry of the table: its type, and the rest.
fn segment(bytes: &[u8], wide: bool) -> (u32, Segment) {
    let kind = u32_at(bytes, 0);
    let segment = if wide {
        let [offset, vaddr, paddr, filesz, memsz] = [8, 16, 24, 32, 40].map(|i| u64_at(bytes, i));
        Segment {
            paddr,
            vaddr,
            offset,
            filesz,
            memsz,
        }
    } else {
        let [offset, vaddr, paddr, filesz, memsz] =
            [4, 8, 12, 16, 20].map(|i| u64::from(u32_at(bytes, i)));
        Segment {
            paddr,
            vaddr,
            offset,
            filesz,
            memsz,
        }
    };
    (kind, segment)
}

fn check(segment: &Segment) -> Result<(), Refusal> {
    if segment.filesz > segment.memsz {
        return Err(Refusal::Bad("a segment has more contents than memory"));
    }
    match segment.paddr.checked_add(segment.memsz) {
        Some(_) => Ok(()),
        None => Err(Refusal::Bad("a segment's memory wraps around")),
    }
}

/// Two contents for one place would make it a matter of order which is right.
fn no_overlap(segments: &[Segment]) -> Result<(), Refusal> {
    let mut order: Vec<u16> = Vec::new();
    order.try_reserve_exact(segments.len())?;
    order.extend((0..segments.len()).map(|i| i as u16));
    order.sort_unstable_by_key(|i| (segments[usize::from(*i)].paddr, *i));
    let mut end = 0;
    for i in order {
        let s = &segments[usize::from(i)];
        if s.memsz == 0 {
            continue;
        }
        if s.paddr < end {
            return Err(Refusal::Bad("two segments have the same memory"));
        }
        end = s.paddr + s.memsz;
    }
    Ok(())
}
