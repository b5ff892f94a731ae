// SPDX-License-Identifier: GPL-2.0

//! A bzImage: its headers, its version, and where it and what belongs to it are placed.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use kjump::untrusted::{bzimage, plan};
use kjump_fuzz::damage::{Base, Input};
use kjump_fuzz::files;
use libfuzzer_sys::fuzz_target;

static GOOD: LazyLock<Base> = LazyLock::new(|| Base::new(files::bzimage()));

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let how = input.byte();
    let initrd_size = input.short() as u64 * 997;
    let window = (input.short() as u64) << 12;
    let file = match how & 1 {
        0 => GOOD.damaged(&mut input),
        _ => input.0.to_vec(),
    };
    let head = &file[..file.len().min(bzimage::HEAD)];
    bzimage::is_bzimage(head);
    bzimage::version(&file);
    let Ok(kernel) = bzimage::parse(head, file.len() as u64, Path::new("k")) else {
        return;
    };
    assert!(kernel.code_start + kernel.code_size <= file.len() as u64);
    let planned = plan::plan(plan::Request {
        kernel: plan::Kernel::BzImage(kernel),
        initrd_size,
        command_line: "console=ttyS0".into(),
        map: files::PC,
        window_end: (how & 2 == 0).then_some(window),
        own: (how & 16 != 0).then_some((window, window + (32 << 20))),
        floor: if how & 4 == 0 { 0 } else { window },
        below: (how & 8 != 0).then_some(window),
        own_boot_params: None,
    });
    let Ok(plan) = planned else { return };
    // What was placed lies in RAM, and nothing on anything else.
    let mut places: Vec<(u64, u64)> = plan.segments.iter().map(|s| (s.mem, s.memsz)).collect();
    places.extend(plan.code.iter().map(|(place, _)| (place.mem, place.size)));
    places.extend(plan.initrd.iter().map(|place| (place.mem, place.size)));
    places.sort_unstable();
    let in_ram = |start: u64, size: u64| {
        let mut ram = kjump::untrusted::memmap::ram(files::PC);
        ram.any(|(from, to)| from <= start && start + size <= to)
    };
    assert!(places.iter().all(|(start, size)| in_ram(*start, *size)));
    assert!(places.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0));
    if how & 18 == 0 {
        assert!(places.iter().all(|(start, size)| start + size <= window));
    }
});
