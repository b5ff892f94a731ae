// SPDX-License-Identifier: GPL-2.0

//! \[snap-qcow2\]: a disk that is rolled back together with memory by who keeps its image: a hook in the
//! guest tells the host what to do over the console, and the host does it to a qcow2 disk. Where
//! the peer refuses, the disk is what it was before.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use serde_json::{json, Value};

use crate::artifacts::Kernel;
use crate::disk;
use crate::hibernation::LONG;
use crate::initramfs::Purpose;
use crate::kjump::{self, exit};
use crate::snapshots::hook;
use crate::story::Story;
use crate::vm::Vm;

/// MiB of the disk.
const DISK: u64 = 64;
/// What the guest calls it; it is the last one.
const DEVICE: &str = "/dev/vdb";
const ROLLBACK: &str = "kjump rollback --with-disks /dev/vda";

/// Tells the host, and waits for its word.
const HOOK: &[&str] = &[
    "#!/bin/sh",
    "exec 3<>/dev/ttyS0",
    "echo disks $1 $2 >&3",
    "read -r answer <&3",
    "[ \"$answer\" = done ]",
];

/// The disk as QEMU has it: a node on which the guest's device sits, and below it a chain of images.
struct Chain {
    dir: PathBuf,
    /// Images made so far, and the one that is written.
    made: u32,
    active: String,
}

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Small)?;
    let (image, target) = (story.file("disk.img"), story.file("target.img"));
    disk::ext4(&image, DISK)?;
    disk::empty(&target, 256)?;
    config.disks.push(target.into());
    let file = image.display();
    config.extra = [
        "-blockdev".into(),
        format!("driver=raw,node-name=image0,file.driver=file,file.filename={file}"),
        "-blockdev".into(),
        "driver=raw,node-name=top,file=image0".into(),
        "-device".into(),
        "virtio-blk-pci,drive=top,serial=top".into(),
    ]
    .into();
    let mut chain = Chain {
        dir: story.dir.clone(),
        made: 0,
        active: "image0".into(),
    };
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    hook(&mut vm, "10-host", HOOK)?;
    vm.sh(&format!(
        "mount -t ext4 {DEVICE} /mnt; echo then >/mnt/file; sync"
    ))?;
    vm.sh("echo 1 >/run/at")?;

    // What was written up to here stays in the image below.
    let mark = vm.console.mark();
    let saved = chain.active.clone();
    let started = vm.start_command("kjump snapshot --with-disks /dev/vda")?;
    let then = vm.waiting(started);
    asked(&mut vm, mark, "save")?;
    let overlay = chain.image(&mut vm, None)?;
    let arguments = json!({ "node": chain.active, "overlay": overlay });
    vm.qmp.execute("blockdev-snapshot", arguments)?;
    chain.active = overlay;
    answer(&mut vm)?;
    vm.finish(started, LONG)?.ok()?;
    vm.sh("echo since >/mnt/file; sync; echo 2 >/run/at")?;

    // Refused by the peer, when the disk was put back already: it is put forth again.
    let bytes = kjump::image_bytes(&mut vm, "/dev/vda")?;
    let before = damage(&mut vm, bytes / 2)?;
    let started = refused(&mut vm, &mut chain, &saved)?;
    let active = chain.active.clone();
    chain.show(&mut vm, &active)?;
    answer(&mut vm)?;
    let output = vm.finish(started, LONG)?;
    ensure!(output.rc == exit::DAMAGED, "{}: {}", output.rc, output.text);
    vm.sh("echo 3 >/proc/sys/vm/drop_caches")?;
    let found = vm.sh("cat /mnt/file /run/at")?;
    ensure!(found == "since\n2", "{found}");

    // Not refused: memory and disk are those of then.
    vm.sh(&format!("guest poke /dev/vda {} {before}", bytes / 2))?;
    let mark = vm.console.mark();
    let started = vm.start_command(ROLLBACK)?;
    asked(&mut vm, mark, "restore")?;
    let other = chain.image(&mut vm, Some(&saved))?;
    chain.show(&mut vm, &other)?;
    chain.active = other;
    answer(&mut vm)?;
    let said = vm.wait_back(started, &then, LONG)?.ok()?;
    ensure!(said.contains("rolled back"), "{said}");
    vm.sh("echo 3 >/proc/sys/vm/drop_caches")?;
    let found = vm.sh("cat /mnt/file /run/at")?;
    ensure!(found == "then\n1", "{found}");
    vm.sh("echo on >/mnt/file; umount /mnt")?;
    vm.sh(&format!("mount -t ext4 {DEVICE} /mnt; grep on /mnt/file"))?;

    // Refused again, and this time the host cannot put it forth: nothing may be written any more.
    damage(&mut vm, bytes / 2)?;
    let started = refused(&mut vm, &mut chain, &saved)?;
    vm.type_in("no\n")?;
    let output = vm.finish(started, LONG)?;
    ensure!(
        output.rc == exit::DISKS_GONE && output.text.contains("press reset"),
        "{}: {}",
        output.rc,
        output.text
    );
    let writes = vm.run("(echo more >/mnt/file) & sleep 2; kill -0 $! && echo blocked")?;
    ensure!(writes.text.contains("blocked"), "/mnt can be written");
    vm.kill()
}

