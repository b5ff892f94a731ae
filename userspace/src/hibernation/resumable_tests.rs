//! Cores made by hand of a machine with 64 MiB: what is taken, and what is refused and why.

use std::collections::BTreeMap;
use std::mem::offset_of;

use kjump_abi::{
    crc32, ControlSlot, CoreNote, ARCH_I386, CONTROL_MAGIC, ENTRY_OURS, HANDOFF_MAGIC,
    HANDOFF_VERSION,
};
use kjump_core::{Notes, PeerNote, Segment, Writer};
use kjump_image::{Guard, Header};
use proptest::prelude::*;

use super::*;

const WINDOW: u64 = 16 << 20;
const TOP: u64 = 64 << 20;
const ENTRY: u64 = (32 << 20) + 0x80;
const HANDOFF: u64 = 33 << 20;
const INDEX: u64 = 34 << 20;
const MAP: u64 = 35 << 20;
const LIST: u64 = 36 << 20;
const SHADOW: u64 = 37 << 20;
/// A page of programs' memory.
const DATA: u64 = 38 << 20;

struct Bytes(Vec<u8>);

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

/// A kernel's memory, by page.
struct Memory {
    pages: BTreeMap<u64, Vec<u8>>,
    note: bool,
    image: Option<kjump_core::ImageNote>,
    request: String,
    ram: Vec<Range>,
    cpu: u64,
}

impl Memory {
    fn new() -> Self {
        Self {
            pages: BTreeMap::new(),
            note: true,
            image: None,
            request: String::new(),
            ram: vec![range(0, 0x9f000), range(1 << 20, TOP)],
            cpu: machine::cpu_in_handoff().into(),
        }
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        let page = at / PAGE_SIZE * PAGE_SIZE;
        let page = self.pages.entry(page).or_insert_with(|| vec![0; 4096]);
        let skip = (at % PAGE_SIZE) as usize;
        page[skip..skip + bytes.len()].copy_from_slice(bytes);
    }

