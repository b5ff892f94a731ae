// SPDX-License-Identifier: GPL-2.0

//! The stories, one file each. Their names are those of the project's list of what must hold.

mod again;
mod allocations;
mod bad_disk;
mod bios;
mod bitmap_reader;
mod bundle;
mod commands;
mod core_restore;
mod core_tools;
mod corrupt;
mod cycle;
mod cycle_smp;
mod device;
mod encrypted;
mod framework;
mod full;
mod fuzz_device;
mod hung;
mod integrity;
pub mod interop;
mod interrupts;
mod jump;
mod kexec_lines;
mod kimgcore;
mod matrix;
mod modular;
mod nmi_steps;
mod old_memory;
mod one_way;
mod own_window;
mod page_map;
mod paranoid;
mod peers;
mod pipe;
mod power_log;
mod quiet;
mod recipe_v10;
mod recipe_v7;
mod recipe_v9;
mod refusals;
mod registers;
mod rungs;
mod secrets;
mod snap;
mod snap_base;
mod snap_debug;
mod snap_frozen;
mod snap_grows;
mod snap_qcow2;
mod snapshot_room;
mod space;
mod stock;
mod swsusp;
mod ten;
mod torn;
mod v1;
mod vmcore;
mod watchdog;
mod words;

use anyhow::Result;

use crate::runner::Test;
use crate::soak;
use crate::story::Story;

/// A test that runs by default, with the seconds after which it has hung.
const fn test(name: &'static str, limit: u64, run: fn(&Story) -> Result<()>) -> Test {
    Test {
        name,
        long: false,
        limit,
        run,
    }
}

/// A test that runs only when all was asked for.
const fn long(name: &'static str, limit: u64, run: fn(&Story) -> Result<()>) -> Test {
    Test {
        name,
        long: true,
        limit,
        run,
    }
}

/// All tests, in the order in which they run.
pub const ALL: &[Test] = &[
    test("framework", 180, framework::run),
    test("jump", 300, jump::run),
    test("integrity", 600, integrity::plain),
    test("integrity-pae", 600, integrity::pae),
    test("integrity-init-on-free", 600, integrity::init_on_free),
    test("integrity-page-poison", 600, integrity::page_poison),
    test("registers", 900, registers::run),
    test("words", 300, words::run),
    test("commands", 300, commands::run),
    test("quiet", 300, quiet::run),
    test("again", 900, again::run),
    test("matrix", 36_000, matrix::run),
    test("rungs", 600, rungs::run),
    test("allocations", 3600, allocations::run),
    test("paranoid", 900, paranoid::plain),
    long("paranoid-pae", 900, paranoid::pae),
    test("paranoid-disk", 900, paranoid::over_a_disk),
    test("device-fails", 900, device::fails),
    test("device-hangs", 300, device::hangs),
    test("watchdog", 600, watchdog::run),
    test("nmi", 7200, interrupts::nmi),
    test("nmi-steps", 600, nmi_steps::plain),
    test("nmi-steps-pae", 600, nmi_steps::pae),
    test("pending", 1800, interrupts::pending),
    test("old-memory", 600, old_memory::run),
    test("page-map", 600, page_map::run),
    test("bitmap-reader", 600, bitmap_reader::run),
    test("vmcore", 900, vmcore::run),
    test("one-way", 300, one_way::run),
    test("one-way-settles", 300, one_way::settles),
    test("refusals", 300, refusals::run),
    test("secrets", 600, secrets::run),
    test("fuzz-device", 1800, fuzz_device::run),
    test("hung-panic", 300, hung::panics),
    test("hung-restart", 300, hung::restarts),
    test("hung-watchdog", 300, hung::hangs),
    test("modular", 600, modular::run),
    test("swsusp", 600, swsusp::run),
    test("cycle", 900, cycle::disk),
    test("cycle-file", 900, cycle::file),
    test("cycle-pae", 900, cycle::pae),
    test("cycle-file-bootloader", 900, cycle::file_from_bootloader),
    test("cycle-uuid", 900, cycle::by_uuid),
    test("cycle-smp", 1800, cycle_smp::run),
    test("cycle-snapshot", 900, cycle::snapshot),
    test("cycle-snapshot-pae", 900, cycle::snapshot_pae),
    test("cycle-encrypted", 1200, encrypted::passphrase),
    long("cycle-encrypted-file", 1200, encrypted::key_file),
    test("snapshot-room", 1200, snapshot_room::run),
    long("cycle-all", 36_000, cycle::all),
    test("full-512", 1800, full::small),
    test("full-1024", 3600, full::medium),
    long("full-all", 72_000, full::all),
    test("ten", 1800, ten::run),
    test("torn", 36_000, torn::run),
    test("power-log", 1800, power_log::run),
    test("corrupt", 1800, corrupt::bytes),
    test("foreign", 900, corrupt::foreign),
    test("stale", 900, corrupt::stale),
    test("core-restore", 900, core_restore::full),
    test("core-restore-pae", 900, core_restore::pae),
    test("recipe-v10", 900, recipe_v10::in_the_window),
    test("recipe-v10-all-ram", 900, recipe_v10::with_all_ram),
    test("bundle", 900, bundle::run),
    test("space", 1800, space::run),
    test("bad-disk", 1800, bad_disk::run),
    test("recipe-v7", 900, recipe_v7::run),
    test("recipe-v7-off", 600, recipe_v7::without_s4),
    test("kexec-lines", 600, kexec_lines::run),
    test("kimgcore", 1800, kimgcore::run),
    test("kimgcore-wide", 900, kimgcore::wide),
    test("recipe-v9", 900, recipe_v9::back_and_forth),
    test("recipe-v9-image", 900, recipe_v9::image),
    test("v1", 1800, v1::run),
    test("pipe", 900, pipe::run),
    test("abort", 900, pipe::abort),
    test("bios", 900, bios::run),
    test("bios-plain", 600, bios::plain),
    test("peers", 1800, peers::run),
    test("stock", 900, stock::plain),
    test("stock-pae", 900, stock::pae),
    test("own-window", 1800, own_window::run),
    test("own-window-pae", 900, own_window::pae),
    test("snap", 3600, snap::run),
    test("snap-refused", 900, snap::refused),
    test("snap-debug", 1800, snap_debug::run),
    test("snap-base", 1800, snap_base::run),
    test("snap-frozen", 900, snap_frozen::run),
    test("snap-grows", 900, snap_grows::run),
    test("snap-qcow2", 900, snap_qcow2::run),
    test("soak-short", 1800, soak::short),
    long("soak-long", 36_000, soak::long),
    test("core-tools", 900, core_tools::run),
    test("core-tools-pae", 900, core_tools::pae),
    test("core-places", 900, core_tools::places),
    test("interop-a", 600, interop::lean),
    test("interop-a-pae", 600, interop::pae),
    test("interop-a-tools", 600, interop::tools_in_peer),
    test("interop-b", 900, interop::kexec_tools),
    test("interop-b-lost", 600, interop::lost),
    test("interop-b-pae", 900, interop::kexec_tools_pae),
];

