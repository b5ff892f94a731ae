// SPDX-License-Identifier: GPL-2.0

//! \[kimgcore\]: a peer that has booted is kept in a file, and is there again after a reboot without
//! booting; A hibernates with it and resumes. Files that are none, are cut off or damaged, or are of
//! another machine, are refused.

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::disk;
use crate::hibernation::{self, Mode, Way};
use crate::initramfs::Purpose;
use crate::kjump::{self, exit};
use crate::story::Story;
use crate::vm::{Config, Vm};
use crate::work::Work;
use crate::workload::Workload;

/// What loads a file of the first disk.
const LOAD: &str = "kjump load --peer /mnt";

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Recipes)?;
    let image = Work::prepare(story, &mut config)?;
    let target = story.file("target.img");
    disk::empty(&target, 320)?;
    config.disks.push(target.into());

    make(story, &config)?;
    foreign(story, &config)?;

    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, image)?;
    bad(&mut vm)?;
    let before = enter(&mut vm, &work)?;
    let asleep = hibernation::hibernate(&mut vm, "/dev/vdb", Mode::Poweroff)?;
    ensure!(
        !asleep.console.contains("Linux version"),
        "the peer has booted again"
    );
    drop(vm);
    let config = hibernation::again(story, &config, Way::Bootloader, "kjump.resume=/dev/vdb");
    let (mut vm, output) = hibernation::resume(story, "A, resumed", &config, &asleep)?;
    ensure!(output.text.contains("resumed"), "\"{}\"", output.text);
    work.healthy(&mut vm, before)?;
    work.end(&mut vm)
}

/// The same with a peer of two CPUs and the whole set of drivers, in a wider window, and with another
/// kernel as A after the reboot.
pub fn wide(story: &Story) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A, the first time", &config)?;
    kjump::insmod(&mut vm, "")?;
    vm.sh("mount -t ext4 /dev/vda /mnt")?;
    kjump::load_full(&mut vm, "kjump.do=back kjump.run=/bin/cat,/proc/cpuinfo")?;
    kjump::jump_and_return(&mut vm, "")?;
    vm.sh("cp /proc/kimgcore /mnt/kimgcore")?;
    vm.power_off()?;

    config = Config {
        disks: config.disks,
        ..story.config(Kernel::Pae)?
    };
    let mut vm = story.boot("A, with PAE", &config)?;
    kjump::insmod(&mut vm, "")?;
    let workload = Workload::start(&mut vm, image)?;
    let mut reached = workload.progress(&mut vm)?;
    vm.sh(&format!("{LOAD}/kimgcore"))?;
    for options in ["--command run", ""] {
        let mark = vm.console.mark();
        kjump::jump_and_return(&mut vm, options)?;
        let seen = vm.console.since(mark);
        ensure!(!seen.contains("Linux version"), "the peer has booted again");
        if !options.is_empty() {
            let cpus = seen.lines().filter(|l| l.starts_with("processor")).count();
            ensure!(cpus == 2, "the peer has {cpus} CPUs");
        }
        reached = workload.healthy(&mut vm, reached)?;
    }
    workload.end(&mut vm)
}

/// Boots a peer in A, and writes it to the first disk.
fn make(story: &Story, config: &Config) -> Result<()> {
    let mut vm = story.boot("A, the first time", config)?;
    kjump::insmod(&mut vm, "")?;
    vm.sh("mount -t ext4 /dev/vda /mnt")?;
    let mode = vm.sh("ls -l /proc/kimgcore")?;
    ensure!(mode.starts_with("-r--------"), "{mode}");
    let dump = "kjump peer dump /mnt/kimgcore";
    kjump::refuses(&mut vm, dump, exit::NOTHING_LOADED, "nothing is loaded")?;
    let read = vm.run("cat /proc/kimgcore")?;
    ensure!(read.rc != 0, "there is something without a load");

    // Whether /proc/vmcore can be read is what it answers to "run".
    let append =
        "console=ttyS0 kjump.do=back kjump.run=/bin/dd,if=/proc/vmcore,of=/dev/null,count=8";
    vm.sh(&format!(
        "kjump load /boot/lean --initrd /boot/rootfs.gz --append \"{append}\""
    ))?;
    vm.sh("kjump peer dump /mnt/never-run")?;
    kjump::jump_and_return(&mut vm, "")?;
    kjump::jump_and_return(&mut vm, "--command run").context("its own /proc/vmcore")?;
    vm.sh(dump)?;
    vm.sh("cp /proc/kimgcore /mnt/copy; cmp /mnt/copy /mnt/kimgcore")?;
    others_ask(&mut vm)?;
    let mode = vm.sh("ls -l /mnt/kimgcore")?;
    ensure!(mode.starts_with("-rw-------"), "{mode}");
    // Reading it has changed nothing.
    kjump::jump_and_return(&mut vm, "")?;
    let refusal = "kjump: load: something is loaded already";
    kjump::refuses(
        &mut vm,
        &format!("{LOAD}/kimgcore"),
        exit::ALREADY_LOADED,
        refusal,
    )?;
    vm.power_off()
}

/// Who opens the device and asks something does not disturb one that reads; a jump does.
fn others_ask(vm: &mut Vm) -> Result<()> {
    let begin = "exec 3</proc/kimgcore; dd bs=4096 count=3 <&3 2>/dev/null >/mnt/copy";
    let ask = "kjump status >/dev/null; kjump peers >/dev/null; kjump load /boot/lean 2>/dev/null";
    vm.sh(&format!(
        "{begin}; {ask}; cat <&3 >>/mnt/copy && cmp /mnt/copy /mnt/kimgcore"
    ))
    .context("a reader beside others that ask")?;
    let read = vm.run(&format!("{begin}; kjump jump && cat <&3 >/dev/null"))?;
    ensure!(
        read.rc != 0 && read.text.contains("peer came back: status 0"),
        "what was opened before a jump can be read after it: {}",
        read.text
    );
    vm.sh("rm /mnt/copy").map(drop)
}

