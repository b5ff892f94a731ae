// SPDX-License-Identifier: GPL-2.0

//! A count and a pattern in a peer's own memory, which must be as they were left each time that it is
//! entered.

use std::fs;
use std::process;

use crate::memory::{meminfo, page_words};
use crate::{arg, failed, number, Outcome};

/// Pages of the pattern.
const PAGES: u64 = 16;
/// Exit codes from here on are no counts.
const FIRST_ERROR: u32 = 250;

/// `tally FILE SEED`: the first time makes FILE with a count of 1 and a pattern of SEED; later
/// compares the pattern, and counts on. Ends with the count, or with 250 if the pattern is wrong
/// or the count is too large to be told. Prints how many KiB are free when caches are empty, for what
/// is used up.
pub fn run(args: &[String]) -> Outcome {
    let (file, seed) = (arg(args, 0)?, number(args, 1)?);
    let pattern: Vec<u8> = (0..PAGES)
        .flat_map(|page| page_words(seed, page).collect::<Vec<_>>())
        .flat_map(u32::to_le_bytes)
        .collect();
    let mut bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(_) => [&0u32.to_le_bytes()[..], &pattern].concat(),
    };
    let Some((count, found)) = bytes.split_first_chunk_mut::<4>() else {
        return Err(format!("{file}: it is empty"));
    };
    let n = u32::from_le_bytes(*count) + 1;
    if found != pattern || n >= FIRST_ERROR {
        eprintln!("tally: count {n}, pattern right: {}", found == pattern);
        process::exit(FIRST_ERROR as i32);
    }
    *count = n.to_le_bytes();
    fs::write(file, &bytes).map_err(failed(file))?;
    println!("tally {seed}: {n}, {} KiB free", free()?);
    process::exit(n as i32)
}

/// KiB that are free when caches are empty, those in the CPUs' own lists included, which MemFree
/// leaves out.
fn free() -> Result<usize, String> {
    let caches = "/proc/sys/vm/drop_caches";
    fs::write(caches, "3").map_err(failed(caches))?;
    let zones = fs::read_to_string("/proc/zoneinfo").map_err(failed("/proc/zoneinfo"))?;
    let lists = zones.lines().filter_map(|line| {
        line.trim()
            .strip_prefix("count:")?
            .trim()
            .parse::<usize>()
            .ok()
    });
    Ok(4 * (meminfo("MemFree")? + lists.sum::<usize>()))
}
