//! The steps of `kjump.do=`, and what a peer does when it is entered again.

use std::path::Path;

use kjump_abi as abi;
use rustix::io::Errno;

use super::options::{Action, Options};
use super::watchdog::Watchdog;
use super::{commands, say, system};
use crate::cmd::jump::rung_error;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hibernation::core_map::CoreMap;
use crate::{interop, parse};

/// The command word "resume".
const RESUME: u32 = 0x6b63_0004;

/// How often the way back is tried.
const BACK_TRIES: u32 = 5;

/// What the steps share.
pub struct Init {
    /// What the command line says.
    pub options: Options,
    /// The watchdog.
    pub watchdog: Watchdog,
    /// How the last `run` ended.
    pub last_exit: Option<u32>,
}

/// What a peer says when it goes back.
#[derive(Debug, Default)]
struct Answer {
    status: u32,
    reason: String,
}

impl Answer {
    fn status(status: u32) -> Self {
        let reason = String::new();
        Self { status, reason }
    }

    fn failed(e: &Error) -> Self {
        Self {
            status: e.errno(),
            reason: e.to_string(),
        }
    }
}

/// What to do about a command word.
#[derive(Debug, PartialEq, Eq)]
enum Service {
    Nothing,
    Shell,
    Run,
    Hibernate,
    Resume,
    Refuse(Errno),
}

fn service(word: u32) -> Service {
    match parse::command_name(word) {
        Some("none") => Service::Nothing,
        Some("shell") => Service::Shell,
        Some("run") => Service::Run,
        Some("hibernate") => Service::Hibernate,
        Some("resume") => Service::Resume,
        Some(_) => Service::Refuse(Errno::OPNOTSUPP),
        None => Service::Refuse(Errno::INVAL),
    }
}

fn number(errno: Errno) -> u32 {
    errno.raw_os_error().unsigned_abs()
}

impl Init {
    /// What to do when the command line does not say: what the handoff's command word says, or
    /// else a shell.
    pub fn default_actions(&self) -> Vec<Action> {
        // One that was jumped to is somebody's peer: what it would restore is written over that.
        if self.options.handoff.is_none() && self.options.resume && !self.options.jumped {
            return vec![Action::Resume];
        }
        let word = match (self.options.handoff, Device::open()) {
            (Some(_), Ok(device)) => device.handoff().map_or(0, |h| h.mailbox.command),
            _ => 0,
        };
        vec![match word {
            0 if CoreMap::is_there() => Action::Command(RESUME),
            0 if self.options.go_to_hibernate => Action::Back,
            0 => Action::Shell,
            word => Action::Command(word),
        }]
    }

    /// Does a step.
    pub fn act(&mut self, action: Action) -> Result<()> {
        match action {
            Action::Iomem => system::print_iomem(),
            Action::Run => self.run_program(),
            Action::Back => self.serve(Answer::status(self.answer())),
            Action::Command(word) => {
                let answer = self.obey(word);
                self.serve(answer)
            }
            Action::Resume => {
                // It would go on counting in the kernel that is entered.
                self.watchdog.disarm();
                let result = super::resume::from_bootloader(&self.options);
                self.watchdog.arm();
                result
            }
            Action::Shell => shell(),
            Action::Panic => system::panic(),
            Action::Hang => {
                self.watchdog.starve();
                loop {
                    std::hint::spin_loop();
                }
            }
            Action::Poweroff => system::end(true),
            Action::Reboot => system::end(false),
        }
    }

    /// A step failed: tell it, and tell it to the kernel that this one was entered from.
    pub fn failed(&mut self, e: &Error) {
        say(format_args!("failed: {e}"));
        // After a failed way back, another one would fail the same way: `shell` comes next.
        let from_back = matches!(
            e,
            Error::Rung { .. } | Error::NoModule | Error::NotPeer { .. } | Error::NoWayBack { .. }
        );
        if self.options.handoff.is_some() && !from_back {
            if let Err(e) = self.serve(Answer::failed(e)) {
                say(format_args!("failed: {e}"));
            }
        }
    }

    /// The answer of a plain `back`.
    fn answer(&self) -> u32 {
        self.options.status.or(self.last_exit).unwrap_or(0)
    }

    fn run_program(&mut self) -> Result<()> {
        let Some((program, arguments)) = self.options.run.split_first() else {
            let why = std::io::Error::from(Errno::INVAL);
            return Err(Error::io(
                "run: kjump.run= is missing on the command line",
                why,
            ));
        };
        let code = system::run(program, arguments)?;
        say(format_args!("run: {program}: exit {code}"));
        self.last_exit = Some(code);
        Ok(())
    }

    /// Goes back with an answer, and each time that it is entered again does what the command word
    /// says and goes back with what came of it. Ends only with an error.
    fn serve(&mut self, mut answer: Answer) -> Result<()> {
        loop {
            let word = self.back_again(&answer)?;
            let name = parse::command_name(word).unwrap_or("unknown");
            say(format_args!("entered again: command {word:#x} ({name})"));
            answer = self.obey(word);
        }
    }

