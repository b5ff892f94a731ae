// SPDX-License-Identifier: GPL-2.0

//! The shell of a peer, typed into on the first serial port: what a user of the seeds' recipes sees.

use anyhow::{ensure, Context, Result};

use crate::hibernation::LONG;
use crate::vm::Vm;

/// What the shell says when it is there.
const PROMPT: &str = "/ #";
/// What is printed around a line's own output.
const BEGIN: &str = "begins:";
const END: &str = "ends:";

/// Waits for a shell that appears after `mark`.
pub fn wait(vm: &Vm, mark: usize) -> Result<()> {
    vm.console
        .wait_text(mark, PROMPT, LONG)
        .context("no shell on the console")
}

/// Types a line without waiting for its end; [`finish`] does.
pub fn start(vm: &mut Vm, line: &str) -> Result<usize> {
    let mark = vm.console.mark();
    // Quoted, so that the echo of what is typed is not taken for what it prints.
    let typed = format!("echo begins\":\"; {line}; code=$?; echo; echo ends\":\" $code\n");
    vm.type_in(&typed)?;
    Ok(mark)
}

/// Waits for the end of the line that was typed at `mark`; gives its exit code and what it printed.
pub fn finish(vm: &Vm, mark: usize) -> Result<(i32, String)> {
    let text = vm.wait_for(mark, &format!("{END} "), LONG)?;
    parse(&text).with_context(|| format!("the shell said: {text}"))
}

/// Types a line that must end well, and gives what it printed.
pub fn line(vm: &mut Vm, line: &str) -> Result<String> {
    let mark = start(vm, line)?;
    let (code, text) = finish(vm, mark).with_context(|| line.to_string())?;
    ensure!(code == 0, "{line}: it ended with {code}, after: {text}");
    Ok(text)
}

fn parse(text: &str) -> Result<(i32, String)> {
    // Neither is in the echo of what is typed, which has quotes in them. A kernel's message may follow either
    // on its line.
    let (before, code) = text
        .rsplit_once(&format!("{END} "))
        .context("it has no end")?;
    let code = code.split_whitespace().next().unwrap_or_default();
    let (_, printed) = before.split_once(BEGIN).context("it has no beginning")?;
    Ok((code.trim().parse()?, printed.trim().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_line_prints_is_told_from_its_echo() {
        let seen = "/ # echo begins\":\"; cat x; code=$?; echo; echo ends\":\" $code\nbegins:\na\nb\n\nends: 3";
        assert_eq!(parse(seen).unwrap(), (3, "a\nb".to_string()));
        let seen = "/ # echo begins\":\"; x; code=$?; echo; echo ends\":\" $code\nbegins:tsc: 2596 MHz\n\na\n\nends: 0";
        assert_eq!(parse(seen).unwrap(), (0, "tsc: 2596 MHz\n\na".to_string()));
        assert!(parse("/ # echo begins\":\"").is_err());
    }
}