/// On other hardware the file is refused.
fn foreign(story: &Story, config: &Config) -> Result<()> {
    let other = |change: fn(&mut Config)| {
        let mut config = config.clone();
        change(&mut config);
        config
    };
    let cases = [
        ("more memory", other(|c| c.memory += 32), "memory map"),
        ("another CPU", other(|c| c.cpu = "coreduo".into()), "CPU"),
        ("no network card", other(|c| c.net = false), "PCI"),
        (
            "one more card",
            other(|c| c.extra.extend(["-device".into(), "virtio-rng-pci".into()])),
            "PCI",
        ),
        // The same devices at the same places, one of them with a larger BAR.
        (
            "another BAR",
            other(|c| {
                c.extra
                    .extend(["-global", "VGA.vgamem_mb=32"].map(String::from))
            }),
            "PCI",
        ),
    ];
    for (title, config, word) in &cases {
        let mut vm = story.boot(title, config)?;
        kjump::insmod(&mut vm, "")?;
        vm.sh("mount -t ext4 -o ro /dev/vda /mnt")?;
        refused(&mut vm, "kimgcore", exit::FOREIGN, word).with_context(|| title.to_string())?;
        vm.power_off()?;
    }
    Ok(())
}

/// Files that are no peers, or not whole.
fn bad(vm: &mut Vm) -> Result<()> {
    refused(vm, "never-run", exit::NO_IMAGE, "has not run")?;
    let size: u64 = vm.sh("wc -c </mnt/kimgcore")?.trim().parse()?;
    for (name, make, code, words) in [
        ("empty", ": >".to_string(), exit::NO_IMAGE, "not an ELF"),
        ("text", "echo hello >".into(), exit::NO_IMAGE, "not an ELF"),
        (
            "program",
            "cat /bin/guest >".into(),
            exit::NO_IMAGE,
            "no core",
        ),
        (
            "head",
            "head -c 60 /mnt/kimgcore >".into(),
            exit::TORN,
            "truncated",
        ),
        (
            "table",
            "head -c 200 /mnt/kimgcore >".into(),
            exit::TORN,
            "truncated",
        ),
        (
            "half",
            format!("head -c {} /mnt/kimgcore >", size / 2),
            exit::TORN,
            "truncated",
        ),
        (
            "almost",
            format!("head -c {} /mnt/kimgcore >", size - 1),
            exit::TORN,
            "truncated",
        ),
    ] {
        vm.sh(&format!("{make} /mnt/{name}"))?;
        refused(vm, name, code, words)?;
    }
    // The ELF header says another machine; then the table says another length of its entries.
    for (name, at, code, words) in [
        ("machine", 18, exit::FOREIGN, "machine"),
        ("entries", 54, exit::DAMAGED, "damaged"),
    ] {
        vm.sh(&format!("cp /mnt/kimgcore /mnt/{name}"))?;
        vm.sh(&format!(
            "printf '\\076' | dd of=/mnt/{name} bs=1 seek={at} conv=notrunc 2>/dev/null"
        ))?;
        refused(vm, name, code, words)?;
    }
    // And a byte in the middle of its pages.
    vm.sh(&format!(
        "cp /mnt/kimgcore /mnt/middle; b=$(dd if=/mnt/middle bs=1 skip={0} count=1 2>/dev/null | od -An -tu1); \
         printf \"\\\\$(printf %o $((b ^ 1)))\" | dd of=/mnt/middle bs=1 seek={0} conv=notrunc 2>/dev/null",
        size / 2
    ))?;
    refused(vm, "middle", exit::DAMAGED, "checksum")?;
    vm.sh("rm /mnt/middle /mnt/never-run /mnt/head /mnt/table /mnt/half /mnt/almost /mnt/machine /mnt/entries")
        .map(drop)
}

/// The file is refused, and nothing is loaded then.
fn refused(vm: &mut Vm, name: &str, code: i32, words: &str) -> Result<()> {
    kjump::refuses(vm, &format!("{LOAD}/{name}"), code, words)?;
    let status = kjump::status(vm)?;
    ensure!(status["state"] == "empty", "{name}: {status}");
    ensure!(kjump::number(&status, "allocated_pages")? == 0, "{status}");
    Ok(())
}

/// Loads the file and goes there and back; A is healthy, and the peer has not booted.
fn enter(vm: &mut Vm, work: &Work) -> Result<crate::work::Reached> {
    let mut reached = work.reached(vm)?;
    vm.sh(&format!("{LOAD}/kimgcore"))?;
    let status = kjump::status(vm)?;
    ensure!(status["state"] == "loaded", "{status}");
    for _ in 0..2 {
        let mark = vm.console.mark();
        kjump::jump_and_return(vm, "")?;
        let seen = vm.console.since(mark);
        ensure!(!seen.contains("Linux version"), "the peer has booted again");
        ensure!(seen.contains("entered again"), "the peer was not entered");
        reached = work.healthy(vm, reached)?;
    }
    // What it was told of old memory at its boot is of another kernel.
    let output = kjump::jump(vm, "--command run")?;
    ensure!(
        output.rc == exit::PEER_STATUS,
        "a stale /proc/vmcore can be read: {}",
        output.text
    );
    // It can be kept once more.
    vm.sh("kjump peer dump /mnt/kimgcore && kjump unload && kjump load --peer /mnt/kimgcore")?;
    work.healthy(vm, reached)
}
