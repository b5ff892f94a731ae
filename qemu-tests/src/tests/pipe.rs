// SPDX-License-Identifier: GPL-2.0

//! \[pipe\]: a save to a pipe, and a restore from one, by hand in the other kernel's shell: what
//! carries the stream can be anything. And a save that is stopped from the console.

use std::time::Duration;

use anyhow::{ensure, Result};

use crate::artifacts::Kernel;
use crate::disk;
use crate::ending::{Left, Start};
use crate::hibernation::{self, Way, LONG};
use crate::initramfs::Purpose;
use crate::kjump::{self, exit};
use crate::story::Story;
use crate::vm::Vm;
use crate::work::Work;

/// What the shell says when it is there.
const PROMPT: &str = "/ #";

/// Types a line into the other kernel's shell.
fn type_line(vm: &mut Vm, line: &str) -> Result<()> {
    vm.type_in(&format!("{line}\n"))
}

/// Waits for the other kernel's shell.
fn wait_shell(vm: &Vm, mark: usize) -> Result<()> {
    vm.console.wait_text(mark, PROMPT, LONG)
}

/// The story of the pipe.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Hibernation)?;
    config.memory = 128;
    let image = Work::prepare(story, &mut config)?;
    let carried = story.file("stream.img");
    disk::empty(&carried, 256)?;
    config.disks.push(carried.into());
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, image)?;
    let before = work.reached(&mut vm)?;
    kjump::load_plain(&mut vm, "")?;

    let mark = vm.console.mark();
    let jump = vm.start_command("kjump jump --command shell")?;
    wait_shell(&vm, mark)?;
    let mark = vm.console.mark();
    // The guards are A's affair: by hand there are none.
    type_line(
        &mut vm,
        "kjump save - --no-guards | dd of=/dev/vdb bs=64k; sync; echo saved with $?",
    )?;
    vm.wait_for(mark, "\nsaved with 0", LONG)?;
    let waiting = vm.waiting(jump);
    type_line(&mut vm, "poweroff -f")?;
    match vm.wait_left(jump, LONG)? {
        Left::Off(ending) => ensure!(ending.reason == "guest-shutdown", "{ending:?}"),
        Left::Back(output) => anyhow::bail!("A came back: {}", output.text),
    }
    drop(vm);

    let config = hibernation::again(story, &config, Way::Bootloader, "kjump.do=shell");
    let mut vm = story.power_on("C, with a shell", &config)?;
    wait_shell(&vm, 0)?;
    type_line(
        &mut vm,
        "dd if=/dev/vdb bs=64k | kjump restore - --no-guards",
    )?;
    match vm.wait_start(&waiting, LONG)? {
        Start::Resumed(_) => {}
        Start::Booted => anyhow::bail!("C booted something"),
    }
    work.healthy(&mut vm, before)?;
    work.end(&mut vm)
}

/// The story of the save that is stopped: Ctrl-C on the console, and A goes on at once.
pub fn abort(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Hibernation)?;
    let image = Work::prepare(story, &mut config)?;
    let target = story.file("target.img");
    disk::empty(&target, 320)?;
    config.disks.push(target.clone().into());
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, image)?;
    vm.sh("mkdir -p /run/full; mount -t ramfs ramfs /run/full; guest ramfill 50 3 /run/full")?;
    let before = work.reached(&mut vm)?;

    let mark = vm.console.mark();
    let started = vm.start_command("kjump hibernate --target /dev/vdb")?;
    vm.wait_for(mark, "Linux version", LONG)?;
    // The bar is drawn over and over, without an end of line.
    vm.console.wait_text(mark, "saving", LONG)?;
    std::thread::sleep(Duration::from_millis(300));
    vm.type_in("\x03")?;
    let output = match vm.wait_left(started, LONG)? {
        Left::Back(output) => output,
        Left::Off(ending) => anyhow::bail!("the machine went off: {ending:?}"),
    };
    ensure!(
        output.rc == exit::ABORTED && output.text.lines().count() >= 1,
        "{} and \"{}\"",
        output.rc,
        output.text
    );
    let now = work.healthy(&mut vm, before)?;
    vm.sh("guest ramcheck 3 /run/full")?;
    // Nothing is there to be resumed by mistake.
    let inspected = vm.run("kjump image inspect /dev/vdb")?;
    ensure!(
        [exit::NO_IMAGE, exit::TORN].contains(&inspected.rc),
        "{} and \"{}\"",
        inspected.rc,
        inspected.text
    );

    // And a save that is let alone works, with the peer that is resident now.
    let asleep = hibernation::hibernate(&mut vm, "/dev/vdb", hibernation::Mode::Poweroff)?;
    ensure!(
        !asleep.console.contains("Linux version"),
        "the resident peer has booted again"
    );
    drop(vm);
    let words = "kjump.resume=/dev/vdb";
    let config = hibernation::again(story, &config, Way::Bootloader, words);
    let (mut vm, _) = hibernation::resume(story, "A, resumed", &config, &asleep)?;
    work.healthy(&mut vm, now)?;
    work.end(&mut vm)
}
