// SPDX-License-Identifier: GPL-2.0

//! Disk images for guests.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{bail, Context, Result};

/// Runs a program that makes or checks disk images, which may live outside a user's PATH.
fn tool(program: &str, arguments: &[&str], image: &Path) -> Result<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(program)
        .args(arguments)
        .arg(image)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program}: run `cargo xtask setup`"))?;
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

/// Creates a sparse image with nothing in it.
pub fn empty(image: &Path, mebibytes: u64) -> Result<()> {
    Ok(File::create(image)?.set_len(mebibytes << 20)?)
}

/// Where the partition of [`partitioned`] starts, bytes.
pub const PARTITION_AT: u64 = 1 << 20;
/// Its PARTUUID.
pub const PARTITION_UUID: &str = "6b6a756d-01";

/// Creates a sparse image with a partition table and one partition, which takes all of it.
pub fn partitioned(image: &Path, mebibytes: u64) -> Result<()> {
    empty(image, mebibytes)?;
    let first = (PARTITION_AT / 512) as u32;
    let sectors = (mebibytes << 11) as u32 - first;
    let mut table = [0; 512];
    table[440..444].copy_from_slice(&0x6b6a_756d_u32.to_le_bytes());
    // Type 0xda: no filesystem.
    table[450] = 0xda;
    table[454..458].copy_from_slice(&first.to_le_bytes());
    table[458..462].copy_from_slice(&sectors.to_le_bytes());
    table[510..].copy_from_slice(&[0x55, 0xaa]);
    let file = File::options().write(true).open(image)?;
    Ok(file.write_all_at(&table, 0)?)
}

/// Creates a sparse image with an empty ext4 in it.
pub fn ext4(image: &Path, mebibytes: u64) -> Result<()> {
    empty(image, mebibytes)?;
    tool("mkfs.ext4", &["-q", "-F"], image).map(drop)
}

/// Creates a sparse image with an ext2 in it that has the files of a directory. It is small, so its
/// blocks have 1 KiB.
pub fn ext2(image: &Path, mebibytes: u64, files: &Path) -> Result<()> {
    empty(image, mebibytes)?;
    let files = files.display().to_string();
    tool("mkfs.ext2", &["-q", "-F", "-d", &files], image).map(drop)
}

/// Copies a file out of the ext filesystem in an image.
pub fn extract(image: &Path, name: &str, to: &Path) -> Result<()> {
    let ask = format!("dump {name} {}", to.display());
    tool("debugfs", &["-R", &ask], image)?;
    if !to.exists() {
        bail!("no {name} in {}", image.display());
    }
    Ok(())
}

/// Creates a sparse image with an empty FAT in it.
pub fn vfat(image: &Path, mebibytes: u64) -> Result<()> {
    empty(image, mebibytes)?;
    tool("mkfs.vfat", &[], image).map(drop)
}

/// Creates a sparse image with an empty XFS in it; XFS wants 300 MiB.
pub fn xfs(image: &Path, mebibytes: u64) -> Result<()> {
    empty(image, mebibytes)?;
    tool("mkfs.xfs", &["-q", "-f"], image).map(drop)
}

/// Creates a sparse image with an empty btrfs in it; btrfs wants 110 MiB.
pub fn btrfs(image: &Path, mebibytes: u64) -> Result<()> {
    empty(image, mebibytes)?;
    tool("mkfs.btrfs", &["-q", "-f"], image).map(drop)
}

/// Creates a sparse image with a swap area in it.
pub fn swap(image: &Path, mebibytes: u64) -> Result<()> {
    empty(image, mebibytes)?;
    tool("mkswap", &["-q"], image).map(drop)
}

/// Copies an image; its holes stay holes.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let from = from.display().to_string();
    tool("cp", &["--sparse=always", &from], to).map(drop)
}

/// Whether the ext4 in an image is whole, by a check that changes nothing.
pub fn check_ext4(image: &Path) -> Result<()> {
    tool("e2fsck", &["-f", "-n"], image)
        .map(drop)
        .context("the guest's disk is damaged")
}

/// Whether two images hold the same bytes.
pub fn same(one: &Path, other: &Path) -> Result<bool> {
    let status = Command::new("cmp").arg("-s").args([one, other]).status();
    Ok(status.context("cmp")?.success())
}
