// SPDX-License-Identifier: GPL-2.0

//! \[interrupts\]: what comes from outside while A steps aside: NMIs at any moment of the way, and
//! serial input, keys and mouse events that are pending when the interrupts go off. A is as healthy as
//! ever, and hears what comes after.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use serde_json::json;

use crate::artifacts::Kernel;
use crate::chance::Chance;
use crate::kjump;
use crate::story::Story;
use crate::vm::Vm;
use crate::workload::Workload;

/// Round trips with one kind of interrupt.
const FEW: u32 = 5;
const MANY: u32 = 100;

/// Jumps that many times, with `disturb` called again and again meanwhile; how often it was.
fn jumps(
    vm: &mut Vm,
    count: u32,
    chance: &mut Chance,
    mut disturb: impl FnMut(&mut Vm) -> Result<()>,
) -> Result<u32> {
    let line = format!("for i in $(seq {count}); do kjump jump || exit; done");
    let started = vm.start_command(&line)?;
    let mut disturbed = 0;
    let output = loop {
        if let Some(output) = vm.ended(started)? {
            break output;
        }
        sleep(chance.moment(Duration::from_millis(20)));
        disturb(vm)?;
        disturbed += 1;
    };
    ensure!(output.rc == 0, "{} and \"{}\"", output.rc, output.text);
    Ok(disturbed)
}

/// Whether a kernel may be on its way to its own table of interrupts: the peer that is booting has turned
/// paging on, and has for a moment none that it could reach. An NMI then resets the machine, as it does at any
/// boot of Linux; one boot in twenty had that.
fn between_tables(said: &str) -> bool {
    match said.find("Suspending console") {
        Some(left) => !said[left..].contains("Linux version"),
        None => false,
    }
}

/// NMIs. The kernels say that they do not know what they are for.
pub fn nmi(story: &Story) -> Result<()> {
    let mut chance = Chance::new()?;
    let seed = chance.seed();
    let many = if story.long { MANY } else { FEW };
    let mut config = story.config(Kernel::Full)?;
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let workload = Workload::start(&mut vm, image)?;
    let mut before = workload.progress(&mut vm)?;
    let mut sent = 0;
    for round in 0..if story.long { 20 } else { 1 } {
        // The peer boots under them, and is entered again under them.
        kjump::load_lean(&mut vm, kjump::COME_BACK)?;
        let inject = |vm: &mut Vm| vm.qmp.execute("inject-nmi", json!({})).map(drop);
        let mark = vm.console.mark();
        let boot = |vm: &mut Vm| match between_tables(&vm.console.since(mark)) {
            true => Ok(()),
            false => inject(vm),
        };
        sent += jumps(&mut vm, 1, &mut chance, boot)
            .with_context(|| format!("round {round}, the boot, with KJUMP_SEED={seed}"))?;
        sent += jumps(&mut vm, many, &mut chance, inject)
            .with_context(|| format!("round {round}, with KJUMP_SEED={seed}"))?;
        before = workload.healthy(&mut vm, before)?;
        vm.sh("kjump unload")?;
    }
    story.note(format!("{sent} NMIs"));
    ensure!(sent > 20, "only {sent} NMIs");
    ensure!(
        vm.sh("grep NMI: /proc/interrupts")?
            .split_whitespace()
            .nth(1)
            != Some("0"),
        "A has not had one"
    );
    workload.end(&mut vm)
}

/// Interrupts of devices.
pub fn pending(story: &Story) -> Result<()> {
    let mut chance = Chance::new()?;
    let seed = chance.seed();
    let many = if story.long { MANY } else { FEW };
    let mut config = story.config(Kernel::Full)?;
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let workload = Workload::start(&mut vm, image)?;
    let before = workload.progress(&mut vm)?;
    // Somebody listens at the console, so that its port interrupts.
    vm.sh("stty -F /dev/ttyS0 raw -echo; cat /dev/ttyS0 >/run/typed & sleep 1")?;
    kjump::load_lean(&mut vm, kjump::COME_BACK)?;
    let mut down = false;
    let disturb = |vm: &mut Vm| {
        down = !down;
        vm.type_in("x")?;
        let key =
            json!({"type": "key", "data": {"down": down, "key": {"type": "qcode", "data": "a"}}});
        vm.qmp
            .execute("input-send-event", json!({ "events": [key] }))
            .map(drop)
    };
    let sent = jumps(&mut vm, many, &mut chance, disturb)
        .with_context(|| format!("with KJUMP_SEED={seed}"))?;
    story.note(format!("{sent} keys and bytes"));
    // What comes now arrives, byte by byte, and so do keys.
    vm.type_in("the end\n")?;
    vm.sh("for i in $(seq 100); do grep -q 'the end' /run/typed && break; sleep 0.1; done; grep -q 'the end' /run/typed")?;
    let count = |vm: &mut Vm| -> Result<u64> {
        let line = vm.sh("grep i8042 /proc/interrupts | head -n 1")?;
        let numbers = line
            .split_whitespace()
            .skip(1)
            .map_while(|n| n.parse::<u64>().ok());
        Ok(numbers.sum())
    };
    let earlier = count(&mut vm)?;
    vm.qmp.hmp("sendkey b")?;
    vm.sh("sleep 1")?;
    ensure!(count(&mut vm)? > earlier, "the keyboard is dead");
    workload.healthy(&mut vm, before)?;
    workload.end(&mut vm)
}
