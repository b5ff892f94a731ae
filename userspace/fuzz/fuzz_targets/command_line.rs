// SPDX-License-Identifier: GPL-2.0

//! The kernel's command line as a peer's init reads it, and the memory map that /proc/iomem shows.
#![no_main]

use kjump::untrusted::{memmap, Options};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let options = Options::parse(&text);
    options.module_parameters();
    options.actions.iter().for_each(|a| drop(a.to_string()));
    let map = memmap::parse_iomem(&text);
    assert!(map.iter().all(|e| e.start < e.end));
    for window in [0, 1 << 20, 16 << 20, u64::MAX] {
        let told = memmap::for_window(&map, window, None);
        assert!(memmap::ram(&told).all(|(_, end)| end <= window));
    }
});
