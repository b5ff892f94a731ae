// SPDX-License-Identifier: GPL-2.0

//! Calls: a service of the firmware, and a program with paging off, each loaded once and made again
//! and again; the command itself takes the time of each.

use std::time::Duration;

use anyhow::{ensure, Context, Result};

use super::figures::{self, Figure};
use super::{row, Options};
use crate::artifacts::Kernel;
use crate::kjump;
use crate::story::Story;
use crate::vm::Vm;

/// What is called, and how: INT 12h, the size of low memory; `ret`.
const KINDS: [(&str, &str); 4] = [
    ("bios int 0x12", "kjump bios int 0x12"),
    ("phys32", "kjump call /tmp/ret"),
    ("bios, no freezer", "kjump bios --no-freezer int 0x12"),
    ("phys32, no freezer", "kjump call --no-freezer /tmp/ret"),
];

/// Measures, and prints the figures.
pub fn run(story: &Story, options: &Options) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    config.memory = options.memory;
    config.smp = options.smp;
    config.append = "i8042.noaux".into();
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    vm.sh("printf '\\xc3' >/tmp/ret")?;
    println!();
    println!(
        "calls from a machine of {} MiB with {} CPUs, {} each, ms",
        options.memory, options.smp, options.calls
    );
    row("", ["median", "from", "to"].into_iter().map(String::from));
    for (name, command) in KINDS {
        eprintln!("bench: {name}");
        let figures = one(&mut vm, command, options.calls).context(name)?;
        if let Ok(median) = figures[0].parse() {
            figures::note(Figure::once("calls", "call", name, "ms", median));
        }
        row(name, figures.into_iter());
    }
    vm.power_off()
}

/// Median, least and most of what the command says.
fn one(vm: &mut Vm, command: &str, calls: u32) -> Result<[String; 3]> {
    let limit = Duration::from_secs(60 + 10 * u64::from(calls));
    let output = vm.run_for(&format!("{command} --count {calls}"), limit)?;
    let text = output.ok()?;
    let line = text.lines().last().unwrap_or_default();
    let parts: Vec<&str> = line.split_whitespace().collect();
    ensure!(
        line.starts_with(&format!("{calls} calls: median ")),
        "no figures: {text}"
    );
    let part = |n: usize| parts.get(n).map(|p| p.trim_end_matches(',').to_string());
    let figures = [part(3), part(6), part(8)];
    Ok(figures.map(Option::unwrap_or_default))
}
