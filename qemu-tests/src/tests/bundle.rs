// SPDX-License-Identifier: GPL-2.0

//! The bootloader always starts C. Where there is no image that may be resumed C starts the normal
//! kernel, which lies beside the image, with all of the machine's memory.

use anyhow::{bail, ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::disk;
use crate::drive::Drive;
use crate::ending::{Start, Waiting};
use crate::hibernation::{self, Mode, Way, LONG, MARKER};
use crate::initramfs::Purpose;
use crate::kjump;
use crate::story::Story;
use crate::vm::{Config, Vm};
use crate::work::Work;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Hibernation)?;
    let image = Work::prepare(story, &mut config)?;
    let target = story.file("target.img");
    disk::empty(&target, 384)?;
    config.disks.push(target.into());
    let normal = [config.kernel.clone(), config.initrd.clone()];
    let mut files = Vec::new();
    for (number, file) in normal.iter().enumerate() {
        // A disk has whole sectors.
        let copy = story.file(&format!("normal-{number}.img"));
        let mut bytes = std::fs::read(file)?;
        files.push(bytes.len());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        std::fs::write(&copy, bytes)?;
        config.disks.push(Drive::from(copy).read_only());
    }
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    vm.sh(&format!("head -c {} /dev/vdc >/run/kernel", files[0]))?;
    vm.sh(&format!("head -c {} /dev/vdd >/run/initrd", files[1]))?;
    let bundle = format!(
        "kjump target bundle /dev/vdb --kernel /run/kernel --initrd /run/initrd \
         --append \"console=ttyS0 panic=-1 {MARKER}\""
    );
    vm.run_for(&bundle, LONG)?.ok()?;
    vm.sh("kjump target show /dev/vdb")?;
    vm.sh("rm /run/kernel /run/initrd")?;
    vm.power_off()?;
    drop(vm);

    // Never saved: the normal kernel, and it is A from now on.
    let c = hibernation::again(story, &config, Way::Bootloader, "kjump.resume=/dev/vdb");
    let nobody = Waiting {
        number: 0,
        said: String::new(),
    };
    let mut vm = normal_boot(story, "no image", &c, &nobody)?;
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, image)?;
    let before = work.reached(&mut vm)?;
    let asleep = hibernation::hibernate(&mut vm, "/dev/vdb", Mode::Poweroff)?;
    drop(vm);
    let (mut vm, _) = hibernation::resume(story, "A, resumed", &c, &asleep)?;
    work.healthy(&mut vm, before)?;
    work.end(&mut vm)?;
    drop(vm);

    // Used: C says so, and the normal kernel boots again.
    let vm = normal_boot(story, "a used image", &c, &asleep.waiting)?;
    let said = hibernation::said_by_resume(&vm.console.since(0));
    ensure!(
        said.contains("used image") || said.contains("discarded image"),
        "C does not say why:\n{said}"
    );
    Ok(())
}

/// Starts C, which must start the normal kernel.
fn normal_boot(story: &Story, title: &str, config: &Config, waiting: &Waiting) -> Result<Vm> {
    let (mut vm, start) =
        hibernation::start(story, title, config, waiting).context(title.to_string())?;
    if let Start::Resumed(output) = start {
        bail!("{title}: something was resumed: {}", output.text);
    }
    hibernation::is_normal(story, &mut vm, config).context(title.to_string())?;
    ensure!(vm.sh("nproc")? == "2", "{title}: CPUs are missing");
    Ok(vm)
}
