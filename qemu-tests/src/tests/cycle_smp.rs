// SPDX-License-Identifier: GPL-2.0

//! \[cycle-smp\]: kernels B and C with several CPUs. B has them all each time it is entered, and compresses on
//! them; A has them again each time it is back.

use std::fs;

use anyhow::{ensure, Result};

use crate::artifacts::Kernel;
use crate::cpio::Cpio;
use crate::disk;
use crate::hibernation::{self, Mode};
use crate::initramfs::Purpose;
use crate::kjump;
use crate::story::Story;
use crate::vm::{Config, Vm};
use crate::work::Work;

const SETTINGS: &str = r#"peer = "/boot/lean-smp"
initrd = "/boot/smp.cpio.gz"
window = "24M"
"#;

/// What limits C to that window, on its command line.
const WINDOW: &str = "memmap=exactmap memmap=640K@0 memmap=23M@1M mem=24M";

/// In A's initramfs the peer, which is to be loaded from there.
pub fn add_peer(story: &Story, config: &mut Config) -> Result<()> {
    let artifacts = &story.artifacts;
    let more = Cpio::default()
        .file(
            "boot/lean-smp",
            &fs::read(artifacts.bzimage(Kernel::LeanSmp))?,
        )
        .file(
            "boot/smp.cpio.gz",
            &fs::read(artifacts.peer_initramfs_smp())?,
        )
        .file("etc/kjump.toml", SETTINGS.as_bytes());
    let mut both = fs::read(&config.initrd)?;
    both.extend(more.finish());
    config.initrd = story.file("a-smp.cpio");
    fs::write(&config.initrd, both)?;
    Ok(())
}

/// Loads it; `what` is more of its command line.
pub fn load(vm: &mut Vm, what: &str) -> Result<()> {
    let append = format!("console=ttyS0 {what}");
    let files = "/boot/lean-smp --initrd /boot/smp.cpio.gz --window 24M";
    vm.sh(&format!("kjump load {files} --append \"{append}\""))
        .map(drop)
}

/// What B and C say when their other CPUs are up.
fn all_cpus(said: &str, cpus: u32) -> Result<()> {
    let line = format!("smp: Brought up 1 node, {cpus} CPUs");
    ensure!(said.contains(&line), "no \"{line}\"");
    Ok(())
}

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
    add_peer(story, &mut config)?;
    let target = story.file("target.img");
    disk::empty(&target, 320)?;
    config.disks.push(target.into());
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, image)?;

    // Resident, it has been entered before.
    load(&mut vm, kjump::COME_BACK)?;
    let mut before = work.reached(&mut vm)?;
    for entry in 0..3 {
        let mark = vm.console.mark();
        kjump::jump_and_return(&mut vm, "")?;
        if entry == 0 {
            all_cpus(&vm.console.since(mark), cpus)?;
        }
        before = work.healthy(&mut vm, before)?;
        all_online(&mut vm, cpus)?;
    }
    vm.sh("kjump unload")?;

    let asleep = hibernation::hibernate(&mut vm, "/dev/vdb", Mode::Poweroff)?;
    drop(vm);
    all_cpus(&asleep.console, cpus)?;
    let threads = format!("{cpus} threads compress");
    ensure!(asleep.console.contains(&threads), "B has not: {threads}");

    let mut again = config.clone();
    again.kernel = story.artifacts.bzimage(Kernel::LeanSmp);
    again.initrd = story.artifacts.peer_initramfs_smp();
    again.append = format!("{WINDOW} kjump.resume=/dev/vdb");
    let (mut vm, output) = hibernation::resume(story, "A, resumed", &again, &asleep)?;
    all_cpus(&vm.console.since(0), cpus)?;
    ensure!(output.text.contains("resumed"), "{}", output.text);
    work.healthy(&mut vm, before)?;
    all_online(&mut vm, cpus)?;
    work.end(&mut vm)
}
