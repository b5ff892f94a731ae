// SPDX-License-Identifier: GPL-2.0

//! \[modular\]: the module goes and comes, jumps in between, and leaves nothing behind.

use anyhow::{ensure, Result};

use crate::artifacts::Kernel;
use crate::kjump;
use crate::story::Story;
use crate::tests::again::mem_free;
use crate::vm::Vm;
use crate::workload::Workload;

/// Times that the module is loaded, after a first one that warms caches.
const TIMES: u32 = 5;

/// KiB by which MemFree may fall over all of them: less than one jump's shadow (16 MiB) by far.
const BOUND: u64 = 2048;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;

    let iomem = vm.sh("cat /proc/iomem")?;
    once(&mut vm)?;
    let free = mem_free(&mut vm)?;
    for _ in 0..TIMES {
        once(&mut vm)?;
        ensure!(
            vm.sh("cat /proc/iomem")? == iomem,
            "/proc/iomem has changed"
        );
    }
    let now = mem_free(&mut vm)?;
    ensure!(now + BOUND > free, "MemFree fell from {free} to {now} KiB");

    let workload = Workload::start(&mut vm, image)?;
    kjump::insmod(&mut vm, "")?;
    kjump::load_lean(&mut vm, kjump::COME_BACK)?;
    let before = workload.progress(&mut vm)?;
    kjump::jump_and_return(&mut vm, "")?;
    workload.healthy(&mut vm, before)?;
    // Even with a peer resident: its memory goes with the module.
    vm.sh("rmmod kjump")?;
    workload.end(&mut vm)
}

/// Loads the module, a peer, jumps twice, and takes all of it away again.
fn once(vm: &mut Vm) -> Result<()> {
    kjump::insmod(vm, "")?;
    ensure!(
        kjump::number(&kjump::status(vm)?, "allocated_pages")? == 0,
        "pages before a load"
    );
    kjump::load_lean(vm, kjump::COME_BACK)?;
    kjump::jump_and_return(vm, "")?;
    kjump::jump_and_return(vm, "")?;
    vm.sh("kjump unload")?;
    let status = kjump::status(vm)?;
    ensure!(
        kjump::number(&status, "allocated_pages")? == 0,
        "pages after an unload: {status}"
    );
    vm.sh("rmmod kjump")?;
    vm.sh("! test -e /dev/kjump").map(drop)
}