/// Tests that do not run on the kernel that finds mistakes unless they are named in full, and why.
pub const NOT_ON_DEBUG: &[(&str, &str)] = &[
    ("integrity-pae", PAE),
    ("cycle-pae", PAE),
    ("cycle-uuid", PAE),
    ("cycle-snapshot-pae", PAE),
    ("core-restore-pae", PAE),
    ("core-tools-pae", PAE),
    ("interop-a-pae", PAE),
    ("interop-b-pae", PAE),
    ("stock-pae", PAE),
    ("own-window-pae", PAE),
    ("nmi-steps-pae", PAE),
    ("device-fails", MODULE),
    ("device-hangs", MODULE),
    ("peers", MODULE),
    ("matrix", TIME),
    ("cycle-all", TIME),
    ("again", TIME),
    ("ten", TIME),
    ("torn", TIME),
    ("full-512", ROOM),
    ("full-1024", ROOM),
    ("full-all", ROOM),
    ("space", ROOM),
    ("snapshot-room", ROOM),
    ("kimgcore-wide", MAINLINE),
    ("corrupt", FILESYSTEMS),
    ("foreign", FILESYSTEMS),
    ("stale", FILESYSTEMS),
];
const PAE: &str = "A is another kernel";
const FILESYSTEMS: &str = "it wants XFS and Btrfs, which that kernel has not";
const MAINLINE: &str =
    "mainline's own kexec jump complains there: it resumes with interrupts off and does not say so";
const MODULE: &str = "the module that it brings is for the usual kernel";
const TIME: &str = "it says nothing that shorter ones do not say";
const ROOM: &str = "it looks for the limit of the usual kernel's memory";

#[cfg(test)]
mod named_in_docs {
    use super::ALL;

    /// What stands in backquotes.
    fn quoted(text: &str) -> impl Iterator<Item = &str> {
        text.split('`').skip(1).step_by(2)
    }

    /// Whether there is a test of that name; a star at its end stands for anything.
    fn known(name: &str) -> bool {
        ALL.iter().any(|t| match name.strip_suffix('*') {
            Some(start) => t.name.starts_with(start),
            None => t.name == name,
        })
    }

    #[test]
    fn seeds_table_names_tests_that_exist() {
        let text = include_str!("../../../docs/seeds.md");
        let (mut column, mut seen) = (None, 0);
        for line in text.lines() {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            if !line.starts_with('|') {
                column = None;
            } else if let Some(at) = cells.iter().position(|cell| *cell == "test") {
                column = Some(at);
            } else if let Some(cell) = column.and_then(|at| cells.get(at)) {
                for name in quoted(cell).filter(|name| !name.starts_with("kjump ")) {
                    // `*-pae` is any test that ends so.
                    let ending = name.strip_prefix('*');
                    let there =
                        ending.map_or(known(name), |end| ALL.iter().any(|t| t.name.ends_with(end)));
                    assert!(there, "{name}: no such test, in: {line}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 50);
    }
}