    /// Does what a command word says; gives the answer.
    fn obey(&mut self, word: u32) -> Answer {
        // A peer that was made to restore a core does that, whatever it is not told.
        let word = match word {
            0 if CoreMap::is_there() => RESUME,
            word => word,
        };
        if let Some(program) = commands::program(word) {
            return self.obey_with(&program, word);
        }
        let result = match service(word) {
            Service::Nothing => Ok(self.options.status.unwrap_or(0)),
            Service::Refuse(errno) => Ok(number(errno)),
            Service::Shell => shell().map(|()| 0),
            Service::Run => self.run_program().map(|()| self.last_exit.unwrap_or(0)),
            Service::Hibernate => super::hibernate::as_asked(&self.options).map(|()| 0),
            Service::Resume => {
                self.watchdog.disarm();
                let result = super::resume::as_asked();
                self.watchdog.arm();
                result.map(|()| 0)
            }
        };
        match result {
            Ok(status) => Answer::status(status),
            Err(e) => {
                say(format_args!("failed: {e}"));
                match service(word) {
                    // The other end is this same command, and knows its exit codes.
                    Service::Hibernate | Service::Resume => Answer {
                        status: e.exit_code().into(),
                        reason: e.to_string(),
                    },
                    _ => Answer::failed(&e),
                }
            }
        }
    }

    /// As [`Init::obey`], by a program of the initramfs: its exit code is the answer.
    fn obey_with(&mut self, program: &Path, word: u32) -> Answer {
        let program = program.display().to_string();
        match system::run(&program, &commands::arguments(word)) {
            Ok(code) => {
                say(format_args!("command: {program}: exit {code}"));
                Answer::status(code)
            }
            Err(e) => {
                say(format_args!("failed: {e}"));
                Answer::failed(&e)
            }
        }
    }

    /// Goes back; where a rung fails, tries again: a peer that stays leaves its caller away.
    fn back_again(&mut self, answer: &Answer) -> Result<u32> {
        for _ in 1..BACK_TRIES {
            match self.back(answer) {
                Err(e @ Error::Rung { .. }) => say(format_args!("{e}")),
                other => return other,
            }
            system::nap();
        }
        self.back(answer)
    }

    /// Goes back once; returns with the new command word when entered again.
    fn back(&mut self, answer: &Answer) -> Result<u32> {
        let status = answer.status.min(abi::STATUS_MAX);
        let device = match Device::open() {
            Err(Error::NoModule) => None,
            other => Some(other?),
        };
        say(format_args!("back: status {status}"));
        let mut back = abi::Back {
            status,
            reason: parse::reason(&answer.reason),
            ..Default::default()
        };
        // Images that were made by hand here are out of date as soon as that kernel goes on.
        crate::cmd::save::give_up_made()?;
        rustix::fs::sync();
        self.watchdog.disarm();
        let result = match &device {
            Some(device) => crate::entered::back(device, &mut back),
            None => Err(Errno::NODEV),
        };
        // No module, or no handoff: by mainline's own jump, if it has one.
        let result = match result {
            Err(Errno::NODEV) if interop::entry().is_some() => {
                let entered = interop::back("back", device.as_ref(), &mut back);
                self.watchdog.arm();
                return entered.map(|e| e.command);
            }
            other => other,
        };
        self.watchdog.arm();
        match result {
            Ok(()) => Ok(back.command),
            Err(_) if device.is_none() => Err(Error::NoModule),
            Err(e) if back.failed_rung != 0 => Err(rung_error("back", e, back.failed_rung)),
            Err(e) => Err(Error::from_errno("back", e)),
        }
    }
}

/// A shell on the console, until it ends.
fn shell() -> Result<()> {
    let busybox = Path::new("/bin/busybox").exists();
    // `setsid -c` makes the console its terminal, so that Ctrl-C works.
    let (program, arguments): (&str, &[&str]) = if busybox {
        ("/bin/busybox", &["setsid", "-c", "/bin/busybox", "sh"])
    } else {
        ("/bin/sh", &[])
    };
    let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_string()).collect();
    let code = system::run(program, &arguments)?;
    say(format_args!("shell: exit {code}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_words() {
        let word = |name| parse::command(name).unwrap();
        assert_eq!(service(word("none")), Service::Nothing);
        assert_eq!(service(word("shell")), Service::Shell);
        assert_eq!(service(word("run")), Service::Run);
        assert_eq!(service(word("hibernate")), Service::Hibernate);
        assert_eq!(service(word("resume")), Service::Resume);
        assert_eq!(word("resume"), RESUME);
        assert_eq!(service(0x1234), Service::Refuse(Errno::INVAL));
        assert_eq!((number(Errno::OPNOTSUPP), number(Errno::INVAL)), (95, 22));
    }

    #[test]
    fn what_a_plain_back_answers() {
        let mut init = Init {
            options: Options::default(),
            watchdog: Watchdog::default(),
            last_exit: None,
        };
        assert_eq!(init.answer(), 0);
        init.last_exit = Some(3);
        assert_eq!(init.answer(), 3);
        init.options.status = Some(9);
        assert_eq!(init.answer(), 9);
    }
}
