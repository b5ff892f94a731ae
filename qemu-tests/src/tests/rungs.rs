// SPDX-License-Identifier: GPL-2.0

//! \[rungs\]: each rung of the way down fails once. The jump says which, A climbs back and is as
//! healthy as before, and a jump still works.

use anyhow::{ensure, Result};
use kjump_abi::RUNGS;

use crate::artifacts::Kernel;
use crate::kjump::{self, exit};
use crate::story::Story;
use crate::vm::Vm;
use crate::workload::Workload;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "testing=1")?;
    let workload = Workload::start(&mut vm, image)?;
    kjump::load_lean(&mut vm, kjump::COME_BACK)?;
    let pages = kjump::number(&kjump::status(&mut vm)?, "allocated_pages")?;

    for rung in RUNGS {
        falls(&mut vm, &workload, rung, "")?;
        let status = kjump::status(&mut vm)?;
        ensure!(status["state"] == "loaded", "after rung {rung}: {status}");
        let now = kjump::number(&status, "allocated_pages")?;
        ensure!(
            now == pages,
            "after rung {rung}: {now} pages allocated, {pages} before"
        );
    }
    // The other set of CPU and notifier rungs, and no freezer.
    for rung in ["devices", "cpus", "syscore", "processor"] {
        falls(&mut vm, &workload, rung, "--hotplug-cpus")?;
    }
    for rung in ["devices", "processor"] {
        falls(&mut vm, &workload, rung, "--no-freezer")?;
    }

    // What was loaded has not been harmed, nor has the machine; and with a peer resident, too.
    let before = workload.progress(&mut vm)?;
    kjump::jump_and_return(&mut vm, "")?;
    workload.healthy(&mut vm, before)?;
    for rung in ["devices", "processor"] {
        falls(&mut vm, &workload, rung, "")?;
    }
    let before = workload.progress(&mut vm)?;
    kjump::jump_and_return(&mut vm, "")?;
    workload.healthy(&mut vm, before)?;
    workload.end(&mut vm)
}

/// A jump whose rung `rung` fails.
fn falls(vm: &mut Vm, workload: &Workload, rung: &str, options: &str) -> Result<()> {
    let before = workload.progress(vm)?;
    let output = kjump::jump(vm, &format!("--fail-at {rung} {options}"))?;
    let said = format!("rung \"{rung}\" failed");
    ensure!(
        output.rc == exit::RUNG && output.text.contains(&said),
        "--fail-at {rung} {options}: {} and \"{}\"",
        output.rc,
        output.text
    );
    workload.healthy(vm, before).map(drop)
}
