// SPDX-License-Identifier: GPL-2.0

//! \[jump\]: A counts, writes a file, talks TCP; it loads `lean` and jumps; B boots in 16 MiB,
//! shows its memory map, comes back; everything in A goes on, and the data is right.

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::kjump;
use crate::story::Story;
use crate::workload::Workload;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;

    kjump::insmod(&mut vm, "")?;
    let doctor = vm.run("kjump doctor")?;
    ensure!(
        doctor.rc == 0,
        "kjump doctor finds something to mend:\n{}",
        doctor.text
    );
    let workload = Workload::start(&mut vm, image)?;
    kjump::load_lean(&mut vm, kjump::COME_BACK)?;

    let before = workload.progress(&mut vm)?;
    let mark = vm.console.mark();
    let said = kjump::jump_and_return(&mut vm, "")?;
    ensure!(
        said == "peer came back: status 0",
        "kjump jump says \"{said}\""
    );

    let seen = vm.console.since(mark);
    ensure!(
        seen.contains("Linux version"),
        "no second kernel has booted"
    );
    small_memory(&seen)?;
    let now = workload.healthy(&mut vm, before)?;

    // Once more: this time B is there already and does not boot.
    let mark = vm.console.mark();
    kjump::jump_and_return(&mut vm, "")?;
    let seen = vm.console.since(mark);
    ensure!(
        !seen.contains("Linux version"),
        "the resident peer has booted again"
    );
    ensure!(
        seen.contains("entered again"),
        "the resident peer was not entered"
    );
    workload.healthy(&mut vm, now)?;
    let status = kjump::status(&mut vm)?;
    ensure!(status["state"] == "returned", "{status}");
    ensure!(kjump::number(&status, "jumps")? == 2, "{status}");

    // ACPI events still reach A, though B had ACPI to itself for a while.
    kjump::power_button(&mut vm)?;

    vm.sh("kjump unload")?;
    workload.end(&mut vm)
}

/// What B printed between its markers must show System RAM in the first 16 MiB only.
fn small_memory(seen: &str) -> Result<()> {
    let (_, map) = seen
        .split_once("iomem begin")
        .context("B printed no memory map")?;
    let (map, _) = map
        .split_once("iomem end")
        .context("B's memory map has no end")?;
    let mut total = 0;
    for line in map.lines().filter(|line| line.ends_with(": System RAM")) {
        let (range, _) = line
            .trim()
            .split_once(" : ")
            .with_context(|| line.to_string())?;
        let (first, last) = range.split_once('-').with_context(|| line.to_string())?;
        let (first, last) = (
            u64::from_str_radix(first, 16)?,
            u64::from_str_radix(last, 16)?,
        );
        ensure!(last < 16 << 20, "B sees RAM beyond its window: {line}");
        total += last + 1 - first;
    }
    ensure!(total > 8 << 20, "B sees {total} bytes of RAM:\n{map}");
    Ok(())
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn memory_maps_are_read() {
        let map = |last| {
            format!(
                "x\nkjump-init: iomem begin\n00001000-0009fbff : System RAM\n  000a0000-000bffff : PCI\n\
                 00100000-{last} : System RAM\n  00100000-004fffff : Kernel code\nkjump-init: iomem end\n"
            )
        };
        assert!(small_memory(&map("00ffffff")).is_ok());
        assert!(small_memory(&map("01000fff")).is_err());
        assert!(small_memory(&map("00100fff")).is_err());
        assert!(small_memory("nothing").is_err());
    }
}
