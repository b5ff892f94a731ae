// SPDX-License-Identifier: GPL-2.0

//! A machine from its boot to its end, with the operations of its plan in between.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::Instant;

use anyhow::{anyhow, ensure, Context, Result};

use super::busy::{Busy, Reached};
use super::plan::{Kind, Machine, Operation, Plan, SLOTS};
use crate::artifacts::Kernel;
use crate::disk;
use crate::ending::Waiting;
use crate::hibernation::{self, Mode, Way};
use crate::initramfs::Purpose;
use crate::kjump;
use crate::lan::Lan;
use crate::smp_peer;
use crate::snapshots::{self, rollback, snapshot};
use crate::story::Story;
use crate::vm::{Config, Vm};
use crate::workload::Workload;

/// MiB of the disk that is rolled back.
const DISK: u64 = 96;

/// A moment that can be gone back to.
struct Moment {
    waiting: Waiting,
    reached: Reached,
}

/// A machine that soaks.
struct Life<'a> {
    story: &'a Story,
    config: Config,
    /// The kernel of B and C.
    peer: Kernel,
    vm: Vm,
    busy: Busy,
    /// By the snapshots' numbers.
    moments: [Option<Moment>; SLOTS as usize],
}

/// Boots the machine, and does what the plan says, as long as it is not `enough`. `done` hears of each
/// operation after which all was well.
pub fn live(
    story: &Story,
    mut plan: Plan,
    enough: &dyn Fn() -> bool,
    done: &mut dyn FnMut(Kind, &str),
) -> Result<()> {
    let mut life = Life::begin(story, &plan.machine, plan.seed)?;
    let mut reached = life.busy.reached(&mut life.vm)?;
    while !enough() {
        let Some((pause, operation)) = plan.next() else {
            break;
        };
        sleep(pause);
        let started = Instant::now();
        reached = life
            .step(&operation, reached)
            .with_context(|| format!("{operation:?}"))?;
        if let Some(line) = story.splat() {
            return Err(anyhow!("{operation:?}: a kernel complained: {line}"));
        }
        let line = format!("{operation:?}: {:.1} s", started.elapsed().as_secs_f32());
        done(operation.kind(), &line);
    }
    life.end()
}

impl<'a> Life<'a> {
    fn begin(story: &'a Story, machine: &Machine, seed: u64) -> Result<Self> {
        let mut config = story.config_for(machine.kernel, Purpose::Hibernation)?;
        config.cpu = machine.cpu.into();
        config.smp = machine.smp;
        config.memory = machine.memory;
        config.append = machine.append.into();
        let memory = u64::from(machine.memory);
        let image = Workload::prepare_sized(story, &mut config, DISK)?;
        let [target, copies, store] = disks(story);
        disk::empty(&target, memory + 64)?;
        disk::empty(&copies, DISK * (SLOTS + 1))?;
        disk::ext4(&store, (memory + 64) * SLOTS + 128)?;
        config.disks.extend([target, copies, store].map(Into::into));
        let lan = Lan::start(&story.file("lan"))?;
        lan.connect(&mut config);
        if machine.peer == Kernel::LeanSmp {
            smp_peer::add(story, &mut config)?;
        }
        let mut vm = story.boot(&format!("A: {machine}"), &config)?;
        kjump::insmod(&mut vm, "")?;
        vm.sh("echo 'snapshots = \"/dev/vdd\"' >>/etc/kjump.toml")?;
        snapshots::copies(&mut vm, "/dev/vdc", DISK)?;
        let busy = Busy::start(story, &mut vm, machine, seed, image, lan)?;
        Ok(Self {
            story,
            config,
            peer: machine.peer,
            vm,
            busy,
            moments: Default::default(),
        })
    }

    /// One operation, and whether A is healthy afterwards; how far the work is then.
    fn step(&mut self, operation: &Operation, before: Reached) -> Result<Reached> {
        self.busy.lan.still(true);
        let mut since = before;
        match operation {
            Operation::Jump { options, fresh } => self.jump(options, *fresh)?,
            Operation::Snapshot(number) => {
                since = self.busy.reached(&mut self.vm)?;
                self.snapshot(*number, since)?;
            }
            Operation::Rollback(number) => since = self.rollback(*number)?,
            Operation::Hibernation {
                mode,
                way,
                compression,
            } => self.hibernate(*mode, *way, compression)?,
        }
        self.busy.lan.still(false);
        let back = operation.kind() == Kind::Rollback;
        self.busy.healthy(&mut self.vm, since, back)
    }

    fn jump(&mut self, options: &str, fresh: bool) -> Result<()> {
        let vm = &mut self.vm;
        let loaded = kjump::status(vm)?["state"] != "empty";
        if loaded && fresh {
            vm.sh("kjump unload")?;
        }
        if !loaded || fresh {
            match self.peer {
                Kernel::LeanSmp => smp_peer::load(vm, "--window", kjump::COME_BACK)?,
                _ => kjump::load_plain(vm, kjump::COME_BACK)?,
            }
        }
        kjump::jump_and_return(vm, options).map(drop)
    }

    fn snapshot(&mut self, number: u64, reached: Reached) -> Result<()> {
        let vm = &mut self.vm;
        let slot = &mut self.moments[number as usize - 1];
        if slot.take().is_some() {
            vm.sh(&format!("kjump snapshots --delete s{number}"))?;
        }
        vm.sh(&format!("echo {number} >/run/at"))?;
        let (waiting, _) = snapshot(vm, &format!("kjump snapshot --with-disks s{number}"))?;
        *slot = Some(Moment { waiting, reached });
        Ok(())
    }

    /// Gives how far the work was then.
    fn rollback(&mut self, number: u64) -> Result<Reached> {
        let slot = &self.moments[number as usize - 1];
        let moment = slot.as_ref().context("no such snapshot")?;
        let command = format!("kjump rollback --with-disks s{number}");
        let said = rollback(&mut self.vm, &command, &moment.waiting)?;
        ensure!(said.contains("rolled back"), "{said}");
        self.busy.lan.forget();
        let at = self.vm.sh("cat /run/at")?;
        ensure!(at == number.to_string(), "back at {at} instead of {number}");
        Ok(moment.reached)
    }

    fn hibernate(&mut self, mode: Mode, way: Way, compression: &str) -> Result<()> {
        let vm = &mut self.vm;
        let settings = "/etc/kjump.toml";
        vm.sh(&format!(
            "sed -i '/^compression/d' {settings}; echo 'compression = \"{compression}\"' >>{settings}"
        ))?;
        let asleep = hibernation::hibernate(vm, "/dev/vdb", mode)?;
        // Its disks are to be let go of before another one opens them.
        vm.kill().ok();
        let words = "kjump.resume=/dev/vdb";
        let again = hibernation::again_by(self.story, &self.config, way, words, self.peer);
        let (vm, output) = hibernation::resume(self.story, "A, resumed", &again, &asleep)?;
        self.vm = vm;
        ensure!(
            output.text.contains("resumed"),
            "kjump hibernate says \"{}\"",
            output.text
        );
        Ok(())
    }

    fn end(mut self) -> Result<()> {
        self.busy.end(&mut self.vm)
    }
}

/// The disks behind the workload's: for the image, for copies of the first, for snapshots.
fn disks(story: &Story) -> [PathBuf; 3] {
    ["target.img", "copies.img", "store.img"].map(|name| story.file(name))
}
