// SPDX-License-Identifier: GPL-2.0

//! \[page-map\]: at the jump A tells which of its pages must be saved: what is in use, all of it,
//! and not what is free.

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::kjump;
use crate::story::Story;
use crate::tests::again::mem_free;
use crate::tests::old_memory::plant;

/// Pages by which the count of free ones may differ from what the kernel says a moment before, of
/// 512 MiB: it counts those in the CPUs' own lists, some thousand, and the page map does not.
const BOUND: u64 = 6144;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    for kernel in [Kernel::Full, Kernel::Pae] {
        let mut config = story.config(kernel)?;
        config.memory = 512;
        let mut vm = story.boot("A", &config)?;
        kjump::insmod(&mut vm, "")?;
        let frames = plant(&mut vm, 30, 1)?;

        let what = format!("kjump.do=run,back kjump.run=/bin/guest,page-map,{frames}");
        kjump::load_lean_with_programs(&mut vm, &what)?;
        for options in ["", "--command run"] {
            let free = mem_free(&mut vm)? / 4;
            let mark = vm.console.mark();
            kjump::jump_and_return(&mut vm, options)?;
            let status = kjump::status(&mut vm)?;
            let count = |name| kjump::number(&status, name);

            let said = vm.console.since(mark);
            let told = said
                .lines()
                .find_map(|line| {
                    line.strip_prefix("page map: ")?
                        .strip_suffix(" to be saved")
                })
                .context("B says nothing of the page map")?;
            ensure!(
                told.parse::<u64>()? == count("saved_pages")?,
                "B counts {told}: {status}"
            );

            // All RAM is of one kind or another; page 0 comes on top of what Linux calls RAM.
            let ram =
                vm.sh("awk -F'[-: ]+' '/^[0-9a-f].*: System RAM/ {print $1, $2}' /proc/iomem")?;
            let mut pages = 1;
            for line in ram.lines() {
                let (first, last) = line.split_once(' ').context("iomem")?;
                let first = u64::from_str_radix(first, 16)?.div_ceil(4096);
                pages += (u64::from_str_radix(last, 16)? + 1) / 4096 - first;
            }
            let shadow = count("shadow_pages")?;
            let sum = count("saved_pages")? + count("free_pages")? + count("unreadable_pages")?;
            ensure!(
                sum + shadow == pages,
                "{sum} and {shadow} of {pages} pages: {status}"
            );
            let counted = count("free_pages")?;
            ensure!(
                counted.abs_diff(free) < BOUND,
                "the page map counts {counted} free pages, the kernel {free}"
            );
        }
    }
    Ok(())
}
