// SPDX-License-Identifier: GPL-2.0

//! \[cycle-smp\]: kernels B and C with several CPUs. B has them all each time it is entered, and compresses on
//! them; A has them again each time it is back.

use anyhow::{ensure, Result};

use crate::artifacts::Kernel;
use crate::disk;
use crate::hibernation::{self, Mode, Way};
use crate::initramfs::Purpose;
use crate::kjump;
use crate::smp_peer;
use crate::story::Story;
use crate::vm::Vm;
use crate::work::Work;

/// A has all of them.
fn all_online(vm: &mut Vm, cpus: u32) -> Result<()> {
    let online = vm.sh("cat /sys/devices/system/cpu/online")?;
    ensure!(online == format!("0-{}", cpus - 1), "CPUs online: {online}");
    Ok(())
}

/// The story.
pub fn run(story: &Story) -> Result<()> {
    for cpus in [2, 3] {
        with_cpus(story, cpus)?;
    }
    Ok(())
}

fn with_cpus(story: &Story, cpus: u32) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Hibernation)?;
    config.smp = cpus;
    let image = Work::prepare(story, &mut config)?;
    smp_peer::add(story, &mut config)?;
    let target = story.file("target.img");
    disk::empty(&target, 320)?;
    config.disks.push(target.into());
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, image)?;

    // Resident, it has been entered before.
    let mut before = work.reached(&mut vm)?;
    for window in ["--window", "--own-window"] {
        smp_peer::load(&mut vm, window, kjump::COME_BACK)?;
        for entry in 0..3 {
            let mark = vm.console.mark();
            kjump::jump_and_return(&mut vm, "")?;
            if entry == 0 {
                smp_peer::has_all_cpus(&vm.console.since(mark), cpus)?;
            }
            before = work.healthy(&mut vm, before)?;
            all_online(&mut vm, cpus)?;
        }
        vm.sh("kjump unload")?;
    }

    let asleep = hibernation::hibernate(&mut vm, "/dev/vdb", Mode::Poweroff)?;
    drop(vm);
    smp_peer::has_all_cpus(&asleep.console, cpus)?;
    let threads = format!("bytes by {cpus} threads;");
    ensure!(asleep.console.contains(&threads), "B has not: {threads}");

    let words = "kjump.resume=/dev/vdb";
    let peer = Kernel::LeanSmp;
    let again = hibernation::again_by(story, &config, Way::Bootloader, words, peer);
    let (mut vm, output) = hibernation::resume(story, "A, resumed", &again, &asleep)?;
    smp_peer::has_all_cpus(&vm.console.since(0), cpus)?;
    ensure!(output.text.contains("resumed"), "{}", output.text);
    work.healthy(&mut vm, before)?;
    all_online(&mut vm, cpus)?;
    work.end(&mut vm)
}
