//! `kjump wait`: in a peer, for programs that do what the other kernel says.

use kjump_abi as abi;

use super::{back, say};
use crate::cli::Wait;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::parse;

const VERB: &str = "wait";

/// Goes back with the answer to the present command; prints the next one.
pub fn run(args: &Wait) -> Result<u8> {
    if args.present {
        let device = Device::open_as_root()?;
        let handoff = device.handoff().map_err(|e| Error::from_errno(VERB, e))?;
        say(word(handoff.mailbox.command))?;
        return Ok(0);
    }
    let mut back = abi::Back {
        flags: args.way.flags(),
        status: args.status,
        fail_at: args.way.fail_at.unwrap_or(0),
        reason: parse::reason(args.reason.as_deref().unwrap_or_default()),
        ..Default::default()
    };
    say(word(back::go(VERB, &args.way, &mut back)?))?;
    Ok(0)
}

/// A command's name, or its number where it has none.
fn word(command: u32) -> String {
    parse::command_name(command).map_or_else(|| format!("{command:#x}"), str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_jump_takes() {
        for (name, number) in abi::COMMANDS {
            assert_eq!(word(*number), *name);
        }
        assert_eq!(word(0xff), "0xff");
        assert_eq!(parse::command(&word(0xff)), Ok(0xff));
    }
}
