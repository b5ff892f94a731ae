// SPDX-License-Identifier: GPL-2.0

//! The initramfs of kernel A: busybox, kjump, the test programs, what is to be loaded as B, and
//! an agent that executes what the host sends over the second serial port.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::write::GzEncoder;
use flate2::Compression;

use crate::artifacts::{Artifacts, Kernel};
use crate::cpio::Cpio;
use crate::peer;

/// A's /init. With `kjump.shell` on the command line there is a shell on the console, otherwise
/// the agent.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /run
mount -t securityfs security /sys/kernel/security 2>/dev/null
ip link set lo up
if grep -q kjump.shell /proc/cmdline; then
    insmod /lib/kjump.ko
    setsid -c sh </dev/ttyS0 >/dev/ttyS0 2>&1
else
    sh /agent
fi
poweroff -f
"#;

/// The agent. Each line that comes in is a number and a command; what the command prints goes
/// back, and then `::rc NUMBER STATUS`. Not PID 1: that gets a signal when an orphan dies, and
/// busybox's `read`, when interrupted, forgets what it has read of a line.
const AGENT: &str = r#"stty -F /dev/ttyS1 raw -echo 115200
exec <>/dev/ttyS1 >&0 2>&0
echo ::ready
while read -r number line; do
    (eval "$line") </dev/null 2>&1
    echo "::rc $number $?"
done
"#;

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{}: run `cargo xtask build`", path.display()))
}

/// B's initramfs with the test programs behind it, as a second archive.
fn peer_with_programs(artifacts: &Artifacts) -> Result<Vec<u8>> {
    let mut both = read(&artifacts.peer_initramfs())?;
    let programs = Cpio::default()
        .directory("bin")
        .file("bin/guest", &read(&artifacts.guest())?)
        .finish();
    let mut packed = GzEncoder::new(Vec::new(), Compression::new(6));
    packed.write_all(&programs)?;
    both.extend(packed.finish()?);
    Ok(both)
}

/// Writes the initramfs for `kernel` as A to `into`, and gives its path.
///
/// In it: `/lib/kjump.ko`, `/bin/kjump`, `/bin/guest`; to be loaded: `/boot/lean`, `/boot/full`
/// with `/boot/peer.cpio.gz` (B's initramfs and the programs), `/boot/plain.cpio.gz` (B's alone)
/// `/boot/spin`, `/boot/bounce` and the files that are no kernels, of [`peer`]. What has not been built is left out.
pub fn build(artifacts: &Artifacts, kernel: Kernel, into: &Path) -> Result<PathBuf> {
    let mut archive = Cpio::default();
    for directory in [
        "bin", "boot", "dev", "lib", "mnt", "proc", "run", "sys", "tmp",
    ] {
        archive = archive.directory(directory);
    }
    archive = archive
        .device("dev/console", 5, 1)
        .file("init", INIT.as_bytes())
        .file("agent", AGENT.as_bytes())
        .file("bin/busybox", &read(&artifacts.busybox())?)
        .file("bin/guest", &read(&artifacts.guest())?)
        .file("boot/spin", &peer::spin());
    archive = archive.file("boot/bounce", &peer::bounce());
    for (name, file) in peer::misfits() {
        archive = archive.file(&format!("boot/{name}"), &file);
    }
    let optional = [
        ("lib/kjump.ko", artifacts.module(kernel)),
        ("bin/kjump", artifacts.kjump()),
        ("boot/lean", artifacts.bzimage(Kernel::Lean)),
        ("boot/full", artifacts.bzimage(Kernel::Full)),
        ("boot/plain.cpio.gz", artifacts.peer_initramfs()),
    ];
    for (name, path) in optional {
        if let Ok(contents) = fs::read(path) {
            archive = archive.file(name, &contents);
        }
    }
    if let Ok(both) = peer_with_programs(artifacts) {
        archive = archive.file("boot/peer.cpio.gz", &both);
    }
    let path = into.join(format!("a-{kernel:?}.cpio"));
    fs::write(&path, archive.finish()).with_context(|| path.display().to_string())?;
    Ok(path)
}
