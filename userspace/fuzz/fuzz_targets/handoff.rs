// SPDX-License-Identifier: GPL-2.0

//! A handoff block, and what it points to in old memory: control page, page map, exchange list.
#![no_main]

use std::collections::BTreeMap;
use std::io;
use std::sync::LazyLock;

use kjump::untrusted::{Request, SavedPages};
use kjump_fuzz::damage::{Base, Input};
use kjump_fuzz::files;
use libfuzzer_sys::fuzz_target;

/// Addresses of pages, and the pages one after the other.
static GOOD: LazyLock<(Vec<u64>, Base)> = LazyLock::new(|| {
    let pages = files::memory();
    let all: Vec<u8> = pages.values().flatten().copied().collect();
    (pages.into_keys().collect(), Base::new(all))
});

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let how = input.byte();
    let (places, good) = &*GOOD;
    let bytes = good.damaged(&mut input);
    let pages = places
        .iter()
        .copied()
        .zip(bytes.chunks(4096).map(<[u8]>::to_vec));
    let mut pages: BTreeMap<u64, Vec<u8>> = pages.collect();
    let slot = pages.get(&(files::ENTRY & !0xfff));
    let _ = kjump_core::handoff_address(slot.map_or(&[][..], |page| page));
    let Some(page) = pages.get_mut(&files::HANDOFF) else {
        return;
    };
    if how & 1 == 0 {
        files::mend_handoff(page);
    }
    let Ok(handoff) = kjump_core::decode_handoff(page) else {
        return;
    };
    Request::parse(&handoff.request);
    let read_at = |at: u64, to: &mut [u8]| {
        let page = pages
            .get(&(at & !0xfff))
            .filter(|_| at.is_multiple_of(4096));
        let page = page.and_then(|page| page.get(..to.len()));
        to.copy_from_slice(page.ok_or(io::ErrorKind::NotFound)?);
        Ok(())
    };
    if let Ok(saved) = SavedPages::read(&read_at, &handoff) {
        let mut at = 0;
        while let Some((start, count)) = saved.next_run(at, saved.frames()) {
            assert!(start >= at && start + count <= saved.frames());
            at = start + count;
        }
    }
    let _ = SavedPages::read_for_core(&read_at, &handoff, how & 2 != 0);
});
