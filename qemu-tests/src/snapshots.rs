// SPDX-License-Identifier: GPL-2.0

//! Snapshots of a machine, and going back to them, with a hook that rolls a disk back too.

use anyhow::{ensure, Result};

use crate::ending::Waiting;
use crate::hibernation::LONG;
use crate::vm::Vm;

/// Takes one; gives the moment, and what the command said.
pub fn snapshot(vm: &mut Vm, command: &str) -> Result<(Waiting, String)> {
    let started = vm.start_command(command)?;
    let waiting = vm.waiting(started);
    let output = vm.finish(started, LONG)?;
    ensure!(output.rc == 0, "{command}: {}: {}", output.rc, output.text);
    Ok((waiting, output.text))
}

/// Goes back; gives what the command of then says now.
pub fn rollback(vm: &mut Vm, command: &str, then: &Waiting) -> Result<String> {
    let started = vm.start_command(command)?;
    let output = vm.wait_back(started, then, LONG)?;
    ensure!(output.rc == 0, "{command}: {}: {}", output.rc, output.text);
    Ok(output.text)
}

/// Writes a hook.
pub fn hook(vm: &mut Vm, name: &str, lines: &[&str]) -> Result<()> {
    let path = format!("/etc/kjump/snapshot.d/{name}");
    let lines: Vec<_> = lines.iter().map(|l| format!("'{l}'")).collect();
    let lines = lines.join(" ");
    vm.sh(&format!(
        "mkdir -p /etc/kjump/snapshot.d; printf '%s\\n' {lines} >{path}; chmod +x {path}"
    ))
    .map(drop)
}

/// Writes a hook that rolls `/dev/vda`, of so many MiB, back by copies of it on the disk `copies`, one a
/// snapshot; the first is for `undo`. A snapshot's name is `s` and a number from 1 on.
pub fn copies(vm: &mut Vm, copies: &str, mebibytes: u64) -> Result<()> {
    let number = format!("n=$((${{2#s}} * {mebibytes}))");
    let copy = format!(
        "copy() {{ dd if=$1 of=$2 bs=1M count={mebibytes} skip=$3 seek=$4 \
         iflag=direct oflag=direct 2>/dev/null; }}"
    );
    let save = format!("save) copy /dev/vda {copies} 0 $n ;;");
    let restore = format!("restore) copy /dev/vda {copies} 0 0 && copy {copies} /dev/vda $n 0 ;;");
    let undo = format!("undo) copy {copies} /dev/vda 0 0 ;;");
    let lines = [
        "#!/bin/sh",
        &number,
        &copy,
        "case $1 in",
        &save,
        &restore,
        &undo,
        "*) exit 1 ;;",
        "esac",
    ];
    hook(vm, "10-copies", &lines)
}
