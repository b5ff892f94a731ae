// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask setup`: installs what the build and the tests need and the machine lacks. Every
//! other subcommand calls it first; with nothing missing it is silent and quick.

use std::path::PathBuf;

use anyhow::{bail, Context, Result};

use crate::{
    sh::{self, say},
    tools,
};

/// Debian packages and, after each, why.
const PACKAGES: &[&str] = &[
    "bc",              // kernel: timeconst.h
    "bison",           // kernel: kconfig
    "btrfs-progs",     // tests: disk images
    "dosfstools",      // tests: disk images
    "e2fsprogs",       // tests: disk images
    "flex",            // kernel: kconfig
    "g++",             // libFuzzer
    "gcc",             // kernel; the host's linker
    "gdb",             // tests: cores
    "libc6-dev",       // the host's programs
    "libclang-19-dev", // bindgen
    "lz4",             // the peer's kernel's compressed image
    "make",            // kernel
    "mtools",          // tests: files on FAT images
    "patch",           // the kernel's Rust patch
    "qemu-system-x86", // tests
    "util-linux",      // tests: mkswap
    "xfsprogs",        // tests: disk images
    "xz-utils",        // the kernel's source and the others' images
];

/// rustup's components beside the minimal profile.
const COMPONENTS: &[&str] = &["rust-src", "rustfmt", "clippy"];

/// What the command and the guests' programs are compiled for.
pub const GUEST_TARGET: &str = "i686-unknown-linux-musl";

/// Options of `cargo xtask setup`.
#[derive(clap::Args)]
pub struct Options {}

/// Runs the subcommand.
pub fn run(_: &Options) -> Result<()> {
    ensure()
}

/// Installs what is missing.
pub fn ensure() -> Result<()> {
    packages()?;
    toolchain()?;
    bindgen()
}

/// Installs Debian packages as root; otherwise says how.
fn packages() -> Result<()> {
    let missing = missing_packages()?;
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(" ");
    if sh::output(sh::command("id").arg("-u"))?.trim() != "0" {
        bail!(
            "Debian packages are missing; install them and try again:\n    \
             sudo apt-get install -y --no-install-recommends {missing}"
        );
    }
    say(format_args!("installing Debian packages: {missing}"));
    let install = || {
        let mut apt = sh::command("apt-get");
        apt.args(["install", "-y", "-q", "--no-install-recommends"]);
        apt.args(missing.split(' '))
            .env("DEBIAN_FRONTEND", "noninteractive");
        sh::output(&mut apt)
    };
    // With lists of yesterday or none at all the first attempt fails.
    if install().is_err() {
        say("updating the package lists");
        sh::output(sh::command("apt-get").args(["update", "-q"]))?;
        install()?;
    }
    Ok(())
}

/// Those of [`PACKAGES`] that dpkg does not list as installed.
fn missing_packages() -> Result<Vec<&'static str>> {
    let mut query = sh::command("dpkg-query");
    query
        .args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .args(PACKAGES);
    // The exit code only says that some package is unknown.
    let out = query.output().context(
        "no dpkg: kjump's test kernels and their tools come from Debian packages (Debian 12 or \
         newer)",
    )?;
    let known = String::from_utf8_lossy(&out.stdout);
    let installed = |name: &str| known.lines().any(|l| l == format!("{name} installed"));
    Ok(PACKAGES
        .iter()
        .copied()
        .filter(|name| !installed(name))
        .collect())
}

/// Adds the pinned toolchain's components and target. `RUSTUP_AUTO_INSTALL=0` may be set, so
/// rust-toolchain.toml alone adds nothing.
fn toolchain() -> Result<()> {
    let channel = tools::channel()?;
    let sysroot = || {
        let mut rustc = sh::command("rustc");
        rustc
            .args(["--print", "sysroot"])
            .env("RUSTUP_TOOLCHAIN", &channel);
        Ok::<_, anyhow::Error>(PathBuf::from(sh::output(&mut rustc)?.trim()))
    };
    let rustup = |args: &[&str]| {
        let mut rustup = sh::command("rustup");
        rustup.args(args).args(["--toolchain", &channel]);
        sh::output(&mut rustup)
            .map(drop)
            .context("the Rust toolchain is managed by rustup")
    };
    let root = match sysroot() {
        Ok(root) => root,
        Err(_) => {
            say(format_args!("installing Rust {channel}"));
            let mut rustup = sh::command("rustup");
            sh::output(rustup.args(["toolchain", "install", "--profile", "minimal", &channel]))?;
            sysroot()?
        }
    };
    let file_of = |component: &str| match component {
        "rust-src" => "lib/rustlib/src/rust/library/core/src/lib.rs",
        "rustfmt" => "bin/rustfmt",
        _ => "bin/cargo-clippy",
    };
    for component in COMPONENTS
        .iter()
        .filter(|c| !root.join(file_of(c)).exists())
    {
        say(format_args!("adding {component} to Rust {channel}"));
        rustup(&["component", "add", component])?;
    }
    if !root
        .join("lib/rustlib")
        .join(GUEST_TARGET)
        .join("lib")
        .exists()
    {
        say(format_args!(
            "adding target {GUEST_TARGET} to Rust {channel}"
        ));
        rustup(&["target", "add", GUEST_TARGET])?;
    }
    Ok(())
}

/// Installs bindgen into the cache, where it is in nobody's way.
fn bindgen() -> Result<()> {
    if tools::bindgen()?.is_some() {
        return Ok(());
    }
    let version = tools::BINDGEN_VERSION;
    say(format_args!("installing bindgen {version} (a minute)"));
    let mut cargo = sh::command("cargo");
    cargo.args([
        "install",
        "bindgen-cli",
        "--version",
        version,
        "--locked",
        "--quiet",
        "--root",
    ]);
    cargo
        .arg(tools::bindgen_root()?)
        .env("RUSTUP_TOOLCHAIN", tools::channel()?);
    sh::output(&mut cargo)?;
    tools::bindgen()?.context("bindgen was installed, but does not run")?;
    Ok(())
}
