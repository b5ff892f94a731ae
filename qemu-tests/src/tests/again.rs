// SPDX-License-Identifier: GPL-2.0

//! \[again\]: a hundred jumps to the resident peer, and nothing is used up.

use anyhow::{ensure, Result};

use crate::artifacts::Kernel;
use crate::kjump;
use crate::story::Story;
use crate::vm::Vm;
use crate::workload::Workload;

/// Jumps to the resident peer.
const JUMPS: u64 = 100;

/// KiB by which MemFree may be less after them than before. Nothing of it is kjump's: the
/// module's own pages are counted to the page.
const BOUND: u64 = 2048;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    // Looking for a mouse takes a quarter of a second of each way up.
    config.append = "i8042.noaux".into();
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    kjump::load_lean(&mut vm, kjump::COME_BACK)?;
    // The peer boots, and A's caches and the resumes' own allocations settle.
    for _ in 0..3 {
        kjump::jump_and_return(&mut vm, "")?;
    }
    let allocated = kjump::number(&kjump::status(&mut vm)?, "allocated_pages")?;
    let free = mem_free(&mut vm)?;
    let mark = vm.console.mark();

    for jump in 1..=JUMPS {
        kjump::jump_and_return(&mut vm, "")?;
        let status = kjump::status(&mut vm)?;
        ensure!(kjump::number(&status, "jumps")? == jump + 3, "{status}");
        let now = kjump::number(&status, "allocated_pages")?;
        ensure!(
            now == allocated,
            "jump {jump}: {now} pages allocated, {allocated} before"
        );
    }

    ensure!(
        !vm.console.since(mark).contains("Linux version"),
        "the peer has booted again"
    );
    let now = mem_free(&mut vm)?;
    ensure!(now + BOUND > free, "MemFree fell from {free} to {now} KiB");
    let workload = Workload::start(&mut vm, image)?;
    let before = workload.progress(&mut vm)?;
    kjump::jump_and_return(&mut vm, "")?;
    workload.healthy(&mut vm, before)?;
    workload.end(&mut vm)
}

/// KiB that are free when caches are empty, those in the CPUs' own lists included: MemFree leaves
/// them out, and after a load is given back they hold some thousand pages.
pub fn mem_free(vm: &mut Vm) -> Result<u64> {
    vm.sh("sync; echo 3 >/proc/sys/vm/drop_caches; sleep 1; echo 3 >/proc/sys/vm/drop_caches")?;
    let line = vm.sh("grep MemFree: /proc/meminfo")?;
    let free: u64 = line.split_whitespace().nth(1).unwrap_or_default().parse()?;
    let lists = vm.sh("grep '^  *count:' /proc/zoneinfo")?;
    let pages = lists
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    Ok(free + 4 * pages.sum::<u64>())
}