/// Starts a rollback that the peer is to refuse, and puts the disk back; the hook asks for that to be undone
/// then.
fn refused(vm: &mut Vm, chain: &mut Chain, saved: &str) -> Result<usize> {
    let mark = vm.console.mark();
    let started = vm.start_command(ROLLBACK)?;
    asked(vm, mark, "restore")?;
    let other = chain.image(vm, Some(saved))?;
    chain.show(vm, &other)?;
    let mark = vm.console.mark();
    answer(vm)?;
    asked(vm, mark, "undo")?;
    Ok(started)
}

/// Waits until the hook asks for it.
fn asked(vm: &mut Vm, mark: usize, word: &str) -> Result<()> {
    let wanted = format!("disks {word} /dev/vda");
    vm.wait_for(mark, &wanted, LONG).map(drop)
}

/// The host's word.
fn answer(vm: &mut Vm) -> Result<()> {
    vm.type_in("done\n")
}

/// Changes a byte of the image; gives what was there, in hexadecimal.
fn damage(vm: &mut Vm, at: u64) -> Result<String> {
    let before = vm.sh(&format!("guest peek /dev/vda {at} 1"))?;
    let before = before.trim().to_string();
    let other = u8::from_str_radix(&before, 16)? ^ 0x10;
    vm.sh(&format!("guest poke /dev/vda {at} {other:02x}"))?;
    Ok(before)
}

impl Chain {
    /// Makes an empty qcow2 image above another one, or above none yet; gives its node.
    fn image(&mut self, vm: &mut Vm, below: Option<&str>) -> Result<String> {
        self.made += 1;
        let node = format!("image{}", self.made);
        let file = format!("file{}", self.made);
        let path = self.dir.join(format!("{node}.qcow2"));
        let path = path.display().to_string();
        make(vm, json!({ "driver": "file", "filename": path, "size": 0 }))?;
        let add = json!({ "driver": "file", "node-name": file, "filename": path });
        vm.qmp.execute("blockdev-add", add)?;
        make(
            vm,
            json!({ "driver": "qcow2", "file": file, "size": DISK << 20 }),
        )?;
        let add = json!({ "driver": "qcow2", "node-name": node, "file": file, "backing": below });
        vm.qmp.execute("blockdev-add", add)?;
        Ok(node)
    }

    /// Has the guest's disk be that one from now on.
    fn show(&self, vm: &mut Vm, node: &str) -> Result<()> {
        let top = json!({ "driver": "raw", "node-name": "top", "file": node });
        vm.qmp
            .execute("blockdev-reopen", json!({ "options": [top] }))
            .map(drop)
    }
}

/// Makes an image, and waits until it is made.
fn make(vm: &mut Vm, options: Value) -> Result<()> {
    let job = json!({ "job-id": "make", "options": options });
    vm.qmp.execute("blockdev-create", job)?;
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let jobs = vm.qmp.execute("query-jobs", json!({}))?;
        let job = jobs.as_array().and_then(|jobs| jobs.first()).cloned();
        let job = job.context("the job is gone")?;
        if job["status"] == "concluded" {
            ensure!(job["error"].is_null(), "{job}");
            break;
        }
        ensure!(Instant::now() < end, "{job}");
        std::thread::sleep(Duration::from_millis(20));
    }
    vm.qmp
        .execute("job-dismiss", json!({ "id": "make" }))
        .map(drop)
}
