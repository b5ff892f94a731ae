// SPDX-License-Identifier: GPL-2.0

//! `qemu-tests`: kjump's tests in virtual machines, its benchmark, its demo, and a machine to
//! play with. Run through `cargo xtask test|bench|demo|vm`, which builds what the guests need.

mod agent;
mod artifacts;
mod bench;
#[path = "../guest/src/blocks.rs"]
mod blocks;
mod chance;
mod console;
mod cpio;
mod database;
mod demo;
mod disk;
mod drive;
mod elf;
mod ending;
mod gdb;
mod hibernation;
mod initramfs;
mod interactive;
mod kdump;
mod kjump;
mod lan;
mod machine;
mod old;
mod pairs;
mod pattern;
mod peer;
mod qmp;
mod runner;
mod shell;
mod smp_peer;
mod snapshots;
mod soak;
mod story;
mod stub;
mod swsusp;
mod tally;
mod tests;
mod text;
mod tools;
mod vm;
mod work;
mod workload;
mod writes;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::artifacts::{Artifacts, Flavour};

/// kjump's tests, benchmark and demo, in QEMU.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    tests: runner::Options,
    /// Which kernel is A in the tests and in `soak`
    #[arg(long, value_enum, default_value_t, global = true)]
    kernel: Flavour,
}

#[derive(Subcommand)]
enum What {
    /// Prints the figures.
    Bench(bench::Options),
    /// Shows a machine that hibernates and goes on, narrated.
    Demo(demo::Options),
    /// Machines at random, for hours, every byte checked.
    Soak(soak::Options),
    /// A machine on this terminal, with kjump loaded (leave with Ctrl-A X).
    Vm(interactive::Options),
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let artifacts = || Ok::<_, anyhow::Error>(Artifacts::find()?.flavour(cli.kernel));
    match cli.what {
        None => runner::run(&artifacts()?, &cli.tests),
        Some(What::Soak(options)) => soak::run(&artifacts()?, &options),
        Some(What::Bench(options)) => bench::run(&options).map(|()| ExitCode::SUCCESS),
        Some(What::Demo(options)) => demo::run(&options).map(|()| ExitCode::SUCCESS),
        Some(What::Vm(options)) => interactive::run(&options),
    }
}
