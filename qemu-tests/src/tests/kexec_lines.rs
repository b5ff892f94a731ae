// SPDX-License-Identifier: GPL-2.0

//! \[kexec-lines\]: lines for today's kexec-tools, typed in A to kjump's `kexec`: options in their
//! present spellings, kernels as ELF, one way and back.

use std::fs;

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::cpio::Cpio;
use crate::elf;
use crate::hibernation::LONG;
use crate::initramfs;
use crate::kjump::{self, exit, JUMP};
use crate::story::Story;
use crate::vm::{Config, Vm};
use crate::workload::Workload;

/// Lines, their exit codes, and what they say: `kexec` of /sbin, as scripts name it.
const LINES: &[(&str, i32, &str)] = &[
    ("--version", 0, "kexec"),
    ("-S", 0, ""),
    ("-e", exit::NOTHING_LOADED, "nothing is loaded"),
    // As distributions' scripts have it.
    (
        "--load /boot/lean --initrd=/boot/plain.cpio.gz --reuse-cmdline",
        0,
        "",
    ),
    ("--status --load", 1, ""),
    ("--unload", 0, ""),
    ("--status --load", 0, ""),
    ("-u", 0, ""),
    // Another load takes its place.
    (
        "-a -l -t bzImage /boot/lean --command-line=console=ttyS0 --ramdisk=/boot/plain.cpio.gz -i -x",
        0,
        "",
    ),
    (
        "-s -d -l /boot/vmlinux --initrd=/boot/plain.cpio.gz --append=quiet --console-serial",
        0,
        "",
    ),
    ("--kexec-syscall-auto --type=elf-x86 -l /boot/vmlinux", 0, ""),
    ("-c --unload", 0, ""),
    // What cannot be meant here.
    ("-t elf-x86 -l /boot/lean", exit::USAGE, "not Elf"),
    ("-p /boot/lean", exit::USAGE, "crashkernel"),
    ("-l /boot/lean --real-mode", exit::USAGE, "--real-mode"),
    ("-l /boot/lean --dtb=/boot/lean", exit::USAGE, "--dtb"),
    ("-l /boot/plain.cpio.gz", exit::NOT_KERNEL, "not a kernel"),
    ("--status --load", 0, ""),
];

/// The ELF kernel for the window, and for good. Quoted for a shell.
const KEEP: &str =
    "-c --load-preserve-context /boot/vmlinux --initrd=/boot/plain.cpio.gz --mem-min=0 \
                    --mem-max=0xffffff --pass-memmap-cmdline \
                    --append='console=ttyS0 panic=-1 kjump.do=back'";
const GO: &str = "-l /boot/vmlinux --initrd=/boot/plain.cpio.gz \
                  --append='console=ttyS0 panic=-1 kjump.do=iomem,poweroff'";

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    add_elf(story, &mut config)?;
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let workload = Workload::start(&mut vm, image)?;
    for (line, code, words) in LINES {
        let output = vm.run(&format!("/sbin/kexec {line}"))?;
        ensure!(
            output.rc == *code && output.text.contains(words),
            "kexec {line}: {} and \"{}\", not {code} and \"{words}\"",
            output.rc,
            output.text
        );
    }

    let before = workload.progress(&mut vm)?;
    vm.sh(&format!("/sbin/kexec {KEEP}"))?;
    for boots in [true, false] {
        let mark = vm.console.mark();
        let output = vm.run_for("/sbin/kexec -e", JUMP)?;
        ensure!(
            output.rc == 0 && output.text == "peer came back: status 0",
            "kexec -e: {} and \"{}\"",
            output.rc,
            output.text
        );
        let seen = vm.console.since(mark);
        ensure!(seen.contains("Linux version") == boots, "booted: {boots}?");
    }
    workload.healthy(&mut vm, before)?;
    goes(&mut vm).context("one way")
}

/// The same kernel instead of A, which is gone.
fn goes(vm: &mut Vm) -> Result<()> {
    vm.sh(&format!("/sbin/kexec {GO}"))?;
    let mark = vm.console.mark();
    vm.start_command("/sbin/kexec -e -x")?;
    vm.wait_for(mark, "iomem end", LONG)?;
    let seen = vm.console.since(mark);
    ensure!(seen.contains("Linux version"), "no other kernel has booted");
    ensure!(!seen.contains("kjump.handoff="), "it was given a handoff");
    vm.wait_off(LONG)
}

/// The lean kernel as an ELF, without symbols, beside the others.
fn add_elf(story: &Story, config: &mut Config) -> Result<()> {
    let (from, to) = (story.artifacts.vmlinux(Kernel::Lean), story.file("vmlinux"));
    let paths = [&from, &to].map(|path| path.display().to_string());
    elf::output("objcopy", &["--strip-all", &paths[0], &paths[1]])?;
    let more = Cpio::default().file("boot/vmlinux", &fs::read(&to)?);
    initramfs::append(story, config, "a-elf.cpio", more)
}
