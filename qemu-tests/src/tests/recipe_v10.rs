// SPDX-License-Identifier: GPL-2.0

//! \[recipe-v10\]: seed 002's steps 4 to 10, each command typed as it stands there: a dump of A is made
//! with `cp /proc/vmcore`, the machine is switched off, and another kernel brings A back from it.

use std::fs;
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::disk;
use crate::ending::{Left, Start, Waiting};
use crate::hibernation::LONG;
use crate::initramfs::Purpose;
use crate::kjump;
use crate::story::Story;
use crate::vm::{Config, Vm};
use crate::work::{Reached, Work};

/// The hibernating partition, for a machine of 128 MiB.
const PARTITION: u64 = 192;

/// Step 7, as it stands. `cut` wants to be told which field: what is printed is nothing, and step 9
/// names no entry. The core itself does.
const STEP_7: &[&str] = &[
    "jump_back_entry=`cat /proc/cmdline | tr ' ' '\\n' | grep kexec_jump_back_entry | cut -d '='`",
    "echo $jump_back_entry > kexec_jump_back_entry",
    "cp /proc/vmcore dump.elf",
];
/// And as it was meant.
const STEP_7_MEANT: &[&str] = &[
    "jump_back_entry=`cat /proc/cmdline | tr ' ' '\\n' | grep kexec_jump_back_entry | cut -d '=' -f 2`",
    "echo $jump_back_entry > kexec_jump_back_entry",
    "cp /proc/vmcore dump.elf",
];
const STEP_9: &str = "/sbin/kexec -l --args-none --entry=`cat kexec_jump_back_entry` dump.elf";
const STEP_10: &str = "/sbin/kexec -e";

/// C lives in the window.
pub fn in_the_window(story: &Story) -> Result<()> {
    let mut away = go(story, STEP_7)?;
    let mut vm = boot_c(story, &away.config, "mem=16M rootfstype=ramfs")?;
    // What is not right is refused, and nothing has happened.
    refusals(&mut vm)?;
    step(&mut vm, STEP_9, 0)?;
    // It can be given up, and loaded again.
    step(&mut vm, "kjump status | grep claimed", 0)?;
    step(&mut vm, "/sbin/kexec -u", 0)?;
    step(&mut vm, "kjump status | grep empty", 0)?;
    step(&mut vm, STEP_9, 0)?;
    away.come_back(&mut vm)
}

/// C has all of the machine's RAM: a peer does it, from the blocks that the dump is in.
pub fn with_all_ram(story: &Story) -> Result<()> {
    let mut away = go(story, STEP_7_MEANT)?;
    let mut vm = boot_c(story, &away.config, "")?;
    step(&mut vm, STEP_9, 0)?;
    step(&mut vm, "kjump status | grep loaded", 0)?;
    away.come_back(&mut vm)
}

/// A machine that is off, with its dump on a disk.
struct Away {
    config: Config,
    work: Option<Work>,
    before: Reached,
    waiting: Waiting,
}

impl Away {
    /// Step 10, and A is as it was.
    fn come_back(&mut self, vm: &mut Vm) -> Result<()> {
        vm.type_in(&format!("{STEP_10}\n"))?;
        match vm.wait_start(&self.waiting, LONG)? {
            Start::Resumed(output) => ensure!(
                output.rc == 0 && output.text.contains("resumed"),
                "A's kexec -e ended with {}: {}",
                output.rc,
                output.text
            ),
            Start::Booted => bail!("something else has booted"),
        }
        let work = self.work.take().context("twice")?;
        work.healthy(vm, self.before)?;
        let status = kjump::status(vm)?;
        ensure!(status["state"] == "empty", "a peer is left: {status}");
        kjump::power_button(vm)?;
        work.end(vm)
    }
}

