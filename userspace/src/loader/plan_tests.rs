//! Tests of `plan.rs` on the map of a QEMU PC with 512 MiB.

use std::path::Path;

use proptest::prelude::*;

use super::super::memmap::tests::PC;
use super::super::{bzimage, elf, page_down};
use super::*;

const WINDOW: u64 = 16 << 20;

fn request<'a>(kernel: Kernel<'a>, initrd: usize, window_end: Option<u64>) -> Request<'a> {
    Request {
        kernel,
        initrd_size: initrd as u64,
        command_line: "console=ttyS0".into(),
        map: PC,
        window_end,
        own: None,
        floor: 0,
        below: None,
        own_boot_params: None,
    }
}

fn bz(file: &[u8]) -> Kernel<'_> {
    Kernel::BzImage(bzimage::parse(file, file.len() as u64, Path::new("k")).unwrap())
}

/// Entry, initrd and window of a lean kernel.
fn lean(pref: u64, init: u32, reloc: bool, initrd: usize, window: Option<u64>) -> Result<Plan> {
    plan(request(
        bz(&bzimage::tests::image(0x8000, pref, init, reloc)),
        initrd,
        window,
    ))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()).into()
}

fn sound(p: &Plan, limit: u64) {
    let ram = Free::new(memmap::ram(PC), limit);
    let code = p.code.iter().map(|(c, _)| c);
    let others = code
        .chain(&p.initrd)
        .map(|i| (i.mem, page_up(i.mem + i.size)));
    let mut ranges: Vec<_> = p
        .segments
        .iter()
        .map(|s| (s.mem, page_up(s.mem + s.memsz)))
        .chain(others)
        .collect();
    ranges.sort_unstable();
    assert!(ranges
        .iter()
        .all(|(s, e)| ram.has(*s, *e) && page_down(*s) == *s));
    assert!(ranges.windows(2).all(|w| w[0].1 <= w[1].0));
    assert!(p.segments.iter().all(|s| s.data.len() as u64 <= s.memsz));
}

#[test]
fn a_kernel_with_all_that_belongs_to_it() {
    let p = lean(0x10_0000, 0x70_0000, true, 0x1234, Some(WINDOW)).unwrap();
    sound(&p, WINDOW);
    assert_eq!(p.entry, 0x10_0000);
    let params = &p
        .segments
        .iter()
        .find(|s| s.mem == p.boot_params)
        .unwrap()
        .data;
    assert_eq!(
        [word(params, 0x214), word(params, 0x228)],
        [0x10_0000, 0x1_0000]
    );
    assert_eq!(
        [word(params, 0x218), word(params, 0x21c)],
        [0xff_e000, 0x1234]
    );
    assert_eq!(p.boot_params, 0x1_1000);
    let line = p.segments.iter().find(|s| s.mem == 0x1_0000).unwrap();
    assert_eq!(line.data, b"console=ttyS0\0");
}

#[test]
fn a_kernel_beyond_the_window_names_the_one_it_needs() {
    let refused = |pref, init, reloc| lean(pref, init, reloc, 0, Some(WINDOW)).unwrap_err();
    let e = refused(0x100_0000, 0x80_0000, true);
    assert!(
        e.exit_code() == 16 && e.to_string().contains("--window 24M or larger"),
        "{e}"
    );
    assert_eq!(refused(0x100_0000, 0x80_0000, false).exit_code(), 16);
    assert_eq!(refused(0x10_0000, 0xf0_0001, true).exit_code(), 16);
    assert_eq!(
        lean(0x10_0000, 0xf0_0000, true, 0, Some(WINDOW))
            .unwrap()
            .entry,
        0x10_0000
    );
    assert!(lean(0x100_0000, 0x80_0000, true, 0, Some(24 << 20)).is_ok());
    assert_eq!(
        lean(0x8_0000, 0x1000, true, 0, Some(WINDOW)).unwrap().entry,
        0x10_0000
    );
}

#[test]
fn an_initrd_that_does_not_fit_says_by_how_much() {
    let free = 0xf0_0000 - 0x70_0000;
    assert!(lean(0x10_0000, 0x70_0000, true, free, Some(WINDOW)).is_ok());
    match lean(0x10_0000, 0x70_0000, true, free + 1, Some(WINDOW)).unwrap_err() {
        Error::InitrdDoesNotFit { size, missing } => {
            assert_eq!((size, missing), (free as u64 + 1, 4096));
        }
        e => panic!("{e}"),
    }
}

#[test]
fn one_way_takes_any_ram() {
    let p = lean(0x100_0000, 0x80_0000, true, 0x1000, None).unwrap();
    sound(&p, u64::MAX);
    let params = &p
        .segments
        .iter()
        .find(|s| s.mem == p.boot_params)
        .unwrap()
        .data;
    assert_eq!(word(params, 0x218), 0x1ffd_f000);
    assert_eq!(
        (params[0x1e8], word(params, 0x2d0 + 3 * 20 + 8)),
        (6, 0x1fee_0000)
    );
}

#[test]
fn nothing_goes_below_the_floor() {
    let file = bzimage::tests::image(0x8000, 0x20_0000, 0x70_0000, true);
    let p = plan(Request {
        floor: WINDOW,
        ..request(bz(&file), 0x1000, None)
    });
    let p = p.unwrap();
    sound(&p, FOUR_GIB);
    let code = p.code.unwrap().0;
    assert_eq!((p.entry, code.mem), (WINDOW, WINDOW));
    assert!(p.segments.iter().all(|s| s.mem >= WINDOW) && p.initrd.unwrap().mem >= WINDOW);
}

