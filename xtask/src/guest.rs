// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask bench`, `demo` and `vm`: build, then hand over to the `qemu-tests` program, which
//! knows how to run guests.

use std::{ffi::OsString, process::Command};

use anyhow::Result;

use crate::{
    artifacts::{self, Kernel},
    build, sh, tools,
};

/// Options of `cargo xtask bench` and `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Options {
    /// Handed on to `qemu-tests`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// Options of `cargo xtask vm`.
#[derive(clap::Args)]
pub struct VmOptions {
    /// The kernel to boot
    #[arg(long, value_enum, default_value = "full")]
    kernel: Kernel,
    /// More arguments for QEMU
    #[arg(last = true)]
    qemu: Vec<OsString>,
}

/// Builds all, then runs `qemu-tests NAME`.
pub fn run(name: &str, options: &Options) -> Result<()> {
    build::build(&Kernel::ALL)?;
    sh::run(qemu_tests()?.arg(name).args(&options.args))
}

/// Builds all, then starts an interactive guest; Ctrl-A x ends it.
pub fn vm(options: &VmOptions) -> Result<()> {
    build::build(&Kernel::ALL)?;
    let mut vm = qemu_tests()?;
    vm.args(["vm", "--kernel", options.kernel.name()]);
    sh::run(vm.arg("--").args(&options.qemu))
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
