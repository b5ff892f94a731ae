// SPDX-License-Identifier: GPL-2.0

//! \[snap\]: ten snapshots of a busy machine, whose disk is rolled back too by a hook; back to the
//! third, then the seventh. \[snap-refused\]: a snapshot is gone back to as often as one likes, and not
//! at all where that would destroy a filesystem.

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::disk;
use crate::ending::Waiting;
use crate::initramfs::Purpose;
use crate::kjump::{self, exit};
use crate::snapshots::{self, hook, rollback, snapshot};
use crate::story::Story;
use crate::work::{Reached, Work};
use crate::workload::Workload;

/// Snapshots.
const COUNT: usize = 10;
/// MiB of the disk that is rolled back.
const DISK: u64 = 64;
/// Exit code: a hook failed.
const HOOK: i32 = 61;

/// A moment that can be gone back to.
struct Moment {
    waiting: Waiting,
    reached: Reached,
}

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Hibernation)?;
    config.memory = 192;
    let image = Workload::prepare_sized(story, &mut config, DISK)?;
    let copies = story.file("copies.img");
    disk::empty(&copies, DISK * (COUNT as u64 + 1))?;
    let store = story.file("store.img");
    disk::ext4(&store, 2048)?;
    config.disks.extend([copies.into(), store.into()]);
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    vm.sh("echo 'snapshots = \"/dev/vdc\"' >>/etc/kjump.toml")?;
    snapshots::copies(&mut vm, "/dev/vdb", DISK)?;
    let work = Work::start(&mut vm, image)?;
    let mut reached = work.reached(&mut vm)?;
    let mut moments = Vec::new();
    for number in 1..=COUNT {
        vm.sh(&format!("echo {number} >/run/at"))?;
        let then = reached;
        let command = format!("kjump snapshot --with-disks s{number}");
        let (waiting, said) = snapshot(&mut vm, &command)?;
        // In front of it, how far the writing of the file was.
        let last = said.lines().last().unwrap_or_default();
        ensure!(last.starts_with(&format!("s{number}: ")), "{said}");
        reached = work
            .healthy(&mut vm, reached)
            .with_context(|| format!("after snapshot {number}"))?;
        moments.push(Moment {
            waiting,
            reached: then,
        });
    }
    let listed = vm.sh("kjump snapshots")?;
    story.note(listed.lines().last().unwrap_or_default());
    ensure!(listed.lines().count() == COUNT + 1, "{listed}");

    for number in [3, 7] {
        let moment = &moments[number - 1];
        let before: u64 = vm.sh("date +%s")?.trim().parse()?;
        let command = format!("kjump rollback --with-disks s{number}");
        let said = rollback(&mut vm, &command, &moment.waiting)
            .with_context(|| format!("back to {number}"))?;
        ensure!(said.contains("rolled back"), "{said}");
        let at = vm.sh("cat /run/at")?;
        ensure!(at == number.to_string(), "back at {at} instead of {number}");
        // The clock is the machine's own: it has not gone back. It is read in whole seconds.
        let after: u64 = vm.sh("date +%s")?.trim().parse()?;
        ensure!(
            after + 2 >= before,
            "the clock went from {before} to {after}"
        );
        work.healthy(&mut vm, moment.reached)
            .with_context(|| format!("back at {number}"))?;
        let names = vm.sh("kjump snapshots")?;
        ensure!(names.lines().count() == COUNT + 1, "{names}");
    }
    vm.sh("kjump snapshots --delete s1")?;
    let command = "kjump rollback s1";
    kjump::refuses(&mut vm, command, exit::NO_IMAGE, "no snapshot")?;
    work.end(&mut vm)
}

