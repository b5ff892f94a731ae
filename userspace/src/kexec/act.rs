//! What kexec's command line asks for, done by the module's state.

use std::fs;
use std::process::Command;

use kjump_abi as abi;

use super::load;
use super::options::{Action, Options};
use crate::cli;
use crate::cmd;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::{interop, parse};

/// Exit code of `-S` where something is loaded, as kexec-tools has it.
const IS_LOADED: u8 = 1;
/// What the kernel says of its own kexec.
const KERNELS_LOADED: &str = "/sys/kernel/kexec_loaded";
const KERNELS_CRASH_LOADED: &str = "/sys/kernel/kexec_crash_loaded";
const KERNELS_CRASH_SIZE: &str = "/sys/kernel/kexec_crash_size";

/// Does it; gives the exit code.
pub fn act(o: &Options) -> Result<u8> {
    match o.action {
        Action::Load => load::run(o).map(|()| 0),
        Action::LoadAndExec => {
            load::run(o)?;
            exec(o)
        }
        Action::LoadAndShutDown => {
            load::run(o)?;
            shut_down()
        }
        Action::Exec => exec(o),
        Action::Unload => unload(o),
        Action::Status => status(o),
        Action::ResumeEntry => resume_entry(entry_of(o, o.operand.as_deref())?, false),
        Action::BackHelper => resume_entry(entry_of(o, None)?, true),
        Action::CrashSize => {
            let size = fs::read_to_string(KERNELS_CRASH_SIZE)
                .map_err(|e| Error::io(KERNELS_CRASH_SIZE, e))?;
            cmd::say(size.trim()).map(|()| 0)
        }
        // Printed before this.
        Action::Help | Action::Version => Ok(0),
    }
}

fn entry_of(o: &Options, operand: Option<&str>) -> Result<u64> {
    let entry = match operand {
        Some(word) => Some(parse::number(word).map_err(Error::Usage)?),
        None => o.entry,
    };
    entry.filter(|e| *e != 0).ok_or_else(|| {
        Error::Usage(
            "no entry is given; it is what `kjump status` says, or kexec_jump_back_entry= of a \
             peer's command line"
                .into(),
        )
    })
}

/// Executes whatever is ready: a jump, the way back, or a kernel that was restored.
fn exec(o: &Options) -> Result<u8> {
    let state = match Device::open_as_root() {
        Err(Error::NoModule) if kernels(KERNELS_LOADED) => abi::STATE_EMPTY,
        device => {
            let status = device?.status();
            match status.map_err(|e| Error::from_errno("kexec", e))?.state {
                // Nothing but the word that something was there.
                abi::STATE_GONE if kernels(KERNELS_LOADED) => abi::STATE_EMPTY,
                state => state,
            }
        }
    };
    let way = cli::Way::default();
    match (state, o.command) {
        (abi::STATE_PEER | abi::STATE_CLAIMED, Some(_)) => Err(Error::Usage(
            "-c: a command is for a peer, which is not what is entered from here; leave it out"
                .into(),
        )),
        // The helper, or whatever else was loaded past the module.
        (abi::STATE_EMPTY, None) if kernels(KERNELS_LOADED) => {
            // This kernel's images of the other one are out of date as soon as that goes on.
            cmd::save::give_up_made()?;
            rustix::fs::sync();
            interop::execute("kexec").map(|()| 0)
        }
        (abi::STATE_PEER, None) => cmd::back::run(&cli::Back { status: 0, way }),
        (abi::STATE_CLAIMED, None) => Err(cmd::core::enter_core(&Device::open()?)),
        (_, command) => cmd::jump::run(&cli::Jump {
            which: cli::Which::default(),
            command: command.unwrap_or(0),
            way,
            trust: cli::Trust::default(),
            json: false,
        }),
    }
}

/// Nothing to free is no error, as with kexec-tools.
fn unload(o: &Options) -> Result<u8> {
    if o.panic {
        return Err(Error::Usage(
            "--load-panic: kjump has no kernel for a panic; use kexec-tools".into(),
        ));
    }
    match cmd::unload::run(&cli::Unload::default()) {
        Err(Error::NothingLoaded { .. } | Error::NoModule) if kernels(KERNELS_LOADED) => {
            interop::unload("kexec").map(|()| 0)
        }
        Err(Error::NothingLoaded { .. }) => Ok(0),
        other => other,
    }
}

/// Whether one of the kernel's own two places for a loaded kernel is taken.
fn kernels(path: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

fn status(o: &Options) -> Result<u8> {
    // Plain `-S` asks for the panic's kernel there, so here, too.
    let loaded = if o.panic || !(o.load || o.preserve || o.image) {
        kernels(KERNELS_CRASH_LOADED)
    } else {
        match Device::open() {
            Err(Error::NoModule) => kernels(KERNELS_LOADED),
            device => {
                let status = device?.status();
                let state = status.map_err(|e| Error::from_errno("status", e))?.state;
                ![abi::STATE_EMPTY, abi::STATE_GONE].contains(&state)
            }
        }
    };
    Ok(if loaded { IS_LOADED } else { 0 })
}

/// Both kernels are there: is `entry` where the other one is entered? Then `-e` does that. Without
/// the module, or a handoff, mainline's own jump is made ready for it.
fn resume_entry(entry: u64, by_hand: bool) -> Result<u8> {
    let device = match Device::open_as_root() {
        Err(Error::NoModule) => return helper(entry),
        other => other?,
    };
    let status = device.status().map_err(|e| Error::from_errno("kexec", e))?;
    let there = match status.state {
        // Mainline's kexec has jumped here, or the user says that some kernel is there.
        abi::STATE_EMPTY if by_hand || interop::entry().is_some() => return helper(entry),
        abi::STATE_PEER => status.jump_back_entry,
        abi::STATE_RETURNED => status.peer_entry,
        _ => return Err(Error::NothingLoaded { verb: "kexec" }),
    };
    match there {
        0 => Err(Error::NotReenterable { verb: "kexec" }),
        there if there == entry => Ok(0),
        there => Err(Error::WrongEntry { entry, there }),
    }
}

/// Where another kernel is entered cannot be looked up here: the user says it.
fn helper(entry: u64) -> Result<u8> {
    let entry = u32::try_from(entry)
        .map_err(|_| Error::Usage("--entry: the other kernel is entered below 4 GiB".into()))?;
    interop::load_helper("kexec", entry).map(|()| 0)
}

/// As kexec-tools does without an action: the last step of a shutdown is `kexec -e`.
fn shut_down() -> Result<u8> {
    let ended = Command::new("shutdown").args(["-r", "now"]).status();
    let ended = ended.map_err(|e| Error::io("shutdown -r now", e))?;
    Ok(ended.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        let of = |line: &str, operand: Option<&str>| {
            let words: Vec<String> = line.split_whitespace().map(str::to_string).collect();
            entry_of(&Options::parse(&words).unwrap(), operand).map_err(|e| e.exit_code())
        };
        assert_eq!(of("--load-resume-entry", Some("0x1000")), Ok(0x1000));
        assert_eq!(of("--load-jump-back-helper --entry=4096", None), Ok(4096));
        assert_eq!(of("--load-resume-entry --entry=7", None), Ok(7));
        assert_eq!(of("--load-resume-entry", Some("x")), Err(2));
        assert_eq!(of("--load-resume-entry", None), Err(2));
        assert_eq!(of("--load-jump-back-helper --entry=0", None), Err(2));
    }
}
