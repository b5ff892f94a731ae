// SPDX-License-Identifier: GPL-2.0

//! \[matrix\]: the jump on many machines. By default few of them, such that every two choices
//! meet on one; all of them with `--long`. A PAE kernel A always has a non-PAE peer.

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::kjump;
use crate::pairs;
use crate::story::Story;
use crate::workload::Workload;

const KERNELS: [Kernel; 2] = [Kernel::Full, Kernel::Pae];
const CPUS: [&str; 3] = ["pentium3", "coreduo", "max,vendor=GenuineIntel"];
const SMP: [u32; 2] = [1, 2];
const MEMORY: [u32; 3] = [128, 512, 3072];
const FIRMWARE: [&str; 2] = ["", "acpi=off"];
const CLOCK: [&str; 2] = ["", "clocksource=hpet"];
const FREEZER: [&str; 2] = ["", "--no-freezer"];
const CPU_SET: [&str; 2] = ["", "--hotplug-cpus"];

/// Number of choices in each dimension.
const SIZES: [usize; 8] = [
    KERNELS.len(),
    CPUS.len(),
    SMP.len(),
    MEMORY.len(),
    FIRMWARE.len(),
    CLOCK.len(),
    FREEZER.len(),
    CPU_SET.len(),
];

/// Without ACPI nobody finds the HPET.
fn possible(combination: &[usize]) -> bool {
    !(combination[4] == 1 && combination[5] == 1)
}

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let combinations = if story.long {
        pairs::all(&SIZES)
            .into_iter()
            .filter(|combination| possible(combination))
            .collect()
    } else {
        pairs::cover(&SIZES, possible)
    };
    // For looking closer at some: `KJUMP_MATRIX="Pae pentium3"`.
    let only = std::env::var("KJUMP_MATRIX").unwrap_or_default();
    let mut failures = Vec::new();
    for combination in &combinations {
        let title = title(combination);
        if !title.contains(&only) {
            continue;
        }
        if let Err(error) = one(story, combination, &title) {
            eprintln!("matrix: {title}: {error:#}");
            failures.push(format!("{title}: {error:#}"));
        }
    }
    ensure!(
        failures.is_empty(),
        "{} of {} machines failed: {}",
        failures.len(),
        combinations.len(),
        failures.join("; ")
    );
    Ok(())
}

/// A machine in a line.
fn title(c: &[usize]) -> String {
    let words = [FIRMWARE[c[4]], CLOCK[c[5]], FREEZER[c[6]], CPU_SET[c[7]]];
    let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let (kernel, cpu) = (KERNELS[c[0]], CPUS[c[1]]);
    format!(
        "{kernel:?} {cpu} -smp {} {} MiB {}",
        SMP[c[2]],
        MEMORY[c[3]],
        words.join(" ")
    )
}

/// One machine: the peer boots, comes back, is entered again.
fn one(story: &Story, c: &[usize], title: &str) -> Result<()> {
    let mut config = story.config(KERNELS[c[0]])?;
    config.cpu = CPUS[c[1]].into();
    config.smp = SMP[c[2]];
    config.memory = MEMORY[c[3]];
    config.append = format!("{} {}", FIRMWARE[c[4]], CLOCK[c[5]]);
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot(title, &config)?;
    kjump::insmod(&mut vm, "")?;
    let cpus: u32 = vm.sh("nproc")?.parse()?;
    ensure!(cpus == SMP[c[2]], "{cpus} CPUs");
    let clock = vm.sh("cat /sys/devices/system/clocksource/clocksource0/current_clocksource")?;
    ensure!(
        CLOCK[c[5]].is_empty() || clock == "hpet",
        "the clock is {clock}"
    );
    let workload = Workload::start(&mut vm, image)?;
    let peer = format!("{} {}", FIRMWARE[c[4]], kjump::COME_BACK);
    kjump::load_lean(&mut vm, &peer)?;
    let way = format!("{} {}", FREEZER[c[6]], CPU_SET[c[7]]);
    for entry in ["first", "second"] {
        let before = workload.progress(&mut vm)?;
        kjump::jump_and_return(&mut vm, &way).context(entry)?;
        workload.healthy(&mut vm, before).context(entry)?;
    }
    workload.end(&mut vm)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn the_short_selection_is_short_and_varied() {
        let short = pairs::cover(&SIZES, possible);
        assert!(short.len() <= 14, "{} machines", short.len());
        assert!(short.iter().all(|combination| possible(combination)));
        let all = pairs::all(&SIZES);
        let count = all
            .iter()
            .filter(|combination| possible(combination))
            .count();
        assert_eq!(count, 2 * 3 * 2 * 3 * 3 * 2 * 2);
    }
}
