// SPDX-License-Identifier: GPL-2.0

//! Saving A's memory from B, by one program after the other, on the same guest and disk: `kjump
//! save`, `cp /proc/vmcore`, Debian's makedumpfile. Times by the host's clock, `sync` included.

use std::time::Instant;

use anyhow::{ensure, Context, Result};

use super::figures::{self, Figure};
use super::{row, Options};
use crate::artifacts::Kernel;
use crate::drive::Drive;
use crate::initramfs::Purpose;
use crate::story::Story;
use crate::vm::Vm;
use crate::{disk, hibernation, kjump, shell};

/// How much of A's memory holds noise, per cent.
pub const FILL: u32 = 40;

/// Bytes a second of the slow disk.
const SLOW: u64 = 20_000_000;

/// What is measured: a title, the line, and where the result is.
const MEANS: [(&str, &str, &str); 11] = [
    (OURS, "kjump save --no-guards /dev/vdb", ""),
    (
        "kjump save --format elf",
        "kjump save --format elf --no-guards /mnt/dump",
        FILE,
    ),
    (
        "kjump save --format elf --all",
        "kjump save --format elf --all --no-guards /mnt/dump",
        FILE,
    ),
    ("cp /proc/vmcore", "cp /proc/vmcore /mnt/dump", FILE),
    ("makedumpfile", "makedumpfile /proc/vmcore /mnt/dump", FILE),
    (
        "makedumpfile -d 31",
        "makedumpfile -d 31 /proc/vmcore /mnt/dump",
        FILE,
    ),
    (
        "makedumpfile -d 1",
        "makedumpfile -d 1 /proc/vmcore /mnt/dump",
        FILE,
    ),
    (THEIRS, "makedumpfile -l -d 1 /proc/vmcore /mnt/dump", FILE),
    (
        "makedumpfile -l -d 31",
        "makedumpfile -l -d 31 /proc/vmcore /mnt/dump",
        FILE,
    ),
    (
        "makedumpfile -z -d 1",
        "makedumpfile -z -d 1 /proc/vmcore /mnt/dump",
        FILE,
    ),
    (
        "makedumpfile -z -d 31",
        "makedumpfile -z -d 31 /proc/vmcore /mnt/dump",
        FILE,
    ),
];

/// The name in [`figures`] of what a slow disk takes.
pub const SLOW_DISK: &str = "slow disk";
/// Likewise of how much RAM is saved in a second.
pub const SPEED: &str = "speed";
/// A save as an image.
pub const OURS: &str = "kjump save";
/// Of makedumpfile's ways the one that compresses as a save does and has the same pages: `-d 31` leaves out
/// what programs have.
pub const THEIRS: &str = "makedumpfile -l -d 1";

/// A result that is a file.
const FILE: &str = "/mnt/dump";

/// Measures, and prints the figures.
pub fn run(story: &Story, options: &Options) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Dumps)?;
    config.memory = options.memory;
    config.smp = options.smp;
    let size = u64::from(options.memory) + 256;
    let (files, image) = (story.file("files.img"), story.file("image.img"));
    let empty = story.file("empty");
    std::fs::create_dir(&empty)?;
    disk::ext2(&files, size, &empty)?;
    disk::empty(&image, size)?;
    let slow = story.file("slow.img");
    disk::empty(&slow, size)?;
    let slow = Drive::from(slow).slow(SLOW);
    config.disks = vec![files.into(), image.into(), slow];
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    vm.sh("mkdir -p /run/full; mount -t ramfs ramfs /run/full")?;
    let fill = format!("guest ramfill {FILL} 1 /run/full");
    vm.run_for(&fill, hibernation::LONG)?.ok()?;
    vm.sh(
        "kjump load /boot/lean --initrd /boot/makedumpfile.cpio.gz --window 32M \
         --append console=ttyS0",
    )?;

    println!();
    println!(
        "QEMU TCG, {} CPUs, {} MiB, {FILL} % of it noise in a ramfs; from a B in 32 MiB",
        options.smp, options.memory
    );
    let titles = ["seconds", "MiB written", "RAM, MB/s"];
    row("", titles.iter().map(ToString::to_string));
    let mark = vm.console.mark();
    let jump = vm.start_command("kjump jump --command shell")?;
    shell::wait(&vm, mark)?;
    shell::line(&mut vm, "mkdir -p /mnt; mount -t ext2 /dev/vda /mnt")?;
    for (title, line, result) in MEANS {
        eprintln!("bench: {title}");
        let seconds = timed(&mut vm, line)?;
        let bytes = match result {
            FILE => shell::line(&mut vm, "busybox stat -c %s /mnt/dump; rm /mnt/dump")?
                .trim()
                .parse()?,
            _ => image_bytes(&mut vm, "/dev/vdb")?,
        };
        let rate = f64::from(options.memory) * 1.048_576 / seconds;
        let cells = [
            format!("{seconds:.1}"),
            format!("{:.0}", bytes as f64 / 1_048_576.0),
            format!("{rate:.0}"),
        ];
        row(title, cells.into_iter());
        let samples = [
            ("time", "s", seconds),
            ("written", "MiB", bytes as f64 / 1_048_576.0),
            (SPEED, "MB/s", rate),
        ];
        for (what, unit, sample) in samples {
            figures::note(Figure::once("dumps", what, title, unit, sample).at(FILL));
        }
    }
    shell::line(&mut vm, "umount /mnt")?;
    slow_disk(&mut vm)?;
    vm.type_in("exit\n")?;
    let output = vm.finish(jump, kjump::JUMP)?;
    ensure!(output.rc == 0, "kjump jump: {} {}", output.rc, output.text);
    vm.power_off()
}

/// Seconds that a line takes in B's shell, until all is on the disk.
fn timed(vm: &mut Vm, line: &str) -> Result<f64> {
    let started = Instant::now();
    shell::line(vm, &format!("{line} >/tmp/said 2>&1 && sync"))?;
    Ok(started.elapsed().as_secs_f64())
}

/// On a disk that is slower than any processor: what a save takes, and the same bytes by dd.
fn slow_disk(vm: &mut Vm) -> Result<()> {
    eprintln!("bench: a slow disk");
    let save = timed(vm, "kjump save --no-guards /dev/vdc")?;
    let count = image_bytes(vm, "/dev/vdc")?.div_ceil(1 << 20);
    let dd = timed(
        vm,
        &format!("dd if=/dev/zero of=/dev/vdc bs=1M count={count} oflag=direct conv=fsync"),
    )?;
    println!();
    println!(
        "a disk of {} MB/s: kjump save {save:.1} s for {count} MiB, dd of as many {dd:.1} s; ratio {:.2}",
        SLOW / 1_000_000,
        dd / save
    );
    for (means, sample) in [(OURS, save), ("dd", dd)] {
        figures::note(Figure::once("dumps", SLOW_DISK, means, "s", sample).at(FILL));
    }
    Ok(())
}

/// Bytes of the image on a disk.
fn image_bytes(vm: &mut Vm, disk: &str) -> Result<u64> {
    let said = shell::line(vm, &format!("kjump image inspect --json {disk}"))?;
    let line = said.lines().find(|line| line.starts_with('{'));
    let json: serde_json::Value = serde_json::from_str(line.context("no JSON")?)?;
    json["totals"]["image_bytes"]
        .as_u64()
        .with_context(|| format!("how large is the image? {said}"))
}
