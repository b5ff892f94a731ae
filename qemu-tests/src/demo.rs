// SPDX-License-Identifier: GPL-2.0

//! `demo`: the main job, shown and told: a busy machine hibernates through another kernel, is
//! switched off and on again, and goes on. With `--jump`, what it is built on: stepping aside and
//! coming back.

use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};

use crate::artifacts::{Artifacts, Kernel};
use crate::disk;
use crate::hibernation::{self, Mode, Way};
use crate::initramfs::Purpose;
use crate::kjump;
use crate::story::Story;
use crate::work::Work;
use crate::workload::Workload;

/// What is shown.
#[derive(clap::Args)]
pub struct Options {
    /// A machine that steps aside for another kernel and comes back, without a power cycle
    #[arg(long)]
    jump: bool,
}

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
pub fn run(options: &Options) -> Result<()> {
    let artifacts = Artifacts::find()?;
    let story = Story::new(&artifacts, "demo", Duration::from_secs(600))?;
    let outcome = if options.jump {
        jump(&story)
    } else {
        hibernate(&story)
    };
    if outcome.is_err() {
        println!("{}", story.logs());
    }
    outcome
}

/// The last picture of a bar that was drawn over and over on a console.
fn last_bar<'a>(console: &'a str, verb: &str) -> &'a str {
    let at = console.rfind(verb).unwrap_or(console.len());
    console[at..].lines().next().unwrap_or_default()
}

/// The whole cycle.
fn hibernate(story: &Story) -> Result<()> {
    tell("A machine of 256 MiB and two CPUs boots Linux: kernel A.");
    let mut config = story.config_for(Kernel::Full, Purpose::Hibernation)?;
    let image = Work::prepare(story, &mut config)?;
    let target = story.file("target.img");
    disk::empty(&target, 320)?;
    config.disks.push(target.into());
    let mut vm = story.boot("A", &config)?;
    show(&vm.sh("uname -a; nproc; grep MemTotal /proc/meminfo")?, 5);

    tell("It has work to do: a process counts, one writes to an ext4 disk, two talk TCP,");
    println!("   SQLite commits transactions, and a tmpfs is full of data.");
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, image)?;

    tell("To most of its memory there is no copy anywhere, and nothing could make it smaller:");
    vm.sh("mkdir -p /run/noise; mount -t ramfs ramfs /run/noise")?;
    show(&vm.sh("guest ramfill 60 1 /run/noise")?, 1);
    println!("   The kernel's own hibernation needs half of memory free, and would give up.");
    let before = work.reached(&mut vm)?;
    println!("   {before}");

    tell("Hibernate:  $ kjump hibernate --target /dev/vdb");
    let started = Instant::now();
    let asleep = hibernation::hibernate(&mut vm, "/dev/vdb", Mode::Poweroff)?;
    drop(vm);
    println!("   Kernel B boots in the lowest 16 MiB, which A has vacated, and saves the rest:");
    let told = [
        "Linux version",
        "Memory:",
        "kjump-init: Linux",
        "kjump-init: saved",
    ];
    show(&only(&asleep.console, &told), 6);
    show(last_bar(&asleep.console, "saving"), 1);
    let seconds = started.elapsed().as_secs_f32();
    tell(&format!(
        "The machine has switched itself off, {seconds:.0} s after the command. QEMU is gone."
    ));

    tell("It is switched on again. The bootloader starts a small kernel, C, in 16 MiB:");
    let started = Instant::now();
    let words = "kjump.resume=/dev/vdb";
    let config = hibernation::again(story, &config, Way::Bootloader, words);
    let (mut vm, output) = hibernation::resume(story, "A, resumed", &config, &asleep)?;
    let seconds = started.elapsed().as_secs_f32();
    let console = vm.console.since(0);
    show(&only(&console, &told), 6);
    show(last_bar(&console, "restoring"), 1);

    tell(&format!(
        "{seconds:.0} s after power on A goes on, in the middle of `kjump hibernate`:"
    ));
    show(&output.text, 10);
    let now = work.healthy(&mut vm, before)?;
    println!("   before: {before}");
    println!("   now:    {now}");
    let good = vm.sh("guest ramcheck 1 /run/noise")?;
    ensure!(good.starts_with("good"), "{good}");
    println!("   Every process lives, the database is whole, every byte in memory is what it was.");

    tell(
        "A ends as usual: unmount, power off; and the disk is checked, with all that was written.",
    );
    work.end(&mut vm).context("the end")?;
    println!("   The file system is whole, every record is there.");
    Ok(())
}

/// Stepping aside.
fn jump(story: &Story) -> Result<()> {
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
