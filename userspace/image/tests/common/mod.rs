//! A machine to save, disks to save it on, and a reader that checks what comes back.
#![allow(dead_code, missing_docs)]

use std::collections::BTreeMap;
use std::io;

use kjump_image::{
    Codec, Guard, Header, Image, Machine, Options, Range, Refusal, Source, Summary, Target,
    Verified, Writer, ARCH_I386,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

pub use kjump_image::PAGE;
/// First page above the window, and pages of RAM there; a hole of as many pages is in the middle.
pub const FIRST: u64 = 0x1000;
pub const HALF: u64 = 0x400;

/// Pages by number.
pub type Memory = BTreeMap<u64, Vec<u8>>;

pub fn ram() -> Vec<Range> {
    let range = |start, pages| Range {
        start: start * 4096,
        end: (start + pages) * 4096,
    };
    vec![
        Range {
            start: 0,
            end: 0x9fc00,
        },
        range(0x100, FIRST - 0x100 + HALF),
        range(FIRST + 2 * HALF, HALF),
    ]
}

pub fn machine() -> Machine {
    Machine {
        arch: ARCH_I386,
        fingerprint: Some(0x1234_5678_9abc_def0),
        build_id: None,
        ram: ram(),
        window_end: 16 << 20,
    }
}

pub fn header(uuid: u8, codec: Codec, memory: &Memory) -> Header {
    Header {
        uuid: [uuid; 16],
        created: 1_795_000_000,
        fingerprint: 0x1234_5678_9abc_def0,
        release: "7.3.4-kjump".into(),
        build_id: [0xb1; 32],
        jump_back_entry: (FIRST + 5) * 4096,
        pages: memory.len() as u64,
        skipped: [7, 1, 0, 2, 0, 0, 0, 0],
        codec,
        chunk_pages: 4,
        ram: ram(),
        ..Header::default()
    }
}

pub fn guards() -> Vec<Guard> {
    let guard = |kind, label: &str| Guard {
        kind,
        device: [kind as u8; 16],
        label: label.into(),
        data: vec![0xdd; 100],
    };
    vec![guard(1, "/dev/sda1 (ext4)"), guard(2, "swap")]
}

/// A page of one of the sorts that memory is made of.
pub fn page() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => Just(vec![0; PAGE]),
        2 => any::<u8>().prop_map(|b| vec![b; PAGE]),
        2 => vec(any::<u8>(), 64).prop_map(|p| p.repeat(PAGE / 64)),
        2 => any::<u64>().prop_map(noise),
        1 => (0..PAGE).prop_map(|at| {
            let mut p = vec![0; PAGE];
            p[at] = 1;
            p
        }),
    ]
}

/// Not compressible.
pub fn noise(seed: u64) -> Vec<u8> {
    let mut s = seed | 1;
    let mut next = || {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        s.to_le_bytes()
    };
    (0..PAGE / 8).flat_map(|_| next()).collect()
}

/// Thirty pages that do not compress, none beside another.
pub fn some_memory() -> Memory {
    (0..30).map(|i| (FIRST + 2 * i, noise(i))).collect()
}

/// Pages scattered over RAM, and in runs.
pub fn memory(most: usize) -> impl Strategy<Value = Memory> {
    let place = prop_oneof![0..HALF, 2 * HALF..3 * HALF, 0u64..40];
    btree_map(place.prop_map(|p| FIRST + p), page(), 0..=most)
}

pub fn codec() -> impl Strategy<Value = Codec> {
    (0..Codec::ALL.len()).prop_map(|i| Codec::ALL[i])
}

/// A disk in memory.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Disk(pub Vec<u8>);

impl Disk {
    /// Full of what was there before.
    pub fn new(size: usize) -> Self {
        Self(vec![0xa5; size])
    }
}

fn place(disk: &[u8], offset: u64, len: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).map_err(io::Error::other)?;
    let fits = start.checked_add(len).is_some_and(|e| e <= disk.len());
    let end = start + len;
    fits.then_some(start..end)
        .ok_or_else(|| io::Error::other("outside"))
}

impl Target for Disk {
    fn size(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        assert_eq!(offset % 4096, 0);
        assert_eq!(bytes.len() % 4096, 0);
        assert_eq!(bytes.as_ptr() as usize % 4096, 0, "O_DIRECT would refuse");
        let place = place(&self.0, offset, bytes.len())?;
        self.0[place].copy_from_slice(bytes);
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Disk {
    fn size(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if offset >= self.0.len() as u64 {
            return Ok(0);
        }
        assert_eq!(offset % 4096, 0);
        assert_eq!(buf.as_ptr() as usize % 4096, 0, "O_DIRECT would refuse");
        let start = offset as usize;
        let n = buf.len().min(self.0.len() - start);
        buf[..n].copy_from_slice(&self.0[start..start + n]);
        Ok(n)
    }
}

/// Saves all of `memory`.
pub fn save(
    target: impl Target,
    header: &Header,
    memory: &Memory,
) -> Result<Summary, kjump_image::Error> {
    let options = Options {
        buffer: 16384,
        ..Options::default()
    };
    let mut w = Writer::begin(target, header, &guards(), options)?;
    w.add_pages(memory.iter().map(|(pfn, page)| (*pfn, page.as_slice())))?;
    w.finish()
}

/// A disk with an image on it, as large as it must be.
pub fn saved(header: &Header, memory: &Memory) -> Disk {
    let size = kjump_image::worst_case(header.pages, header.chunk_pages);
    let mut disk = Disk::new(size as usize);
    save(&mut disk, header, memory).unwrap();
    disk
}

/// Reads an image to its end; what was read, and the proof.
pub fn load(source: impl Source) -> Result<(Memory, Verified), Refusal> {
    let mut image = Image::open(source, &machine())?;
    assert_eq!(image.guards(), guards());
    let mut memory = Memory::new();
    let mut chunks = image.chunks()?;
    while let Some(chunk) = chunks.next_chunk()? {
        for (pfn, page) in chunk.pages() {
            let page = page.map_or_else(|| vec![0; PAGE], |p| p.to_vec());
            assert!(memory.insert(pfn, page).is_none(), "page {pfn:#x} twice");
        }
    }
    Ok((memory, chunks.finish()?))
}

/// Like [`load`] without keeping the pages.
pub fn verify(source: impl Source) -> Result<Verified, Refusal> {
    Image::open(source, &machine())?.verify_all()
}
