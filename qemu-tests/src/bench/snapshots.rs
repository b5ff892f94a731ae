// SPDX-License-Identifier: GPL-2.0

//! Snapshots: how long one takes with so much memory in use, how long one of what has changed since, and
//! how long it takes to go back. Times by the host's clock, from the command to its return.

use std::time::Instant;

use anyhow::{ensure, Context, Result};

use super::figures::{self, Figure};
use super::{row, Options};
use crate::artifacts::Kernel;
use crate::disk;
use crate::ending::Waiting;
use crate::hibernation::LONG;
use crate::initramfs::Purpose;
use crate::kjump;
use crate::story::Story;
use crate::vm::Vm;

/// What is measured, in this order.
const STEPS: [&str; 7] = [
    "memory in use, MiB",
    "first, the peer boots, s",
    "whole, s",
    "1 % changed, s",
    "10 % changed, s",
    "back to the whole one, s",
    "back through its base, s",
];
/// The images, MiB.
const IMAGES: [&str; 3] = ["whole, MiB", "1 % changed, MiB", "10 % changed, MiB"];

/// A snapshot that was taken.
struct Taken {
    seconds: f64,
    bytes: u64,
    waiting: Waiting,
}

/// Measures, and prints the figures.
pub fn run(story: &Story, options: &Options) -> Result<()> {
    let mut columns = Vec::new();
    for &fill in &options.fill {
        eprintln!("bench: snapshots at {fill} %");
        columns.push(one(story, options, fill).with_context(|| format!("{fill} %"))?);
    }
    for (&fill, (steps, images)) in options.fill.iter().zip(&columns) {
        let steps = STEPS.iter().zip(steps);
        for (title, value) in steps.chain(IMAGES.iter().zip(images)) {
            let (what, unit) = title.rsplit_once(", ").unwrap_or((title, ""));
            figures::note(Figure::once("snapshots", what, "kjump", unit, *value).at(fill));
        }
    }
    println!();
    println!(
        "snapshots of a machine of {} MiB with {} CPUs; a ramfs holds so much noise, per cent of MemTotal",
        options.memory, options.smp
    );
    row("", options.fill.iter().map(|fill| format!("{fill} %")));
    for (number, title) in STEPS.iter().enumerate() {
        row(title, columns.iter().map(|c| format!("{:.2}", c.0[number])));
    }
    for (number, title) in IMAGES.iter().enumerate() {
        row(title, columns.iter().map(|c| format!("{:.1}", c.1[number])));
    }
    Ok(())
}

/// A machine at one fill: seconds, and MiB of the images.
fn one(story: &Story, options: &Options, fill: u32) -> Result<([f64; 7], [f64; 3])> {
    let mut config = story.config_for(Kernel::Full, Purpose::Small)?;
    (config.memory, config.smp) = (options.memory, options.smp);
    for name in ["whole.img", "some.img", "more.img"] {
        let image = story.file(&format!("{fill}-{name}"));
        disk::empty(&image, u64::from(options.memory) + 128)?;
        config.disks.push(image.into());
    }
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    vm.sh("mkdir /run/fill; mount -t ramfs none /run/fill")?;
    let command = format!("guest ramfill {fill} 1 /run/fill");
    let filled = vm.run_for(&command, LONG)?.ok()?;
    let pages: u64 = filled.split_whitespace().nth(1).context("pages")?.parse()?;

    let first = take(&mut vm, "/dev/vda")?;
    let whole = take(&mut vm, "/dev/vda")?;
    let in_use = pages_of(&mut vm)? * 4096;
    change(&mut vm, pages / 100, 0)?;
    let some = take(&mut vm, "/dev/vdb --base /dev/vda")?;
    change(&mut vm, pages / 10, pages / 2)?;
    let more = take(&mut vm, "/dev/vdc --base /dev/vda")?;
    let back = [
        rollback(&mut vm, "/dev/vda", &whole.waiting)?,
        rollback(&mut vm, "/dev/vdc", &more.waiting)?,
    ];
    vm.power_off()?;
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let times = [
        mebibytes(in_use),
        first.seconds,
        whole.seconds,
        some.seconds,
        more.seconds,
        back[0],
        back[1],
    ];
    Ok((times, [&whole, &some, &more].map(|t| mebibytes(t.bytes))))
}

/// Takes a snapshot.
fn take(vm: &mut Vm, what: &str) -> Result<Taken> {
    let started = Instant::now();
    let running = vm.start_command(&format!("kjump snapshot {what}"))?;
    let waiting = vm.waiting(running);
    let said = vm.finish(running, LONG)?.ok()?;
    let seconds = started.elapsed().as_secs_f64();
    let bytes = said.split(" pages in ").nth(1);
    let bytes = bytes.and_then(|rest| rest.split_whitespace().next());
    let bytes = bytes.with_context(|| said.clone())?.parse()?;
    Ok(Taken {
        seconds,
        bytes,
        waiting,
    })
}

/// Pages in the image on `/dev/vda`.
fn pages_of(vm: &mut Vm) -> Result<u64> {
    let said = vm.sh("kjump image inspect --json /dev/vda")?;
    let inspected: serde_json::Value = serde_json::from_str(&said)?;
    inspected["pages"].as_u64().context("no pages")
}

/// Writes other noise over so many pages of what fills the memory, from page `at` on.
fn change(vm: &mut Vm, pages: u64, at: u64) -> Result<()> {
    // A file has 4096 pages.
    let (mut at, end) = (at, at + pages);
    while at < end {
        let (file, inside) = (at / 4096, at % 4096);
        let count = (4096 - inside).min(end - at);
        let line = format!(
            "dd if=/dev/urandom of=/run/fill/fill-{file:05} bs=4k seek={inside} count={count} conv=notrunc 2>/dev/null"
        );
        ensure!(vm.run_for(&line, LONG)?.rc == 0, "{line}");
        at += count;
    }
    Ok(())
}

/// Goes back; seconds from the command until the one of then has returned once more. The peer was
/// resident at the first; for the second it is loaded and booted anew.
fn rollback(vm: &mut Vm, what: &str, then: &Waiting) -> Result<f64> {
    let started = Instant::now();
    let running = vm.start_command(&format!("kjump rollback {what}"))?;
    let said = vm.wait_back(running, then, LONG)?.ok()?;
    ensure!(said.contains("rolled back"), "{said}");
    Ok(started.elapsed().as_secs_f64())
}
