// SPDX-License-Identifier: GPL-2.0

//! \[allocations\]: each allocation of the module's fails once: of loads of all kinds, of what is
//! said of them, of a jump that watches, of a claim, of loading the module itself. Each time there is
//! one line that says so, nothing is left allocated, and the next one works.

use std::time::Duration;

use anyhow::{ensure, Result};

use crate::artifacts::Kernel;
use crate::kjump;
use crate::story::Story;
use crate::vm::Vm;

/// How long the commands of one kind may take in all.
const ALL: Duration = Duration::from_secs(3000);

/// Every so many-th of the allocations between the first and the last ones.
const SOME: u32 = 97;

/// What is done, and its undo.
const LINES: &[(&str, &str)] = &[
    ("kjump load /boot/spin", "kjump unload"),
    ("kjump load /boot/spin --as name", "kjump unload name"),
    ("kjump load /boot/spin --window 40M", "kjump unload"),
    ("kjump load --one-way /boot/lean", "kjump unload"),
    ("kjump call /run/nothing --timeout 20000", ""),
    ("claim", ""),
    ("kjump status --json >/dev/null", ""),
];

/// With something loaded.
const LOADED: &[(&str, &str)] = &[
    ("kjump call /run/nothing --timeout 20000 --paranoid", ""),
    ("kjump load /boot/spin --as other", "kjump unload other"),
    ("kjump peers", ""),
];

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    // What is beyond is nobody's, and can be claimed.
    config.append = "mem=200M".into();
    config.smp = 1;
    let mut vm = story.boot("A", &config)?;
    let module = module(&mut vm)?;
    vm.sh("printf '\\303' >/run/nothing")?;
    let step = if story.long { 1 } else { SOME };
    let mut counts = vec![format!("insmod {module}")];
    for (line, undo) in LINES {
        counts.push(fail_each(&mut vm, step, line, undo)?);
    }
    let status = kjump::status(&mut vm)?;
    ensure!(
        status["state"] == "empty" && kjump::number(&status, "allocated_pages")? == 0,
        "{status}"
    );
    kjump::load_lean(&mut vm, kjump::COME_BACK)?;
    for (line, undo) in LOADED {
        counts.push(fail_each(&mut vm, step, line, undo)?);
    }
    // What was loaded before all that is as good as ever.
    kjump::jump_and_return(&mut vm, "--paranoid")?;
    kjump::jump_and_return(&mut vm, "")?;
    vm.sh("kjump unload && rmmod kjump")?;
    story.note(counts.join(", "));
    vm.power_off()
}

/// Loads the module, with each of its own allocations failing first; gives how many there are.
fn module(vm: &mut Vm) -> Result<u32> {
    for at in 1..100 {
        let options = format!("testing=1 fail_alloc={at}");
        let output = vm.run(&format!("insmod /lib/kjump.ko {options}"))?;
        if output.rc == 0 {
            // The one that was to fail is still to come.
            vm.sh("rmmod kjump; insmod /lib/kjump.ko testing=1")?;
            return Ok(at - 1);
        }
        ensure!(
            output.text.contains("Cannot allocate memory"),
            "{options}: {}",
            output.text
        );
        vm.sh("! grep -q kjump /proc/modules && ! test -e /dev/kjump")?;
    }
    anyhow::bail!("the module does not load")
}

fn fail_each(vm: &mut Vm, step: u32, line: &str, undo: &str) -> Result<String> {
    let program = format!("guest failing {step} '{undo}' '{line}'");
    let said = vm.run_for(&program, ALL)?.ok()?;
    let words: Vec<&str> = line.split(' ').take(2).collect();
    Ok(format!("{}: {said}", words.join(" ")))
}
