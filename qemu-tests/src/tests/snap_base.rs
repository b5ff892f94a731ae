// SPDX-License-Identifier: GPL-2.0

//! \[snap-base\]: snapshots that store only what has changed: a chain of three, the second is gone back
//! to; made flat they are gone back to alone; a base that is needed is not deleted, one that is missing
//! or another one now is named. gdb tells two of them apart.

use std::path::Path;

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use crate::artifacts::Kernel;
use crate::disk;
use crate::ending::Waiting;
use crate::initramfs::Purpose;
use crate::kjump::{self, exit};
use crate::snapshots::{rollback, snapshot};
use crate::story::Story;
use crate::tools;
use crate::vm::Vm;

/// Exit code: the base is missing, or is not what it was.
const BASE: i32 = 63;
/// Exit code: others build on it.
const NEEDED: i32 = 64;
/// What is in memory from the start, and what comes with each moment.
const FIRST: &str = "24M";
const MORE: &str = "3M";

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Small)?;
    config.memory = 160;
    let [store, cores, raw] = ["store.img", "cores.img", "raw.img"].map(|n| story.file(n));
    disk::ext4(&store, 768)?;
    let nothing = story.file("nothing");
    std::fs::create_dir(&nothing)?;
    disk::ext2(&cores, 400, &nothing)?;
    disk::empty(&raw, 256)?;
    for image in [&store, &cores, &raw] {
        config.disks.push(image.clone().into());
    }
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    vm.sh("echo 'snapshots = \"/dev/vda\"' >>/etc/kjump.toml")?;
    vm.sh("guest counter /run/counter >/dev/null 2>&1 & echo $! >/run/counter.pid")?;

    let first = moment(&mut vm, 1, FIRST, "kjump snapshot s1")?;
    let second = moment(&mut vm, 2, MORE, "kjump snapshot s2 --base s1")?;
    let third = moment(&mut vm, 3, MORE, "kjump snapshot s3 --base s2")?;
    let list = listed(&mut vm)?;
    let of = |name: &str| list.iter().find(|s| s["name"] == name);
    let field = |name: &str, key: &str| of(name).map(|s| s[key].clone()).context("not listed");
    ensure!(field("s1", "base")?.is_null(), "{list:?}");
    ensure!(field("s2", "base")?["name"] == "s1", "{list:?}");
    ensure!(field("s3", "base")?["name"] == "s2", "{list:?}");
    let bytes = |name: &str| field(name, "bytes").map(|b| b.as_u64().unwrap_or_default());
    let (whole, part) = (bytes("s1")?, bytes("s3")?);
    ensure!(part > 0 && part < whole / 2, "{part} bytes beside {whole}");
    story.note(format!("{whole} bytes, with a base {part}"));

    // What others need stays.
    let delete = "kjump snapshots --delete s1";
    kjump::refuses(&mut vm, delete, NEEDED, "s2")?;
    vm.sh("mkdir /run/store && mount -t ext4 /dev/vda /run/store")?;
    let discard = "kjump image discard /run/store/s1.kjump";
    kjump::refuses(&mut vm, discard, NEEDED, "s2")?;
    vm.sh("umount /run/store")?;
    kjump::refuses(&mut vm, "kjump image flatten s2", NEEDED, "s3")?;

    // Through the chain.
    back(&mut vm, "s2", &second, 2)?;
    look_with_gdb(story, &mut vm, &cores)?;

    // Alone.
    quietly(&mut vm, "kjump image flatten s2 flat2")?;
    quietly(&mut vm, "kjump image flatten s3")?;
    for name in ["s2", "s1"] {
        vm.sh(&format!("kjump snapshots --delete {name}"))?;
    }
    let list = listed(&mut vm)?;
    ensure!(
        list.len() == 2 && list.iter().all(|s| s["base"].is_null()),
        "{list:?}"
    );
    back(&mut vm, "s3", &third, 3)?;
    back(&mut vm, "flat2", &second, 2)?;
    let gone = "kjump rollback s1";
    kjump::refuses(&mut vm, gone, exit::NO_IMAGE, "no snapshot")?;
    drop(first);

    // One whose base goes.
    let (then, _) = snapshot(&mut vm, "kjump snapshot /dev/vdc")?;
    snapshot(&mut vm, "kjump snapshot s4 --base /dev/vdc")?;
    kjump::refuses(&mut vm, "kjump snapshot /dev/vdc", NEEDED, "s4")?;
    let over = "kjump snapshot /dev/vdc --base /dev/vdc";
    kjump::refuses(&mut vm, over, exit::USAGE, "its own base")?;
    let mark = vm.sh("guest poke /dev/vdc 0 0000")?;
    kjump::refuses(&mut vm, "kjump rollback s4", BASE, "is missing")?;
    vm.sh(&format!("guest poke /dev/vdc 0 {}", mark.trim()))?;
    rollback(&mut vm, "kjump rollback /dev/vdc", &then)?;
    snapshot(&mut vm, "kjump snapshot --force /dev/vdc")?;
    kjump::refuses(&mut vm, "kjump rollback s4", BASE, "was replaced")?;
    vm.sh("kill -0 $(cat /run/counter.pid)")?;
    vm.power_off()
}