/// Refusals, each with A going on; and what is not refused.
pub fn refused(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Small)?;
    let (disk, target) = (story.file("disk.img"), story.file("target.img"));
    disk::ext4(&disk, 64)?;
    disk::empty(&target, 256)?;
    config.disks.extend([disk.into(), target.into()]);
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;

    // Nothing is mounted: back and back again.
    vm.sh("echo 1 >/run/at")?;
    let (then, said) = snapshot(&mut vm, "kjump snapshot --json /dev/vdb")?;
    ensure!(said.contains("\"outcome\": \"snapshot\""), "{said}");
    for _ in 0..2 {
        vm.sh("echo 2 >/run/at")?;
        let said = rollback(&mut vm, "kjump rollback /dev/vdb", &then)?;
        ensure!(said.contains("\"outcome\": \"rolled-back\""), "{said}");
        ensure!(vm.sh("cat /run/at")? == "1", "memory is not that of then");
    }

    // Damaged in the middle, where header and tables do not show it: refused, and A goes on.
    vm.sh("echo 3 >/run/at; guest counter /run/counter >/dev/null 2>&1 &")?;
    let middle = kjump::image_bytes(&mut vm, "/dev/vdb")? / 2;
    let before = vm.sh(&format!("guest peek /dev/vdb {middle} 1"))?;
    let other = u8::from_str_radix(before.trim(), 16)? ^ 0x10;
    vm.sh(&format!("guest poke /dev/vdb {middle} {other:02x}"))?;
    let command = "kjump rollback /dev/vdb";
    kjump::refuses(&mut vm, command, exit::DAMAGED, "damaged image")?;
    ensure!(vm.sh("cat /run/at")? == "3", "A is not what it was");
    vm.sh("(a=$(cat /run/counter); for i in $(seq 100); do [ $(cat /run/counter) != $a ] && exit 0; sleep 0.1; done; exit 1)")
        .context("A does not go on")?;
    // Mended it is good again: nothing has marked it.
    vm.sh(&format!("guest poke /dev/vdb {middle} {}", before.trim()))?;
    rollback(&mut vm, command, &then)?;
    ensure!(vm.sh("cat /run/at")? == "1", "memory is not that of then");

    // Mounted, and the same as then.
    vm.sh("mount -t ext4 /dev/vda /mnt; echo then >/mnt/file; sync")?;
    vm.sh("mount -o remount,ro /mnt")?;
    let (then, _) = snapshot(&mut vm, "kjump snapshot /dev/vdb")?;
    rollback(&mut vm, "kjump rollback /dev/vdb", &then)?;

    // Written since.
    vm.sh("mount -o remount,rw /mnt")?;
    snapshot(&mut vm, "kjump snapshot /dev/vdb")?;
    vm.sh("echo since >/mnt/file")?;
    kjump::refuses(&mut vm, "kjump rollback /dev/vdb", exit::STALE, "/dev/vda")?;
    ensure!(vm.sh("cat /mnt/file")? == "since", "A does not go on");

    // By hooks: none, one that fails, and one that does nothing, which the peer notices.
    let command = "kjump rollback --with-disks /dev/vdb";
    kjump::refuses(&mut vm, command, HOOK, "no program")?;
    hook(&mut vm, "10-fails", &["#!/bin/sh", "exit 3"])?;
    kjump::refuses(&mut vm, command, HOOK, "exit status: 3")?;
    let save = "kjump snapshot --with-disks /dev/vdb";
    kjump::refuses(&mut vm, save, HOOK, "exit status: 3")?;
    // The one before is still there.
    vm.sh("kjump image inspect /dev/vdb")?;
    vm.sh("rm /etc/kjump/snapshot.d/10-fails; echo more >/mnt/file; sync")?;
    hook(&mut vm, "10-lazy", &["#!/bin/sh"])?;
    snapshot(&mut vm, save)?;
    vm.sh("echo since >/mnt/file; sync")?;
    kjump::refuses(&mut vm, command, exit::STALE, "/dev/vda")?;
    vm.sh("echo on >/mnt/file; sync")?;

    // What is swapped out is in no snapshot.
    vm.sh("umount /mnt; mkswap /dev/vda >/dev/null; swapon /dev/vda")?;
    kjump::refuses(&mut vm, "kjump snapshot /dev/vdb", 34, "swapoff")?;
    vm.sh("swapoff /dev/vda")?;
    let bad = "kjump snapshot 'two words'";
    kjump::refuses(&mut vm, bad, exit::USAGE, "a snapshot's name")?;
    vm.power_off()
}
