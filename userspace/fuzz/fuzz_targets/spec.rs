// SPDX-License-Identifier: GPL-2.0

//! Where an image lives, in words.
#![no_main]

use kjump_target::Spec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (number, text) = data.split_at(data.len().min(2));
    let text = String::from_utf8_lossy(text);
    let Ok(spec) = Spec::parse(&text) else { return };
    // What is printed is read as the same.
    assert_eq!(
        Spec::parse(&spec.to_string()).ok().as_ref(),
        Some(&spec),
        "{spec}"
    );
    spec.offset();
    let number = number.iter().fold(0, |n, b| n << 8 | u64::from(*b));
    if let Ok(with) = spec.with_offset(number << 11) {
        assert_eq!(
            Spec::parse(&with.to_string()).ok().as_ref(),
            Some(&with),
            "{with}"
        );
    }
});
