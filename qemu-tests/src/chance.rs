// SPDX-License-Identifier: GPL-2.0

//! Random numbers that can be had again: the seed is printed, and `KJUMP_SEED` sets it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// A splitmix64 generator.
pub struct Chance {
    seed: u64,
    state: u64,
}

impl Chance {
    /// Starts with `KJUMP_SEED`, or with what the clock gives.
    pub fn new() -> Result<Self> {
        let seed = match std::env::var("KJUMP_SEED") {
            Ok(text) => text.parse().context("KJUMP_SEED is to be a number")?,
            Err(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(1, |time| time.as_nanos() as u64),
        };
        Ok(Self::with(seed))
    }

    /// Starts with that seed.
    pub fn with(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// What to set `KJUMP_SEED` to for the same numbers.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A time from 0 to `most`.
    pub fn moment(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.below(most.as_micros() as u64 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_moments() {
        let most = Duration::from_millis(700);
        let draw = |seed| {
            let mut chance = Chance::with(seed);
            (0..20).map(|_| chance.moment(most)).collect::<Vec<_>>()
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
        assert!(draw(5).iter().all(|&moment| moment <= most));
    }
}
