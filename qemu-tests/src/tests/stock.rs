// SPDX-License-Identifier: GPL-2.0

//! \[stock\]: Debian's own kernels for i386, which nobody here built, as B, each with its own modules.
//! Without KEXEC_JUMP and kjump.ko there is one way back, for good: a plain kexec into A. And from the
//! copy of /proc/vmcore that such a B makes, A is there again after a power-off.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{bail, ensure, Context, Result};
use flate2::write::GzEncoder;
use flate2::Compression;
use serde_json::Value;

use crate::artifacts::Kernel;
use crate::cpio::Cpio;
use crate::disk;
use crate::ending::{Left, Waiting};
use crate::hibernation::LONG;
use crate::initramfs::{append, Purpose};
use crate::kjump::{self, exit};
use crate::story::Story;
use crate::vm::{Config, Vm};
use crate::work::{Reached, Work};

/// The modules first: `kjump init` finds the disks in their places.
const INIT: &str = "#!/bin/busybox sh
for module in /lib/modules/*.ko; do
    /bin/busybox insmod $module
done
exec /bin/kjump init
";

/// What B does: reads and writes its disk, and saves A. Its exit code is B's answer.
const WORK: &str = r#"#!/bin/busybox sh
PATH=/bin
busybox --install -s /bin
for i in $(seq 50); do test -b /dev/vdb && break; sleep 0.1; done
mkdir -p /mnt
mount -t ext2 /dev/vdb /mnt || exit 20
{ uname -r; md5sum </mnt/question; } >/mnt/answer || exit 21
cp /proc/vmcore /mnt/dump.elf || exit 22
umount /mnt || exit 23
exit 7
"#;

/// MiB of A's memory, and of B's disk, which a copy of that has to fit.
const MEMORY: u32 = 192;
const DISK: u64 = 288;

/// Without PAE.
pub fn plain(story: &Story) -> Result<()> {
    run(story, "686", Kernel::Full, "max,vendor=GenuineIntel")
}

/// B has PAE, and so has A; a CPU with NX.
pub fn pae(story: &Story) -> Result<()> {
    run(story, "686-pae", Kernel::Pae, "coreduo")
}

fn run(story: &Story, flavour: &str, kernel: Kernel, cpu: &str) -> Result<()> {
    let mut config = story.config_for(kernel, Purpose::Hibernation)?;
    config.cpu = cpu.into();
    config.memory = MEMORY;
    add(story, &mut config, flavour)?;
    let release = fs::read_to_string(story.artifacts.stock(flavour).join("release"))?;
    let image = Work::prepare(story, &mut config)?;
    let own = own_disk(story)?;
    config.disks.push(own.clone().into());

    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, image)?;
    let reached = comes_back(&mut vm, &work, release.trim())?;
    answered(&mut vm, release.trim())?;
    let waiting = goes_off(&mut vm)?;
    drop(vm);

    let mut vm = story.boot("the normal kernel", &config)?;
    kjump::insmod(&mut vm, "")?;
    vm.sh("mount -t ext2 -o ro /dev/vdb /mnt")?;
    let started = vm.start_command("krestore /mnt/dump.elf")?;
    let output = vm.wait_resumed(&waiting, started, LONG)?;
    ensure!(
        output.rc == 0 && output.text.contains("resumed"),
        "A's jump ended with {}: {}",
        output.rc,
        output.text
    );
    work.healthy(&mut vm, reached)?;
    ensure!(peers(&mut vm)?.is_empty(), "a peer is left after a restore");
    kjump::power_button(&mut vm)?;
    work.end(&mut vm)
}

/// Loads the kernel under a name, or without.
fn load(vm: &mut Vm, name: &str, what: &str) -> Result<()> {
    // Half of its boot is tests of ciphers.
    let append =
        format!("console=ttyS0 panic=-1 cryptomgr.notests kjump.run=/bin/work kjump.do=run,{what}");
    vm.sh(&format!(
        "kjump load /boot/stock --initrd /boot/stock.cpio.gz --window 64M {name} \
         --append \"{append}\""
    ))
    .map(drop)
}

/// B boots, works, and is back; it is gone then, and A is as before.
fn comes_back(vm: &mut Vm, work: &Work, release: &str) -> Result<Reached> {
    let before = work.reached(vm)?;
    load(vm, "--as stock", "back")?;
    let mark = vm.console.mark();
    let output = vm.run_for("kjump jump stock", LONG)?;
    ensure!(
        output.rc == exit::PEER_STATUS
            && output.text.starts_with("peer came back: status 7")
            && output.text.contains("cannot be entered again"),
        "kjump jump: {} and \"{}\"",
        output.rc,
        output.text
    );
    let seen = vm.console.since(mark);
    let booted = format!("Linux version {release} ");
    ensure!(seen.contains(&booted), "B is not Linux {release}");
    ensure!(
        seen.contains("kjump.ko: No such file"),
        "B has not looked for kjump's module, or has it"
    );

    let listed = peers(vm)?;
    let one = listed.first().context("the peer is not listed")?;
    ensure!(one["state"] == "gone" && one["jumps"] == 1, "{listed:?}");
    let status = kjump::status_of(vm, "stock")?;
    ensure!(status["state"] == "gone", "{status}");
    let left = kjump::number(&status, "allocated_pages")?;
    ensure!(left == 0, "{left} pages are left");
    let words = "cannot be entered again";
    kjump::refuses(vm, "kjump jump stock", exit::NOT_REENTERABLE, words)?;
    // Another can be loaded in its place.
    load(vm, "--as stock", "back")?;
    vm.sh("kjump unload stock")?;
    ensure!(peers(vm)?.is_empty(), "unload leaves something");
    kjump::power_button(vm)?;
    work.healthy(vm, before)
}

/// What B left on its disk.
fn answered(vm: &mut Vm, release: &str) -> Result<()> {
    vm.sh("mkdir -p /own; mount -t ext2 -o ro /dev/vdb /own")?;
    let wanted = format!("{release}\n{}", vm.sh("md5sum </own/question")?.trim());
    let answer = vm.sh("cat /own/answer")?;
    ensure!(answer.trim() == wanted, "\"{answer}\", not \"{wanted}\"");
    vm.sh("umount /own").map(drop)
}

/// A second one saves A, and switches the machine off.
fn goes_off(vm: &mut Vm) -> Result<Waiting> {
    load(vm, "", "poweroff")?;
    let jump = vm.start_command("kjump jump")?;
    match vm.wait_left(jump, LONG)? {
        Left::Off(ending) => ensure!(ending.reason == "guest-shutdown", "{ending:?}"),
        Left::Back(output) => bail!("A came back: {}", output.text),
    }
    Ok(vm.waiting(jump))
}

fn peers(vm: &mut Vm) -> Result<Vec<Value>> {
    let text = vm.sh("kjump peers --json")?;
    serde_json::from_str(&text).with_context(|| text)
}

/// B's disk: a filesystem that A does not mount while B runs.
fn own_disk(story: &Story) -> Result<PathBuf> {
    let files = story.file("own-files");
    fs::create_dir_all(&files)?;
    fs::write(files.join("question"), "what is the answer?\n")?;
    let image = story.file("own.img");
    disk::ext2(&image, DISK, &files)?;
    Ok(image)
}

/// More for A's initramfs: the kernel, and an initramfs for it with its modules.
pub fn add(story: &Story, config: &mut Config, flavour: &str) -> Result<()> {
    let stock = story.artifacts.stock(flavour);
    let kernel = fs::read(stock.join("vmlinuz"))
        .with_context(|| format!("{}: run `cargo xtask build`", stock.display()))?;
    let more = Cpio::default()
        .file("boot/stock", &kernel)
        .file("boot/stock.cpio.gz", &initramfs(story, flavour)?);
    append(story, config, "a-stock.cpio", more)
}

/// Busybox, the command, the modules, and nothing else.
fn initramfs(story: &Story, flavour: &str) -> Result<Vec<u8>> {
    let artifacts = &story.artifacts;
    let mut archive = Cpio::default();
    for directory in [
        "bin",
        "dev",
        "lib",
        "lib/modules",
        "proc",
        "run",
        "sys",
        "tmp",
    ] {
        archive = archive.directory(directory);
    }
    archive = archive
        .device("dev/console", 5, 1)
        .file("init", INIT.as_bytes())
        .file("bin/busybox", &fs::read(artifacts.busybox())?)
        .file("bin/kjump", &fs::read(artifacts.kjump())?)
        .file("bin/work", WORK.as_bytes());
    for entry in fs::read_dir(artifacts.stock(flavour).join("modules"))? {
        let entry = entry?;
        let name = format!("lib/modules/{}", entry.file_name().to_string_lossy());
        archive = archive.file(&name, &fs::read(entry.path())?);
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::new(6));
    packed.write_all(&archive.finish())?;
    Ok(packed.finish()?)
}
