// SPDX-License-Identifier: GPL-2.0

//! \[snap-grows\]: a machine that comes to use much more memory after the snapshot's file was made for what it used
//! before. The file is made anew, for all of memory.

use anyhow::{ensure, Result};

use crate::artifacts::Kernel;
use crate::disk;
use crate::hibernation::LONG;
use crate::initramfs::Purpose;
use crate::kjump::{self, exit};
use crate::snapshots::{hook, snapshot};
use crate::story::Story;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Small)?;
    config.memory = 256;
    let store = story.file("store.img");
    disk::ext4(&store, 640)?;
    config.disks.push(store.into());
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    vm.sh("mkdir -p /run/full; mount -t ramfs ramfs /run/full")?;
    vm.sh("echo 'snapshots = \"/dev/vda\"' >>/etc/kjump.toml")?;

    // It takes half of memory, and is called when the file is there.
    hook(
        &mut vm,
        "10-fills",
        &[
            "#!/bin/sh",
            "echo called >>/run/calls",
            "exec guest ramfill 50 1 /run/full",
        ],
    )?;
    let asked = "kjump snapshot --with-disks s";
    let refused = vm.run_for(&format!("{asked} --room 64M"), LONG)?;
    ensure!(
        refused.rc == exit::TARGET && refused.text.contains("too small"),
        "{}: {}",
        refused.rc,
        refused.text
    );
    vm.sh("rm -r /run/full/* /run/calls")?;
    snapshot(&mut vm, asked)?;
    let calls = vm.sh("wc -l </run/calls")?;
    ensure!(calls.trim() == "2", "the hook was called {calls} times");
    vm.sh("mount -t ext4 /dev/vda /mnt; kjump image verify /mnt/s.kjump 2>/dev/null")?;
    let size: u64 = vm.sh("stat -c %s /mnt/s.kjump")?.trim().parse()?;
    ensure!(
        size > u64::from(config.memory) << 20,
        "a file of {size} bytes"
    );
    vm.power_off()
}
