//! `kjump back`.

use kjump_abi as abi;

use super::{jump, save, say};
use crate::cli::Back;
use crate::device::Device;
use crate::error::Result;
use crate::parse;

/// Goes back. The ioctl returns when this kernel is entered again, perhaps never.
pub fn run(args: &Back) -> Result<u8> {
    let device = Device::open_as_root()?;
    let mut back = abi::Back {
        flags: args.way.flags(),
        status: args.status,
        fail_at: args.way.fail_at.unwrap_or(0),
        ..Default::default()
    };
    // This kernel's images of the other one are out of date as soon as that goes on.
    save::give_up_made()?;
    rustix::fs::sync();
    let result = device.back(&mut back);
    result.map_err(|e| jump::error("back", &args.way, e, back.failed_rung))?;
    say(entered_again(back.command))?;
    Ok(0)
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
