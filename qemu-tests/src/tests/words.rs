// SPDX-License-Identifier: GPL-2.0

//! \[words\]: the command word goes to the peer and its status word comes back, each time that it
//! is entered.

use anyhow::{ensure, Result};
use kjump_abi::COMMANDS;

use crate::artifacts::Kernel;
use crate::kjump::{self, exit};
use crate::story::Story;

/// Linux's EINVAL, with which `kjump init` answers words that make no sense to it.
const EINVAL: u32 = 22;
/// The command's exit code where A did not say what to save, and where to.
const NO_REQUEST: u32 = 6;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut vm = story.boot("A", &story.config(Kernel::Full)?)?;
    kjump::insmod(&mut vm, "")?;
    // B answers 7 unless it is asked to do something, and then what comes of it.
    kjump::load_lean_with_programs(
        &mut vm,
        "kjump.do=back kjump.status=7 kjump.run=/bin/guest,scribble",
    )?;
    let words = [
        ("none", "none", 7),
        ("run", "run", 0),
        ("hibernate", "hibernate", NO_REQUEST),
        ("0x1234", "unknown", EINVAL),
        ("none", "none", 7),
    ];
    for (entry, (word, name, answer)) in words.into_iter().enumerate() {
        let mark = vm.console.mark();
        let output = kjump::jump(&mut vm, &format!("--command {word}"))?;
        let wanted = if answer == 0 { 0 } else { exit::PEER_STATUS };
        let said = format!("peer came back: status {answer}");
        ensure!(
            output.rc == wanted && output.text == said,
            "--command {word}: {} and \"{}\"",
            output.rc,
            output.text
        );
        let status = kjump::status(&mut vm)?;
        ensure!(
            kjump::number(&status, "last_status")? == u64::from(answer),
            "{status}"
        );
        if entry > 0 {
            let number = COMMANDS.iter().find(|command| command.0 == word);
            let number = number.map_or(0x1234, |command| command.1);
            let heard = format!("entered again: command {number:#x} ({name})");
            ensure!(
                vm.console.since(mark).contains(&heard),
                "B did not hear \"{word}\""
            );
        }
    }
    Ok(())
}
