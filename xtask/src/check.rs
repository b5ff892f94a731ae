// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask check`: formatting and lints. All of it runs, then the failures are told.

use std::{path::PathBuf, process::Command};

use anyhow::{bail, Result};

use crate::{artifacts, ffi, setup, sh, tools};

/// Options of `cargo xtask check`.
#[derive(clap::Args)]
pub struct Options {}

/// Runs the subcommand.
pub fn run(_: &Options) -> Result<()> {
    setup::ensure()?;
    let cargo = |args: &[&str]| tool("cargo", args);
    let mut module = tool("rustfmt", &["--check", "--edition", "2021"])?;
    module.args(module_sources()?);
    let clippy = [
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    let of_fuzz = |arguments: &[&str]| {
        let mut command = cargo(arguments)?;
        command.current_dir(artifacts::repo().join("userspace/fuzz"));
        Ok::<_, anyhow::Error>(command)
    };
    let fuzz_clippy = [
        "clippy",
        "--quiet",
        "--locked",
        "--target-dir",
        "../../target/fuzz",
        "--",
        "-D",
        "warnings",
    ];
    let steps = [
        (
            "formatting of the workspace",
            cargo(&["fmt", "--all", "--check"])?,
        ),
        ("formatting of the module", module),
        (
            "formatting of the fuzz targets",
            of_fuzz(&["fmt", "--check"])?,
        ),
        ("clippy", cargo(&clippy)?),
        ("clippy of the fuzz targets", of_fuzz(&fuzz_clippy)?),
    ];
    let mut failed = Vec::new();
    for (what, mut command) in steps {
        if let Err(error) = sh::run(&mut command) {
            eprintln!("{error:#}");
            failed.push(what);
        }
    }
    if !failed.is_empty() {
        bail!("check: {}", failed.join(", "));
    }
    println!("check: formatting and clippy are clean");
    Ok(())
}

/// A program of the pinned toolchain.
fn tool(program: &str, args: &[&str]) -> Result<Command> {
    let mut command = sh::command(program);
    command.args(args).current_dir(artifacts::repo());
    command.env("RUSTUP_TOOLCHAIN", tools::channel()?);
    Ok(command)
}

/// What the module is made of; cargo does not know these files.
fn module_sources() -> Result<Vec<PathBuf>> {
    let repo = artifacts::repo();
    let mut files = vec![repo.join("userspace/abi/src/uapi.rs")];
    ffi::files_in(&repo.join("kmod"), "rs", &mut files)?;
    ffi::files_in(&repo.join("arch"), "rs", &mut files)?;
    Ok(files)
}
