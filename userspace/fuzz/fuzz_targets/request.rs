// SPDX-License-Identifier: GPL-2.0

//! What a kernel asks of a peer, in words.
#![no_main]

use kjump::untrusted::Request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(request) = Request::parse(data) else {
        return;
    };
    // What is written is read as the same, but for names, which are made harmless.
    let again = Request::parse(request.text().as_bytes()).expect("what it writes it reads");
    let unnamed = |mut request: Request| {
        let watched = request.watched.iter_mut().flatten();
        watched.for_each(|w| w.name.clear());
        request
    };
    assert_eq!(unnamed(again), unnamed(request));
});
