// SPDX-License-Identifier: GPL-2.0

//! The kernel's own hibernation beside kjump's: it takes a machine with little in its memory
//! through a power cycle, which also shows that the framework's machines can go on; and it gives
//! up where kjump does not.

use anyhow::{bail, ensure, Result};

use crate::artifacts::Kernel;
use crate::initramfs::Purpose;
use crate::story::Story;
use crate::swsusp::{self, Compressor, Outcome};
use crate::work::Work;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Hibernation)?;
    let image = Work::prepare(story, &mut config)?;
    swsusp::prepare(story, &mut config, "/dev/vdb", 512, Compressor::Lz4)?;
    let mut vm = story.boot("A", &config)?;
    swsusp::switch_on(&mut vm, "/dev/vdb")?;
    let work = Work::start(&mut vm, image)?;
    let before = work.reached(&mut vm)?;
    let asleep = match swsusp::hibernate(&mut vm, "platform")? {
        Outcome::Off(asleep) => asleep,
        Outcome::Failed(why) => bail!("swsusp failed: {why}"),
    };
    drop(vm);
    ensure!(
        asleep.ending.s4,
        "it did not end in S4: {:?}",
        asleep.ending
    );
    let mut vm = swsusp::resume(story, "A, resumed by swsusp", &config, &asleep)?;
    let now = work.healthy(&mut vm, before)?;

    // With more than half of memory taken by what cannot be swapped out, it has no room for its
    // copies.
    vm.sh("mkdir -p /run/full; mount -t ramfs ramfs /run/full")?;
    vm.sh("guest ramfill 55 1 /run/full")?;
    // It runs the machine out of memory on its way, and others complain.
    story.expect_trouble(vm.console.mark());
    let outcome = swsusp::hibernate(&mut vm, "platform")?;
    story.trouble_is_over();
    match outcome {
        Outcome::Failed(why) => ensure!(why.contains("memory"), "it failed otherwise: {why}"),
        Outcome::Off(_) => bail!("swsusp saved a machine that was more than half full"),
    }
    vm.sh("guest ramcheck 1 /run/full")?;
    work.healthy(&mut vm, now)?;
    work.end(&mut vm)
}
