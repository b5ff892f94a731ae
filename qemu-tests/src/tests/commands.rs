// SPDX-License-Identifier: GPL-2.0

//! \[commands\]: a resident peer does what a command word says: by a program of its initramfs, or by
//! one that waits for words, and the answer is `kjump jump`'s result.

use anyhow::{ensure, Result};

use crate::artifacts::Kernel;
use crate::initramfs::{COMMAND, COMMAND_ANSWER, WAITER};
use crate::kjump::{self, exit};
use crate::story::Story;
use crate::vm::Vm;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut vm = story.boot("A", &story.config(Kernel::Full)?)?;
    kjump::insmod(&mut vm, "")?;

    // PID 1 finds the program.
    kjump::load_lean_with_programs(&mut vm, "kjump.do=back kjump.status=7")?;
    answers(&mut vm, "", 7, "")?;
    let told = format!("told: unknown {COMMAND}");
    answers(
        &mut vm,
        &format!("--command {COMMAND}"),
        COMMAND_ANSWER,
        &told,
    )?;
    answers(&mut vm, "--command 0x78", 22, "entered again: command 0x78")?;
    vm.sh("kjump unload")?;

    // A program waits for the words, and ends; then it is PID 1's turn.
    kjump::load_lean_with_programs(&mut vm, &format!("kjump.do=run,back kjump.run={WAITER}"))?;
    answers(&mut vm, "--command shell", 1, "waiter: now shell")?;
    answers(&mut vm, "--command shell", 11, "waiter: shell")?;
    let status = kjump::status(&mut vm)?;
    ensure!(status["reason"] == "did shell", "{status}");
    answers(&mut vm, "--command 0x1234", 12, "waiter: 0x1234")?;
    answers(&mut vm, "", 0, "waiter: none")?;
    answers(&mut vm, "--command run", 9, "waiter: run")
}

/// A jump comes back with that answer, and the peer has said that.
fn answers(vm: &mut Vm, options: &str, answer: u32, said: &str) -> Result<()> {
    let mark = vm.console.mark();
    let output = kjump::jump(vm, options)?;
    let wanted = if answer == 0 { 0 } else { exit::PEER_STATUS };
    let line = format!("peer came back: status {answer}");
    ensure!(
        output.rc == wanted && output.text == line,
        "jump {options}: {} and \"{}\"",
        output.rc,
        output.text
    );
    let seen = vm.console.since(mark);
    ensure!(
        seen.contains(said),
        "jump {options}: the peer did not say \"{said}\""
    );
    Ok(())
}
