// SPDX-License-Identifier: GPL-2.0

//! An ELF kernel, or a program to be called: its segments, and where what belongs to it is placed.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use kjump::untrusted::{elf, plan};
use kjump_fuzz::damage::{Base, Input};
use kjump_fuzz::files;
use libfuzzer_sys::fuzz_target;

static GOOD: LazyLock<Base> = LazyLock::new(|| Base::new(files::elf()));

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let how = input.byte();
    let initrd_size = input.short() as u64 * 997;
    let window = (input.short() as u64) << 12;
    let file = match how & 1 {
        0 => GOOD.damaged(&mut input),
        _ => input.0.to_vec(),
    };
    let Ok(kernel) = elf::parse(&file[..], Path::new("k")) else {
        return;
    };
    for piece in &kernel.pieces {
        assert!(piece.mem.is_multiple_of(4096) && piece.data.len() as u64 <= piece.memsz);
    }
    let own = kernel.pieces.len();
    let planned = plan::plan(plan::Request {
        kernel: plan::Kernel::Elf(kernel),
        initrd_size,
        command_line: "console=ttyS0".into(),
        map: files::PC,
        window_end: (how & 2 == 0).then_some(window),
        own: None,
        floor: 0,
        below: None,
        own_boot_params: (how & 4 != 0).then(|| file.clone()),
    });
    let Ok(plan) = planned else { return };
    // What was placed here lies on nothing of the kernel's.
    let end = |mem: u64, size: u64| mem + size;
    let (theirs, ours) = plan.segments.split_at(own);
    for place in ours {
        let apart = |s: &elf::Piece| {
            end(s.mem, s.memsz) <= place.mem || end(place.mem, place.memsz) <= s.mem
        };
        assert!(theirs.iter().all(apart));
    }
});
