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
use crate::story::Story;
use crate::vm::Config;

/// A's /init. With `kjump.resume=` on the command line a saved machine is looked for before
/// anything else happens to the disks; if there is none, or it is refused, this kernel goes on as
/// if nothing had been; with `kjump.snapshot` by the kernel's own means, with `kjump.peer` by a peer in any case. With `kjump.shell` there is a shell on the console, otherwise the agent.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
$b mount -t tmpfs tmp /run
$b mount -t securityfs security /sys/kernel/security 2>/dev/null
if $b grep -q 'kjump\.resume=' /proc/cmdline; then
    if $b grep -q 'kjump\.snapshot' /proc/cmdline; then
        kjump resume --snapshot
        echo "init: kjump resume --snapshot ended with $?"
    else
        $b insmod /lib/kjump.ko
        if $b grep -q 'kjump\.peer' /proc/cmdline; then
            kjump resume --through-peer
        else
            kjump resume
        fi
        echo "init: kjump resume ended with $?"
        $b rmmod kjump
    fi
fi
$b --install -s /bin
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

/// A's /etc/kjump.toml, apart from the target.
const SETTINGS: &str = r#"peer = "/boot/lean"
initrd = "/boot/plain.cpio.gz"
"#;

/// What an initramfs of A's is for, which decides what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Jumps: all kinds of peers.
    Jumps,
    /// Hibernation: one peer, and sqlite3.
    Hibernation,
    /// What the seeds type: /boot/bzImage is the lean kernel, rootfs.gz is beside it; and sqlite3.
    Recipes,
    /// Dumps: one peer, and Debian's makedumpfile in an initramfs for it.
    Dumps,
    /// Hibernation of a machine whose memory is needed for something else: one peer.
    Small,
}

/// A command word that a program of B's initramfs answers, as the file's name has it.
pub const COMMAND: &str = "0x77";
/// What it answers.
pub const COMMAND_ANSWER: u32 = 5;
const COMMAND_PROGRAM: &str = "#!/bin/sh
echo told: $1 $2
exit 5
";

/// A program of B's that waits for words.
pub const WAITER: &str = "/bin/waiter";
const WAITER_PROGRAM: &str = r#"#!/bin/sh
word=$(kjump wait --present)
echo "waiter: now $word"
answer=1
while word=$(kjump wait --status $answer --reason "did $word"); do
    echo "waiter: $word"
    case $word in
    none) answer=0 ;;
    shell) answer=11 ;;
    0x1234) answer=12 ;;
    *) exit 9 ;;
    esac
done
exit 100
"#;

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{}: run `cargo xtask build`", path.display()))
}

/// A program for B that needs nothing but docs/protocol.md.
const BITMAP_READER: &str = include_str!("../guest/bitmap-reader.sh");

/// B's initramfs with the test programs behind it, as a second archive.
fn peer_with_programs(artifacts: &Artifacts) -> Result<Vec<u8>> {
    let mut both = read(&artifacts.peer_initramfs())?;
    let programs = Cpio::default()
        .directory("bin")
        .file("bin/guest", &read(&artifacts.guest())?)
        .file("bin/bitmap-reader.sh", BITMAP_READER.as_bytes())
        .file("bin/waiter", WAITER_PROGRAM.as_bytes())
        .directory("lib")
        .file("lib/trouble.ko", &read(&artifacts.trouble(Kernel::Lean))?)
        .directory("etc")
        .directory("etc/kjump")
        .directory("etc/kjump/commands")
        .file(
            &format!("etc/kjump/commands/{COMMAND}"),
            COMMAND_PROGRAM.as_bytes(),
        )
        .finish();
    let mut packed = GzEncoder::new(Vec::new(), Compression::new(6));
    packed.write_all(&programs)?;
    both.extend(packed.finish()?);
    Ok(both)
}

/// The name of the file, in the directory given to [`build`].
pub fn name(kernel: Kernel, purpose: Purpose) -> String {
    format!("a-{kernel:?}-{purpose:?}.cpio")
}

