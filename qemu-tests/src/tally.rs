// SPDX-License-Identifier: GPL-2.0

//! How often what kjump is for was tried in a run: by the commands that guests were given.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted: its name, and the words that a command has then.
const KINDS: [(&str, &[&str]); 5] = [
    ("jumps", &["kjump jump", "kexec -e"]),
    ("hibernations", &["kjump hibernate"]),
    ("snapshots", &["kjump snapshot "]),
    ("rollbacks", &["kjump rollback"]),
    ("calls", &["kjump call", "kjump bios"]),
];
/// What else is counted.
const CUTS: usize = KINDS.len();
const ALTERED: usize = CUTS + 1;

static COUNTS: [AtomicU64; KINDS.len() + 2] = [const { AtomicU64::new(0) }; KINDS.len() + 2];

fn add(kind: usize, count: u64) {
    if let Some(counter) = COUNTS.get(kind) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// A line of shell that a guest was given. Refused or not, it was tried.
pub fn command(line: &str) {
    for (kind, (_, words)) in KINDS.iter().enumerate() {
        if words.iter().any(|word| line.contains(word)) {
            add(kind, times(line));
        }
    }
}

/// A machine that lost its power while it saved or restored.
pub fn power_cut() {
    add(CUTS, 1);
}

/// An image, or a disk that goes with one, that somebody has changed.
pub fn altered() {
    add(ALTERED, 1);
}

/// How often a line does it: as often as its loop says, or its `--count`.
fn times(line: &str) -> u64 {
    let after = |word: &str| {
        let (_, rest) = line.split_once(word)?;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    after("$(seq ").or_else(|| after("--count ")).unwrap_or(1)
}

/// One line with all that was tried; empty if nothing was.
pub fn told() -> String {
    let names = KINDS.iter().map(|(name, _)| *name);
    let names = names.chain(["power cuts", "altered images and disks"]);
    let counts = COUNTS.iter().map(|count| count.load(Ordering::Relaxed));
    let told: Vec<String> = names
        .zip(counts)
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    told.join(", ")
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn loops_count_as_often_as_they_run() {
        assert_eq!(times("kjump jump"), 1);
        assert_eq!(
            times("for i in $(seq 100); do kjump jump || exit; done"),
            100
        );
        assert_eq!(times("kjump bios --count 12 int 0x12"), 12);
    }

    #[test]
    fn what_was_tried_is_told() {
        command("echo nothing of the kind");
        command("kjump call /tmp/x --count 3; kjump unload");
        power_cut();
        let told = told();
        assert!(told.contains("3 calls, 1 power cuts"), "{told}");
    }
}
