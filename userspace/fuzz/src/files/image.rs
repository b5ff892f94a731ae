// SPDX-License-Identifier: GPL-2.0

//! Images, and the mending of all that keeps one together.

use std::io;
use std::mem::offset_of;

use kjump_image::layout::{
    ChunkHead, GuardsHead, Header as HeaderBlock, Mark, Run, Seal, BLOCK, CHUNKS_OFFSET,
    CHUNK_MAGIC, DISCARD_OFFSET, GUARDS_OFFSET, HEADER_OFFSET, MARK_MAGIC, RESUME_OFFSET,
};
use kjump_image::{Codec, Guard, Header, Machine, Options, Range, Target, Writer, ARCH_I386};
use xxhash_rust::xxh32::xxh32;
use zerocopy::{FromBytes, IntoBytes};

use super::mend;

/// First page above the window.
const FIRST: u64 = 0x1000;
const FINGERPRINT: u64 = 0x1234_5678_9abc_def0;

struct Disk(Vec<u8>);

impl Target for Disk {
    fn size(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let place = self
            .0
            .get_mut(offset as usize..offset as usize + bytes.len());
        place
            .ok_or(io::ErrorKind::StorageFull)?
            .copy_from_slice(bytes);
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn ram() -> Vec<Range> {
    let range = |start, end| Range { start, end };
    vec![range(0, 0x9fc00), range(1 << 20, 64 << 20)]
}

/// The machine that the image is of.
pub fn saved_machine() -> Machine {
    Machine {
        arch: ARCH_I386,
        fingerprint: Some(FINGERPRINT),
        build_id: Some([0xb1; 32]),
        ram: ram(),
        window_end: 16 << 20,
    }
}

/// An image with all sorts of pages.
pub fn image(codec: Codec) -> Vec<u8> {
    let page = |n: u64| match n % 3 {
        0 => vec![0; BLOCK],
        1 => vec![n as u8; BLOCK],
        _ => (0..BLOCK as u64)
            .map(|i| ((i * i * (n + 3)) >> 7) as u8)
            .collect(),
    };
    let pages: Vec<(u64, Vec<u8>)> = (0..9).map(|n| (FIRST + n + n / 4, page(n))).collect();
    let header = Header {
        uuid: [0x77; 16],
        created: 1_795_000_000,
        fingerprint: FINGERPRINT,
        release: "7.3.4-kjump".into(),
        build_id: [0xb1; 32],
        jump_back_entry: (FIRST + 5) * 4096,
        pages: pages.len() as u64,
        codec,
        chunk_pages: 2,
        ram: ram(),
        ..Header::default()
    };
    let guard = |kind| Guard {
        kind,
        device: [kind as u8; 16],
        label: format!("/dev/vda{kind}"),
        data: vec![0xdd; 100],
    };
    let size = kjump_image::worst_case(header.pages, header.chunk_pages) as usize;
    let mut disk = Disk(vec![0; size]);
    let options = Options {
        buffer: 16384,
        ..Options::default()
    };
    let guards: Vec<Guard> = (1..=5).map(guard).collect();
    let writer = Writer::begin(&mut disk, &header, &guards, options);
    let mut writer = writer.expect("a good header");
    let all = pages.iter().map(|(pfn, page)| (*pfn, page.as_slice()));
    writer.add_pages(all).expect("room for all pages");
    writer.finish().expect("all pages");
    disk.0
}

/// Mends the checksum of an image's header that starts at `at`.
pub fn mend_header(bytes: &mut [u8], at: usize) {
    let header = bytes.get_mut(at..).unwrap_or_default();
    mend(header, BLOCK, offset_of!(HeaderBlock, crc), crc32fast::hash);
}

/// Mends the checksum of the guards' region that starts at `at`.
pub fn mend_guards(bytes: &mut [u8], at: usize) {
    let guards = bytes.get_mut(at..).unwrap_or_default();
    let size = (CHUNKS_OFFSET - GUARDS_OFFSET) as usize;
    mend(guards, size, offset_of!(GuardsHead, crc), crc32fast::hash);
}

/// Mends the parts of an image that `parts` has bits for: 1 header, 2 guards, 4 chunks, 8 the marks'
/// digests, 16 the marks' checksums.
pub fn mend_image(bytes: &mut [u8], parts: u8) {
    if bytes.len() <= CHUNKS_OFFSET as usize {
        return;
    }
    let [header, guards, chunks] =
        [HEADER_OFFSET, GUARDS_OFFSET, CHUNKS_OFFSET].map(|n| n as usize);
    if parts & 1 != 0 {
        mend_header(bytes, header);
    }
    if parts & 2 != 0 {
        mend_guards(bytes, guards);
    }
    let digest = |part: &[u8]| *blake3::hash(part).as_bytes();
    let header_digest = digest(&bytes[header..header + BLOCK]);
    let guards_digest = digest(&bytes[guards..chunks]);
    let mut tag = [0; 8];
    tag.copy_from_slice(&header_digest[..8]);
    let tag = u64::from_le_bytes(tag);
    let chunks_digest = mend_chunks(bytes, (parts & 4 != 0).then_some(tag));
    let end = bytes.len() - bytes.len() % BLOCK;
    let last = (chunks / BLOCK..end / BLOCK).map(|n| n * BLOCK);
    let last = last.rev().find(|at| bytes[*at..].starts_with(&MARK_MAGIC));
    let marks = [0, RESUME_OFFSET as usize, DISCARD_OFFSET as usize];
    for at in marks.into_iter().chain(last) {
        let Ok((mut mark, _)) = Mark::read_from_prefix(&bytes[at..]) else {
            continue;
        };
        if mark.magic != MARK_MAGIC {
            continue;
        }
        if parts & 8 != 0 {
            let seal: &mut Seal = &mut mark.seal;
            seal.header_digest = header_digest;
            seal.guards_digest = guards_digest;
            seal.chunks_digest = chunks_digest;
            mark.image_digest = digest(mark.seal.as_bytes());
        }
        if parts & 16 != 0 {
            mark.crc.set(0);
            mark.crc.set(crc32fast::hash(mark.as_bytes()));
        }
        bytes[at..at + size_of::<Mark>()].copy_from_slice(mark.as_bytes());
    }
}

/// Walks the chunks as their heads say; with a tag mends each. Returns the digest of heads and runs.
fn mend_chunks(bytes: &mut [u8], tag: Option<u64>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut at = CHUNKS_OFFSET as usize;
    while let Some(Ok((mut head, _))) = bytes.get(at..).map(ChunkHead::read_from_prefix) {
        if head.magic != CHUNK_MAGIC {
            break;
        }
        let runs = at + size_of::<ChunkHead>();
        let payload = runs.saturating_add(head.run_count.get() as usize * size_of::<Run>());
        let end = payload.saturating_add(head.stored_len.get() as usize);
        let (Some(table), Some(stored)) = (bytes.get(runs..payload), bytes.get(payload..end))
        else {
            break;
        };
        if let Some(tag) = tag {
            head.tag.set(tag);
            head.stored_sum.set(xxh32(stored, 0));
            if head.codec == 0 {
                head.raw_sum = head.stored_sum;
            }
            head.crc.set(0);
            let mut crc = crc32fast::Hasher::new();
            crc.update(head.as_bytes());
            crc.update(table);
            head.crc.set(crc.finalize());
        }
        hasher.update(head.as_bytes());
        hasher.update(table);
        bytes[at..runs].copy_from_slice(head.as_bytes());
        at = end.next_multiple_of(8);
    }
    *hasher.finalize().as_bytes()
}