/// Writes the initramfs for `kernel` as A to a directory, and gives its path.
///
/// In it: `/lib/kjump.ko`, `/lib/trouble.ko`, `/bin/kjump`, `/bin/guest`; to be loaded: `/boot/lean` with
/// `/boot/plain.cpio.gz`, B's initramfs. For jumps also `/boot/full`, `/boot/peer.cpio.gz` (B's
/// initramfs and the programs), `/boot/spin`, `/boot/bounce` and the files that are no kernels, of
/// [`peer`]; for hibernation `/bin/sqlite3` and its libraries; for dumps `/boot/makedumpfile.cpio.gz`. What has not been built is left
/// out.
pub fn build(
    artifacts: &Artifacts,
    kernel: Kernel,
    purpose: Purpose,
    into: &Path,
) -> Result<PathBuf> {
    let mut archive = Cpio::default();
    for directory in [
        "bin", "boot", "dev", "etc", "lib", "mnt", "proc", "run", "sbin", "sys", "tmp",
    ] {
        archive = archive.directory(directory);
    }
    archive = archive
        .device("dev/console", 5, 1)
        .file("init", INIT.as_bytes())
        .file("agent", AGENT.as_bytes())
        .file("etc/kjump.toml", SETTINGS.as_bytes())
        .file("bin/busybox", &read(&artifacts.busybox())?)
        .file("bin/guest", &read(&artifacts.guest())?);
    // The names that the seeds type, with and without a path.
    for name in ["kexec", "krestore", "kjump_back_param"] {
        archive = archive
            .symlink(&format!("bin/{name}"), "kjump")
            .symlink(&format!("sbin/{name}"), "../bin/kjump");
    }
    let optional = [
        ("lib/kjump.ko", artifacts.module(kernel)),
        ("lib/trouble.ko", artifacts.trouble(kernel)),
        ("bin/kjump", artifacts.kjump()),
        ("boot/lean", artifacts.bzimage(Kernel::Lean)),
        ("boot/plain.cpio.gz", artifacts.peer_initramfs()),
    ];
    for (name, path) in optional {
        if let Ok(contents) = fs::read(path) {
            archive = archive.file(name, &contents);
        }
    }
    archive = match purpose {
        Purpose::Jumps => peers(artifacts, archive),
        Purpose::Hibernation => debian(artifacts, "sqlite3", archive)?,
        Purpose::Recipes => {
            let rootfs = read(&artifacts.rootfs())?;
            let archive = archive
                .symlink("boot/bzImage", "lean")
                .file("boot/rootfs.gz", &rootfs);
            debian(artifacts, "sqlite3", archive)?
        }
        Purpose::Dumps => {
            let dumper = read(&artifacts.rootfs_makedumpfile())?;
            archive.file("boot/makedumpfile.cpio.gz", &dumper)
        }
        Purpose::Small => archive,
    };
    let path = into.join(name(kernel, purpose));
    fs::write(&path, archive.finish()).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Adds peers of all kinds.
fn peers(artifacts: &Artifacts, mut archive: Cpio) -> Cpio {
    archive = archive
        .file("boot/spin", &peer::spin())
        .file("boot/bounce", &peer::bounce());
    for (name, file) in peer::misfits() {
        archive = archive.file(&format!("boot/{name}"), &file);
    }
    if let Ok(module) = fs::read(artifacts.stubborn()) {
        archive = archive.file("lib/stubborn.ko", &module);
    }
    if let Ok(kernel) = fs::read(artifacts.bzimage(Kernel::Full)) {
        archive = archive.file("boot/full", &kernel);
    }
    if let Ok(both) = peer_with_programs(artifacts) {
        archive = archive.file("boot/peer.cpio.gz", &both);
    }
    archive
}

/// Puts more behind A's initramfs, in a file of the story's called `name`; of two files with one name the later
/// counts.
pub fn append(story: &Story, config: &mut Config, name: &str, more: Cpio) -> Result<()> {
    let mut both = read(&config.initrd)?;
    both.extend(more.finish());
    config.initrd = story.file(name);
    fs::write(&config.initrd, both).with_context(|| config.initrd.display().to_string())
}

/// Adds a package of Debian's: programs to `/bin`, libraries to `/lib`. Only packages of one suite
/// go together.
pub fn debian(artifacts: &Artifacts, package: &str, mut archive: Cpio) -> Result<Cpio> {
    for part in ["bin", "lib"] {
        let dir = artifacts.debian(package).join(part);
        let list = fs::read_dir(&dir)
            .with_context(|| format!("{}: run `cargo xtask build`", dir.display()))?;
        for entry in list {
            let entry = entry?;
            let name = format!("{part}/{}", entry.file_name().to_string_lossy());
            archive = archive.file(&name, &read(&entry.path())?);
        }
    }
    Ok(archive)
}
