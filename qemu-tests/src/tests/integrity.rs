// SPDX-License-Identifier: GPL-2.0

//! \[integrity\]: A's memory is what it was. Most of what is free holds seeded patterns, the
//! window's own pages included; B writes over all that it can get; each byte is compared. Kernel
//! text is compared from outside. And pages that A does not use come back as clean as the
//! allocator believes them to be.

use std::time::Duration;

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::kjump;
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

fn run(story: &Story, kernel: Kernel, append: &str) -> Result<()> {
    let mut config = story.config(kernel)?;
    config.append = append.into();
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let workload = Workload::start(&mut vm, image)?;
    kjump::load_lean_with_programs(&mut vm, SCRIBBLE)?;

    // Two jumps with memory full of patterns: the first boots B, the second enters it again.
    fill(&mut vm)?;
    let text = Text::of(&story.artifacts.vmlinux(kernel))?;
    let before = text.read(&mut vm)?;
    for command in ["", "--command run"] {
        let progress = workload.progress(&mut vm)?;
        let mark = vm.console.mark();
        kjump::jump_and_return(&mut vm, command)?;
        let said = vm.console.since(mark);
        scribbled(&said)?;
        text.same(&before, &text.read(&mut vm)?)?;
        verify(&mut vm)?;
        workload.healthy(&mut vm, progress)?;
    }
    vm.sh("kill $(cat /run/pattern.pid)")?;

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
        in_window(&zero)? > 64,
        "the check did not reach the window: {zero}"
    );
    text.same(&before, &text.read(&mut vm)?)?;
    workload.healthy(&mut vm, progress)?;
    workload.end(&mut vm)
}

/// Fills A's free memory with patterns.
pub(super) fn fill(vm: &mut Vm) -> Result<()> {
    vm.sh("mkfifo /run/pattern.ask; rm -f /run/pattern.said")?;
    vm.sh(&format!(
        "guest pattern {PERCENT} 20261121 /run/pattern.ask /run/pattern.said \
         >/run/pattern.err 2>&1 & echo $! >/run/pattern.pid"
    ))?;
    let said = answer(vm)?;
    let mut numbers = said
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok());
    let mut next = || numbers.next().with_context(|| said.clone());
    let (filled, free, inside): (u64, u64, u64) = (next()?, next()?, next()?);
    ensure!(
        filled * 100 >= free * 80,
        "patterns hold less than 80 % of the free memory: {said}"
    );
    ensure!(
        inside > 256,
        "patterns hold too little of the window: {said}"
    );
    Ok(())
}

/// Has every page compared.
pub(super) fn verify(vm: &mut Vm) -> Result<()> {
    vm.sh("rm /run/pattern.said; echo >/run/pattern.ask")?;
    let said = answer(vm)?;
    ensure!(said.starts_with("good "), "memory has changed: {said}");
    Ok(())
}

/// Waits for the pattern program's report.
fn answer(vm: &mut Vm) -> Result<String> {
    let wait = "while ! test -s /run/pattern.said; do kill -0 $(cat /run/pattern.pid) || exit 1; \
                sleep 0.2; done; cat /run/pattern.said";
    let output = vm.run_for(wait, Duration::from_secs(180))?;
    if output.rc != 0 {
        let why = vm.sh("cat /run/pattern.err")?;
        anyhow::bail!("the pattern program has died: {why}");
    }
    Ok(output.text)
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
