// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask miri`: user space's own tests under Miri, which sees what no run of a program shows:
//! a reference that is not allowed, memory that was never written, an address out of bounds.
//!
//! Miri interprets, a thousand times slower than a program runs, and makes no ioctl and no CPUID: what is run is
//! what builds and takes apart structures that `unsafe` code is behind, the project's and that of its
//! crates. It is of nightly Rust, which nothing else here needs.

use anyhow::{bail, Context, Result};

use crate::{
    artifacts,
    sh::{self, say},
};

/// What has Miri.
const TOOLCHAIN: &str = "nightly";

/// Packages, what of them is run, and which tests (all without a name). Not the image format's: it has no
/// `unsafe` code, and Miri takes hours to compress. Tests that count to a million leave themselves out.
const RUNS: &[(&str, &[&str], &[&str])] = &[
    ("kjump-core", &["--test", "roundtrip"], &[]),
    ("kjump-target", &["--lib"], &["map::", "spec::"]),
    (
        "kjump",
        &["--lib"],
        &[
            "hibernation::pages",
            "hibernation::direct",
            "hibernation::snapshot",
            "loader::elf",
            "loader::bzimage",
            "parse::",
        ],
    ),
];

/// Options of `cargo xtask miri`.
#[derive(clap::Args)]
pub struct Options {}

/// Runs the subcommand.
pub fn run(_: &Options) -> Result<()> {
    ensure()?;
    let mut failed = Vec::new();
    for (package, what, tests) in RUNS {
        say(format_args!("Miri: {package}"));
        let mut cargo = sh::command("cargo");
        cargo
            .args(["miri", "test", "--package", package])
            .args(*what);
        cargo.arg("--").args(*tests).current_dir(artifacts::repo());
        cargo.env("RUSTUP_TOOLCHAIN", TOOLCHAIN);
        // The clock and temporary files are the host's; a case of each random test is enough here.
        cargo.env("MIRIFLAGS", "-Zmiri-disable-isolation");
        cargo
            .env("PROPTEST_CASES", "1")
            .env("CARGO_TARGET_DIR", artifacts::repo().join("target/miri"));
        if let Err(error) = sh::run(&mut cargo) {
            eprintln!("{error:#}");
            failed.push(*package);
        }
    }
    if !failed.is_empty() {
        bail!("Miri: {}", failed.join(", "));
    }
    println!("Miri: nothing found");
    Ok(())
}

/// Adds Miri where it is missing.
fn ensure() -> Result<()> {
    let there = || {
        let mut cargo = sh::command("cargo");
        sh::output(
            cargo
                .args(["miri", "--version"])
                .env("RUSTUP_TOOLCHAIN", TOOLCHAIN),
        )
        .is_ok()
    };
    if there() {
        return Ok(());
    }
    say(format_args!("installing Miri, of {TOOLCHAIN} Rust"));
    let mut rustup = sh::command("rustup");
    rustup.args(["toolchain", "install", TOOLCHAIN, "--profile", "minimal"]);
    rustup.args(["--component", "miri", "--component", "rust-src"]);
    let installed = sh::output(&mut rustup);
    installed.context("a nightly Rust with Miri, for `cargo xtask miri` alone")?;
    if !there() {
        bail!("Miri was installed, but does not run: try `cargo +{TOOLCHAIN} miri --version`");
    }
    Ok(())
}
