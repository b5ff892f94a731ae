// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask`: everything that is done with this repository, one subcommand each.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::{build, check, ffi, fuzz, guest, miri, setup, soak, test};

/// Builds, tests and shows kjump
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing (the other subcommands do so by themselves)
    Setup(setup::Options),
    /// Build kernels, modules, programs and the peer's initramfs into build/i386/
    Build(build::Options),
    /// Run all tests, or those named
    Test(test::Options),
    /// Check that no function between Rust and C has a parameter that i386 passes differently
    FfiCheck(ffi::Options),
    /// Check formatting and lints
    Check(check::Options),
    /// Try everything that reads what it did not write with anything
    Fuzz(fuzz::Options),
    /// Run user space's own tests under Miri
    Miri(miri::Options),
    /// Print the tables of figures
    Bench(guest::Options),
    /// Show the main job in QEMU, narrated
    Demo(guest::Options),
    /// Let machines jump, hibernate and go back in time for hours, every byte checked
    Soak(soak::Options),
    /// Start an interactive guest; Ctrl-A X ends it
    Vm(guest::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup(options) => setup::run(&options),
        Command::Build(options) => build::run(&options),
        Command::Test(options) => test::run(&options),
        Command::FfiCheck(options) => ffi::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Miri(options) => miri::run(&options),
        Command::Bench(options) => guest::run("bench", &options),
        Command::Demo(options) => guest::run("demo", &options),
        Command::Soak(options) => soak::run(&options),
        Command::Vm(options) => guest::run("vm", &options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
