// SPDX-License-Identifier: GPL-2.0

//! `demo`: the main job, shown and told. And `vm`: a machine to try things in.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::artifacts::{Artifacts, Kernel};
use crate::kjump;
use crate::story::Story;
use crate::workload::Workload;

/// A line of the narrator's.
fn tell(text: &str) {
    println!("\n== {text}");
}

/// A piece of a console, indented; at most `most` lines of it.
fn show(console: &str, most: usize) {
    let lines: Vec<_> = console
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    for line in lines.iter().take(most) {
        println!("   | {line}");
    }
    if lines.len() > most {
        println!("   | … and {} lines more", lines.len() - most);
    }
}

/// The lines with one of these in them.
fn only(console: &str, wanted: &[&str]) -> String {
    let lines = console
        .lines()
        .filter(|line| wanted.iter().any(|word| line.contains(word)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Shows it.
pub fn run() -> Result<()> {
    let artifacts = Artifacts::find()?;
    let story = Story::new(&artifacts, "demo", Duration::from_secs(600))?;
    let outcome = narrate(&story);
    if outcome.is_err() {
        println!("{}", story.logs());
    }
    outcome
}

fn narrate(story: &Story) -> Result<()> {
    tell("A machine of 256 MiB and two CPUs boots Linux: kernel A.");
    let mut config = story.config(Kernel::Full)?;
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    show(&vm.sh("uname -a; nproc; grep MemTotal /proc/meminfo")?, 5);

    tell("It has work to do: a process counts, one writes to an ext4 disk, two talk TCP.");
    kjump::insmod(&mut vm, "")?;
    let workload = Workload::start(&mut vm, image)?;
    let before = workload.progress(&mut vm)?;
    println!("   {before}");

    tell("Can this machine jump?  $ kjump doctor");
    show(&vm.run("kjump doctor")?.text, 20);

    tell("A second kernel, with its initramfs, is put beside it:  $ kjump load …");
    kjump::load_lean(&mut vm, kjump::COME_BACK)?;
    let status = kjump::status(&mut vm)?;
    let pages = kjump::number(&status, "kept_pages")?;
    println!(
        "   A keeps {} MiB for it; nothing else has changed.",
        pages * 4 / 1024
    );

    tell("A steps aside:  $ kjump jump");
    let mark = vm.console.mark();
    let jump = vm.start_command("kjump jump")?;
    vm.wait_for(mark, "Linux version", kjump::JUMP)?;
    tell("Kernel B boots in the lowest 16 MiB, which A has vacated. Its console:");
    let seen = vm.wait_for(mark, "iomem end", kjump::JUMP)?;
    show(
        &only(
            &seen,
            &[
                "Linux version",
                "Memory:",
                "kjump-init",
                "System RAM",
                "MemTotal",
            ],
        ),
        20,
    );
    let answer = vm.finish(jump, kjump::JUMP)?.ok()?;

    tell("B has gone back, and A goes on in the middle of the same system call:");
    show(&answer, 5);
    let now = workload.healthy(&mut vm, before)?;
    println!("   before: {before}");
    println!("   now:    {now}");

    tell("B is still there, in memory that A has set aside. It need not boot again:  $ kjump jump");
    let mark = vm.console.mark();
    show(&kjump::jump_and_return(&mut vm, "")?, 5);
    show(&only(&vm.console.since(mark), &["kjump-init"]), 10);
    let status = kjump::status(&mut vm)?;
    for (part, what) in [
        ("tasks", "to freeze A's tasks"),
        ("devices", "to put its devices to rest"),
        ("cpus", "to stop its other CPU"),
        ("away", "away, in B"),
        ("up", "to bring all of it up again"),
    ] {
        if let Some(time) = kjump::part(&status, part) {
            println!("   {time:8.1} ms {what}");
        }
    }
    let last = workload.healthy(&mut vm, now)?;
    println!("   now:    {last}");

    tell(
        "A ends as usual: unmount, power off; and the disk is checked, with all that was written.",
    );
    workload.end(&mut vm).context("the end")?;
    println!("   The file system is whole, every record is there.");
    Ok(())
}

/// What the interactive machine is like.
#[derive(clap::Args)]
pub struct VmOptions {
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
pub fn interactive(options: &VmOptions) -> Result<ExitCode> {
    let artifacts = Artifacts::find()?;
    let story = Story::new(&artifacts, "vm", Duration::from_secs(1))?;
    let mut config = story.config(if options.pae {
        Kernel::Pae
    } else {
        Kernel::Full
    })?;
    config.memory = options.memory;
    config.smp = options.smp;
    config.append = format!("kjump.shell {}", options.append);
    Workload::prepare(&story, &mut config)?;
    println!("In the machine, try:  kjump doctor");
    println!("  kjump load /boot/lean --initrd /boot/plain.cpio.gz --append \"console=ttyS0\"");
    println!("  kjump jump      (a shell in kernel B; there: kjump back)");
    println!("Ctrl-A X ends it. The disk /dev/vda is new, and gone afterwards.\n");
    let status = config.interactive().status().context("qemu-system-i386")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
