// SPDX-License-Identifier: GPL-2.0

//! What is drawn: a machine, and what it goes through. The same seed gives the same.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::artifacts::Kernel;
use crate::chance::Chance;
use crate::hibernation::{Mode, Way, WAYS};

/// Snapshots that a machine has at most.
pub const SLOTS: u64 = 3;
/// How long a machine is left alone before an operation, at most.
const PAUSE: Duration = Duration::from_millis(1500);

const CPUS: [&str; 3] = ["pentium3", "coreduo", "max,vendor=GenuineIntel"];
/// Small ones are frequent: they are quicker, and tight.
const MEMORY: [u32; 8] = [128, 160, 192, 256, 256, 384, 512, 1024];
/// So many of them are for the short test.
const SMALL: usize = 4;
/// MiB of patterns, at most.
const PATTERNS: u32 = 128;
/// What the allocator believes of free pages.
const APPEND: [&str; 4] = ["", "", "init_on_free=1", "page_poison=1"];
/// Ways of jumping.
const JUMPS: [&str; 4] = ["", "", "--no-freezer", "--hotplug-cpus"];

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Kernel A.
    pub kernel: Kernel,
    /// CPU model.
    pub cpu: &'static str,
    /// CPUs.
    pub smp: u32,
    /// The kernel of B and C.
    pub peer: Kernel,
    /// RAM, MiB.
    pub memory: u32,
    /// More of A's command line.
    pub append: &'static str,
    /// Part of A's free memory that holds patterns, per cent.
    pub pattern: u32,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {} -smp {} {:?} {} MiB {} % patterns {}",
            self.kernel, self.cpu, self.smp, self.peer, self.memory, self.pattern, self.append
        )
    }
}

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To the peer and back.
    Jump,
    /// A snapshot.
    Snapshot,
    /// Back to one.
    Rollback,
    /// Off and on again.
    Hibernation,
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// To the peer and back; `fresh`: one that boots, whatever is loaded.
    Jump { options: &'static str, fresh: bool },
    /// A snapshot of that number, instead of an older one.
    Snapshot(u64),
    /// Back to that snapshot.
    Rollback(u64),
    /// Off and on again.
    Hibernation {
        mode: Mode,
        way: Way,
        compression: &'static str,
    },
}

impl Operation {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Operation::Jump { .. } => Kind::Jump,
            Operation::Snapshot(_) => Kind::Snapshot,
            Operation::Rollback(_) => Kind::Rollback,
            Operation::Hibernation { .. } => Kind::Hibernation,
        }
    }
}

/// A machine's life.
pub struct Plan {
    /// The machine.
    pub machine: Machine,
    /// For what is random in the workload.
    pub seed: u64,
    chance: Chance,
    /// Kinds of operations to come, if they are not drawn.
    kinds: Option<VecDeque<Kind>>,
    left: u64,
    /// Which snapshots there are.
    taken: Vec<u64>,
}

impl Plan {
    /// Everything is drawn. `kernels` is what A may be.
    pub fn drawn(seed: u64, kernels: &[Kernel]) -> Self {
        Self::new(seed, kernels, &MEMORY)
    }

    /// A small machine that goes through every kind of operation.
    pub fn short(seed: u64, kernels: &[Kernel]) -> Self {
        let mut plan = Self::new(seed, kernels, &MEMORY[..SMALL]);
        let kinds = [
            Kind::Jump,
            Kind::Snapshot,
            Kind::Hibernation,
            Kind::Rollback,
            Kind::Jump,
        ];
        plan.left = kinds.len() as u64;
        plan.kinds = Some(kinds.into());
        plan
    }

    fn new(seed: u64, kernels: &[Kernel], memory: &[u32]) -> Self {
        let mut chance = Chance::with(seed);
        let mut machine = Machine {
            kernel: pick(&mut chance, kernels),
            cpu: pick(&mut chance, &CPUS),
            smp: 1 + chance.below(2) as u32,
            peer: Kernel::Lean,
            memory: pick(&mut chance, memory),
            append: pick(&mut chance, &APPEND),
            pattern: 5 + chance.below(40) as u32,
        };
        // One that can compress on all CPUs is for machines that have several.
        if machine.smp > 1 && seed.is_multiple_of(2) {
            machine.peer = Kernel::LeanSmp;
        }
        // Of much memory less: it only takes time.
        machine.pattern = machine.pattern.min(PATTERNS * 100 / machine.memory);
        let left = 6 + chance.below(7);
        Self {
            machine,
            seed,
            chance,
            kinds: None,
            left,
            taken: Vec::new(),
        }
    }

