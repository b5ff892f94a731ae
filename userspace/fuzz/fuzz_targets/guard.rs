// SPDX-License-Identifier: GPL-2.0

//! What is raw on a disk, of every kind that is known, and records of it that came from elsewhere.
#![no_main]

use std::sync::LazyLock;

use kjump_fuzz::damage::Input;
use kjump_fuzz::disks::{self, Good};
use kjump_guard::{compare, probe, probe_kind, record, Kind};
use libfuzzer_sys::fuzz_target;

static GOOD: LazyLock<Vec<Good>> = LazyLock::new(disks::all);

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (which, how) = (input.byte(), input.byte());
    let theirs = input.bytes(usize::from(how >> 1)).to_vec();
    let disk = GOOD[usize::from(which) % GOOD.len()].damaged(&mut input);
    let Ok(Some(found)) = probe(&disk) else {
        for kind in Kind::ALL {
            let _ = probe_kind(&disk, kind);
        }
        return;
    };
    found.uuid_text();
    let Ok(guard) = record(&disk, &found) else {
        return;
    };
    assert!(guard.data.len() <= 256);
    assert_eq!(
        compare(&guard, &guard).is_err(),
        found.kind == Kind::Swap && {
            // A swap area must be hidden to be as it was.
            record(&disk, &found).is_ok_and(|now| compare(&guard, &now).is_err())
        }
    );
    // A record from an image may be anything.
    let mut other = guard.clone();
    other.data = theirs;
    let _ = compare(&other, &guard).map_err(|e| e.to_string());
    let _ = compare(&guard, &other).map_err(|e| e.to_string());
    if found.kind == Kind::Swap && how & 1 != 0 {
        if let Ok(true) = kjump_guard::swap_hide(&disk) {
            assert!(kjump_guard::swap_show(&disk).is_ok());
        }
    }
});
