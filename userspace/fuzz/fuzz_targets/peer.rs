// SPDX-License-Identifier: GPL-2.0

//! A peer in a file, as `/proc/kimgcore` gives it: the core, its note, its label.
#![no_main]

use std::sync::LazyLock;

use kjump::untrusted::Label;
use kjump_core::{Core, Kind};
use kjump_fuzz::damage::{Base, Input};
use kjump_fuzz::{files, Bytes};
use libfuzzer_sys::fuzz_target;

static GOOD: LazyLock<Base> = LazyLock::new(|| Base::new(files::peer()));

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    if input.byte() & 1 != 0 {
        let label = Label::parse(&String::from_utf8_lossy(input.0));
        label.text();
        label.differs(&Label::default());
        return;
    }
    let file = GOOD.damaged(&mut input);
    let size = file.len() as u64;
    let Ok(core) = Core::read(&mut Bytes(file)) else {
        return;
    };
    let Kind::Peer(note, label) = &core.kind else {
        return;
    };
    // It is loaded as it stands: all of it in the window, the entry in it.
    assert!(note.entry < note.window_end && core.find(note.entry).is_some());
    let inside = |s: &kjump_core::Segment| s.paddr + s.memsz <= note.window_end;
    assert!(core.segments.iter().all(inside));
    assert!(core.segments.iter().all(|s| s.offset + s.filesz <= size));
    let label = Label::parse(label);
    label.text();
    label.differs(&Label::default());
});
