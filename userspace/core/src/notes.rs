//! Notes: walked one by one, and kept if they are of a kind that is known.

use kjump_abi as abi;
use kjump_abi::{CoreNote, PeerNote, LABEL_SIZE};
use kjump_image::layout::{BLOCK, GUARDS_SIZE};
use kjump_image::{decode_guards, encode_guards, Guard, Header, Source};

use crate::layout::{
    array, u32_at, u64_at, GIVEN_UP, NAME_CORE, NAME_VMCOREINFO, NHDR, NOTE_ALIGN, NT_PRSTATUS,
    USED,
};
use crate::reader::Reader;
use crate::refusal::Refusal;

/// Notes that are looked at: a CPU each, and a handful.
const MOST: u32 = 4096;
/// Bytes of registers that are kept, and of VMCOREINFO: Linux has a page of it.
const PRSTATUS_SIZE: u64 = 1024;
const VMCOREINFO_SIZE: u64 = 64 << 10;
/// Bytes of [`ImageNote`] in a file.
pub const IMAGE_NOTE_SIZE: usize = BLOCK + GUARDS_SIZE as usize;

/// What an image's header says, and what filesystems looked like: in a core that
/// `kjump save --format elf` has made.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageNote {
    /// As in an image; `pages` are those above the window, `codec` is none.
    pub header: Header,
    /// As in an image.
    pub guards: Vec<Guard>,
}

impl ImageNote {
    /// The note's contents, [`IMAGE_NOTE_SIZE`] bytes: the header's block, then the guards.
    pub fn encode(&self) -> Result<Vec<u8>, kjump_image::Error> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(IMAGE_NOTE_SIZE)?;
        bytes.extend_from_slice(&self.header.to_block()?);
        bytes.extend_from_slice(encode_guards(&self.guards)?.bytes());
        Ok(bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let (header, guards) = bytes.split_at(BLOCK.min(bytes.len()));
        Ok(Self {
            header: Header::from_block(header)?,
            guards: decode_guards(guards)?,
        })
    }
}

/// What the notes of a core say.
#[derive(Debug, Default)]
pub struct Found {
    pub prstatus: Vec<Vec<u8>>,
    pub vmcoreinfo: Vec<u8>,
    pub core: Option<CoreNote>,
    pub core_at: Option<u64>,
    pub peer: Option<(PeerNote, String)>,
    pub image: Option<ImageNote>,
    seen: u32,
}

fn padded(size: u32) -> u64 {
    u64::from(size).next_multiple_of(NOTE_ALIGN)
}

impl Found {
    /// Walks a segment of notes, `[at, at + len)` of the source.
    pub fn walk<S: Source>(
        &mut self,
        reader: &mut Reader<S>,
        mut at: u64,
        len: u64,
    ) -> Result<(), Refusal> {
        let Some(end) = at.checked_add(len) else {
            return Err(Refusal::Bad("a segment of notes wraps around"));
        };
        while at < end {
            let mut head = [0; NHDR];
            if end - at < NHDR as u64 {
                return Err(Refusal::Bad("a note is cut off by the end of its segment"));
            }
            reader.read(at, &mut head, "a note")?;
            let [name_size, size, kind] = [0, 4, 8].map(|i| u32_at(&head, i));
            // What Linux takes for the end, too: room for more.
            if name_size == 0 {
                return Ok(());
            }
            self.seen += 1;
            if self.seen > MOST {
                return Err(Refusal::Bad("it has more than 4096 notes"));
            }
            let data = at + NHDR as u64 + padded(name_size);
            at = data + padded(size);
            // The last one may do without its padding.
            if data + u64::from(size) > end {
                return Err(Refusal::Bad("a note is longer than its segment"));
            }
            let mut name = [0; 16];
            if let Some(name) = name.get_mut(..name_size as usize) {
                let place = data - padded(name_size);
                reader.read(place, name, "a note's name")?;
                let name: &[u8] = name.strip_suffix(&[0]).unwrap_or(name);
                self.take(reader, name, kind, data, size.into())?;
            }
        }
        Ok(())
    }

    fn take<S: Source>(
        &mut self,
        reader: &mut Reader<S>,
        name: &[u8],
        kind: u32,
        at: u64,
        size: u64,
    ) -> Result<(), Refusal> {
        let mut bytes = |most: u64| {
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(size.min(most) as usize)?;
            bytes.resize(size.min(most) as usize, 0);
            reader.read(at, &mut bytes, "a note's contents")?;
            Ok::<_, Refusal>(bytes)
        };
        let is = |n: &str, k: u32| name == n.as_bytes() && kind == k;
        if is(NAME_CORE, NT_PRSTATUS) && size <= PRSTATUS_SIZE {
            self.prstatus.push(bytes(PRSTATUS_SIZE)?);
        } else if is(NAME_VMCOREINFO, 0) && size <= VMCOREINFO_SIZE {
            self.vmcoreinfo = bytes(VMCOREINFO_SIZE)?;
        } else if is(abi::NOTE_NAME, abi::NOTE_CORE) {
            let what = "the note that makes a core resumable";
            once(self.core.is_none())?;
            let bytes = bytes(256)?;
            match u32_at(&bytes, 0) {
                GIVEN_UP => return Err(Refusal::GivenUp),
                USED => return Err(Refusal::Used),
                _ => {}
            }
            self.core = Some(core_note(&bytes, what)?);
            self.core_at = Some(at);
        } else if is(abi::NOTE_NAME, abi::NOTE_PEER) {
            once(self.peer.is_none())?;
            let most = size_of::<PeerNote>() + LABEL_SIZE;
            self.peer = Some(peer_note(&bytes(most as u64)?)?);
        } else if is(abi::NOTE_NAME, abi::NOTE_IMAGE) {
            once(self.image.is_none())?;
            if size != IMAGE_NOTE_SIZE as u64 {
                return Err(Refusal::Bad("its note of an image has another size"));
            }
            self.image = Some(ImageNote::decode(&bytes(size)?)?);
        }
        Ok(())
    }
}

