// SPDX-License-Identifier: GPL-2.0

//! \[old-memory\]: B sees A's memory through `/dev/kjump`, by pread and by mmap: what lies above
//! the window where it is, what lay in it from the shadow; and nothing that is not A's.

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::kjump;
use crate::story::Story;
use crate::vm::Vm;

/// The seed of A's patterns.
const SEED: u32 = 20_071_207;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    // A with PAE lies above the window and leaves nearly all of it to user space. No PAE in B.
    for kernel in [Kernel::Full, Kernel::Pae] {
        let config = story.config(kernel)?;
        let mut vm = story.boot("A", &config)?;
        kjump::insmod(&mut vm, "")?;
        let outside = vm.run("guest old 1")?;
        ensure!(outside.rc != 0, "a kernel that is no peer has old memory");

        let frames = plant(&mut vm, 60, SEED)?;

        let what = format!("kjump.do=run,back kjump.run=/bin/guest,old,{SEED},{frames}");
        kjump::load_lean_with_programs(&mut vm, &what)?;
        // The second time the peer is resident, and has to look it all up anew.
        for options in ["", "--command run"] {
            let mark = vm.console.mark();
            kjump::jump_and_return(&mut vm, options)?;
            let said = vm.console.since(mark);
            let line = said.lines().find(|line| line.starts_with("old memory: "));
            let line = line.context("B says nothing of old memory")?;
            ensure!(
                line == "old memory: 16 pages good, 8 in the window",
                "B says: {line}"
            );
        }
    }
    Ok(())
}

/// Has a program in A fill that much of its free memory, per cent, with patterns, and stay. Sixteen
/// of its frames, half of them in the window, as `INDEX:FRAME,…`.
pub fn plant(vm: &mut Vm, percent: u32, seed: u32) -> Result<String> {
    vm.sh(&format!(
        "guest plant {percent} {seed} /run/planted >/run/plant.err 2>&1 &"
    ))?;
    let frames = vm.sh(
        "for i in $(seq 300); do test -s /run/planted && break; sleep 0.2; done; \
         cat /run/planted /run/plant.err",
    )?;
    let frames = frames.trim();
    ensure!(
        frames.split(',').count() == 16,
        "no pages were planted: {frames}"
    );
    Ok(frames.to_string())
}

/// The frames of what [`plant`] gives.
pub fn frames(planted: &str) -> Result<Vec<u64>> {
    let frame = |pair: &str| pair.split_once(':')?.1.parse().ok();
    let all: Option<Vec<u64>> = planted.split(',').map(frame).collect();
    all.context("what is planted where?")
}
