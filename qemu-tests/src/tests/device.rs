// SPDX-License-Identifier: GPL-2.0

//! \[device\]: a device of A's whose driver does not do as it is told. Where its callback fails, the
//! jump names the rung and the device and A goes on; where it does not return, A waits for it, and
//! restarts if it was told how long.

use std::time::Duration;

use anyhow::{ensure, Result};

use crate::artifacts::Kernel;
use crate::kjump::{self, exit, JUMP};
use crate::story::Story;
use crate::vm::Vm;
use crate::workload::Workload;

/// Phases of the way down, and the rungs that they belong to.
const DOWN: [(&str, &str); 3] = [
    ("freeze", "devices"),
    ("freeze_late", "devices-late"),
    ("freeze_noirq", "devices-late"),
];

/// A program that does nothing: the quickest peer, for which all devices go down and up.
const NOTHING: &str = "printf '\\303' >/run/nothing";
const CALL: &str = "kjump call /run/nothing --timeout 20000";

/// A round trip.
fn called(vm: &mut Vm) -> Result<()> {
    let output = vm.run_for(CALL, JUMP)?;
    ensure!(output.rc == 0, "{} and \"{}\"", output.rc, output.text);
    Ok(())
}

/// Has the device's callback for a phase fail, or not return for some seconds (0: ever).
fn stubborn(vm: &mut Vm, phase: &str, hang: Option<u32>) -> Result<()> {
    let at = "/sys/module/stubborn/parameters";
    let (hang, seconds) = hang.map_or(("N", 0), |seconds| ("Y", seconds));
    let line = format!(
        "echo {hang} >{at}/hang; echo {seconds} >{at}/seconds; echo \"{phase}\" >{at}/phase"
    );
    vm.sh(&line).map(drop)
}

/// A callback that fails, and one that takes its time.
pub fn fails(story: &Story) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "device_timeout=100")?;
    vm.sh("insmod /lib/stubborn.ko")?;
    let workload = Workload::start(&mut vm, image)?;
    vm.sh(NOTHING)?;
    let mut before = workload.progress(&mut vm)?;
    for (phase, rung) in DOWN {
        stubborn(&mut vm, phase, None)?;
        let output = vm.run_for(CALL, JUMP)?;
        let words = format!(
            "rung \"{rung}\" failed: Input/output error (the device that failed last: stubborn.0)"
        );
        let words = [words.clone(), words.replace("Input/output", "I/O")];
        ensure!(
            output.rc == exit::RUNG && words.iter().any(|w| output.text.contains(w.as_str())),
            "{phase}: {} and \"{}\"",
            output.rc,
            output.text
        );
        ensure!(output.text.lines().count() == 1, "{}", output.text);
        before = workload.healthy(&mut vm, before)?;
    }
    // What fails on the way up is told by the kernel's log, and nobody waits for it.
    stubborn(&mut vm, "restore", None)?;
    let mark = vm.console.mark();
    called(&mut vm)?;
    before = workload.healthy(&mut vm, before)?;
    vm.sh("dmesg | grep 'stubborn.0.*failed to restore'")?;
    ensure!(!vm.console.since(mark).contains("panic"), "A panicked");
    // Slow is not stuck.
    for phase in ["freeze", "restore"] {
        stubborn(&mut vm, phase, Some(3))?;
        called(&mut vm)?;
        before = workload.healthy(&mut vm, before)?;
    }
    workload.end(&mut vm)
}

/// A callback that never returns.
pub fn hangs(story: &Story) -> Result<()> {
    let mut vm = story.boot("A", &story.config(Kernel::Full)?)?;
    kjump::insmod(&mut vm, "device_timeout=3")?;
    vm.sh("insmod /lib/stubborn.ko")?;
    vm.sh(NOTHING)?;
    stubborn(&mut vm, "freeze", Some(0))?;
    story.expect_trouble(vm.console.mark());
    let mark = vm.console.mark();
    vm.start_command(CALL)?;
    // What is stuck is told: the driver's function is on the stack.
    vm.wait_for(mark, "a device's driver does not return", JUMP)?;
    vm.wait_for(mark, "[stubborn]", JUMP)?;
    vm.wait_for(mark, "Kernel panic - not syncing: kjump: devices", JUMP)?;
    let event = vm.qmp.wait_event("SHUTDOWN", Duration::from_secs(60))?;
    ensure!(
        event["data"]["reason"] == "guest-reset",
        "the machine ended otherwise: {event}"
    );
    vm.wait_off(Duration::from_secs(30))
}
