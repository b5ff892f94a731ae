//! One file a verb.

pub mod back;
pub mod bios;
pub mod call;
pub mod core;
mod doctor;
pub use doctor::meminfo;
pub mod flatten;
pub mod hibernate;
pub mod image;
mod inspection;
pub mod jump;
pub mod load;
pub mod peer;
mod peers;
pub mod restore;
pub mod resume;
pub mod rollback;
pub mod save;
mod save_elf;
pub mod snapshot;
pub mod snapshots;
mod status;
pub mod target;
mod times;
pub mod to_elf;
pub mod unload;
mod wait;

use std::io::{self, Write};
use std::path::Path;

use crate::cli::{Command, Trust, Way};
use crate::error::{Error, Result};
use crate::watchdogs;

/// Does what the command line says; gives the exit code.
pub fn run(command: Command) -> Result<u8> {
    match command {
        Command::Load(args) => load::run(&args),
        Command::Peer(args) => peer::run(&args),
        Command::Jump(args) => jump::run(&args),
        Command::Call(args) => call::run(&args),
        Command::Bios(args) => bios::run(&args),
        Command::Back(args) => back::run(&args),
        Command::Wait(args) => wait::run(&args),
        Command::Unload(args) => unload::run(&args),
        Command::Peers(args) => peers::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Doctor => doctor::run(),
        Command::Hibernate(args) => hibernate::run(&args),
        Command::Resume(args) => resume::run(&args),
        Command::Snapshot(args) => snapshot::run(&args),
        Command::Rollback(args) => rollback::run(&args),
        Command::Snapshots(args) => snapshots::run(&args),
        Command::Save(args) => save::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Target(args) => target::run(&args),
        Command::Image(args) => image::run(&args),
        Command::Kexec { arguments } => crate::kexec::run(crate::kexec::Name::Kexec, arguments),
        Command::Thaw { descriptors } => {
            crate::snapshots::guardian::run(&descriptors);
            Ok(0)
        }
        Command::Init if std::process::id() != 1 => Err(Error::NotInit),
        Command::Init => crate::init::run(),
    }
}

/// Prints a line and flushes it: a jump may follow. A reader that has had enough is no error.
pub fn say(line: impl std::fmt::Display) -> Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|e| Error::io("standard output", e)),
    }
}

impl Way {
    /// The `JUMP_*` flags.
    pub fn flags(&self) -> u32 {
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        flag(self.no_freezer, kjump_abi::JUMP_NO_FREEZER)
            | flag(self.hotplug_cpus, kjump_abi::JUMP_HOTPLUG_CPUS)
    }
}

impl Way {
    /// That no hardware watchdog of this kernel's runs, or that it does not matter.
    pub fn check_watchdogs(&self, verb: &'static str) -> Result<()> {
        if self.ignore_watchdog {
            return Ok(());
        }
        match watchdogs::running(Path::new("/")) {
            None => Ok(()),
            Some(which) => Err(Error::Watchdog { verb, which }),
        }
    }
}

impl Trust {
    /// The `JUMP_*` flags.
    pub fn flags(self) -> u32 {
        if self.paranoid {
            kjump_abi::JUMP_PARANOID
        } else {
            0
        }
    }
}
