// SPDX-License-Identifier: GPL-2.0

//! The stories, one file each. Their names are those of the project's list of what must hold.

mod again;
mod bundle;
mod corrupt;
mod cycle;
mod framework;
mod full;
mod hung;
mod integrity;
mod jump;
mod matrix;
mod modular;
mod old_memory;
mod one_way;
mod page_map;
mod pipe;
mod quiet;
mod refusals;
mod rungs;
mod space;
mod swsusp;
mod ten;
mod torn;
mod words;

use anyhow::Result;

use crate::runner::Test;
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
    test("words", 300, words::run),
    test("quiet", 300, quiet::run),
    test("again", 900, again::run),
    test("matrix", 36_000, matrix::run),
    test("rungs", 600, rungs::run),
    test("old-memory", 600, old_memory::run),
    test("page-map", 600, page_map::run),
    test("one-way", 300, one_way::run),
    test("refusals", 300, refusals::run),
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
    long("cycle-all", 36_000, cycle::all),
    test("full-512", 1800, full::small),
    test("full-1024", 3600, full::medium),
    long("full-all", 72_000, full::all),
    test("ten", 1800, ten::run),
    test("torn", 36_000, torn::run),
    test("corrupt", 1800, corrupt::bytes),
    test("foreign", 900, corrupt::foreign),
    test("stale", 900, corrupt::stale),
    test("bundle", 900, bundle::run),
    test("space", 1800, space::run),
    test("pipe", 900, pipe::run),
    test("abort", 900, pipe::abort),
];
