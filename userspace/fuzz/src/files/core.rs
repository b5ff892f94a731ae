// SPDX-License-Identifier: GPL-2.0

//! ELF cores: of a machine with 64 MiB whose kernel can be gone back to, and of a peer.

use std::collections::BTreeMap;
use std::mem::offset_of;

use kjump_abi::{
    ControlSlot, Handoff, ARCH_I386, CONTROL_MAGIC, ENTRY_OURS, HANDOFF_MAGIC, HANDOFF_VERSION,
    PAGE_SIZE,
};
use kjump_core::{CoreNote, ImageNote, Kind, Notes, PeerNote, Segment, Writer};
use kjump_image::{Codec, Guard, Header, Range};

const WINDOW: u64 = 16 << 20;
const TOP: u64 = 64 << 20;
/// Where the saved kernel is entered.
pub const ENTRY: u64 = (32 << 20) + 0x80;
/// Where its handoff block is.
pub const HANDOFF: u64 = 33 << 20;
const INDEX: u64 = 34 << 20;
const MAP: u64 = 35 << 20;
const LIST: u64 = 36 << 20;
const SHADOW: u64 = 37 << 20;
const DATA: u64 = 38 << 20;

type Pages = BTreeMap<u64, Vec<u8>>;

fn put(pages: &mut Pages, at: u64, bytes: &[u8]) {
    let page = pages.entry(at & !0xfff).or_insert_with(|| vec![0; 4096]);
    let skip = (at & 0xfff) as usize;
    page[skip..skip + bytes.len()].copy_from_slice(bytes);
}

fn ram() -> [Range; 2] {
    let range = |start, end| Range { start, end };
    [range(0, 0x9f000), range(1 << 20, TOP)]
}

/// Memory of a kernel that has left for a peer: control page, handoff, page map, list, and some.
pub fn memory() -> Pages {
    let mut pages = Pages::new();
    let p = &mut pages;
    put(p, ENTRY & !0xfff, &CONTROL_MAGIC);
    let slot = offset_of!(ControlSlot, handoff) as u64;
    put(p, (ENTRY & !0xfff) + slot, &HANDOFF.to_le_bytes());
    put(p, HANDOFF, &HANDOFF_MAGIC);
    let mut word = |at: usize, n: u32| put(p, HANDOFF + at as u64, &n.to_le_bytes());
    word(offset_of!(Handoff, version), HANDOFF_VERSION);
    word(
        offset_of!(Handoff, size),
        offset_of!(Handoff, mailbox) as u32,
    );
    word(offset_of!(Handoff, arch), ARCH_I386);
    word(offset_of!(Handoff, ram_count), 2);
    let mut long = |at: usize, n: u64| put(p, HANDOFF + at as u64, &n.to_le_bytes());
    for (n, r) in ram().into_iter().enumerate() {
        long(offset_of!(Handoff, ram) + 16 * n, r.start);
        long(offset_of!(Handoff, ram) + 16 * n + 8, r.end);
    }
    let cpu = u64::from(kjump::untrusted::cpu_in_handoff()) << 32;
    long(offset_of!(Handoff, fingerprint), cpu);
    long(offset_of!(Handoff, window_end), WINDOW);
    long(offset_of!(Handoff, jump_back_entry), ENTRY);
    long(offset_of!(Handoff, list), LIST);
    long(offset_of!(Handoff, page_map), INDEX);
    long(offset_of!(Handoff, page_map_pages), TOP / PAGE_SIZE);
    let request = "image=00112233445566778899aabbccddeeff\ntarget=/dev/vda\ncodec=lz4\n\
                   mode=poweroff\nfingerprint=0x5\nfirmware-pages=3\nguards=0\n";
    let at = HANDOFF + offset_of!(Handoff, request) as u64;
    put(p, at, request.as_bytes());
    if let Some(page) = p.get_mut(&HANDOFF) {
        super::mend_handoff(page);
    }
    put(p, INDEX, &(MAP as u32).to_le_bytes());
    for (n, w) in [0, 1, 0x5000 | ENTRY_OURS, SHADOW as u32]
        .into_iter()
        .enumerate()
    {
        put(p, LIST + 4 * n as u64, &w.to_le_bytes());
    }
    put(p, DATA, b"programs");
    put(p, SHADOW, b"window");
    let mut bits = vec![0; 4096];
    for at in [ENTRY, HANDOFF, INDEX, MAP, LIST, DATA] {
        let frame = (at / PAGE_SIZE) as usize;
        bits[frame / 8] |= 1 << (frame % 8);
    }
    put(p, MAP, &bits);
    pages
}

fn core(kind: &Kind, image: Option<&ImageNote>, pages: &Pages) -> Vec<u8> {
    let segment = |paddr: &u64| Segment {
        paddr: *paddr,
        vaddr: 0xc000_0000 + paddr,
        filesz: PAGE_SIZE,
        memsz: PAGE_SIZE,
        offset: 0,
    };
    let mut segments: Vec<Segment> = pages.keys().map(segment).collect();
    let notes = Notes {
        prstatus: &[vec![1; 144], vec![2; 144]],
        vmcoreinfo: b"OSRELEASE=7.3.4-kjump\nPAGESIZE=4096\nA=x",
        kind,
        image,
    };
    let mut writer = Writer::begin(Vec::new(), &notes, &mut segments).expect("a good core");
    let pages = pages.values();
    pages.for_each(|page| writer.write(page).expect("memory has room"));
    writer.finish().expect("all of it was written")
}

fn core_kind() -> Kind {
    Kind::Core(CoreNote {
        version: 1,
        size: size_of::<CoreNote>() as u32,
        jump_back_entry: ENTRY,
        handoff: HANDOFF,
        window_end: WINDOW,
        fingerprint: 0,
    })
}

/// A core that can be resumed, without what a save adds.
pub fn resumable() -> Vec<u8> {
    core(&core_kind(), None, &memory())
}

/// One with what a save adds: an image's header and guards.
pub fn whole() -> Vec<u8> {
    let image = ImageNote {
        header: Header {
            uuid: [7; 16],
            release: "7.3.4-kjump".into(),
            jump_back_entry: ENTRY,
            window_end: WINDOW,
            pages: 7,
            ram: ram().to_vec(),
            codec: Codec::None,
            ..Header::default()
        },
        guards: vec![Guard {
            kind: 5,
            label: "/dev/vda1".into(),
            data: vec![3; 60],
            ..Guard::default()
        }],
    };
    core(&core_kind(), Some(&image), &memory())
}

/// A peer's core, as `/proc/kimgcore` gives it.
pub fn peer() -> Vec<u8> {
    let note = PeerNote {
        version: 1,
        size: size_of::<PeerNote>() as u32,
        entry: 0x10_0000,
        boot_params: 0x9_0000,
        window_end: WINDOW,
        fingerprint: 7,
        jumps: 3,
        // None: what a file that changes had would be wrong.
        crc: 0,
    };
    let kind = Kind::Peer(
        note,
        "release=7.3.4\npci=12ab34cd\nfingerprint=0x12\n".into(),
    );
    let places = [0, 0x9_0000, 1 << 20, (1 << 20) + 4096];
    let pages = places.map(|at| (at, vec![at as u8 | 1; 4096]));
    core(&kind, None, &pages.into())
}
