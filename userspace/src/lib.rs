//! `kjump`: lets a running Linux step aside for another kernel and come back.
//!
//! The command is [`main`]. [`untrusted`] names what reads files and texts that kjump did not write;
//! `userspace/fuzz` tries it with anything.

mod abort;
mod call;
mod cli;
mod cmd;
mod config;
mod device;
mod entered;
mod error;
mod exit;
mod figures;
mod hibernation;
mod init;
mod interop;
mod json;
mod kexec;
mod loader;
mod logger;
pub mod parse;
mod private;
mod progress;
mod secret;
mod snapshots;
mod swap;
pub mod untrusted;
mod watchdogs;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::Parser;

/// What the command does, from the arguments and the name it was called with.
pub fn main() -> ExitCode {
    if is_pid_1() {
        init::run();
    }
    if let Some((name, arguments)) = kexec::called_as(std::env::args_os()) {
        return kexec::main(name, arguments);
    }
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if is_usage(&e) => {
            let _ = writeln!(io::stderr(), "kjump: {}", one_line(&e.to_string()));
            return ExitCode::from(2);
        }
        Err(e) => e.exit(),
    };
    logger::install(cli.verbose);
    match cmd::run(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "kjump: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

/// Whether it is an error, and not help or the version that were asked for.
fn is_usage(e: &clap::Error) -> bool {
    e.use_stderr() && e.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}

/// What clap says first, as one line, with what to do: refusals are a line each.
fn one_line(said: &str) -> String {
    let first = said.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = first.split_whitespace().collect();
    let words = words.join(" ");
    let what = words.strip_prefix("error: ").unwrap_or(&words);
    format!("{what}; see `kjump --help`")
}

/// Was this started as the init of an initramfs? The kernel puts words of its command line into
/// the arguments then, so they are not looked at.
fn is_pid_1() -> bool {
    let name = std::env::args_os().next();
    let is_init = name.is_some_and(|n| Path::new(&n).file_name().is_some_and(|f| f == "init"));
    is_init && std::process::id() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_usage_is_a_line() {
        let said = |arguments: &[&str]| {
            let all = ["kjump"].iter().chain(arguments);
            let e = cli::Cli::try_parse_from(all).expect_err("refused");
            (is_usage(&e), one_line(&e.to_string()))
        };
        let (usage, line) = said(&["call", "x", "--in", "rax=1"]);
        assert!(usage && line.contains("there is no register rax") && !line.contains('\n'));
        let (usage, line) = said(&["call"]);
        assert!(usage && line.contains("<PROGRAM>") && line.ends_with("see `kjump --help`"));
        assert!(!said(&["--help"]).0 && !said(&[]).0 && !said(&["--version"]).0);
    }
}
