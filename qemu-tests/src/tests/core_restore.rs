// SPDX-License-Identifier: GPL-2.0

//! \[core-restore\]: a core that `kjump save --format elf` has written, and a normal kernel with all of
//! RAM that brings its kernel back. What is foreign or stale is refused before anything is loaded; a
//! peer that finds something else in the core's blocks comes back, and can be told to try again.

use std::path::PathBuf;

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::disk;
use crate::ending::{Left, Waiting};
use crate::hibernation::LONG;
use crate::initramfs::Purpose;
use crate::kjump::{self, exit, JUMP};
use crate::shell;
use crate::story::Story;
use crate::vm::{Config, Vm};
use crate::work::{Reached, Work};

/// A without PAE.
pub fn full(story: &Story) -> Result<()> {
    let away = go(story, Kernel::Full, "max,vendor=GenuineIntel")?;
    foreign(story, &away)?;
    stale(story, &away)?;
    let config = away.config.clone();
    told_again(story, away)?;
    used(story, &config, "krestore /dev/vdb")
}

/// A with PAE; another CPU; in one step.
pub fn pae(story: &Story) -> Result<()> {
    let away = go(story, Kernel::Pae, "coreduo")?;
    let config = away.config.clone();
    let mut vm = normal(story, &away)?;
    let started = vm.start_command("krestore /dev/vdb")?;
    goes_on(vm, started, away)?;
    used(story, &config, "kexec -l /dev/vdb")
}

/// Its kernel has gone on and has written to its disks: it is not to be had again, whatever the
/// filesystems look like.
fn used(story: &Story, config: &Config, command: &str) -> Result<()> {
    let mut vm = story.boot("after a reset", config)?;
    kjump::insmod(&mut vm, "")?;
    for command in [command, "kjump restore --no-guards /dev/vdb"] {
        kjump::refuses(&mut vm, command, exit::USED, "used")?;
    }
    empty(&mut vm)?;
    vm.power_off()
}

/// A machine that is off: its disks are work, core and swap.
struct Away {
    config: Config,
    disk: PathBuf,
    work: Work,
    before: Reached,
    waiting: Waiting,
}

/// Saves A from a peer's shell, and switches off.
fn go(story: &Story, kernel: Kernel, cpu: &str) -> Result<Away> {
    let mut config = story.config_for(kernel, Purpose::Hibernation)?;
    config.cpu = cpu.into();
    config.memory = 128;
    let image = Work::prepare(story, &mut config)?;
    let (core, swap) = (story.file("core.img"), story.file("swap.img"));
    disk::empty(&core, 192)?;
    disk::swap(&swap, 32)?;
    config.disks.push(core.into());
    config.disks.push(swap.into());
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, image.clone())?;
    vm.sh("swapon /dev/vdc")?;
    let before = work.reached(&mut vm)?;
    kjump::load_plain(&mut vm, "")?;
    let mark = vm.console.mark();
    // With a command word the peer learns which machine this is, and what is mounted.
    let jump = vm.start_command("kjump jump --command shell")?;
    shell::wait(&vm, mark)?;
    shell::line(&mut vm, "kjump save --format elf /dev/vdb")?;
    let waiting = vm.waiting(jump);
    shell::start(&mut vm, "poweroff -f")?;
    match vm.wait_left(jump, LONG)? {
        Left::Off(ending) => ensure!(ending.reason == "guest-shutdown", "{ending:?}"),
        Left::Back(output) => anyhow::bail!("A came back: {}", output.text),
    }
    Ok(Away {
        config,
        disk: image,
        work,
        before,
        waiting,
    })
}

/// The same disks in a machine with other memory.
fn foreign(story: &Story, away: &Away) -> Result<()> {
    let mut config = away.config.clone();
    config.memory = 160;
    let mut vm = story.boot("another machine", &config)?;
    kjump::insmod(&mut vm, "")?;
    kjump::refuses(&mut vm, "krestore /dev/vdb", exit::FOREIGN, "foreign")?;
    // A core is never encrypted: who can write to the disk could bring his own.
    let asked = "kjump restore --encrypt passphrase /dev/vdb";
    kjump::refuses(&mut vm, asked, exit::PLAIN, "plain image")?;
    vm.sh("echo 'encrypt = \"key-file\"' >>/etc/kjump.toml")?;
    for command in ["krestore /dev/vdb", "kexec -l --args-none /dev/vdb"] {
        kjump::refuses(&mut vm, command, exit::PLAIN, "plain image")?;
    }
    let plain = "kjump restore --encrypt none /dev/vdb";
    kjump::refuses(&mut vm, plain, exit::FOREIGN, "foreign")?;
    empty(&mut vm)?;
    vm.power_off()
}