    fn words(&mut self, at: u64, words: &[u32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.put(at, &bytes);
    }

    fn handoff(&mut self) {
        let long = |m: &mut Self, at: usize, n: u64| m.put(HANDOFF + at as u64, &n.to_le_bytes());
        let word = |m: &mut Self, at: usize, n: u32| m.put(HANDOFF + at as u64, &n.to_le_bytes());
        self.put(HANDOFF, &HANDOFF_MAGIC);
        word(self, offset_of!(Handoff, version), HANDOFF_VERSION);
        let covered = offset_of!(Handoff, mailbox) as u32;
        word(self, offset_of!(Handoff, size), covered);
        word(self, offset_of!(Handoff, arch), ARCH_I386);
        let ram = self.ram.clone();
        word(self, offset_of!(Handoff, ram_count), ram.len() as u32);
        for (n, r) in ram.iter().enumerate() {
            let at = offset_of!(Handoff, ram) + 16 * n;
            long(self, at, r.start);
            long(self, at + 8, r.end);
        }
        let cpu = self.cpu << 32;
        long(self, offset_of!(Handoff, fingerprint), cpu);
        long(self, offset_of!(Handoff, window_end), WINDOW);
        long(self, offset_of!(Handoff, jump_back_entry), ENTRY);
        long(self, offset_of!(Handoff, list), LIST);
        long(self, offset_of!(Handoff, page_map), INDEX);
        long(self, offset_of!(Handoff, page_map_pages), TOP / PAGE_SIZE);
        let request = self.request.clone();
        let at = HANDOFF + offset_of!(Handoff, request) as u64;
        self.put(at, request.as_bytes());
        let sum = crc32(0, &self.pages[&HANDOFF][..covered as usize]);
        word(self, offset_of!(Handoff, crc), sum);
    }

    /// Writes a core of it.
    fn core(mut self) -> Vec<u8> {
        self.put(ENTRY & !0xfff, &CONTROL_MAGIC);
        let slot = offset_of!(ControlSlot, handoff) as u64;
        self.put((ENTRY & !0xfff) + slot, &HANDOFF.to_le_bytes());
        self.handoff();
        self.words(INDEX, &[MAP as u32]);
        self.words(LIST, &[0, 1, 0x5000 | ENTRY_OURS, SHADOW as u32]);
        self.put(DATA, b"programs");
        self.put(SHADOW, b"window");
        for at in [ENTRY, HANDOFF, INDEX, MAP, LIST, DATA] {
            let frame = at / PAGE_SIZE;
            let place = MAP + frame / 8;
            let old = self.pages.get(&MAP).map_or(0, |p| p[frame as usize / 8]);
            self.put(place, &[old | 1 << (frame % 8)]);
        }
        let mut segments: Vec<Segment> = Vec::new();
        for at in self.pages.keys() {
            segments.push(Segment {
                paddr: *at,
                vaddr: 0xc000_0000 + at,
                filesz: PAGE_SIZE,
                memsz: PAGE_SIZE,
                offset: 0,
            });
        }
        let note = CoreNote {
            version: 1,
            size: size_of::<CoreNote>() as u32,
            jump_back_entry: ENTRY,
            handoff: HANDOFF,
            window_end: WINDOW,
            fingerprint: 0,
        };
        let kind = match self.note {
            true => Kind::Core(note),
            false => Kind::Plain,
        };
        let notes = Notes {
            prstatus: &[],
            vmcoreinfo: b"",
            kind: &kind,
            image: self.image.as_ref(),
        };
        let mut writer = Writer::begin(Vec::new(), &notes, &mut segments).unwrap();
        for page in self.pages.values() {
            writer.write(page).unwrap();
        }
        writer.finish().unwrap()
    }
}

fn range(start: u64, end: u64) -> Range {
    Range { start, end }
}

fn here() -> Machine {
    Machine {
        arch: ARCH_I386,
        fingerprint: Some(machine::fingerprint(&[])),
        build_id: Some([3; 32]),
        ram: vec![range(0, 0x9f000), range(1 << 20, TOP)],
        window_end: WINDOW,
    }
}

fn open(core: Vec<u8>, entry: Option<u64>) -> Result<Resumable<Bytes>> {
    Resumable::open(Bytes(core), "dump.elf", entry)
}

/// Why it is refused.
fn why(result: Result<impl Sized>) -> String {
    result.err().map_or("taken".into(), |e| e.to_string())
}

#[test]
fn a_whole_core_is_taken() {
    let core = open(Memory::new().core(), None).unwrap();
    assert_eq!((core.entry(), core.window_end()), (ENTRY, WINDOW));
    let mut runs = Vec::new();
    core.each_run(|start, end| {
        runs.push((start, end - start));
        Ok::<_, ()>(())
    })
    .unwrap();
    let pages = [ENTRY & !0xfff, HANDOFF, INDEX, MAP, LIST, SHADOW, DATA];
    let expected: Vec<_> = pages.iter().map(|p| (*p, PAGE_SIZE)).collect();
    assert_eq!((runs, core.page_count()), (expected, 7));
    core.check(&here()).unwrap();
    // The entry may be said.
    assert!(open(Memory::new().core(), Some(ENTRY)).is_ok());
}

#[test]
fn a_plain_core_needs_an_entry() {
    let plain = || {
        let mut memory = Memory::new();
        memory.note = false;
        memory.core()
    };
    assert!(why(open(plain(), None)).contains("kexec_jump_back_entry="));
    assert_eq!(open(plain(), None).err().unwrap().exit_code(), 50);
    assert_eq!(open(plain(), Some(ENTRY)).unwrap().page_count(), 7);
}

#[test]
fn an_entry_that_is_none_is_refused() {
    for entry in [0, 0x10_0000, ENTRY + 1, DATA, HANDOFF, 1 << 40, u64::MAX] {
        let e = open(Memory::new().core(), Some(entry)).err().unwrap();
        assert!(e.to_string().contains("--entry="), "{entry:#x}: {e}");
        assert_eq!(e.exit_code(), 2);
    }
}

#[test]
fn what_is_no_core_or_not_all_of_it() {
    let core = Memory::new().core();
    let code = |bytes: Vec<u8>| open(bytes, None).err().map(|e| e.exit_code());
    assert_eq!(code(b"nothing of the kind".to_vec()), Some(50));
    assert_eq!(code(core[..core.len() - 4096].to_vec()), Some(51));
    assert_eq!(code(core[..100].to_vec()), Some(51));
    // A dump without a page of programs: the last of its segments but the note's is that page.
    let mut memory = Memory::new();
    memory.put(DATA + PAGE_SIZE, b"needed too");
    let needs = memory.core();
    assert!(open(needs, None).is_ok());
    let mut memory = Memory::new();
    let frame = (DATA + PAGE_SIZE) / PAGE_SIZE;
    memory.put(MAP + frame / 8, &[1 << (frame % 8)]);
    let thin = memory.core();
    let e = why(open(thin.clone(), None));
    assert!(e.contains(&format!("{:#x}", DATA + PAGE_SIZE)), "{e}");
    assert_eq!(code(thin), Some(52));
    // A handoff that was written over.
    let mut damaged = core;
    let at = damaged.windows(8).position(|w| w == HANDOFF_MAGIC).unwrap();
    damaged[at + 200] ^= 1;
    assert!(why(open(damaged, None)).contains("checksum"));
}

#[test]
fn another_machine_is_foreign() {
    let refused = |memory: Memory, here: &Machine, word: &str| {
        let core = open(memory.core(), None).unwrap();
        let e = core.check(here).unwrap_err();
        assert!(e.to_string().contains(word), "{e}");
        assert_eq!(e.exit_code(), 54);
    };
    let mut memory = Memory::new();
    memory.cpu ^= 1;
    refused(memory, &here(), "the CPU");
    // More memory, or less, or elsewhere.
    for end in [TOP - PAGE_SIZE, 2 * TOP] {
        let mut other = here();
        other.ram[1].end = end;
        refused(Memory::new(), &other, "RAM");
    }
    let wide = Machine {
        window_end: 2 * WINDOW,
        ..here()
    };
    refused(Memory::new(), &wide, "window");
    let mut told = Memory::new();
    let request = Request {
        fingerprint: Some(5),
        build: Some([3; 32]),
        ..Request::default()
    };
    told.request = request.text().to_string();
    refused(told, &here(), "the memory map");
    let mut built = Memory::new();
    let request = Request {
        fingerprint: here().fingerprint,
        build: Some([4; 32]),
        ..Request::default()
    };
    built.request = request.text().to_string();
    refused(built, &here(), "build");
    // One that was told to leave RAM alone (mem=), on the machine that it names.
    let mut small = Memory::new();
    small.ram[1].end = TOP - (1 << 20);
    let request = Request {
        fingerprint: here().fingerprint,
        ..Request::default()
    };
    small.request = request.text().to_string();
    open(small.core(), None).unwrap().check(&here()).unwrap();
}

#[test]
fn what_a_save_has_noted_counts() {
    let with = |header: Header| {
        let mut memory = Memory::new();
        let guard = Guard {
            kind: kjump_guard::Kind::Swap.number(),
            device: [9; 16],
            ..Guard::default()
        };
        memory.image = Some(kjump_core::ImageNote {
            header: Header {
                uuid: [1; 16],
                window_end: WINDOW,
                jump_back_entry: ENTRY,
                ram: memory.ram.clone(),
                ..header
            },
            guards: vec![guard],
        });
        open(memory.core(), None).unwrap()
    };
    let right = Header {
        fingerprint: machine::fingerprint(&[]),
        build_id: [3; 32],
        ..Header::default()
    };
    let core = with(right.clone());
    core.check(&here()).unwrap();
    let guards = guards(&core.core);
    assert_eq!(crate::swap::areas(guards), [[9; 16]]);
    let code = |header: Header| with(header).check(&here()).unwrap_err().exit_code();
    let (fingerprint, build_id, cpu_features) = (1, [4; 32], [0xff; 64]);
    assert_eq!(
        code(Header {
            fingerprint,
            ..right.clone()
        }),
        54
    );
    assert_eq!(
        code(Header {
            build_id,
            ..right.clone()
        }),
        54
    );
    assert_eq!(
        code(Header {
            cpu_features,
            ..right
        }),
        54
    );
}

#[test]
fn a_peer_is_no_core_to_go_on_with() {
    let note = PeerNote {
        version: 1,
        size: size_of::<PeerNote>() as u32,
        entry: 0x10_0000,
        window_end: WINDOW,
        ..PeerNote::default()
    };
    let kind = Kind::Peer(note, String::new());
    let notes = Notes {
        prstatus: &[],
        vmcoreinfo: b"",
        kind: &kind,
        image: None,
    };
    let mut segments = [Segment {
        paddr: 0x10_0000,
        filesz: PAGE_SIZE,
        memsz: PAGE_SIZE,
        ..Segment::default()
    }];
    let mut writer = Writer::begin(Vec::new(), &notes, &mut segments).unwrap();
    writer.write(&[0; 4096]).unwrap();
    let peer = writer.finish().unwrap();
    for entry in [None, Some(0x10_0000)] {
        let e = open(peer.clone(), entry).err().unwrap();
        assert!(e.to_string().contains("load --peer"), "{e}");
        assert_eq!(e.exit_code(), 50);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever is written over, it is refused, or taken with pages that the core has.
    #[test]
    fn damage_is_refused_or_harmless(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        end in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut core = Memory::new().core();
        for (at, byte) in changes {
            let at = at.index(core.len());
            core[at] = byte;
        }
        if cut {
            core.truncate(end.index(core.len()));
        }
        if let Ok(core) = open(core, None) {
            core.each_run(|start, _| match core.core.find(start) {
                Some(_) => Ok(()),
                None => Err(start),
            }).unwrap();
            let _ = core.check(&here());
        }
    }
}