/// Steps 4 to 7.
fn go(story: &Story, step_7: &[&str]) -> Result<Away> {
    let mut config = story.config_for(Kernel::Full, Purpose::Hibernation)?;
    config.memory = 128;
    let image = Work::prepare(story, &mut config)?;
    let partition = story.file("partition.img");
    partition_with_kernel(story, &partition)?;
    config.disks.push(partition.into());
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, image)?;
    vm.sh("mkdir /data; mount -o ro /dev/vdb /data")?;
    vm.sh(
        "cd /data; /sbin/kexec --load-preserve-context /data/bzImage --mem-min=0x100000 \
         --mem-max=0xffffff --initrd=rootfs.gz",
    )?;
    // B is to write there.
    vm.sh("umount /data")?;
    let before = work.reached(&mut vm)?;

    let mark = vm.console.mark();
    let jump = vm.start_command("/sbin/kexec -e")?;
    vm.console.wait_text(mark, "/ #", LONG).context("step 6")?;
    step(&mut vm, "mount -t ext2 /dev/vdb /mnt", 0)?;
    step(&mut vm, "cd /mnt", 0)?;
    for line in step_7 {
        let fails = line.ends_with("cut -d '='`");
        step(&mut vm, line, if fails { 1 } else { 0 })?;
    }
    step(&mut vm, "ls -l /mnt; cat /mnt/kexec_jump_back_entry", 0)?;
    step(&mut vm, "cd /; umount /mnt", 0)?;
    let waiting = vm.waiting(jump);
    vm.type_in("poweroff -f\n")?;
    match vm.wait_left(jump, LONG)? {
        Left::Off(ending) => ensure!(ending.reason == "guest-shutdown", "{ending:?}"),
        Left::Back(output) => bail!("A came back: {}", output.text),
    }
    Ok(Away {
        config,
        work: Some(work),
        before,
        waiting,
    })
}

/// Steps 2 and 3: the hibernating partition, with kernel B and its initramfs on it.
fn partition_with_kernel(story: &Story, image: &Path) -> Result<()> {
    let files = story.file("files");
    fs::create_dir_all(&files)?;
    fs::copy(story.artifacts.bzimage(Kernel::Lean), files.join("bzImage"))?;
    fs::copy(story.artifacts.rootfs(), files.join("rootfs.gz"))?;
    disk::ext2(image, PARTITION, &files)
}

/// Step 8; gives C with the partition mounted.
fn boot_c(story: &Story, config: &Config, append: &str) -> Result<Vm> {
    let mut config = config.clone();
    config.kernel = story.artifacts.bzimage(Kernel::Lean);
    config.initrd = story.artifacts.rootfs();
    config.append = append.into();
    let mut vm = story.power_on("C", &config)?;
    vm.console.wait_text(0, "/ #", LONG).context("step 8")?;
    step(&mut vm, "mount -t ext2 -o ro /dev/vdb /mnt", 0)?;
    step(&mut vm, "cd /mnt", 0)?;
    Ok(vm)
}

/// Types a line on the console, which must end with `code`; gives what it said.
fn step(vm: &mut Vm, line: &str, code: i32) -> Result<String> {
    let mark = vm.console.mark();
    vm.type_in(&format!("{line}\n"))?;
    vm.type_in("echo ended with $? 'in'deed\n")?;
    let said = vm.wait_for(mark, " indeed", LONG);
    let said = said.with_context(|| line.to_string())?;
    let ended = said.rsplit("ended with ").next().unwrap_or_default();
    ensure!(ended.trim() == format!("{code} indeed"), "{line}: {said}");
    Ok(said)
}

/// Dumps that must not be taken: of nothing, cut off, damaged, with an entry that is none.
fn refusals(vm: &mut Vm) -> Result<()> {
    let refused = |vm: &mut Vm, line: &str, code, words: &str| -> Result<()> {
        let said = step(vm, line, code)?;
        ensure!(said.contains(words), "{line}: no \"{words}\" in {said}");
        Ok(())
    };
    // In memory there is room for a few pages only.
    step(vm, "head -c 300000 dump.elf >/tmp/cut", 0)?;
    refused(vm, "kexec -l /tmp/cut", 51, "truncated")?;
    refused(vm, "krestore bzImage", 2, "no ELF core")?;
    let wrong = "kexec -l --args-none --entry=0x2000100 dump.elf";
    refused(vm, wrong, 2, "--entry=0x2000100")?;
    step(vm, "rm /tmp/cut; kjump status | grep empty", 0).map(drop)
}
