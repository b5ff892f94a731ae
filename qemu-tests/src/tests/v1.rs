// SPDX-License-Identifier: GPL-2.0

//! \[v1\]: the two resume orders of July 2007 (seed 003). Memory restricted first: the resuming kernel
//! is what boots, and goes on to the normal one, with all of memory, when there is no image. Normal
//! kernel first: it looks whether there is an image, and then the resuming kernel is kexec'ed into
//! the low 16 MiB. What seed 003 says by hot-adding memory, which i386 has not any more, is done by
//! starting the normal kernel from beside the image.

use std::fs;

use anyhow::{bail, ensure, Result};

use crate::artifacts::Kernel;
use crate::disk;
use crate::drive::Drive;
use crate::ending::{Start, Waiting};
use crate::hibernation::{self, Asleep, LONG, MARKER};
use crate::initramfs::Purpose;
use crate::kjump::{self, exit, JUMP};
use crate::shell;
use crate::story::Story;
use crate::vm::{Config, Vm};
use crate::work::Work;

/// The hibernating partition, in the seeds' way: the second of virtio's disks.
const KHDEV: &str = "khdev=254:16";
/// What the resuming kernel is told by the bootloader (seed 000, step 8).
/// And that its initramfs may have more than half of that memory.
const RESTRICTED: &str = "memmap=exactmap memmap=640K@0K memmap=15M@1M mem=16M \
                          rootfstype=ramfs go_to_resume khdev=254:16";

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Recipes)?;
    let image = Work::prepare(story, &mut config)?;
    let partition = story.file("partition.img");
    disk::empty(&partition, 384)?;
    config.disks.push(partition.into());
    put_normal_kernel(story, &mut config)?;

    // Memory restricted first, no image: the normal kernel follows.
    let mut vm = power_on_restricted(story, "restricted, no image", &config, None)?;
    hibernation::is_normal(story, &mut vm, &config)?;
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, image)?;
    let before = work.reached(&mut vm)?;
    load_resident(&mut vm)?;
    let asleep = hibernation::go_off(&mut vm, "kexec -e -c 0x6b630001")?;
    drop(vm);
    // The same, with an image.
    let mut vm = power_on_restricted(story, "restricted, resumed", &config, Some(&asleep))?;
    let now = work.healthy(&mut vm, before)?;
    // The peer was not kept: it is gone with the restore.
    load_resident(&mut vm)?;
    let asleep = hibernation::go_off(&mut vm, "kexec -e -c 0x6b630001")?;
    drop(vm);

    // Normal kernel first, with an image: the resuming kernel is kexec'ed.
    let mut normal = config.clone();
    normal.append = "kjump.shell".into();
    let mut vm = story.power_on("normal, resumed", &normal)?;
    shell::wait(&vm, 0)?;
    shell::line(&mut vm, "kjump image verify /dev/vdb")?;
    shell::line(
        &mut vm,
        &format!("kexec -l /boot/bzImage --initrd=/boot/rootfs.gz --mem-max=0xffffff --append=\"console=ttyS0 {RESTRICTED}\""),
    )?;
    shell::start(&mut vm, "kexec -e")?;
    match vm.wait_start(&asleep.waiting, LONG)? {
        Start::Resumed(output) => ensure!(output.rc == 0, "kexec -e: {}", output.text),
        Start::Booted => bail!("something was booted instead of A"),
    }
    work.healthy(&mut vm, now)?;
    work.end(&mut vm)?;
    drop(vm);

    // Normal kernel first, and no image any more: its boot goes on.
    let mut vm = story.boot("normal, no image", &config)?;
    let inspected = vm.run("kjump image verify /dev/vdb")?;
    ensure!(
        inspected.rc == exit::USED,
        "the image is still there: {} and \"{}\"",
        inspected.rc,
        inspected.text
    );
    vm.power_off()
}

/// Seed 000's peer, which is booted once and comes back.
fn load_resident(vm: &mut Vm) -> Result<()> {
    vm.sh(&format!(
        "kexec --load-jump-back /boot/bzImage --mem-min=0x100000 --mem-max=0xffffff --append=\"{KHDEV} go_to_hibernate\""
    ))?;
    vm.run_for("kexec -e", JUMP)?.ok().map(drop)
}

/// Puts the normal kernel beside where the image will be.
fn put_normal_kernel(story: &Story, config: &mut Config) -> Result<()> {
    let mut installing = config.clone();
    let mut sizes = Vec::new();
    for (number, file) in [&config.kernel, &config.initrd].into_iter().enumerate() {
        // A disk has whole sectors.
        let copy = story.file(&format!("normal-{number}.img"));
        let mut bytes = fs::read(file)?;
        sizes.push(bytes.len());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        fs::write(&copy, bytes)?;
        installing.disks.push(Drive::from(copy).read_only());
    }
    let mut vm = story.boot("installing", &installing)?;
    vm.sh(&format!("head -c {} /dev/vdc >/run/kernel", sizes[0]))?;
    vm.sh(&format!("head -c {} /dev/vdd >/run/initrd", sizes[1]))?;
    let bundle = format!(
        "kjump target bundle /dev/vdb --kernel /run/kernel --initrd /run/initrd \
         --append \"console=ttyS0 panic=-1 {MARKER}\""
    );
    vm.run_for(&bundle, LONG)?.ok()?;
    vm.power_off()
}

/// The machine with the resuming kernel from the bootloader; without an image the normal kernel
/// takes commands then, with one the machine that was saved goes on.
fn power_on_restricted(
    story: &Story,
    title: &str,
    config: &Config,
    asleep: Option<&Asleep>,
) -> Result<Vm> {
    let mut config = config.clone();
    config.kernel = story.artifacts.bzimage(Kernel::Lean);
    config.initrd = story.artifacts.rootfs();
    config.append = RESTRICTED.into();
    match asleep {
        Some(asleep) => {
            let (vm, output) = hibernation::resume(story, title, &config, asleep)?;
            ensure!(
                output.text.contains("resumed"),
                "kexec -e says \"{}\"",
                output.text
            );
            Ok(vm)
        }
        None => {
            let nobody = Waiting {
                number: 0,
                said: String::new(),
            };
            let (vm, start) = hibernation::start(story, title, &config, &nobody)?;
            match start {
                Start::Booted => Ok(vm),
                Start::Resumed(output) => bail!("something was resumed: {}", output.text),
            }
        }
    }
}
