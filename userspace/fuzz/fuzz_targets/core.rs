// SPDX-License-Identifier: GPL-2.0

//! An ELF core, of either class, from a file or from old memory: header, table, notes, and reads of
//! the memory in it.
#![no_main]

use std::sync::LazyLock;

use kjump_core::{Core, Kind, Reader};
use kjump_fuzz::damage::{Base, Input};
use kjump_fuzz::{files, Bytes, Stream};
use libfuzzer_sys::fuzz_target;

static GOOD: LazyLock<[Base; 3]> =
    LazyLock::new(|| [files::whole(), files::resumable(), files::peer()].map(Base::new));

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let how = input.byte();
    let (at, entry) = (input.long(), input.long());
    let mut file = match GOOD.get(usize::from(how & 3)) {
        Some(good) => good.damaged(&mut input),
        None => input.0.to_vec(),
    };
    if how & 4 != 0 {
        // The note with an image's header and guards.
        if let Some(at) = file.windows(8).position(|w| w == b"KJUMPIMG") {
            files::mend_header(&mut file, at);
        }
        if let Some(at) = file.windows(8).position(|w| w == b"KJUMPGRD") {
            files::mend_guards(&mut file, at);
        }
    }
    if how & 8 != 0 {
        let _ = Core::read(&mut Stream(Bytes(file.clone())));
    }
    let size = file.len() as u64;
    let mut source = Bytes(file);
    if how & 16 != 0 {
        let _ = Core::read_based(&mut source, at);
    }
    let Ok(core) = Core::read(&mut source) else {
        return;
    };
    assert!(core.segments.iter().all(|s| s.offset + s.filesz <= size));
    core.memory_bytes();
    core.vmcoreinfo("PAGESIZE");
    let Ok(mut reader) = Reader::new(source, 4096) else {
        return;
    };
    let mut to = vec![0; 5000];
    for segment in core.segments.iter().take(8) {
        let _ = core.read_memory(&mut reader, segment.paddr, &mut to, "memory");
    }
    let _ = core.read_memory(&mut reader, at, &mut to, "memory");
    let entry = match &core.kind {
        Kind::Core(note) => note.jump_back_entry,
        Kind::Peer(note, _) => note.entry,
        Kind::Plain => entry,
    };
    let _ = core.handoff(&mut reader, entry);
});
