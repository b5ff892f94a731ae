// SPDX-License-Identifier: GPL-2.0

//! Numbers, sizes, names and other words of the command's arguments and of texts that it reads.
#![no_main]

use kjump::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let clean = parse::text(data);
    assert!(!clean.contains(char::is_control));
    let text = String::from_utf8_lossy(data);
    let _ = parse::size(&text);
    let _ = parse::command(&text);
    let _ = parse::rung(&text);
    assert!(parse::status(&text).is_ok_and(|n| n <= 0x7fff_ffff) || parse::status(&text).is_err());
    if let Ok(name) = parse::load_name(&text) {
        assert!(name.len() < kjump_abi::NAME_SIZE);
    }
    assert_eq!(parse::reason(&text).last(), Some(&0));
    if let Ok(n) = parse::number(&text) {
        assert_eq!(parse::number(&n.to_string()), Ok(n));
    }
});
