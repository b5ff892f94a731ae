// SPDX-License-Identifier: GPL-2.0

//! Calls on `/dev/kjump` at random, most of them wrong in one way or another, some of them right, from
//! one thread or several that share their open files.
//!
//! What is drawn is decided by a seed; with one thread the same seed gives the same calls. Some calls
//! can only be made in forms that the module must refuse, as no machine comes back from them:
//!
//! - `ENTER` goes to what was written into claimed RAM, for good. It always names an entry that cannot
//!   have been claimed, or a rung that is to fail.
//! - `BACK` with an entry jumps to that address. It always names a rung that is to fail as well, or a
//!   flag that there is not. Without an entry it is made in a kernel that is no peer; in a peer it
//!   names a rung that is to fail.
//! - `JUMP` to a load that goes one way always names a rung that is to fail. Such loads are made through
//!   files of their own, so that no jump through another file meets one.
//! - A load's entry lies in a segment that is nothing but code that comes back at once. No other
//!   segment is put there, and no thread writes to the contents while they are copied.
//! - In a peer `CLAIM` names RAM that is not the other kernel's: claiming that gives up the way back,
//!   and what is written then was memory of the kernel that is to go on.

mod bad;
mod calls;
mod chance;
mod files;
mod tally;
mod threads;

use std::fs::OpenOptions;
use std::path::Path;

use kjump_abi as abi;

use crate::{arg, number, Outcome};
use chance::Chance;
use tally::Tally;

/// Where the calls are made, as the arguments say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a kernel that loads and jumps; with RAM from here to there (bytes) that is nobody's.
    Kernel(u64, u64),
    /// In a peer.
    Peer,
    /// In either, by somebody who may do nothing, on files that root has opened.
    Nobody,
}

/// `fuzz SEED CALLS THREADS JUMPS kernel:START:END|peer|nobody`: so many calls in all, with so many
/// jumps that go far.
pub fn run(args: &[String]) -> Outcome {
    let (seed, calls) = (number(args, 0)?, number(args, 1)?);
    let (count, jumps) = (number(args, 2)?, number(args, 3)?);
    let place = place(arg(args, 4)?)?;
    println!("fuzz: seed {seed}, {calls} calls, {count} threads, {jumps} jumps, {place:?}");
    let tally = threads::all(seed, calls, count.max(1), jumps, place)?;
    tally.print();
    if place == Place::Nobody {
        tally.all_refused()?;
    } else {
        println!("fuzz: left {}", threads::finish()?);
    }
    println!("fuzz: done {}", tally.calls());
    Ok(())
}

fn place(text: &str) -> Result<Place, String> {
    let mut parts = text.split(':');
    let hex = |text: Option<&str>| {
        let text = text.unwrap_or("0").trim_start_matches("0x");
        u64::from_str_radix(text, 16).map_err(|_| format!("\"{text}\" is no address"))
    };
    match parts.next() {
        Some("kernel") => Ok(Place::Kernel(hex(parts.next())?, hex(parts.next())?)),
        Some("peer") => Ok(Place::Peer),
        Some("nobody") => Ok(Place::Nobody),
        _ => Err(format!("\"{text}\" is no place to make calls in")),
    }
}

/// As nobody: opening what is there must fail too.
fn opens_nothing(tally: &mut Tally) {
    let all = [abi::DEVICE, "/proc/kimgcore", "/proc/vmcore"];
    for path in all.into_iter().filter(|path| Path::new(path).exists()) {
        for write in [false, true] {
            let opened = OpenOptions::new().read(true).write(write).open(path);
            tally.add(
                "open",
                opened.err().map_or(0, |e| e.raw_os_error().unwrap_or(-1)),
            );
        }
    }
}