fn once(first: bool) -> Result<(), Refusal> {
    match first {
        true => Ok(()),
        false => Err(Refusal::Bad("it has the same note twice")),
    }
}

/// Version and size in front of both notes.
fn check(bytes: &[u8], least: usize, what: &'static str) -> Result<(), Refusal> {
    if bytes.len() < least {
        return Err(Refusal::Bad("a note of kjump's is too short"));
    }
    let (number, size) = (u32_at(bytes, 0), u32_at(bytes, 4));
    if number != 1 {
        return Err(Refusal::BadVersion { what, number });
    }
    if (size as usize) < least {
        return Err(Refusal::Bad("a note of kjump's says that it is too short"));
    }
    Ok(())
}

fn core_note(bytes: &[u8], what: &'static str) -> Result<CoreNote, Refusal> {
    check(bytes, size_of::<CoreNote>(), what)?;
    Ok(CoreNote {
        version: u32_at(bytes, 0),
        size: u32_at(bytes, 4),
        jump_back_entry: u64_at(bytes, 8),
        handoff: u64_at(bytes, 16),
        window_end: u64_at(bytes, 24),
        fingerprint: u64_at(bytes, 32),
    })
}

fn peer_note(bytes: &[u8]) -> Result<(PeerNote, String), Refusal> {
    let least = size_of::<PeerNote>();
    check(bytes, least, "the note that makes a core a peer")?;
    let note = PeerNote {
        version: u32_at(bytes, 0),
        size: u32_at(bytes, 4),
        entry: u64_at(bytes, 8),
        boot_params: u64_at(bytes, 16),
        window_end: u64_at(bytes, 24),
        fingerprint: u64_at(bytes, 32),
        jumps: u32_at(bytes, 40),
        crc: u32_at(bytes, 44),
    };
    let label = bytes.get(note.size as usize..).unwrap_or_default();
    let text = label.split(|b| *b == 0).next().unwrap_or_default();
    match std::str::from_utf8(text) {
        Ok(text) => Ok((note, text.to_owned())),
        Err(_) => Err(Refusal::Bad("the peer's label is no text")),
    }
}

/// A note's contents as they lie in a file.
pub fn encode_core(note: &CoreNote) -> [u8; size_of::<CoreNote>()] {
    let mut bytes = [0; size_of::<CoreNote>()];
    let words = [
        note.jump_back_entry,
        note.handoff,
        note.window_end,
        note.fingerprint,
    ];
    bytes[..4].copy_from_slice(&note.version.to_le_bytes());
    bytes[4..8].copy_from_slice(&note.size.to_le_bytes());
    for (place, word) in bytes[8..].chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// The same for a peer, with its label.
pub fn encode_peer(note: &PeerNote, label: &str) -> [u8; size_of::<PeerNote>() + LABEL_SIZE] {
    const HEAD: usize = size_of::<PeerNote>();
    let mut bytes = [0; HEAD + LABEL_SIZE];
    let words = [
        u64::from(note.version) | u64::from(note.size) << 32,
        note.entry,
        note.boot_params,
        note.window_end,
        note.fingerprint,
        u64::from(note.jumps) | u64::from(note.crc) << 32,
    ];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    let label = &label.as_bytes()[..label.floor_char_boundary(LABEL_SIZE - 1)];
    bytes[HEAD..HEAD + label.len()].copy_from_slice(label);
    bytes
}

/// Bytes that a note has in a file.
pub fn size_of_note(name: &str, data: usize) -> u64 {
    let up = |n: usize| (n as u64).next_multiple_of(NOTE_ALIGN);
    NHDR as u64 + up(name.len() + 1) + up(data)
}

/// A note's head and name, filled up.
pub fn note_head(name: &str, kind: u32, data: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(NHDR + 16);
    for word in [name.len() as u32 + 1, data as u32, kind] {
        head.extend_from_slice(&word.to_le_bytes());
    }
    head.extend_from_slice(name.as_bytes());
    head.push(0);
    head.resize(head.len().next_multiple_of(NOTE_ALIGN as usize), 0);
    head
}

/// The first eight bytes of a page, if they are a control page's.
pub fn is_control(page: &[u8]) -> bool {
    array::<8>(page, 0) == Some(abi::CONTROL_MAGIC)
}
