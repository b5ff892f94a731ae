// SPDX-License-Identifier: GPL-2.0

//! What was called how often, and what came of it.

use std::collections::BTreeMap;

const EPERM: i32 = 1;
const EACCES: i32 = 13;

/// Calls by name and answer, and states that were seen.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    answers: BTreeMap<&'static str, BTreeMap<i32, u64>>,
    states: BTreeMap<u32, u64>,
    calls: u64,
}

impl Tally {
    /// A call that was answered with this errno, or 0.
    pub fn add(&mut self, name: &'static str, errno: i32) {
        self.calls += 1;
        *self
            .answers
            .entry(name)
            .or_default()
            .entry(errno)
            .or_default() += 1;
    }

    /// A state that was seen.
    pub fn saw(&mut self, state: u32) {
        *self.states.entry(state).or_default() += 1;
    }

    /// Adds another one.
    pub fn merge(&mut self, other: Self) {
        self.calls += other.calls;
        for (name, answers) in other.answers {
            for (errno, count) in answers {
                *self
                    .answers
                    .entry(name)
                    .or_default()
                    .entry(errno)
                    .or_default() += count;
            }
        }
        for (state, count) in other.states {
            *self.states.entry(state).or_default() += count;
        }
    }

    /// All calls.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// A line for each call, `call NAME good N refused N errnos …`, and one for each state.
    pub fn print(&self) {
        for (name, answers) in &self.answers {
            let good = answers.get(&0).copied().unwrap_or(0);
            let all: u64 = answers.values().sum();
            let errnos: Vec<String> = answers
                .keys()
                .filter(|e| **e != 0)
                .map(i32::to_string)
                .collect();
            println!(
                "call {name} good {good} refused {} errnos {}",
                all - good,
                errnos.join(",")
            );
        }
        for (state, count) in &self.states {
            println!("state {state} seen {count}");
        }
    }

    /// Whether nothing at all was allowed: ioctls for want of the capability, whatever their argument;
    /// the rest for that or because it makes no sense. A file position is everybody's to move.
    pub fn all_refused(&self) -> Result<(), String> {
        let elsewhere = ["lseek", "pread", "pwrite", "mmap", "kimgcore"];
        for (name, answers) in &self.answers {
            let allowed = |errno: &i32| match elsewhere.contains(name) {
                true => *errno == 0 && *name != "lseek",
                false => ![EPERM, EACCES].contains(errno),
            };
            if let Some(errno) = answers.keys().find(|errno| allowed(errno)) {
                return Err(format!(
                    "{name}: nobody was answered {errno}, and not EPERM"
                ));
            }
        }
        Ok(())
    }
}
