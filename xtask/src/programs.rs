// SPDX-License-Identifier: GPL-2.0

//! Builds what runs in user space of the guests: the command and the tests' own programs, static
//! for i686.

use std::{path::PathBuf, process::Stdio};

use anyhow::{bail, Context, Result};

use crate::{artifacts, setup::GUEST_TARGET, sh, tools};

/// Builds both and puts them into `build/i386/`.
pub fn build() -> Result<()> {
    for program in cargo_build("kjump")? {
        if program.file_name().is_some_and(|name| name == "kjump") {
            sh::copy(&program, &artifacts::kjump())?;
        }
    }
    for program in cargo_build("qemu-tests-guest")? {
        let name = program.file_name().context("no file name")?;
        sh::copy(&program, &artifacts::guest_programs().join(name))?;
    }
    Ok(())
}

/// Builds a package's programs and returns their paths.
fn cargo_build(package: &str) -> Result<Vec<PathBuf>> {
    let mut cargo = sh::command("cargo");
    cargo.args([
        "build",
        "--quiet",
        "--release",
        "--bins",
        "--target",
        GUEST_TARGET,
    ]);
    cargo.args([
        "--package",
        package,
        "--message-format",
        "json-render-diagnostics",
    ]);
    // A standard library without the code that names functions in backtraces, which is a seventh of the
    // command: it lies in a peer's memory, of which there is little.
    cargo.args([
        "-Zbuild-std=std,panic_abort",
        "-Zbuild-std-features=optimize_for_size",
    ]);
    cargo
        .current_dir(artifacts::repo())
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTUP_TOOLCHAIN", tools::channel()?);
    let out = cargo
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !out.status.success() {
        bail!("`{}` failed ({})", sh::describe(&cargo), out.status);
    }
    let mut programs = Vec::new();
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let message: serde_json::Value =
            serde_json::from_str(line).context("cannot read cargo's output")?;
        programs.extend(message["executable"].as_str().map(PathBuf::from));
    }
    Ok(programs)
}
