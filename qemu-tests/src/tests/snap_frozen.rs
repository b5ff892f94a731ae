// SPDX-License-Identifier: GPL-2.0

//! \[snap-frozen\]: filesystems that stand still for a snapshot do not stay so: not if standard output is
//! on one of them, nor if the command is stopped or killed meanwhile. One that cannot be reached is
//! named. The older snapshot on the target stays until the new one is written.

use std::time::Duration;

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::disk;
use crate::hibernation::LONG;
use crate::initramfs::Purpose;
use crate::kjump;
use crate::snapshots::{hook, snapshot};
use crate::story::Story;
use crate::vm::Vm;

/// Exit code: a hook failed, or a filesystem cannot be frozen.
const HOOK: i32 = 61;
const SAVE: &str = "kjump snapshot --with-disks /dev/vdb";

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Small)?;
    let (disk, target) = (story.file("disk.img"), story.file("target.img"));
    disk::ext4(&disk, 64)?;
    disk::empty(&target, 256)?;
    config.disks.extend([disk.into(), target.into()]);
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;

    // What the command and the hook say goes to a filesystem that stands still.
    vm.sh("mount -t ext4 /dev/vda /mnt")?;
    hook(&mut vm, "10-talks", &["#!/bin/sh", "echo this is $1 of $2"])?;
    snapshot(&mut vm, &format!("kjump -v {} >/mnt/said 2>&1", &SAVE[6..]))?;
    let said = vm.sh("cat /mnt/said")?;
    ensure!(said.contains("this is save of /dev/vdb"), "{said}");
    ensure!(said.contains("pages in"), "{said}");

    // Killed, by whatever signal, it leaves nothing frozen, and the older snapshot.
    hook(
        &mut vm,
        "20-waits",
        &["#!/bin/sh", "echo >/run/waits", "exec sleep 1000"],
    )?;
    for (signal, code) in [("KILL", 137), ("TERM", HOOK)] {
        let started = vm.start_command(&format!(
            "rm -f /run/waits; {SAVE} & kjump=$!; while [ ! -e /run/waits ]; do sleep 0.1; done; kill -{signal} $kjump; wait $kjump"
        ))?;
        let output = vm.finish(started, LONG)?;
        ensure!(
            output.rc == code,
            "{signal}: {}: {}",
            output.rc,
            output.text
        );
        written(&mut vm, signal)?;
    }
    vm.sh("killall sleep; rm /etc/kjump/snapshot.d/20-waits")?;
    vm.sh("kjump image verify /dev/vdb 2>/dev/null")?;

    // Mounted over, it cannot be reached, and what is mounted there is not taken for it.
    vm.sh("mount -t tmpfs none /mnt")?;
    kjump::refuses(&mut vm, SAVE, HOOK, "mounted over it")?;
    vm.sh("umount /mnt")?;
    // In another namespace it can.
    vm.sh("umount /mnt; mkdir -p /run/inner")?;
    vm.sh("unshare -m sh -c 'mount -t ext4 /dev/vda /run/inner && echo x >/run/inside; exec sleep 1000' >/dev/null 2>&1 & echo $! >/run/inner.pid; while [ ! -e /run/inside ]; do sleep 0.1; done")?;
    // Who freezes it once more is told that it is.
    let lines = [
        "#!/bin/sh",
        "inner=/proc/$(cat /run/inner.pid)/root/run/inner",
        "if fsfreeze --freeze $inner; then fsfreeze --unfreeze $inner; exit 1; fi",
    ];
    hook(&mut vm, "10-talks", &lines)?;
    snapshot(&mut vm, SAVE)?;
    let inner = "/proc/$(cat /run/inner.pid)/root/run/inner";
    vm.sh(&format!(
        "echo y >{inner}/after; kill $(cat /run/inner.pid)"
    ))?;
    vm.power_off()
}

/// The filesystem takes writes again.
fn written(vm: &mut Vm, after: &str) -> Result<()> {
    let write = format!("echo {after} >/mnt/after; sync; cat /mnt/after");
    let output = vm.run_for(&write, Duration::from_secs(120));
    let output = output.with_context(|| format!("still frozen after {after}"))?;
    ensure!(output.text == after, "{}", output.text);
    Ok(())
}
