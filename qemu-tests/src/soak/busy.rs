// SPDX-License-Identifier: GPL-2.0

//! What a machine is busy with while it soaks: the work of the hibernations, a file under random
//! operations, a TCP connection to another machine, memory full of patterns.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};

use super::plan::Machine;
use crate::lan::{self, Lan};
use crate::pattern;
use crate::story::Story;
use crate::text::Text;
use crate::vm::Vm;
use crate::work::{self, Work};

/// The programs that come on top of [`Work`].
const BUSY: [&str; 2] = ["fsx", "stream"];
/// How long one of them may stand still: a lost segment comes again when the sender's patience ends.
const PATIENCE: Duration = Duration::from_secs(150);

/// All of it, in A.
pub struct Busy {
    work: Work,
    /// The other machine.
    pub lan: Lan,
    text: Text,
    text_before: Vec<u8>,
    boot: String,
}

/// How far it has got.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    work: work::Reached,
    /// As [`BUSY`].
    counts: [u64; 2],
    /// Connections lost.
    lost: u64,
}

impl Busy {
    /// Starts it in A.
    pub fn start(
        story: &Story,
        vm: &mut Vm,
        machine: &Machine,
        seed: u64,
        image: PathBuf,
        lan: Lan,
    ) -> Result<Self> {
        let work = Work::start(vm, image)?;
        lan.bring_up(vm)?;
        let programs = [
            format!("fsx /mnt/checked {seed} /run/fsx"),
            format!("stream {} /run/stream /run/lost", lan::ADDRESS),
        ];
        for (name, program) in BUSY.iter().zip(programs) {
            vm.sh(&format!(
                "guest {program} >/run/{name}.err 2>&1 & echo $! >/run/{name}.pid"
            ))?;
        }
        pattern::fill(vm, machine.pattern)?;
        let text = Text::of(&story.artifacts.vmlinux(machine.kernel))?;
        Ok(Self {
            work,
            lan,
            text_before: text.read(vm)?,
            text,
            boot: vm.sh("cat /proc/sys/kernel/random/boot_id")?,
        })
    }

    /// How far it is.
    pub fn reached(&self, vm: &mut Vm) -> Result<Reached> {
        let (counts, lost) = self.counts(vm)?;
        Ok(Reached {
            work: self.work.reached(vm)?,
            counts,
            lost,
        })
    }

    fn counts(&self, vm: &mut Vm) -> Result<([u64; 2], u64)> {
        for name in BUSY {
            let alive =
                format!("kill -0 $(cat /run/{name}.pid) 2>/dev/null || cat /run/{name}.err");
            let dead = vm.sh(&alive)?;
            ensure!(dead.is_empty(), "{name} has died: {dead}");
        }
        let text = vm.sh("cd /run; cat fsx stream lost")?;
        let counts: Vec<u64> = text
            .split_whitespace()
            .map(|word| word.parse().context("progress"))
            .collect::<Result<_>>()?;
        match counts[..] {
            [fsx, stream, lost] => Ok(([fsx, stream], lost)),
            _ => bail!("a progress file is empty"),
        }
    }

    /// A is as healthy as it was when it had reached `before`, everything gets further, and every byte
    /// is right. If A has gone `back` in time it may have lost its connection, otherwise not.
    pub fn healthy(&self, vm: &mut Vm, before: Reached, back: bool) -> Result<Reached> {
        let now = vm.sh("cat /proc/sys/kernel/random/boot_id")?;
        ensure!(now == self.boot, "another boot goes on");
        self.text.same(&self.text_before, &self.text.read(vm)?)?;
        let blocks = self.lan.blocks()?;
        let work = self.work.healthy(vm, before.work)?;
        pattern::verify(vm)?;
        let end = Instant::now() + PATIENCE;
        loop {
            let (counts, lost) = self.counts(vm)?;
            ensure!(
                lost == before.lost || back,
                "A has lost its connection to the other machine"
            );
            for ((name, now), before) in BUSY.iter().zip(counts).zip(before.counts) {
                ensure!(now >= before, "{name} went back from {before} to {now}");
            }
            let further = counts.iter().zip(before.counts).all(|(&n, b)| n > b);
            if further && self.lan.blocks()? > blocks {
                return Ok(Reached { work, counts, lost });
            }
            ensure!(
                Instant::now() < end,
                "no progress since {:?}: {counts:?}, and {blocks} blocks at the other machine",
                before.counts
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends it and the machine, and checks all that is on the disk.
    pub fn end(self, vm: &mut Vm) -> Result<()> {
        for name in BUSY {
            vm.sh(&format!("kill $(cat /run/{name}.pid)"))?;
        }
        pattern::stop(vm)?;
        self.work.end(vm)?;
        self.lan.blocks().map(drop)
    }
}
