//! `kjump`: lets a running Linux step aside for another kernel and come back.

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
mod parse;
mod progress;
mod snapshots;
mod swap;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    if is_pid_1() {
        init::run();
    }
    if let Some((name, arguments)) = kexec::called_as(std::env::args_os()) {
        return kexec::main(name, arguments);
    }
    let cli = cli::Cli::parse();
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

/// Was this started as the init of an initramfs? The kernel puts words of its command line into
/// the arguments then, so they are not looked at.
fn is_pid_1() -> bool {
    let name = std::env::args_os().next();
    let is_init = name.is_some_and(|n| Path::new(&n).file_name().is_some_and(|f| f == "init"));
    is_init && std::process::id() == 1
}
