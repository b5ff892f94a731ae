// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask bench`, `demo` and `vm`: build, then hand over to the `qemu-tests` program, which
//! knows how to run guests.

use std::{ffi::OsString, process::Command};

use anyhow::Result;

use crate::{
    artifacts::{self, Kernel},
    build, sh, tools,
};

/// Options of `cargo xtask bench`, `demo` and `vm`.
#[derive(clap::Args)]
pub struct Options {
    /// Handed on to `qemu-tests`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// Builds all, then runs `qemu-tests NAME`.
pub fn run(name: &str, options: &Options) -> Result<()> {
    build::build(&Kernel::ALL)?;
    sh::run(qemu_tests()?.arg(name).args(&options.args))
}

/// The `qemu-tests` program, through cargo.
pub fn qemu_tests() -> Result<Command> {
    let mut cargo = sh::command("cargo");
    cargo.args([
        "run",
        "--quiet",
        "--release",
        "--package",
        "qemu-tests",
        "--",
    ]);
    cargo
        .current_dir(artifacts::repo())
        .env("RUSTUP_TOOLCHAIN", tools::channel()?);
    Ok(cargo)
}
