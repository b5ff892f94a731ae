// SPDX-License-Identifier: GPL-2.0

//! Disk images for guests.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{bail, Context, Result};

/// Runs one of e2fsprogs, which may live outside a user's PATH.
fn e2fs(program: &str, arguments: &[&str], image: &Path) -> Result<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(program)
        .args(arguments)
        .arg(image)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} (package e2fsprogs)"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{program}: {}\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(text)
}

/// Creates a sparse image with an empty ext4 in it.
pub fn ext4(image: &Path, mebibytes: u64) -> Result<()> {
    File::create(image)?.set_len(mebibytes << 20)?;
    e2fs("mkfs.ext4", &["-q", "-F"], image).map(drop)
}

/// Whether the ext4 in an image is whole, by a check that changes nothing.
pub fn check_ext4(image: &Path) -> Result<()> {
    e2fs("e2fsck", &["-f", "-n"], image)
        .map(drop)
        .context("the guest's disk is damaged")
}
