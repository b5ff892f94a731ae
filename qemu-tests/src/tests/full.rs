// SPDX-License-Identifier: GPL-2.0

//! \[full\]: a machine whose memory is nearly full, with data that can be neither packed nor
//! swapped out, hibernates and resumes, both ways; swsusp, on the same guest, cannot.

use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::disk;
use crate::hibernation::{self, Mode, Way};
use crate::initramfs::Purpose;
use crate::kjump;
use crate::story::Story;
use crate::swsusp::{self, Compressor, Outcome};
use crate::vm::Vm;

/// Which data fills the memory.
const SEED: u32 = 7;
/// From so much of its memory on, per cent, swsusp fails.
const SWSUSP_FAILS: u32 = 46;
/// Filling or reading gigabytes, by an emulated CPU.
const FILL: Duration = Duration::from_secs(900);

/// Half a gigabyte, fuller than anything else goes.
pub fn small(story: &Story) -> Result<()> {
    one(story, 512, 92)
}

/// A gigabyte: more than the kernel maps.
pub fn medium(story: &Story) -> Result<()> {
    one(story, 1024, 70)
}

/// All of them.
pub fn all(story: &Story) -> Result<()> {
    for memory in [512, 1024, 3072] {
        for percent in [40, 70, 85, 92] {
            one(story, memory, percent).with_context(|| format!("{memory} MiB, {percent} %"))?;
        }
    }
    Ok(())
}

/// A machine with so much memory, MiB, that is filled to so much of it, per cent.
fn one(story: &Story, memory: u32, percent: u32) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Small)?;
    config.memory = memory;
    config.net = false;
    let target = story.file("target.img");
    disk::empty(&target, u64::from(memory) + 128)?;
    config.disks.push(target.clone().into());
    let swap = swsusp::prepare(
        story,
        &mut config,
        "/dev/vdb",
        u64::from(memory) + 128,
        Compressor::Lzo,
    )?;
    let title = format!("A, {memory} MiB, {percent} %");
    let mut vm = story.boot(&title, &config)?;
    swsusp::switch_on(&mut vm, "/dev/vdb")?;
    // The peer first: afterwards there may be no room for it.
    kjump::insmod(&mut vm, "")?;
    kjump::load_plain(&mut vm, "")?;
    // What the kernel keeps free for itself would be a quarter of what is to be left.
    vm.sh("echo 1024 >/proc/sys/vm/min_free_kbytes")?;
    vm.sh("mkdir -p /run/full; mount -t ramfs ramfs /run/full")?;
    let filled = vm.run_for(&format!("guest ramfill {percent} {SEED} /run/full"), FILL)?;
    story.note(format!("{memory} MiB: {}", filled.ok()?));

    let swsusp = beside(story, &mut vm, &config, percent)?;
    if let Some(resumed) = swsusp {
        vm = resumed;
        check(&mut vm)?;
    }
    for way in [Way::Bootloader, Way::Initramfs] {
        let asleep = hibernation::hibernate(&mut vm, "/dev/vda", Mode::Poweroff)
            .with_context(|| format!("{way:?}"))?;
        drop(vm);
        let again = swsusp::off(hibernation::again(
            story,
            &config,
            way,
            "kjump.resume=/dev/vda",
        ));
        let title = format!("{title}, resumed");
        (vm, _) = hibernation::resume(story, &title, &again, &asleep)
            .with_context(|| format!("{way:?}"))?;
        check(&mut vm).with_context(|| format!("{way:?}"))?;
    }
    vm.power_off()?;
    drop(vm);
    for image in [target, swap] {
        std::fs::remove_file(image)?;
    }
    Ok(())
}

/// Every byte is what was written.
fn check(vm: &mut Vm) -> Result<()> {
    vm.run_for(&format!("guest ramcheck {SEED} /run/full"), FILL)?
        .ok()
        .map(drop)
}

/// Lets swsusp try; gives the machine that it has resumed, if it could.
fn beside(
    story: &Story,
    vm: &mut Vm,
    config: &crate::vm::Config,
    percent: u32,
) -> Result<Option<Vm>> {
    // Where it fails it runs the machine out of memory on its way, and others complain.
    story.expect_trouble(vm.console.mark());
    let outcome = swsusp::hibernate(vm, "platform")?;
    story.trouble_is_over();
    match outcome {
        Outcome::Failed(why) if percent >= SWSUSP_FAILS => {
            let why = why.rsplit(": ").next().unwrap_or(&why);
            story.note(format!("swsusp: {why}"));
            Ok(None)
        }
        Outcome::Failed(why) => bail!("swsusp fails at {percent} % already: {why}"),
        Outcome::Off(asleep) => {
            ensure!(
                percent < SWSUSP_FAILS,
                "swsusp saved a machine that was {percent} % full"
            );
            story.note("swsusp can");
            swsusp::resume(story, "A, resumed by swsusp", config, &asleep).map(Some)
        }
    }
}
