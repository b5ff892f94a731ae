// SPDX-License-Identifier: GPL-2.0

//! \[registers\]: a program jumps with its floating-point registers full, in the middle of the system
//! call's instruction; they are what they were. The stub exchanges pages through these registers
//! where the processor has MMX, and by words where it has not: both machines' memory is right.

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::kjump;
use crate::story::Story;
use crate::workload::Workload;

const CPUS: [&str; 3] = ["max,vendor=GenuineIntel", "pentium3", "pentium3,-mmx"];

/// The story.
pub fn run(story: &Story) -> Result<()> {
    CPUS.iter()
        .try_for_each(|cpu| machine(story, cpu).with_context(|| cpu.to_string()))
}

fn machine(story: &Story, cpu: &str) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    config.cpu = cpu.into();
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    let flags = vm.sh("grep -m1 ^flags /proc/cpuinfo")?;
    ensure!(
        flags.contains(" mmx ") != cpu.contains("-mmx"),
        "this is not the processor that was asked for: {flags}"
    );
    kjump::insmod(&mut vm, "")?;
    let workload = Workload::start(&mut vm, image)?;
    kjump::load_lean(&mut vm, kjump::COME_BACK)?;
    // The first jump boots B, the second enters it again.
    for _ in 0..2 {
        let before = workload.progress(&mut vm)?;
        let said = vm.run_for("guest registers", kjump::JUMP)?.ok()?;
        ensure!(said.contains("registers kept"), "{said}");
        workload.healthy(&mut vm, before)?;
    }
    workload.end(&mut vm)
}
