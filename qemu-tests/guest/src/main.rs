// SPDX-License-Identifier: GPL-2.0

//! `guest`: the programs that the tests run inside kernels A and B, in one static i686 binary
//! (`guest NAME ARGS…`). Each prints short lines that a story on the host reads, says what went
//! wrong on stderr, and ends with 0 only if all was well.

mod blocks;
mod counter;
mod failing;
mod fill;
mod floor;
mod fsx;
mod fuzz;
mod memory;
mod old;
mod pattern;
mod poke;
mod raw;
mod registers;
mod scribble;
mod settle;
mod stream;
mod tally;
mod tcp;
mod trespass;
mod trouble;
mod writer;

use std::process::ExitCode;

/// What a program ends with: the error is one line for stderr.
type Outcome = Result<(), String>;

/// A program of this binary: its name, its arguments for the usage line, the program.
type Program = (&'static str, &'static str, fn(&[String]) -> Outcome);

const PROGRAMS: &[Program] = &[
    ("counter", "FILE", counter::run),
    ("writer", "FILE PROGRESS", writer::run),
    ("writer-verify", "FILE [SAFE]", writer::verify),
    ("fsx", "FILE SEED PROGRESS", fsx::run),
    ("tcp", "PROGRESS", tcp::run),
    ("stream", "ADDRESS PROGRESS LOST", stream::run),
    ("pattern", "PERCENT SEED FIFO REPORT", pattern::run),
    ("ramfill", "AMOUNT SEED DIR", fill::fill),
    ("ramcheck", "SEED DIR", fill::check),
    ("peek", "FILE OFFSET LENGTH", poke::peek),
    ("poke", "FILE OFFSET HEX", poke::poke),
    ("plant", "PERCENT SEED REPORT", old::plant),
    ("old", "SEED INDEX:FRAME…", old::old),
    ("page-map", "INDEX:FRAME…", old::page_map),
    ("scribble", "", scribble::run),
    ("tally", "FILE SEED", tally::run),
    ("memcpy", "MIB TIMES", floor::memcpy),
    ("alloccheck", "PERCENT", scribble::alloccheck),
    ("ioctl", "CASE", raw::run),
    (
        "fuzz",
        "SEED CALLS THREADS JUMPS kernel:START:END|peer|nobody",
        fuzz::run,
    ),
    ("settle", "MIB", settle::run),
    ("registers", "", registers::run),
    ("nobody", "PROGRAM ARGS…", raw::become_nobody),
    ("lodger", "FILE", trespass::lodger),
    ("trespass", "ADDRESS", trespass::trespass),
    ("failing", "STEP UNDO COMMAND", failing::failing),
    ("panic", "", trouble::panic),
    ("hang", "", trouble::hang),
];

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let name = if args.is_empty() {
        String::new()
    } else {
        args.remove(0)
    };
    let Some((_, _, program)) = PROGRAMS.iter().find(|p| p.0 == name) else {
        eprintln!("usage: guest PROGRAM ARGS, one of:");
        for (name, args, _) in PROGRAMS {
            eprintln!("  guest {name} {args}");
        }
        return ExitCode::from(2);
    };
    match program(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("guest {name}: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The argument at `at`, or a line that says it is missing.
fn arg(args: &[String], at: usize) -> Result<&str, String> {
    args.get(at)
        .map(String::as_str)
        .ok_or_else(|| format!("argument {} is missing", at + 1))
}

/// The numeric argument at `at`.
fn number(args: &[String], at: usize) -> Result<u64, String> {
    let text = arg(args, at)?;
    text.parse()
        .map_err(|_| format!("\"{text}\" is not a number"))
}

/// `what: error`, for [`Result::map_err`].
fn failed<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> String + '_ {
    move |error| format!("{what}: {error}")
}
