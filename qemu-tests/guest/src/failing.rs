// SPDX-License-Identifier: GPL-2.0

//! Having the module's allocations fail, each in turn.

use std::fs::{File, OpenOptions};
use std::process::Command;

use kjump_abi as abi;
use kjump_abi::{Claim, Fault, Range, Status, ABI_VERSION};

use crate::raw::call;
use crate::{arg, failed, number, Outcome};

/// What the command ends with where memory is short.
const NO_MEMORY: i32 = 12;
/// All of the first allocations and of the last ones fail in turn.
const FIRST: u32 = 200;
const LAST: u32 = 30;

fn open() -> Result<File, String> {
    let device = OpenOptions::new().read(true).write(true).open(abi::DEVICE);
    device.map_err(failed(abi::DEVICE))
}

/// Sets the knob; gives how many allocations there were since it was last set.
fn set(device: &File, fail_at: u32) -> Result<u32, String> {
    let mut fault = Fault {
        version: ABI_VERSION,
        fail_at,
        ..Default::default()
    };
    match call(device, abi::IOC_FAULT, &mut fault) {
        0 => Ok(fault.counted),
        errno => Err(format!("the knob: errno {errno}")),
    }
}

fn status(device: &File) -> Result<Status, String> {
    let mut status = Status {
        version: ABI_VERSION,
        ..Default::default()
    };
    match call(device, abi::IOC_STATUS, &mut status) {
        0 => Ok(status),
        errno => Err(format!("status: errno {errno}")),
    }
}

/// RAM beyond what this kernel was given (`mem=`) is claimed, and given up when the file is closed.
fn claim() -> Result<(i32, String), String> {
    let ranges = [(208, 224), (232, 240)].map(|(start, end)| Range {
        start: start << 20,
        end: end << 20,
    });
    let mut value = Claim {
        version: ABI_VERSION,
        count: ranges.len() as u32,
        ranges: ranges.as_ptr() as u64,
        ..Default::default()
    };
    let errno = match open() {
        Ok(device) => call(&device, abi::IOC_CLAIM, &mut value),
        // As the open said it, which has no number here.
        Err(why) => return Ok((NO_MEMORY, why)),
    };
    let code = if errno == libc::ENOMEM {
        NO_MEMORY
    } else {
        errno
    };
    Ok((code, format!("errno {errno}")))
}

/// Runs a line of shell, or what stands for an ioctl that no command makes alone.
fn run(line: &str) -> Result<(i32, String), String> {
    if line == "claim" {
        return claim();
    }
    let output = Command::new("sh").args(["-c", line]).output();
    let output = output.map_err(failed("sh"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim_end().to_string();
    Ok((output.status.code().unwrap_or(-1), said))
}

/// `failing STEP UNDO COMMAND`: executes the shell's line COMMAND again and again, each time with
/// another of the module's allocations failing: the first 200, the last 30, and every STEPth between.
/// Each time it must end well or with the code and one line for too little memory, and after UNDO
/// (where it ended well) the module must hold as many pages as before and be in the same state.
pub fn failing(args: &[String]) -> Outcome {
    let step = number(args, 0)?.max(1) as u32;
    let (undo, line) = (arg(args, 1)?, arg(args, 2)?);
    let device = open()?;
    let back = |code: i32| match code {
        0 if !undo.is_empty() => match run(undo)? {
            (0, _) => Ok(()),
            (code, said) => Err(format!("{undo}: {code} and \"{said}\"")),
        },
        _ => Ok(()),
    };
    // Once as it goes anyway.
    set(&device, 0)?;
    let (code, said) = run(line)?;
    let count = set(&device, 0)?;
    if code != 0 {
        return Err(format!("with enough memory: {code} and \"{said}\""));
    }
    back(code)?;
    let before = status(&device)?;
    let (mut failed, mut borne) = (0, 0);
    let mut at = 1;
    loop {
        set(&device, at)?;
        let (code, said) = run(line)?;
        let made = set(&device, 0)?;
        let what = || format!("allocation {at} of {made}: {code} and \"{said}\"");
        match code {
            0 => borne += 1,
            NO_MEMORY if made >= at && said.lines().count() == 1 => failed += 1,
            _ => return Err(what()),
        }
        back(code)?;
        let now = status(&device)?;
        if (now.allocated_pages, now.state) != (before.allocated_pages, before.state) {
            let (pages, state) = (now.allocated_pages, now.state);
            return Err(format!("{}; then {pages} pages, state {state}", what()));
        }
        // The knob was set beyond all that there was to allocate.
        if made < at {
            break;
        }
        let dense = at < FIRST || at + LAST + step > count;
        at += if dense { 1 } else { step };
    }
    println!(
        "{count} allocations: {failed} failed, {} were borne",
        borne - 1
    );
    Ok(())
}
