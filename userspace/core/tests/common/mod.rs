//! Cores made by hand.
#![allow(dead_code, missing_docs)]

use std::io;

use kjump_core::{
    Core, CoreNote, ImageNote, Kind, Notes, PeerNote, Refusal, Segment, Source, Writer,
};
use kjump_image::{Guard, Header, Range};

/// A file in memory.
pub struct Bytes(pub Vec<u8>);

impl Source for Bytes {
    fn size(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

pub const WINDOW_END: u64 = 16 << 20;
pub const ENTRY: u64 = (32 << 20) + 0x80;

pub fn core_kind() -> Kind {
    Kind::Core(CoreNote {
        version: 1,
        size: size_of::<CoreNote>() as u32,
        jump_back_entry: ENTRY,
        handoff: 33 << 20,
        window_end: WINDOW_END,
        fingerprint: 0x1234_5678_9abc_def0,
    })
}

pub fn peer_kind() -> Kind {
    let note = PeerNote {
        version: 1,
        size: size_of::<PeerNote>() as u32,
        entry: 0x10_0000,
        boot_params: 0x9_0000,
        window_end: WINDOW_END,
        fingerprint: 7,
        jumps: 3,
        crc: 0,
    };
    Kind::Peer(note, "release=7.3.4\npci=12ab34cd\n".into())
}

pub fn image() -> ImageNote {
    let range = |start, end| Range { start, end };
    ImageNote {
        header: Header {
            uuid: [7; 16],
            release: "7.3.4-kjump".into(),
            jump_back_entry: ENTRY,
            pages: 5,
            ram: vec![range(0, 0x9f000), range(1 << 20, 256 << 20)],
            codec: kjump_image::Codec::None,
            ..Header::default()
        },
        guards: vec![Guard {
            kind: 1,
            label: "/dev/vda1".into(),
            ..Guard::default()
        }],
    }
}

/// Where memory is: `(paddr, pages)`.
pub fn segments(places: &[(u64, u64)]) -> Vec<Segment> {
    let segment = |(paddr, pages): &(u64, u64)| Segment {
        paddr: *paddr,
        vaddr: 0xc000_0000 + *paddr,
        filesz: pages * 4096,
        memsz: pages * 4096,
        ..Segment::default()
    };
    places.iter().map(segment).collect()
}

/// What a page of a made-up core holds.
pub fn page(paddr: u64) -> [u8; 4096] {
    [(paddr >> 12) as u8 ^ (paddr >> 20) as u8; 4096]
}

pub fn write(kind: &Kind, image: Option<&ImageNote>, places: &[(u64, u64)]) -> Vec<u8> {
    let notes = Notes {
        prstatus: &[vec![1; 144], vec![2; 144]],
        vmcoreinfo: b"OSRELEASE=7.3.4-kjump\nPAGESIZE=4096\nA=x",
        kind,
        image,
    };
    let mut segments = segments(places);
    let mut writer = Writer::begin(Vec::new(), &notes, &mut segments).unwrap();
    for s in &segments {
        for n in 0..s.filesz / 4096 {
            writer.write(&page(s.paddr + n * 4096)).unwrap();
        }
    }
    writer.finish().unwrap()
}

/// A resumable core with everything.
pub fn whole() -> Vec<u8> {
    let places = [(0, 2), (1 << 20, 3), (32 << 20, 1), (33 << 20, 2)];
    write(&core_kind(), Some(&image()), &places)
}

/// A peer.
pub fn peer() -> Vec<u8> {
    write(&peer_kind(), None, &[(0, 1), (1 << 20, 3)])
}

pub fn read(bytes: Vec<u8>) -> Result<Core, Refusal> {
    Core::read(&mut Bytes(bytes))
}

/// Puts `word` at `at`.
pub fn patched(mut bytes: Vec<u8>, at: usize, word: &[u8]) -> Vec<u8> {
    bytes[at..at + word.len()].copy_from_slice(word);
    bytes
}