/// Brings A to a moment with a number and a task of that name, and takes a snapshot of it.
fn moment(vm: &mut Vm, number: u32, more: &str, command: &str) -> Result<Waiting> {
    vm.sh(&format!("echo {number} >/run/at; mkdir /run/data{number}"))?;
    vm.sh(&format!("guest ramfill {more} {number} /run/data{number}"))?;
    vm.sh(&format!(
        "sh -c 'echo moment-{number} >/proc/$$/comm; while :; do sleep 1000; done' >/dev/null 2>&1 &"
    ))?;
    let (waiting, said) = snapshot(vm, command)?;
    let with_base = said.contains("of them are in s");
    ensure!(with_base == command.contains("--base"), "{said}");
    Ok(waiting)
}

/// Goes back to a moment: all is there that was, nothing that was not, and A goes on.
fn back(vm: &mut Vm, name: &str, then: &Waiting, number: u32) -> Result<()> {
    let said = rollback(vm, &format!("kjump rollback {name}"), then)
        .with_context(|| format!("back to {name}"))?;
    ensure!(said.contains("rolled back"), "{said}");
    let at = vm.sh("cat /run/at")?;
    ensure!(at == number.to_string(), "at {at} instead of {number}");
    for number in 1..=number {
        vm.sh(&format!("guest ramcheck {number} /run/data{number}"))?;
    }
    let next = number + 1;
    vm.sh(&format!("test ! -e /run/data{next}"))?;
    vm.sh("(a=$(cat /run/counter); for i in $(seq 100); do [ $(cat /run/counter) != $a ] && exit 0; sleep 0.1; done; exit 1)")
        .context("the counter stands still")?;
    Ok(())
}

/// What is listed, as the command tells programs.
fn listed(vm: &mut Vm) -> Result<Vec<Value>> {
    let text = vm.sh("kjump snapshots --json")?;
    let list: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    Ok(list.as_array().context("no list")?.clone())
}

/// Runs what tells its progress and takes long.
fn quietly(vm: &mut Vm, command: &str) -> Result<()> {
    vm.run_for(&format!("{command} 2>&1"), crate::hibernation::LONG)?
        .ok()
        .map(drop)
        .with_context(|| command.to_string())
}

/// Two of the chain as cores: the task that came between them is in the later one only.
fn look_with_gdb(story: &Story, vm: &mut Vm, cores: &Path) -> Result<()> {
    vm.sh("mkdir -p /cores; mount /dev/vdb /cores")?;
    for name in ["s1", "s3"] {
        quietly(vm, &format!("kjump image to-elf {name} /cores/{name}.elf"))?;
    }
    vm.sh("umount /cores")?;
    let vmlinux = story.artifacts.vmlinux(Kernel::Full);
    for (name, there, not) in [("s1", 1, 2), ("s3", 3, 4)] {
        let core = story.file("core.elf");
        let _ = std::fs::remove_file(&core);
        disk::extract(cores, &format!("/{name}.elf"), &core)?;
        tools::readelf(&core)?;
        let said = tools::gdb(&vmlinux, &core, tools::TASKS, &story.dir)?;
        for (task, wanted) in [
            ("swapper".into(), true),
            (moment_task(there), true),
            (moment_task(not), false),
        ] {
            ensure!(
                said.contains(&task) == wanted,
                "gdb on {name}, {task}: {said}"
            );
        }
    }
    Ok(())
}

fn moment_task(number: u32) -> String {
    format!("moment-{number}")
}