    /// So many operations at most. What is drawn stays the same.
    pub fn limit(&mut self, most: u64) {
        self.left = self.left.min(most);
    }

    /// The next operation, after that pause.
    pub fn next(&mut self) -> Option<(Duration, Operation)> {
        self.left = self.left.checked_sub(1)?;
        let pause = self.chance.moment(PAUSE);
        // All numbers are drawn each time, so that one choice does not change the others.
        let draws: [u64; 6] = std::array::from_fn(|_| self.chance.below(1 << 32));
        let kind = match &mut self.kinds {
            Some(kinds) => kinds.pop_front()?,
            None => self.kind(draws[0] % 100),
        };
        let operation = match kind {
            Kind::Jump => Operation::Jump {
                options: JUMPS[draws[1] as usize % JUMPS.len()],
                fresh: draws[2].is_multiple_of(3),
            },
            Kind::Snapshot => {
                let number = 1 + draws[1] % SLOTS;
                self.taken.retain(|&taken| taken != number);
                self.taken.push(number);
                Operation::Snapshot(number)
            }
            Kind::Rollback => {
                let at = draws[1] as usize % self.taken.len();
                Operation::Rollback(self.taken[at])
            }
            Kind::Hibernation => Operation::Hibernation {
                mode: [Mode::Poweroff, Mode::S4, Mode::Reboot][draws[1] as usize % 3],
                way: WAYS[draws[2] as usize % WAYS.len()],
                compression: ["lz4", "lz4", "zstd", "none"][draws[3] as usize % 4],
            },
        };
        Some((pause, operation))
    }

    /// What a number below 100 stands for.
    fn kind(&self, draw: u64) -> Kind {
        match draw {
            0..=34 => Kind::Jump,
            35..=54 => Kind::Snapshot,
            55..=74 if !self.taken.is_empty() => Kind::Rollback,
            55..=74 => Kind::Snapshot,
            _ => Kind::Hibernation,
        }
    }
}

fn pick<T: Copy>(chance: &mut Chance, from: &[T]) -> T {
    from[chance.below(from.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNELS: [Kernel; 2] = [Kernel::Full, Kernel::Pae];

    fn all(mut plan: Plan) -> Vec<(Duration, Operation)> {
        std::iter::from_fn(|| plan.next()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_life() {
        let draw = |seed| {
            let plan = Plan::drawn(seed, &KERNELS);
            (plan.machine.clone(), all(plan))
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
        let mut cut = Plan::drawn(5, &KERNELS);
        cut.limit(2);
        assert_eq!(all(cut), draw(5).1[..2]);
    }

    #[test]
    fn everything_happens_and_nobody_goes_back_to_nothing() {
        let mut seen = Vec::new();
        for seed in 0..200 {
            let plan = Plan::drawn(seed, &KERNELS);
            assert!(plan.machine.pattern < 50);
            let mut taken = Vec::new();
            for (pause, operation) in all(plan) {
                assert!(pause <= PAUSE);
                match operation {
                    Operation::Snapshot(number) => taken.push(number),
                    Operation::Rollback(number) => assert!(taken.contains(&number)),
                    _ => {}
                }
                if !seen.contains(&operation) {
                    seen.push(operation);
                }
            }
        }
        // Jumps of three kinds, twice; snapshots and rollbacks; modes, ways and compressions.
        assert_eq!(seen.len(), 3 * 2 + 2 * SLOTS as usize + 3 * WAYS.len() * 3);
    }

    #[test]
    fn the_short_life_has_every_kind() {
        let kinds: Vec<_> = all(Plan::short(1, &KERNELS))
            .iter()
            .map(|(_, operation)| operation.kind())
            .collect();
        for kind in [
            Kind::Jump,
            Kind::Snapshot,
            Kind::Rollback,
            Kind::Hibernation,
        ] {
            assert!(kinds.contains(&kind), "{kind:?}");
        }
    }
}
