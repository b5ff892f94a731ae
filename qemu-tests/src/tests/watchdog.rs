// SPDX-License-Identifier: GPL-2.0

//! \[watchdog\]: a hardware watchdog that runs in A. Nobody would feed it while A is away, so A does
//! not go, unless told that the peer sees to it; and what the refusal says would happen, happens.

use std::time::Duration;

use anyhow::{ensure, Result};

use crate::artifacts::Kernel;
use crate::kjump::{self, exit, refuses, JUMP};
use crate::story::Story;
use crate::vm::Vm;

/// A program that feeds the watchdog every second, as a daemon does; ends it in good order.
const FEED: &str = "(while true; do echo; test -e /run/enough && { echo V; exit; }; sleep 1; done) \
                    >/dev/watchdog0 & until ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q watchdog; do sleep 0.1; done";

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    // Seconds after which it bites.
    config.append = "i6300esb.heartbeat=8".into();
    let dog = ["-device", "i6300esb", "-action", "watchdog=reset"];
    config.extra.extend(dog.map(String::from));
    let mut vm = story.boot("A, with a watchdog", &config)?;
    kjump::insmod(&mut vm, "")?;
    kjump::load_lean(&mut vm, kjump::COME_BACK)?;
    kjump::jump_and_return(&mut vm, "")?;
    vm.sh(FEED)?;
    let said = "a watchdog is running (/dev/watchdog0, held open by sh";
    refuses(&mut vm, "kjump jump", exit::WATCHDOG, said)?;
    refuses(
        &mut vm,
        "kjump hibernate --target /dev/vda",
        exit::WATCHDOG,
        said,
    )?;
    let doctor = vm.run("kjump doctor")?;
    ensure!(
        doctor
            .text
            .contains("MEND  hardware watchdog /dev/watchdog0"),
        "{}",
        doctor.text
    );
    // A resident peer is away for less than the watchdog's time.
    kjump::jump_and_return(&mut vm, "--ignore-watchdog")?;
    alive(&mut vm)?;
    // Stopped in good order, it is in nobody's way.
    vm.sh("touch /run/enough; sleep 2; rm /run/enough")?;
    kjump::jump_and_return(&mut vm, "")?;
    vm.sh("kjump unload")?;

    // A peer that stays away, and does nothing about it: here one without any kernel.
    vm.sh(FEED)?;
    kjump::load_spin(&mut vm)?;
    let mark = vm.console.mark();
    vm.start_command("kjump jump --ignore-watchdog")?;
    vm.wait_for(mark, crate::peer::LINE, JUMP)?;
    vm.qmp.wait_event("WATCHDOG", JUMP)?;
    vm.wait_off(Duration::from_secs(30))
}

/// A goes on for longer than the watchdog's time.
fn alive(vm: &mut Vm) -> Result<()> {
    let said = vm.sh("sleep 10; echo alive")?;
    ensure!(said == "alive", "{said}");
    Ok(())
}
