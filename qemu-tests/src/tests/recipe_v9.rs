// SPDX-License-Identifier: GPL-2.0

//! \[recipe-v9\]: the four options that seed 001 proposes do what it says. A loads B with
//! `--load-preserve-context`; then it goes back and forth between the two with
//! `--load-resume-entry` and `-e`, ten times, each typed in the one and in the other.

use anyhow::{bail, ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::disk;
use crate::ending::{Left, Start};
use crate::hibernation::{self, LONG};
use crate::initramfs::Purpose;
use crate::kjump::{self, JUMP};
use crate::shell;
use crate::story::Story;
use crate::vm::Vm;
use crate::workload::Workload;

/// How often there and back.
const ROUNDS: u32 = 10;
/// Step 4 of seed 001.
const LOAD: &str = "cd /boot; /sbin/kexec --load-preserve-context /boot/bzImage \
    --mem-min=0x100000 --mem-max=0xffffff --initrd=rootfs.gz";
/// Exit code for an entry that is none.
const WRONG_ENTRY: i32 = 42;

/// Options A ⇄ B.
pub fn back_and_forth(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Recipes)?;
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let workload = Workload::start(&mut vm, image)?;
    let before = workload.progress(&mut vm)?;

    vm.sh(LOAD)?;
    let mark = vm.console.mark();
    let mut away = vm.start_command("/sbin/kexec -e")?;
    shell::wait(&vm, mark)?;
    // The entry is where seed 001 takes it from, but for a -f that every `cut` asks for.
    shell::line(
        &mut vm,
        "jump_back_entry=`cat /proc/cmdline | tr ' ' '\\n' | grep kexec_jump_back_entry | cut -d '=' -f 2`",
    )?;
    let told = shell::line(
        &mut vm,
        "kjump_back_param | grep kexec_jump_back_entry; echo $jump_back_entry",
    )?;
    let entries: Vec<_> = told.lines().map(|l| l.rsplit('=').next()).collect();
    ensure!(
        entries.len() == 2 && entries[0] == entries[1],
        "kjump_back_param and the command line differ: {told}"
    );
    let wrong = shell::start(&mut vm, "kexec --load-resume-entry 0x1234000")?;
    let (code, text) = shell::finish(&vm, wrong)?;
    ensure!(code == WRONG_ENTRY, "a wrong entry: {code} and {text}");
    shell::line(&mut vm, "rounds=0")?;

    let mut now = before;
    let booted = vm.console.mark();
    for round in 1..=ROUNDS {
        shell::line(&mut vm, "rounds=$((rounds + 1))")?;
        shell::line(&mut vm, "kexec --load-resume-entry $jump_back_entry")?;
        let in_b = shell::start(&mut vm, "kexec -e")?;
        let output = vm.finish(away, JUMP)?;
        ensure!(
            output.rc == 0 && output.text == "peer came back: status 0",
            "round {round}: {} and \"{}\"",
            output.rc,
            output.text
        );
        now = workload.healthy(&mut vm, now)?;
        let entry = peer_entry(&mut vm)?;
        vm.sh(&format!("kexec --load-resume-entry {entry}"))?;
        away = vm.start_command("kexec -e")?;
        let (code, text) = shell::finish(&vm, in_b)?;
        ensure!(
            code == 0 && text.contains("entered again"),
            "round {round}, in B: {code} and {text}"
        );
    }
    ensure!(
        !vm.console.since(booted).contains("Linux version"),
        "a kernel has booted instead of going on"
    );
    let rounds = shell::line(&mut vm, "echo $rounds")?;
    ensure!(
        rounds == ROUNDS.to_string(),
        "B has forgotten: {rounds} rounds"
    );
    shell::start(&mut vm, "kexec -e")?;
    vm.finish(away, JUMP)?.ok()?;

    kjump::refuses(
        &mut vm,
        "kexec --load-resume-entry 0x1234000 2>&1",
        WRONG_ENTRY,
        "use 0x",
    )?;
    workload.healthy(&mut vm, now)?;
    ensure!(vm.run("kexec -l -S")?.rc == 1, "-S: nothing is loaded");
    vm.sh("kexec -u")?;
    vm.sh("kexec -u")?;
    ensure!(vm.run("kexec -l -S")?.rc == 0, "-S: something is loaded");
    let nothing = vm.run("kexec -e")?;
    ensure!(
        nothing.rc == kjump::exit::NOTHING_LOADED,
        "-e with nothing loaded: {} and \"{}\"",
        nothing.rc,
        nothing.text
    );
    workload.end(&mut vm)
}

/// `--load-resume-image`: a core that B has saved, loaded and entered by a kernel C.
pub fn image(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Recipes)?;
    config.memory = 128;
    let image = Workload::prepare(story, &mut config)?;
    let saved = story.file("saved.img");
    disk::empty(&saved, 192)?;
    config.disks.push(saved.into());
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let workload = Workload::start(&mut vm, image)?;
    let before = workload.progress(&mut vm)?;
    vm.sh(LOAD)?;
    let mark = vm.console.mark();
    let away = vm.start_command("/sbin/kexec -e")?;
    shell::wait(&vm, mark)?;
    shell::line(&mut vm, "kjump save --format elf /dev/vdb")?;
    let waiting = vm.waiting(away);
    shell::start(&mut vm, "poweroff -f")?;
    match vm.wait_left(away, LONG)? {
        Left::Off(_) => {}
        Left::Back(output) => bail!("A came back: {}", output.text),
    }
    drop(vm);

    config.kernel = story.artifacts.bzimage(Kernel::Lean);
    config.initrd = story.artifacts.rootfs();
    config.append = hibernation::WINDOW.into();
    let mut vm = story.power_on("C", &config)?;
    shell::wait(&vm, 0)?;
    let told = shell::line(&mut vm, "kjump_back_param /dev/vdb | grep -v segment")?;
    for name in [
        "kind=core",
        "kexec_jump_back_entry=0x",
        "handoff=0x",
        "uuid=",
    ] {
        ensure!(
            told.contains(name),
            "kjump_back_param says no {name}:\n{told}"
        );
    }
    // A kernel is no image of one.
    let wrong = shell::start(&mut vm, "kexec --load-resume-image /bin/busybox")?;
    let (code, text) = shell::finish(&vm, wrong)?;
    ensure!(code == kjump::exit::USAGE, "busybox: {code} and {text}");
    shell::line(&mut vm, "kexec --load-resume-image /dev/vdb")?;
    shell::start(&mut vm, "kexec -e")?;
    match vm.wait_start(&waiting, LONG)? {
        Start::Resumed(output) => ensure!(
            output.rc == 0 && output.text.contains("resumed"),
            "A's kexec -e: {} and \"{}\"",
            output.rc,
            output.text
        ),
        Start::Booted => bail!("something was booted instead of A"),
    }
    workload.healthy(&mut vm, before)?;
    workload.end(&mut vm)
}

/// Where the resident peer is entered, told by the status and by its core alike.
fn peer_entry(vm: &mut Vm) -> Result<String> {
    let status = kjump::status(vm)?;
    let entry = status["peer_entry"]
        .as_str()
        .context("the status has no peer_entry")?;
    let core = vm.sh("kjump_back_param /proc/kimgcore")?;
    ensure!(
        core.lines().any(|l| l == format!("entry={entry}")),
        "the peer's core has another entry than {entry}:\n{core}"
    );
    Ok(entry.to_string())
}
