// SPDX-License-Identifier: GPL-2.0

//! \[recipe-v7\]: steps 4 to 8 of the usage that came with the patches of December 2007, each command
//! as it stands there but for device numbers: a peer is booted once and kept as a file, loaded after
//! a reboot, and told to hibernate; another kernel in the same memory resumes.

use anyhow::{ensure, Result};

use crate::artifacts::Kernel;
use crate::disk;
use crate::hibernation;
use crate::initramfs::Purpose;
use crate::kjump::{self, exit, JUMP};
use crate::story::Story;
use crate::text::Text;
use crate::vm::{Config, Vm};
use crate::work::Work;

/// The hibernating partition: the second disk, by the major number that virtio's disks get.
const KHDEV: &str = "khdev=254:16";

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Recipes)?;
    let image = Work::prepare(story, &mut config)?;
    // 3. A raw partition.
    let partition = story.file("partition.img");
    disk::empty(&partition, 320)?;
    config.disks.push(partition.clone().into());

    // 4.1 Boot kernel A.
    let mut vm = story.boot("A, the first time", &config)?;
    kjump::insmod(&mut vm, "")?;
    vm.sh("mount -t ext4 /dev/vda /mnt")?;
    // 4.2 Load kernel B.
    vm.sh(&format!("cd /mnt; {}", load_command()))?;
    // 4.3 Jump to it. 4.4 It comes back by itself.
    let mark = vm.console.mark();
    vm.run_for("kexec -e", JUMP)?.ok()?;
    let booted = vm.console.since(mark);
    ensure!(booted.contains("Linux version"), "no peer has booted");
    vm.sh("cd /mnt; cp /proc/kimgcore .")?;
    occupied(&mut vm)?;
    vm.power_off()?;

    // 5. Boot kernel A.
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, image)?;
    let boot = vm.sh("cat /proc/sys/kernel/random/boot_id")?;
    let text = Text::of(&story.artifacts.vmlinux(Kernel::Full))?;
    let text_before = text.read(&mut vm)?;
    let mut reached = work.reached(&mut vm)?;
    // As often as one likes: the file is the same each time, and the images are not.
    let mut uuids = Vec::new();
    for _ in 0..2 {
        // 6. Load the memory image of the hibernating kernel.
        vm.sh("cd /mnt; kexec -l --args-none --flags=0x3e kimgcore")?;
        // 7. Start the real hibernating process.
        let asleep = hibernation::go_off(&mut vm, "kexec -e -c 0x6b630001")?;
        ensure!(
            asleep.ending.reason == "guest-shutdown" && asleep.ending.s4,
            "no ACPI S4: {:?}",
            asleep.ending
        );
        ensure!(
            !asleep.console.contains("Linux version"),
            "the peer has booted again"
        );
        drop(vm);
        uuids.push(hibernation::image_uuid(&partition, 0)?);

        // 8. Boot kernel C.
        let config = resuming(story, &config);
        let (resumed, output) = hibernation::resume(story, "A, resumed", &config, &asleep)?;
        vm = resumed;
        ensure!(
            output.text.contains("resumed"),
            "kexec -e says \"{}\"",
            output.text
        );
        text.same(&text_before, &text.read(&mut vm)?)?;
        reached = work.healthy(&mut vm, reached)?;
        let now = vm.sh("cat /proc/sys/kernel/random/boot_id")?;
        ensure!(now == boot, "another boot goes on");
        kjump::power_button(&mut vm)?;
    }
    ensure!(uuids[0] != uuids[1], "two images have one name: {uuids:?}");
    work.end(&mut vm)
}

/// On a machine without ACPI S4 it is switched off, and resumes all the same.
pub fn without_s4(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Recipes)?;
    let disks = [story.file("first.img"), story.file("partition.img")];
    for disk in disks {
        disk::empty(&disk, 320)?;
        config.disks.push(disk.into());
    }
    let no_s4 = ["-global", "PIIX4_PM.disable_s4=1"];
    config.extra.extend(no_s4.map(String::from));
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let modes = vm.sh("cat /sys/power/disk")?;
    ensure!(!modes.contains("platform"), "there is S4: {modes}");
    vm.sh(&load_command())?;
    vm.run_for("kexec -e", JUMP)?.ok()?;
    let asleep = hibernation::go_off(&mut vm, "kexec -e -c 0x6b630001")?;
    ensure!(
        asleep.ending.reason == "guest-shutdown" && !asleep.ending.s4,
        "{:?}",
        asleep.ending
    );
    drop(vm);
    let config = resuming(story, &config);
    let (mut vm, output) = hibernation::resume(story, "A, resumed", &config, &asleep)?;
    ensure!(output.text.contains("resumed"), "\"{}\"", output.text);
    vm.power_off()
}

/// 4.2 Load kernel B.
fn load_command() -> String {
    format!(
        "kexec --load-jump-back /boot/bzImage --mem-min=0x100000 --mem-max=0xffffff \
         --elf64-core-headers --append=\"{KHDEV} go_to_hibernate\""
    )
}

/// 8. Boot kernel C in the memory of kernel B.
fn resuming(story: &Story, config: &Config) -> Config {
    let mut config = config.clone();
    config.kernel = story.artifacts.bzimage(Kernel::Lean);
    config.initrd = story.artifacts.rootfs();
    config.append =
        format!("memmap=exactmap memmap=640K@0K memmap=15M@1M mem=16M go_to_resume {KHDEV}");
    config
}

/// Where the partition holds something the peer does not write, and says so.
fn occupied(vm: &mut Vm) -> Result<()> {
    vm.sh("printf 'LUKS\\272\\276' | dd of=/dev/vdb conv=notrunc 2>/dev/null; sync")?;
    let output = vm.run_for("kexec -e -c 0x6b630001", JUMP)?;
    let said = format!("peer came back: status {}", exit::TARGET);
    ensure!(
        output.rc == exit::PEER_STATUS && output.text == said,
        "an occupied partition: {} and \"{}\"",
        output.rc,
        output.text
    );
    let status = kjump::status(vm)?;
    let reason = status["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("LUKS"), "{status}");
    vm.sh("dd if=/dev/zero of=/dev/vdb bs=4096 count=1 conv=notrunc 2>/dev/null; sync")
        .map(drop)
}
