// SPDX-License-Identifier: GPL-2.0

//! `qemu-tests`: kjump's tests in virtual machines, its benchmark, its demo, and a machine to
//! play with. Run through `cargo xtask test|bench|demo|vm`, which builds what the guests need.

mod agent;
mod artifacts;
mod bench;
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
mod machine;
mod old;
mod pairs;
mod peer;
mod qmp;
mod runner;
mod shell;
mod story;
mod swsusp;
mod tests;
mod text;
mod tools;
mod vm;
mod work;
mod workload;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// kjump's tests, benchmark and demo, in QEMU.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    tests: runner::Options,
}

#[derive(Subcommand)]
enum What {
    /// Prints the figures.
    Bench(bench::Options),
    /// Shows a machine that hibernates and goes on, narrated.
    Demo(demo::Options),
    /// A machine on this terminal, with kjump loaded (leave with Ctrl-A X).
    Vm(interactive::Options),
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    match cli.what {
        None => runner::run(&cli.tests),
        Some(What::Bench(options)) => bench::run(&options).map(|()| ExitCode::SUCCESS),
        Some(What::Demo(options)) => demo::run(&options).map(|()| ExitCode::SUCCESS),
        Some(What::Vm(options)) => interactive::run(&options),
    }
}
