// SPDX-License-Identifier: GPL-2.0

//! A saved machine: marks, header, guards, chunks and payloads, from a disk or a stream, to its end.
#![no_main]

use std::sync::LazyLock;

use kjump_fuzz::damage::{Base, Input};
use kjump_fuzz::{files, Bytes, Stream};
use kjump_image::{Codec, Image, Piece, Source, PAGE};
use libfuzzer_sys::fuzz_target;

static GOOD: LazyLock<Vec<Base>> = LazyLock::new(|| {
    let codecs = Codec::ALL.into_iter();
    codecs.map(|codec| Base::new(files::image(codec))).collect()
});

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (how, parts) = (input.byte(), input.byte());
    let mut file = GOOD[usize::from(how & 15) % GOOD.len()].damaged(&mut input);
    files::mend_image(&mut file, !parts);
    let _ = kjump_image::announced(&mut Bytes(file.clone()));
    if how & 64 != 0 {
        read(Stream(Bytes(file)));
    } else {
        read(Bytes(file));
    }
});

fn read(source: impl Source + Clone) {
    if let Ok(mut image) = Image::inspect_only(source.clone()) {
        // For people and for machines.
        let _ = image.inspect().to_string();
        let _ = image.verify_all();
    }
    let machine = files::saved_machine();
    let Ok(mut image) = Image::open_again(source, &machine, true) else {
        return;
    };
    assert!(image.guards().len() <= 117);
    let Ok(mut chunks) = image.chunks() else {
        return;
    };
    let mut last = machine.window_end / PAGE as u64;
    let mut pages = 0;
    while let Ok(Some(chunk)) = chunks.next_chunk() {
        for piece in chunk.pieces() {
            let (pfn, count) = match piece {
                Piece::Data { pfn, bytes } => (pfn, (bytes.len() / PAGE) as u64),
                Piece::Zero { pfn, count } => (pfn, count),
            };
            // Nothing goes where the restoring kernel runs, outside RAM, or to one place twice.
            assert!(pfn >= last, "page {pfn:#x} after {last:#x}");
            last = pfn + count;
            assert!(last * PAGE as u64 <= 64 << 20);
            pages += count;
        }
    }
    assert!(pages <= (64 << 20) / PAGE as u64);
    let _ = chunks.finish();
}
