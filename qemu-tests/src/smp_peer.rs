// SPDX-License-Identifier: GPL-2.0

//! A peer with several CPUs: `lean-smp`, in a window of 24 MiB.

use std::fs;

use anyhow::{ensure, Result};

use crate::artifacts::Kernel;
use crate::cpio::Cpio;
use crate::initramfs;
use crate::story::Story;
use crate::vm::{Config, Vm};

/// /etc/kjump.toml of an A that has it.
const SETTINGS: &str = r#"peer = "/boot/lean-smp"
initrd = "/boot/smp.cpio.gz"
window = "24M"
"#;

/// What limits C to that window, on its command line.
pub const WINDOW: &str = "memmap=exactmap memmap=640K@0 memmap=23M@1M mem=24M";

/// Puts it into A's initramfs, and has A's configuration name it.
pub fn add(story: &Story, config: &mut Config) -> Result<()> {
    let artifacts = &story.artifacts;
    let kernel = fs::read(artifacts.bzimage(Kernel::LeanSmp))?;
    let image = fs::read(artifacts.peer_initramfs_smp())?;
    let more = Cpio::default()
        .file("boot/lean-smp", &kernel)
        .file("boot/smp.cpio.gz", &image)
        .file("etc/kjump.toml", SETTINGS.as_bytes());
    initramfs::append(story, config, "a-smp.cpio", more)
}

/// Loads it for a window of a kind, `--window` or `--own-window`; `what` is more of its command line.
pub fn load(vm: &mut Vm, window: &str, what: &str) -> Result<()> {
    let append = format!("console=ttyS0 {what}");
    let files = format!("/boot/lean-smp --initrd /boot/smp.cpio.gz {window}=24M");
    vm.sh(&format!("kjump load {files} --append \"{append}\""))
        .map(drop)
}

/// Whether B or C has said that all CPUs are up.
pub fn has_all_cpus(said: &str, cpus: u32) -> Result<()> {
    let line = format!("smp: Brought up 1 node, {cpus} CPUs");
    ensure!(said.contains(&line), "no \"{line}\"");
    Ok(())
}
