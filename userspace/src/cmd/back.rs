//! `kjump back`. Where the module is missing, or knows of no handoff, mainline's own jump goes back:
//! [`interop`].

use kjump_abi as abi;
use rustix::io::Errno;

use super::{jump, save, say};
use crate::cli::{Back, Way};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::{entered, interop, parse};

const VERB: &str = "back";

/// Goes back; returns when this kernel is entered again, perhaps never.
pub fn run(args: &Back) -> Result<u8> {
    let mut back = abi::Back {
        flags: args.way.flags(),
        status: args.status,
        fail_at: args.way.fail_at.unwrap_or(0),
        ..Default::default()
    };
    let command = go(VERB, &args.way, &mut back)?;
    say(entered_again(command))?;
    Ok(0)
}

/// Goes back with that answer; gives the command word of the next entry.
pub fn go(verb: &'static str, way: &Way, back: &mut abi::Back) -> Result<u32> {
    let device = match Device::open_as_root() {
        Err(Error::NoModule) if interop::entry().is_some() => None,
        device => Some(device?),
    };
    // This kernel's images of the other one are out of date as soon as that goes on.
    save::give_up_made()?;
    rustix::fs::sync();
    let result = match &device {
        Some(device) => entered::back(device, back),
        None => Err(Errno::NODEV),
    };
    match result {
        // No module, or no handoff: mainline's kexec has jumped here.
        Err(Errno::NODEV) if interop::entry().is_some() => {
            Ok(interop::back(verb, device.as_ref(), back)?.command)
        }
        Err(e) => Err(jump::error(verb, way, e, back.failed_rung)),
        Ok(()) => Ok(back.command),
    }
}

fn entered_again(command: u32) -> String {
    let name = parse::command_name(command).unwrap_or("unknown");
    format!("entered again: command {command:#x} ({name})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_command() {
        assert_eq!(
            entered_again(0x6b63_0002),
            "entered again: command 0x6b630002 (shell)"
        );
        assert_eq!(entered_again(9), "entered again: command 0x9 (unknown)");
    }
}