#[test]
fn nothing_goes_above_the_limit_of_a_kernel_that_has_all_of_memory() {
    let file = bzimage::tests::image(0x8000, 0x10_0000, 0x70_0000, true);
    let p = plan(Request {
        below: Some(WINDOW),
        ..request(bz(&file), 0x1000, None)
    });
    let p = p.unwrap();
    sound(&p, WINDOW);
    assert_eq!(p.initrd.unwrap().mem, WINDOW - 0x1000);
    // What it is told of memory is all the same.
    let params = &p.segments.iter().find(|s| s.mem == p.boot_params);
    let params = &params.unwrap().data;
    assert_eq!(usize::from(params[0x1e8]), PC.len());
}

#[test]
fn initrd_addr_max_is_the_last_byte() {
    let mut file = bzimage::tests::image(0x8000, 0x10_0000, 0x70_0000, true);
    file[0x22c..0x230].copy_from_slice(&0xef_ffffu32.to_le_bytes());
    let p = plan(request(bz(&file), 0x1000, Some(WINDOW))).unwrap();
    assert_eq!(
        p.initrd,
        Some(Place {
            mem: 0xef_f000,
            size: 0x1000
        })
    );
}

#[test]
fn the_command_line_has_the_kernels_limit() {
    let file = bzimage::tests::image(0x8000, 0x10_0000, 0x70_0000, true);
    let with = |len: usize| {
        let line = "x".repeat(len);
        plan(Request {
            command_line: line,
            ..request(bz(&file), 0, Some(WINDOW))
        })
    };
    assert!(with(2047).is_ok());
    assert_eq!(with(2048).unwrap_err().exit_code(), 18);
}

#[test]
fn an_elf_in_low_memory_keeps_its_place() {
    let loads: &[elf::tests::Load] = &[(0x1_0000, 0x1_0000, 0x2000, b"flat")];
    let e = elf::parse(&elf::tests::elf(0x1_0000, loads)[..], Path::new("k")).unwrap();
    let p = plan(request(Kernel::Elf(e), 0, Some(WINDOW))).unwrap();
    sound(&p, WINDOW);
    assert_eq!((p.entry, p.boot_params), (0x1_0000, 0x1_3000));
}

#[test]
fn no_room_at_all_is_a_refusal() {
    let code = |window| {
        lean(0x10_0000, 0x70_0000, true, 0, Some(window))
            .unwrap_err()
            .exit_code()
    };
    assert_eq!((code(0), code(4096), code(1 << 20)), (16, 16, 16));
    let e = |window| {
        let e = elf::parse(
            &elf::tests::elf(0, &[(0, 0x5000, 1, b"x")])[..],
            Path::new("k"),
        );
        plan(request(Kernel::Elf(e.unwrap()), 0, Some(window)))
            .unwrap_err()
            .exit_code()
    };
    assert_eq!((e(0), e(4096)), (19, 19));
}

proptest! {
    #[test]
    fn segments_never_overlap_and_lie_in_the_windows_ram(
        pref in 0u64..0x200,
        init in 1u32..0x1000000,
        relocatable in any::<bool>(),
        initrd in 0usize..0x90_0000,
        window in prop::option::of((0u64..0x4000).prop_map(|n| n * PAGE)),
    ) {
        if let Ok(p) = lean(pref << 16, init, relocatable, initrd, window) {
            sound(&p, window.unwrap_or(FOUR_GIB));
        }
    }

    #[test]
    fn nor_with_an_elf_that_lies_in_it(
        at in 1u64..0x9f, pages in 1u64..0x20, initrd in 0usize..0x10_0000,
    ) {
        let (mem, size) = ((at * PAGE) as u32, (pages * PAGE) as u32);
        prop_assume!(u64::from(mem + size) <= 0x9f000);
        let file = elf::tests::elf(mem, &[(0, mem, size, b"x")]);
        let e = elf::parse(&file[..], Path::new("k")).unwrap();
        sound(&plan(request(Kernel::Elf(e), initrd, Some(WINDOW))).unwrap(), WINDOW);
    }
}

#[test]
fn a_window_of_its_own() {
    let own = (0x400_0000, 0x500_0000);
    fn place(kernel: Kernel, initrd: usize) -> Result<Plan> {
        plan(Request {
            own: Some((0x400_0000, 0x500_0000)),
            ..request(kernel, initrd, Some(kjump_abi::SHARED_WINDOW_END))
        })
    }
    let file = |reloc| bzimage::tests::image(0x8000, 0x10_0000, 0x70_0000, reloc);
    let p = place(bz(&file(true)), 0x1234).unwrap();
    sound(&p, own.1);
    let inside = |at: u64| own.0 <= at && at < own.1;
    assert_eq!(p.entry, own.0);
    assert!(inside(p.initrd.unwrap().mem) && p.boot_params < 0xa_0000);
    // In neither of the two.
    let code = |p: Result<Plan>| p.unwrap_err().exit_code();
    assert_eq!(code(place(bz(&file(false)), 0)), 16);
    assert_eq!(code(place(bz(&file(true)), 0xa0_0000)), 17);
    let wide = bzimage::tests::image(0x8000, 0x10_0000, 0x110_0000, true);
    let refused = place(bz(&wide), 0).unwrap_err();
    assert!(refused.to_string().contains("--own-window=17M"));
    let fixed = |at: u32| {
        let file = elf::tests::elf(at, &[(at, at, 0x5000, b"x")]);
        let kernel = elf::parse(&file[..], Path::new("k")).unwrap();
        place(Kernel::Elf(kernel), 0)
    };
    assert_eq!(code(fixed(0x100_0000)), 16);
    assert_eq!(fixed(0x8000).unwrap().entry, 0x8000);
    assert!(inside(fixed(own.0 as u32).unwrap().entry));
}
