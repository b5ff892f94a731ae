// SPDX-License-Identifier: GPL-2.0

//! \[hung\]: a B that fails. If it panics it comes back with the reason, or restarts the machine,
//! as configured; if it hangs a watchdog restarts the machine.

use std::time::Duration;

use anyhow::{ensure, Result};

use crate::artifacts::Kernel;
use crate::kjump::{self, exit};
use crate::story::Story;
use crate::vm::Vm;
use crate::workload::Workload;

/// A B that panics comes back.
pub fn panics(story: &Story) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let workload = Workload::start(&mut vm, image)?;

    // At once, and when it runs out of memory, with a reason of its own each time.
    let ways = [
        ("kjump.do=iomem,panic", ""),
        ("kjump.run=/bin/guest,panic kjump.do=run,back", "memory"),
    ];
    for (what, words) in ways {
        kjump::load_lean_with_programs(&mut vm, what)?;
        let before = workload.progress(&mut vm)?;
        story.expect_trouble(vm.console.mark());
        let jump = vm.start_command("kjump jump")?;
        let output = vm.finish(jump, kjump::JUMP)?;
        story.trouble_is_over();
        ensure!(
            output.rc == exit::PEER_PANIC && output.text.contains("peer panicked: "),
            "{what}: {} and \"{}\"",
            output.rc,
            output.text
        );
        let status = kjump::status(&mut vm)?;
        ensure!(status["last_outcome"] == "panic", "{status}");
        let reason = status["reason"].as_str().unwrap_or_default();
        ensure!(
            !reason.is_empty() && reason.contains(words),
            "{what}: reason \"{reason}\""
        );
        workload.healthy(&mut vm, before)?;
        // The dead peer cannot be entered again.
        let again = kjump::jump(&mut vm, "")?;
        ensure!(
            again.rc != 0,
            "a peer that panicked was entered again: {}",
            again.text
        );
        vm.run("kjump unload")?;
    }

    // While its devices come back, at an entry that is not the first.
    let trouble = "kjump.run=/bin/busybox,insmod,/lib/trouble.ko,panic_on_restore=1";
    kjump::load_lean_with_programs(&mut vm, &format!("{trouble} kjump.do=run,back"))?;
    kjump::jump_and_return(&mut vm, "")?;
    let before = workload.progress(&mut vm)?;
    story.expect_trouble(vm.console.mark());
    let jump = vm.start_command("kjump jump")?;
    let output = vm.finish(jump, kjump::JUMP)?;
    story.trouble_is_over();
    ensure!(
        output.rc == exit::PEER_PANIC && output.text.contains("a device does not come back"),
        "a panic on the way up: {} and \"{}\"",
        output.rc,
        output.text
    );
    workload.healthy(&mut vm, before)?;
    vm.run("kjump unload")?;

    // A new one can be loaded, and works.
    kjump::load_lean(&mut vm, kjump::COME_BACK)?;
    let before = workload.progress(&mut vm)?;
    kjump::jump_and_return(&mut vm, "")?;
    workload.healthy(&mut vm, before)?;
    workload.end(&mut vm)
}

/// A B that panics restarts the machine, if it was told to.
pub fn restarts(story: &Story) -> Result<()> {
    let mut vm = story.boot("A", &story.config(Kernel::Full)?)?;
    kjump::insmod(&mut vm, "")?;
    kjump::load_lean(&mut vm, "panic=2 kjump.mod.panic_back=0 kjump.do=panic")?;
    story.expect_trouble(vm.console.mark());
    let mark = vm.console.mark();
    vm.start_command("kjump jump")?;
    vm.wait_for(mark, "Rebooting in 2 seconds", kjump::JUMP)?;
    off_by_reset(&mut vm)
}

/// A B that hangs is reset by the watchdog that it has armed.
pub fn hangs(story: &Story) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    config
        .extra
        .extend(["-device", "i6300esb", "-action", "watchdog=reset"].map(String::from));
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;

    // Armed, and then fed and disarmed: B comes back in its own time.
    kjump::load_lean(&mut vm, "kjump.watchdog=10 kjump.do=iomem,back")?;
    kjump::jump_and_return(&mut vm, "")?;
    std::thread::sleep(Duration::from_secs(12));
    ensure!(vm.sh("echo alive")? == "alive", "B's watchdog has bitten A");
    vm.sh("kjump unload")?;

    kjump::load_lean(&mut vm, "kjump.watchdog=5 kjump.do=hang")?;
    vm.start_command("kjump jump")?;
    vm.qmp.wait_event("WATCHDOG", kjump::JUMP)?;
    off_by_reset(&mut vm)
}

/// The machine restarts: as QEMU was told, that ends it.
pub fn off_by_reset(vm: &mut Vm) -> Result<()> {
    let event = vm.qmp.wait_event("SHUTDOWN", Duration::from_secs(60))?;
    ensure!(
        event["data"]["reason"] == "guest-reset",
        "the machine ended otherwise: {event}"
    );
    vm.wait_off(Duration::from_secs(30))
}
