// SPDX-License-Identifier: GPL-2.0

//! \[snapshot-room\]: how much the normal kernel's own /dev/snapshot takes: more than half of memory,
//! which is as much as that kernel itself saves, and memory beyond what it maps; and where it is too much, `kjump resume --snapshot`
//! says so, the machine boots, and the image can be resumed through a peer as ever.

use anyhow::{bail, ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::ending::Start;
use crate::hibernation::{self, Mode, Way, LONG};
use crate::initramfs::Purpose;
use crate::story::Story;
use crate::{disk, kjump};

/// Which data fills the memory.
const SEED: u32 = 11;
/// Part of the memory, per cent: fits beside another kernel; does not.
const FITS: u32 = 60;
const TOO_MUCH: u32 = 81;
/// Enough to reach into the highest memory, which the kernel fills first.
const A_LITTLE: u32 = 15;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    for (mebibytes, percent) in [(256, FITS), (256, TOO_MUCH), (1024, A_LITTLE)] {
        one(story, mebibytes, percent).with_context(|| format!("{mebibytes} MiB, {percent} %"))?;
    }
    Ok(())
}

fn one(story: &Story, mebibytes: u32, percent: u32) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Small)?;
    config.memory = mebibytes;
    config.net = false;
    let target = story.file("target.img");
    disk::empty(&target, u64::from(config.memory) + 64)?;
    config.disks.push(target.into());
    let mut vm = story.boot(&format!("A, {percent} %"), &config)?;
    kjump::insmod(&mut vm, "")?;
    kjump::load_plain(&mut vm, "")?;
    vm.sh("echo 1024 >/proc/sys/vm/min_free_kbytes")?;
    vm.sh("mkdir -p /run/full; mount -t ramfs ramfs /run/full")?;
    vm.run_for(&format!("guest ramfill {percent} {SEED} /run/full"), LONG)?
        .ok()?;
    let asleep = hibernation::hibernate(&mut vm, "/dev/vda", Mode::Poweroff)?;
    drop(vm);

    let words = "kjump.resume=/dev/vda kjump.snapshot";
    let alone = hibernation::again(story, &config, Way::Initramfs, words);
    let mut vm = if percent == TOO_MUCH {
        let (mut vm, start) =
            hibernation::start(story, "the normal kernel", &alone, &asleep.waiting)?;
        ensure!(
            matches!(start, Start::Booted),
            "a machine that full was restored by /dev/snapshot"
        );
        let said = vm.console.since(0);
        let lines = [
            "there is no room for the image",
            "init: kjump resume --snapshot ended with 60",
        ];
        for line in lines {
            ensure!(said.contains(line), "no \"{line}\" on the console");
        }
        vm.power_off()?;
        drop(vm);
        let words = "kjump.resume=/dev/vda";
        let by_peer = hibernation::again(story, &config, Way::Initramfs, words);
        hibernation::resume(story, "A, resumed by a peer", &by_peer, &asleep)?.0
    } else {
        match hibernation::start(story, "A, resumed", &alone, &asleep.waiting)? {
            (vm, Start::Resumed(output)) if output.rc == 0 => vm,
            (vm, _) => bail!("it was not resumed: {}", vm.console.since(0)),
        }
    };
    vm.run_for(&format!("guest ramcheck {SEED} /run/full"), LONG)?
        .ok()?;
    vm.power_off()
}
