//! How many threads compress an image.

use std::fs;
use std::num::NonZero;
use std::thread::available_parallelism;

use kjump_image::{Codec, PAGE};

use crate::cmd::meminfo;

/// Bytes that are left to all else: buffers, tables, what the kernel takes to write.
const RESERVE: u64 = 4 << 20;

/// Bytes of memory that each comes to: its chunk as it is, compressed and as that reads back, and the encoder's
/// tables, rounded up.
fn each(codec: Codec, chunk_pages: u32) -> u64 {
    let tables = match codec {
        Codec::None | Codec::Lz4 => 128 << 10,
        Codec::Zstd => 1600 << 10,
    };
    3 * u64::from(chunk_pages) * PAGE as u64 + tables
}

/// One for each CPU, if there are several and memory holds so many. What calls does the rest meanwhile, which is
/// less.
pub fn workers(codec: Codec, chunk_pages: u32) -> usize {
    let cpus = available_parallelism().map_or(1, NonZero::get);
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    fitting(
        cpus,
        meminfo(&text, "MemAvailable").unwrap_or(0),
        each(codec, chunk_pages),
    )
}

fn fitting(cpus: usize, available: u64, each: u64) -> usize {
    let most = available.saturating_sub(RESERVE) / each;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if cpus < 2 {
        0
    } else {
        cpus.min(most)
    }
}

/// What follows the size of an image that so many have compressed.
pub fn by(workers: usize) -> String {
    match workers {
        0 => String::new(),
        1 => " by 1 thread".into(),
        _ => format!(" by {workers} threads"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_fit() {
        let fitting = |cpus, available| fitting(cpus, available, 1 << 20);
        assert_eq!(fitting(1, 1 << 30), 0);
        assert_eq!(fitting(2, 1 << 30), 2);
        assert_eq!(fitting(8, 1 << 30), 8);
        assert_eq!(fitting(8, 7 << 20), 3);
        assert_eq!(fitting(8, 4 << 20), 0);
        assert_eq!(fitting(8, 3 << 20), 0);
        assert_eq!(fitting(1 << 20, u64::MAX), 1 << 20);
    }
}
