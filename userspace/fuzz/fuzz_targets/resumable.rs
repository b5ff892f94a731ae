// SPDX-License-Identifier: GPL-2.0

//! A core that a kernel is to be restored from: its handoff, page map and exchange list, whether all
//! of its pages are there, and whether it belongs to this machine.
#![no_main]

use std::sync::LazyLock;

use kjump::untrusted::Resumable;
use kjump_fuzz::damage::{Base, Input};
use kjump_fuzz::{files, Bytes};
use libfuzzer_sys::fuzz_target;

static GOOD: LazyLock<[Base; 2]> =
    LazyLock::new(|| [files::resumable(), files::whole()].map(Base::new));

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let how = input.byte();
    let mut file = GOOD[usize::from(how & 1)].damaged(&mut input);
    if how & 2 == 0 {
        if let Some(at) = file.windows(8).position(|w| w == b"KJUMPHO1") {
            files::mend_handoff(&mut file[at..]);
        }
    }
    let entry = (how & 4 != 0).then_some(files::ENTRY);
    let Ok(core) = Resumable::open(Bytes(file), "core", entry) else {
        return;
    };
    let mut here = files::saved_machine();
    here.fingerprint = (how & 8 != 0).then_some(5);
    here.build_id = None;
    let _ = core.check(&here);
    assert!(core.page_count() <= 1 << 20);
    core.window_end();
});