/// The same machine; but somebody has mounted what A has mounted.
fn stale(story: &Story, away: &Away) -> Result<()> {
    let mut config = away.config.clone();
    let copy = story.file("copy.img");
    disk::copy(&away.disk, &copy)?;
    config.disks[0] = copy.into();
    let mut vm = story.boot("a machine that writes", &config)?;
    kjump::insmod(&mut vm, "")?;
    vm.sh("mount -t ext4 /dev/vda /mnt && umount /mnt")?;
    for command in [
        "krestore /dev/vdb",
        "kexec -l /dev/vdb",
        "kjump restore /dev/vdb",
    ] {
        kjump::refuses(&mut vm, command, exit::STALE, "stale")?;
    }
    empty(&mut vm)?;
    vm.power_off()
}

fn empty(vm: &mut Vm) -> Result<()> {
    let status = kjump::status(vm)?;
    ensure!(status["state"] == "empty", "something is loaded: {status}");
    Ok(())
}

/// Boots a normal kernel on A's machine.
fn normal(story: &Story, away: &Away) -> Result<Vm> {
    let mut vm = story.boot("the normal kernel", &away.config)?;
    kjump::insmod(&mut vm, "")?;
    // A swap area that a saved kernel uses is nobody else's.
    let swapon = vm.run("swapon /dev/vdc")?;
    ensure!(swapon.rc != 0, "A's swap area is not hidden");
    Ok(vm)
}

/// Something else is in the core's blocks when the peer looks; then what belongs there.
fn told_again(story: &Story, away: Away) -> Result<()> {
    let mut vm = normal(story, &away)?;
    vm.run_for("kexec -l --args-none /dev/vdb", LONG)?.ok()?;
    let status = kjump::status(&mut vm)?;
    ensure!(status["state"] == "loaded", "no peer is loaded: {status}");

    vm.sh("dd if=/dev/vdb of=/run/head bs=4096 count=1 2>/dev/null")?;
    vm.sh("dd if=/dev/zero of=/dev/vdb bs=4096 count=1 2>/dev/null; sync")?;
    let output = vm.run_for("kexec -e", JUMP)?;
    let status = kjump::status(&mut vm)?;
    let reason = status["reason"].as_str().unwrap_or_default();
    ensure!(
        output.rc == exit::PEER_STATUS && reason.contains("something else is in its blocks"),
        "kexec -e: {} and \"{}\"; {status}",
        output.rc,
        output.text
    );
    vm.sh("dd if=/run/head of=/dev/vdb bs=4096 count=1 2>/dev/null; sync")?;

    let mark = vm.console.mark();
    let started = vm.start_command("kexec -e")?;
    vm.console.wait_text(mark, "restoring", LONG)?;
    ensure!(
        !vm.console.since(mark).contains("Linux version"),
        "the resident peer has booted again"
    );
    goes_on(vm, started, away)
}

/// A goes on instead of the kernel that has begun to restore it.
fn goes_on(mut vm: Vm, started: usize, away: Away) -> Result<()> {
    let output = vm.wait_resumed(&away.waiting, started, LONG)?;
    ensure!(
        output.rc == 0 && output.text.contains("resumed"),
        "A's jump ended with {}: {}",
        output.rc,
        output.text
    );
    let work = away.work;
    work.healthy(&mut vm, away.before).context("A")?;
    vm.sh("grep vdc /proc/swaps")?;
    // Its signature is there again.
    let found = vm.sh("dd if=/dev/vdc bs=1 skip=4086 count=10 2>/dev/null")?;
    ensure!(
        found == "SWAPSPACE2",
        "the swap area is still hidden: {found}"
    );
    kjump::power_button(&mut vm)?;
    vm.sh("swapoff /dev/vdc")?;
    work.end(&mut vm)
}
