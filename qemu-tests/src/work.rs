// SPDX-License-Identifier: GPL-2.0

//! What A is busy with when it hibernates: the [`Workload`] of the jumps, a database under writes,
//! and a tmpfs full of seeded data.

use std::fmt;
use std::path::PathBuf;

use anyhow::{ensure, Context, Result};

use crate::database;
use crate::story::Story;
use crate::vm::{Config, Vm};
use crate::workload::{Progress, Workload};

/// What the tmpfs holds.
const STORED: &str = "12M";
/// Which data.
const SEED: u32 = 20_261;

/// All of it, running in A; its disk is `/dev/vda`.
pub struct Work {
    base: Workload,
}

/// How far it has got.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    base: Progress,
    rows: u64,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} rows in the database", self.base, self.rows)
    }
}

impl Work {
    /// Gives a machine that is yet to be started the disk.
    pub fn prepare(story: &Story, config: &mut Config) -> Result<PathBuf> {
        Workload::prepare(story, config)
    }

    /// Starts it in A.
    pub fn start(vm: &mut Vm, image: PathBuf) -> Result<Self> {
        let base = Workload::start(vm, image)?;
        vm.sh("mkdir -p /run/store; mount -t tmpfs -o size=90% tmpfs /run/store")?;
        vm.sh(&format!("guest ramfill {STORED} {SEED} /run/store"))?;
        database::start(vm)?;
        Ok(Self { base })
    }

    /// How far it is.
    pub fn reached(&self, vm: &mut Vm) -> Result<Reached> {
        Ok(Reached {
            base: self.base.progress(vm)?,
            rows: database::progress(vm)?,
        })
    }

    /// A is as healthy as it was when it had reached `before`, and everything gets further.
    pub fn healthy(&self, vm: &mut Vm, before: Reached) -> Result<Reached> {
        let base = self.base.healthy(vm, before.base)?;
        let rows = database::check(vm, before.rows)?;
        let more = (0..60).try_fold(rows, |rows, _| {
            if rows > before.rows {
                return Ok(rows);
            }
            vm.sh("sleep 0.5")?;
            database::progress(vm)?;
            database::check(vm, rows)
        })?;
        ensure!(more > before.rows, "the database stays at {rows} rows");
        vm.sh(&format!("guest ramcheck {SEED} /run/store"))
            .context("data in the tmpfs")?;
        Ok(Reached { base, rows: more })
    }

    /// The disk after a power cut, mounted: what was safe when it had reached `before` is there.
    pub fn survived(vm: &mut Vm, before: Reached) -> Result<()> {
        let safe = before.base.records();
        vm.sh(&format!("guest writer-verify /mnt/records {safe}"))?;
        database::check(vm, before.rows).map(drop)
    }

    /// Ends it and the machine, and checks all that is on the disk.
    pub fn end(self, vm: &mut Vm) -> Result<()> {
        database::stop(vm)?;
        database::check(vm, 1)?;
        self.base.end(vm)
    }
}
