// SPDX-License-Identifier: GPL-2.0

//! \[integrity\]: A's memory is what it was. Most of what is free holds seeded patterns, the
//! window's own pages included; B writes over all that it can get; each byte is compared. Kernel
//! text is compared from outside. And pages that A does not use come back as clean as the
//! allocator believes them to be.

use std::time::Duration;

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::kjump;
use crate::pattern;
use crate::story::Story;
use crate::text::Text;
use crate::vm::Vm;
use crate::workload::Workload;

/// A as usual.
pub fn plain(story: &Story) -> Result<()> {
    run(story, Kernel::Full, "")
}

/// A, with PAE, lies above the window: nearly all of the window is free for patterns.
pub fn pae(story: &Story) -> Result<()> {
    run(story, Kernel::Pae, "")
}

/// A's allocator believes that free pages are zero.
pub fn init_on_free(story: &Story) -> Result<()> {
    run(story, Kernel::Full, "init_on_free=1")
}

/// A's allocator believes that free pages hold its poison, and looks.
pub fn page_poison(story: &Story) -> Result<()> {
    run(story, Kernel::Full, "page_poison=1")
}

/// B writes over whatever it can get, and comes back.
const SCRIBBLE: &str = "kjump.run=/bin/guest,scribble kjump.do=run,back";

/// Part of the free memory that patterns take, per cent; at least 80 is wanted.
const PERCENT: u32 = 88;

/// Pages of the window that patterns take at least. A kernel that looks for mistakes has most of it for itself.
pub(super) fn inside(story: &Story) -> u64 {
    match story.artifacts.is_debug() {
        true => 48,
        false => 256,
    }
}

fn run(story: &Story, kernel: Kernel, append: &str) -> Result<()> {
    let mut config = story.config(kernel)?;
    config.append = append.into();
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let workload = Workload::start(&mut vm, image)?;
    kjump::load_lean_with_programs(&mut vm, SCRIBBLE)?;

    // Two jumps with memory full of patterns: the first boots B, the second enters it again.
    let least = inside(story);
    fill(&mut vm, least)?;
    let text = Text::of(&story.artifacts.vmlinux(kernel))?;
    let before = text.read(&mut vm)?;
    for command in ["", "--command run"] {
        let progress = workload.progress(&mut vm)?;
        let mark = vm.console.mark();
        kjump::jump_and_return(&mut vm, command)?;
        let said = vm.console.since(mark);
        scribbled(&said)?;
        text.same(&before, &text.read(&mut vm)?)?;
        pattern::verify(&mut vm)?;
        workload.healthy(&mut vm, progress)?;
    }
    pattern::stop(&mut vm)?;

    // And with memory mostly free, as free pages need no backup: they must not come back dirty.
    let progress = workload.progress(&mut vm)?;
    kjump::jump_and_return(&mut vm, "--command run")?;
    let zero = vm
        .run_for(
            &format!("guest alloccheck {PERCENT}"),
            Duration::from_secs(120),
        )?
        .ok()?;
    ensure!(
        in_window(&zero)? > least / 4,
        "the check did not reach the window: {zero}"
    );
    text.same(&before, &text.read(&mut vm)?)?;
    workload.healthy(&mut vm, progress)?;
    workload.end(&mut vm)
}

/// Fills A's free memory with patterns, more than `least` pages of the window too.
pub(super) fn fill(vm: &mut Vm, least: u64) -> Result<()> {
    let filled = pattern::fill(vm, PERCENT)?;
    ensure!(
        filled.pages * 100 >= filled.free * 80,
        "patterns hold less than 80 % of the free memory: {} of {} pages",
        filled.pages,
        filled.free
    );
    ensure!(
        filled.inside > least,
        "patterns hold too little of the window: {} pages",
        filled.inside
    );
    Ok(())
}

/// B must have had something to write over.
fn scribbled(said: &str) -> Result<()> {
    let pages = said
        .lines()
        .find_map(|line| {
            line.strip_prefix("scribbled over ")?
                .strip_suffix(" pages")?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    ensure!(pages > 256, "B scribbled over {pages} pages only");
    Ok(())
}

/// The number before "in the window".
fn in_window(said: &str) -> Result<u64> {
    let (before, _) = said
        .split_once(" in the window")
        .with_context(|| said.to_string())?;
    Ok(before.rsplit(' ').next().unwrap_or_default().parse()?)
}
