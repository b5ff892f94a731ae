// SPDX-License-Identifier: GPL-2.0

//! What the machine can do at most: copying memory and nothing else.

use std::hint::black_box;
use std::time::Instant;

use crate::{number, Outcome};

/// `memcpy MIB TIMES`: copies so much, so often, and prints megabytes a second.
pub fn memcpy(args: &[String]) -> Outcome {
    let size = usize::try_from(number(args, 0)?).map_err(|e| e.to_string())? << 20;
    let times = number(args, 1)?;
    let (from, mut to) = (vec![1u8; size], vec![0u8; size]);
    let started = Instant::now();
    for _ in 0..times {
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{:.0}", size as f64 * times as f64 / 1e6 / seconds);
    Ok(())
}
