// SPDX-License-Identifier: GPL-2.0

//! Switches between kernels that have booted: kjump's, and mainline's `kexec -e` between the same two
//! kernels, which on i386 works with kjump's helper in B only. What is timed is the command in A, from
//! outside: mainline keeps no time stamps.

use std::time::Instant;

use anyhow::{ensure, Result};

use super::figures::{self, Figure};
use super::jumps::median;
use super::{row, Options};
use crate::artifacts::Kernel;
use crate::kjump::{self, JUMP};
use crate::story::Story;
use crate::tests::interop::files;
use crate::vm::Vm;

/// The name in [`figures`] of a switch there and back.
pub const SWITCH: &str = "switch";
/// Columns: kjump at both ends, and mainline with no module in A.
pub const OURS: &str = "kjump";
/// See [`OURS`].
pub const MAINLINE: &str = "mainline";

/// Switches of each kind.
const SWITCHES: usize = 200;

/// Between whom, and what one types for it: to load B, and to go there.
struct Kind {
    title: &'static str,
    module: bool,
    load: &'static str,
    go: &'static str,
    /// `kexec -e` of kexec-tools takes it for a failure that it comes back.
    code: i32,
}

const KINDS: [Kind; 3] = [
    Kind {
        title: OURS,
        module: true,
        load: "kjump load /boot/lean --window 32M --initrd /boot/plain.cpio.gz \
               --append 'console=ttyS0 panic=-1 kjump.do=back'",
        go: "kjump jump",
        code: 0,
    },
    Kind {
        title: "kjump, B mainline",
        module: true,
        load: "kjump load /boot/lean --window 32M --initrd /boot/bare.cpio.gz \
               --append 'console=ttyS0 panic=-1 kjump.do=back'",
        go: "kjump jump",
        code: 0,
    },
    Kind {
        title: MAINLINE,
        module: false,
        load: "/bin/kexec -c --load-preserve-context /boot/lean --initrd=/boot/bare.cpio.gz \
               --mem-min=0 --mem-max=0x1ffffff --pass-memmap-cmdline \
               --append='console=ttyS0 panic=-1 kjump.do=back'",
        go: "/bin/kexec -e",
        code: 255,
    },
];

/// Measures, and prints the figures.
pub fn run(story: &Story, options: &Options) -> Result<()> {
    let mut columns = Vec::new();
    for kind in &KINDS {
        eprintln!("bench: switches: {}", kind.title);
        columns.push(measure(story, options, kind)?);
    }
    for (kind, samples) in KINDS.iter().zip(&columns) {
        figures::note(Figure {
            part: "switches",
            what: SWITCH.into(),
            means: kind.title.into(),
            fill: None,
            unit: "ms",
            samples: samples.clone(),
        });
    }
    println!();
    println!(
        "QEMU TCG, {} CPUs, {} MiB; A is full, B is lean in 32 MiB and has booted; milliseconds",
        options.smp, options.memory
    );
    println!("from the command in A to its end, {SWITCHES} switches there and back of each kind");
    println!();
    row("", KINDS.iter().map(|kind| kind.title.into()));
    let show = |value: Option<f64>| value.map_or_else(|| "-".into(), |ms| format!("{ms:.0}"));
    row("median", columns.iter().map(|c| show(median(c.clone()))));
    let least = |c: &Vec<f64>| show(c.iter().copied().reduce(f64::min));
    row("least", columns.iter().map(least));
    println!();
    println!("mainline: kexec-tools' `kexec -e` in A; no PM notifiers, no sync, no kernel threads");
    println!("frozen. B goes back by kjump's helper in both columns on the right.");
    Ok(())
}

fn measure(story: &Story, options: &Options, kind: &Kind) -> Result<Vec<f64>> {
    let mut config = story.config(Kernel::Full)?;
    config.memory = options.memory;
    config.smp = options.smp;
    files::add(story, &mut config)?;
    let mut vm = story.boot(kind.title, &config)?;
    if kind.module {
        kjump::insmod(&mut vm, "")?;
    }
    vm.sh(kind.load)?;
    // The boot of a B without crash notes, see the interop tests.
    story.expect_trouble(vm.console.mark());
    switch(&mut vm, kind)?;
    story.trouble_is_over();
    let mark = vm.console.mark();
    let times: Result<Vec<f64>> = (0..SWITCHES).map(|_| switch(&mut vm, kind)).collect();
    ensure!(
        !vm.console.since(mark).contains("Linux version"),
        "{}: B has booted again",
        kind.title
    );
    times
}

/// There and back once; milliseconds.
fn switch(vm: &mut Vm, kind: &Kind) -> Result<f64> {
    let start = Instant::now();
    let output = vm.run_for(kind.go, JUMP)?;
    let time = start.elapsed().as_secs_f64() * 1e3;
    ensure!(
        output.rc == kind.code,
        "{}: {} and \"{}\"",
        kind.go,
        output.rc,
        output.text
    );
    Ok(time)
}
