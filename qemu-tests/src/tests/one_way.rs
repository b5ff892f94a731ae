// SPDX-License-Identifier: GPL-2.0

//! \[one-way\]: a jump of which nobody comes back: the machine goes on as another kernel, with
//! all of its memory.

use std::time::Duration;

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::kjump;
use crate::story::Story;

/// How long the other kernel may take to boot.
const BOOT: Duration = Duration::from_secs(120);

/// The story.
pub fn run(story: &Story) -> Result<()> {
    // From each placement of A; with PAE, A's own text is not in the way of `lean` at 1 MiB.
    for (kernel, smp) in [(Kernel::Full, 2), (Kernel::Pae, 1)] {
        let mut config = story.config(kernel)?;
        config.memory = 512;
        config.smp = smp;
        let mut vm = story.boot("A", &config)?;
        kjump::insmod(&mut vm, "testing=1")?;
        let append = "console=ttyS0 panic=-1 kjump.do=iomem,hang";
        let load = format!(
            "kjump load --one-way /boot/lean --initrd /boot/peer.cpio.gz --append \"{append}\""
        );
        vm.sh(&load)?;
        let status = kjump::status(&mut vm)?;
        ensure!(status["flags"]["one-way"] == true, "{status}");

        // A failure on the way down leaves A running and the load where it was.
        kjump::refuses(
            &mut vm,
            "kjump jump --fail-at syscore 2>&1",
            kjump::exit::RUNG,
            "rung \"syscore\" failed",
        )?;

        let mark = vm.console.mark();
        let _jump = vm.start_command("kjump jump")?;
        vm.console.wait_for(mark, "iomem end", BOOT)?;
        let seen = vm.console.since(mark);
        ensure!(seen.contains("Linux version"), "no other kernel has booted");
        ensure!(!seen.contains("kjump.handoff="), "it was given a handoff");
        let memory = seen
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"))
            .context("it prints no MemTotal")?
            .trim()
            .parse::<u64>()?;
        ensure!(memory > 400 << 10, "it has {memory} KiB only of 512 MiB");
    }
    Ok(())
}

/// How much is loaded of a machine of 512 MiB. Where a page of it lies is mostly another one's place, as
/// there is not as much memory that is no place of any.
const MOST: u32 = 352;

/// Most of memory is loaded, and comes to lie where it belongs.
pub fn settles(story: &Story) -> Result<()> {
    for kernel in [Kernel::Full, Kernel::Pae] {
        let mut config = story.config(kernel)?;
        config.memory = 512;
        let mut vm = story.boot("A", &config)?;
        kjump::insmod(&mut vm, "")?;
        let mark = vm.console.mark();
        let _jump = vm.start_command(&format!("guest settle {MOST}"))?;
        vm.console.wait_for(mark, "settled", BOOT)?;
        vm.kill()?;
    }
    Ok(())
}
