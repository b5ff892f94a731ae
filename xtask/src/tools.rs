// SPDX-License-Identifier: GPL-2.0

//! The compilers and generators that kernels and module are built with, and their versions.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result};

use crate::{artifacts, sh};

/// The bindgen that works with Linux 7.3 on i386 and libclang 19.
pub const BINDGEN_VERSION: &str = "0.72.1";

/// libclang 19: bindgen with libclang 22 makes structs opaque that the kernel crate looks into.
pub const LIBCLANG_PATH: &str = "/usr/lib/llvm-19/lib";

/// The channel that `rust-toolchain.toml` pins.
pub fn channel() -> Result<String> {
    let file = artifacts::repo().join("rust-toolchain.toml");
    value(&sh::read(&file)?, "channel")
        .with_context(|| format!("{} has no line `channel = \"…\"`", file.display()))
}

/// The string value of the line `key = "…"`.
fn value(toml: &str, key: &str) -> Option<String> {
    toml.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let value = value.trim().strip_prefix('"')?.split('"').next()?;
        (name.trim() == key).then(|| value.to_owned())
    })
}

/// Where `setup` installs bindgen if the user has none of the right version.
pub fn bindgen_root() -> Result<PathBuf> {
    Ok(artifacts::cache()?.join(format!("tools/bindgen-{BINDGEN_VERSION}")))
}

/// A bindgen of the right version: `setup`'s own, or the user's.
pub fn bindgen() -> Result<Option<PathBuf>> {
    let right = |path: &PathBuf| {
        sh::output(sh::command(path).arg("--version"))
            .is_ok_and(|v| v.split_whitespace().nth(1) == Some(BINDGEN_VERSION))
    };
    Ok([bindgen_root()?.join("bin/bindgen"), "bindgen".into()]
        .into_iter()
        .find(right))
}

/// What a kernel or module build runs with.
pub struct Tools {
    channel: String,
    bindgen: PathBuf,
}

impl Tools {
    /// Finds them; `setup` has installed what was missing.
    pub fn find() -> Result<Self> {
        let bindgen = bindgen()?.context("no bindgen: run `cargo xtask setup`")?;
        Ok(Tools {
            channel: channel()?,
            bindgen,
        })
    }

    /// The versions, for the key of a build.
    pub fn versions(&self) -> Result<String> {
        let mut rustc = sh::command("rustc");
        let rustc = sh::output(rustc.arg("-vV").env("RUSTUP_TOOLCHAIN", &self.channel))?;
        let gcc = sh::output(sh::command("gcc").arg("--version"))?;
        let gcc = gcc.lines().next().unwrap_or_default();
        Ok(format!(
            "{rustc}{gcc}\nbindgen {BINDGEN_VERSION}\nlibclang {LIBCLANG_PATH}\n"
        ))
    }

    /// `make` as the kernel wants it: the architecture, the tools, and a fixed identity so that
    /// the same input gives the same kernel.
    pub fn make(&self) -> Command {
        let mut make = sh::command("make");
        make.arg("ARCH=i386")
            .arg(format!("BINDGEN={}", self.bindgen.display()));
        make.env("RUSTUP_TOOLCHAIN", &self.channel)
            .env("LIBCLANG_PATH", LIBCLANG_PATH)
            .env("KBUILD_BUILD_TIMESTAMP", "2026-01-01 00:00:00 UTC")
            .env("KBUILD_BUILD_USER", "kjump")
            .env("KBUILD_BUILD_HOST", "kjump")
            .env("KBUILD_BUILD_VERSION", "1");
        make
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_is_read_from_the_toolchain_file() {
        let toml = "# a comment\n[toolchain]\nchannel = \"1.95.0\" # why\nprofile = \"minimal\"\n";
        assert_eq!(value(toml, "channel").as_deref(), Some("1.95.0"));
        assert_eq!(value(toml, "targets"), None);
    }
}
