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
/// Columns: kjump at both ends, also with memory of B's own, and mainline with no module in A.
pub const OURS: &str = "kjump";
/// See [`OURS`].
pub const OWN: &str = "kjump, own window";
/// See [`OURS`].
pub const MAINLINE: &str = "mainline";

/// Between whom, and what one types for it: to load B, and to go there.
struct Kind {
    title: &'static str,
    module: bool,
    load: &'static str,
    go: &'static str,
    /// `kexec -e` of kexec-tools takes it for a failure that it comes back.
    code: i32,
}

static KINDS: [Kind; 4] = [
    Kind {
        title: OURS,
        module: true,
        load: "kjump load /boot/lean --window 32M --initrd /boot/plain.cpio.gz \
               --append 'console=ttyS0 panic=-1 kjump.do=back'",
        go: "kjump jump",
        code: 0,
    },
    Kind {
        title: OWN,
        module: true,
        load: "kjump load /boot/lean --own-window=32M --initrd /boot/plain.cpio.gz \
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
    // A machine for each kind, as a module that is there is part of what is measured; one switches at a time.
    let mut machines = Vec::new();
    for kind in &KINDS {
        eprintln!("bench: switches: {} boots", kind.title);
        machines.push(Machine::new(story, options, kind)?);
    }
    let mut columns = vec![Vec::new(); KINDS.len()];
    for round in 1..=options.switches {
        if round % 20 == 0 {
            eprintln!("bench: switches: round {round} of {}", options.switches);
        }
        for (machine, times) in machines.iter_mut().zip(&mut columns) {
            times.push(machine.switch()?);
        }
    }
    machines.iter().try_for_each(Machine::check)?;
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
    println!(
        "from the command in A to its end, {} switches there and back of each kind",
        options.switches
    );
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

/// A machine whose B has booted.
struct Machine {
    vm: Vm,
    kind: &'static Kind,
    /// Where the console was when B had booted.
    mark: usize,
}

impl Machine {
    fn new(story: &Story, options: &Options, kind: &'static Kind) -> Result<Self> {
        let mut config = story.config(Kernel::Full)?;
        config.memory = options.memory;
        config.smp = options.smp;
        files::add(story, &mut config)?;
        let mut vm = story.boot(kind.title, &config)?;
        if kind.module {
            kjump::insmod(&mut vm, "")?;
        }
        vm.sh(kind.load)?;
        let mark = vm.console.mark();
        let mut machine = Self { vm, kind, mark };
        // The boot of a B without crash notes, see the interop tests.
        story.expect_trouble(mark);
        machine.switch()?;
        story.trouble_is_over();
        machine.mark = machine.vm.console.mark();
        Ok(machine)
    }

    /// There and back once; milliseconds.
    fn switch(&mut self) -> Result<f64> {
        let kind = self.kind;
        let start = Instant::now();
        let output = self.vm.run_for(kind.go, JUMP)?;
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

    /// It was the same B each time.
    fn check(&self) -> Result<()> {
        ensure!(
            !self.vm.console.since(self.mark).contains("Linux version"),
            "{}: B has booted again",
            self.kind.title
        );
        Ok(())
    }
}
