// SPDX-License-Identifier: GPL-2.0

//! `vm`: a machine on this terminal, to try things in.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::artifacts::{Artifacts, Kernel};
use crate::disk;
use crate::initramfs::Purpose;
use crate::story::Story;
use crate::workload::Workload;

/// What the interactive machine is like.
#[derive(clap::Args)]
pub struct Options {
    /// RAM, MiB
    #[arg(long, default_value_t = 512)]
    memory: u32,
    /// CPUs
    #[arg(long, default_value_t = 2)]
    smp: u32,
    /// The kernel with PAE as A
    #[arg(long)]
    pae: bool,
    /// More of A's command line
    #[arg(long, default_value = "")]
    append: String,
}

/// A machine on this terminal.
pub fn run(options: &Options) -> Result<ExitCode> {
    let artifacts = Artifacts::find()?;
    let story = Story::new(&artifacts, "vm", Duration::from_secs(1))?;
    let kernel = if options.pae {
        Kernel::Pae
    } else {
        Kernel::Full
    };
    let mut config = story.config_for(kernel, Purpose::Hibernation)?;
    config.memory = options.memory;
    config.smp = options.smp;
    // A restart boots again, and finds what was saved.
    config.reboot = true;
    config.append = format!("kjump.shell kjump.resume=/dev/vdb {}", options.append);
    Workload::prepare(&story, &mut config)?;
    let target = story.file("target.img");
    disk::empty(&target, u64::from(options.memory) + 64)?;
    config.disks.push(target.into());
    println!("In the machine, try:  kjump doctor");
    println!("  kjump load /boot/lean --initrd /boot/plain.cpio.gz --append \"console=ttyS0\"");
    println!("  kjump jump      (a shell in kernel B; there: kjump back)");
    println!("  kjump hibernate --target /dev/vdb --mode reboot      (the machine restarts, and goes on)");
    println!("Ctrl-A X ends it. The disks are new, and gone afterwards: /dev/vda with an ext4, /dev/vdb.\n");
    let status = config.interactive().status().context("qemu-system-i386")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
