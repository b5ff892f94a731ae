// SPDX-License-Identifier: GPL-2.0

//! Random numbers from a seed, and numbers of the sort that break things.

/// A splitmix64 generator.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Starts with that seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Whether something that happens once in `n` times happens now.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of these, which are some.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// A number at an edge: a power of two, one beside it, its negative; or any.
    pub fn edge(&mut self) -> u64 {
        let power = 1u64 << self.below(64);
        match self.below(6) {
            0 => power,
            1 => power - 1,
            2 => power.wrapping_neg(),
            3 => power.wrapping_add(4096),
            4 => self.below(16),
            _ => self.next(),
        }
    }
}
