// SPDX-License-Identifier: GPL-2.0

//! \[torn\]: power is cut at any moment of a save and of a restore. What the next boot must do
//! follows from what is on the disk: if the image is committed and was not entered it is resumed,
//! rightly; otherwise the machine boots normally and says why. Its filesystem is whole either way.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use kjump_image::layout::{
    MARK_MAGIC, RESUME_OFFSET, STATE_COMMITTED, STATE_OFFSET, STATE_RESUMING,
};

use crate::artifacts::Kernel;
use crate::chance::Chance;
use crate::disk;
use crate::ending::{Start, Waiting};
use crate::hibernation::{self, Asleep, Mode, Way, WAYS};
use crate::initramfs::Purpose;
use crate::kjump;
use crate::story::Story;
use crate::tally;
use crate::vm::{Config, Vm};
use crate::work::{Reached, Work};

/// Cuts by default, and when all was asked for.
const FEW: u32 = 5;
const MANY: u32 = 100;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut chance = Chance::new()?;
    let seed = chance.seed();
    story.note(format!("seed {seed}"));
    cuts(story, &mut chance).with_context(|| format!("with KJUMP_SEED={seed}"))
}

/// What lasts from cut to cut.
struct Bench<'a> {
    story: &'a Story,
    /// A's machine: the work's disk, and the image's.
    config: Config,
    work_disk: PathBuf,
    image_disk: PathBuf,
    /// How long a save and a restore that nobody cuts take.
    save: Duration,
    restore: Duration,
}

/// A machine that runs, with its work.
struct Running {
    vm: Vm,
    work: Work,
    reached: Reached,
}

fn cuts(story: &Story, chance: &mut Chance) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Hibernation)?;
    config.memory = 128;
    let work_disk = Work::prepare(story, &mut config)?;
    let image_disk = story.file("target.img");
    disk::empty(&image_disk, 160)?;
    config.disks.push(image_disk.clone().into());
    let mut bench = Bench {
        story,
        config,
        work_disk,
        image_disk,
        save: Duration::ZERO,
        restore: Duration::ZERO,
    };

    let mut running = bench.boot()?;
    // One cycle without a cut tells how long it takes.
    let started = Instant::now();
    let asleep = bench.hibernate(&mut running)?;
    bench.save = started.elapsed();
    let started = Instant::now();
    running = bench.resume(running, &asleep)?;
    bench.restore = started.elapsed();

    for cut in 1..=if story.long { MANY } else { FEW } {
        let way = WAYS[chance.below(WAYS.len() as u64) as usize];
        let saving = cut % 2 == 1;
        let what = format!(
            "cut {cut}, in the {}, {way:?}",
            if saving { "save" } else { "restore" }
        );
        running = if saving {
            let moment = chance.moment(bench.save);
            bench.cut_save(running, moment).context(what)?
        } else {
            let moment = chance.moment(bench.restore);
            bench.cut_restore(running, way, moment).context(what)?
        };
    }
    let Running { mut vm, work, .. } = running;
    work.end(&mut vm)
}

impl Bench<'_> {
    /// A new A with new work.
    fn boot(&self) -> Result<Running> {
        disk::ext4(&self.work_disk, 512)?;
        let mut vm = self.story.boot("A", &self.config)?;
        kjump::insmod(&mut vm, "")?;
        let work = Work::start(&mut vm, self.work_disk.clone())?;
        let reached = work.reached(&mut vm)?;
        Ok(Running { vm, work, reached })
    }

    fn hibernate(&self, running: &mut Running) -> Result<Asleep> {
        running.reached = running.work.reached(&mut running.vm)?;
        hibernation::hibernate(&mut running.vm, "/dev/vdb", Mode::Poweroff)
    }

    fn again(&self, way: Way) -> Config {
        hibernation::again(self.story, &self.config, way, "kjump.resume=/dev/vdb")
    }

    /// Resumes from an image that must be good.
    fn resume(&self, running: Running, asleep: &Asleep) -> Result<Running> {
        let Running { vm, work, reached } = running;
        drop(vm);
        let config = self.again(Way::Initramfs);
        let (mut vm, _) = hibernation::resume(self.story, "A, resumed", &config, asleep)?;
        let reached = work.healthy(&mut vm, reached)?;
        Ok(Running { vm, work, reached })
    }

    /// Cuts the power so long after the command.
    fn cut_save(&self, mut running: Running, moment: Duration) -> Result<Running> {
        running.reached = running.work.reached(&mut running.vm)?;
        let command = "kjump hibernate --target /dev/vdb";
        let started = running.vm.start_command(command)?;
        sleep(moment);
        running.vm.kill()?;
        tally::power_cut();
        let waiting = running.vm.waiting(started);
        ensure!(
            !waiting.said.contains("::rc"),
            "A came back: {}",
            waiting.said
        );
        self.next_boot(running, &waiting)
    }

    /// Cuts the power so long after a saved machine was switched on.
    fn cut_restore(&self, mut running: Running, way: Way, moment: Duration) -> Result<Running> {
        let asleep = self.hibernate(&mut running)?;
        let mut vm = self
            .story
            .power_on("a restore that is cut", &self.again(way))?;
        sleep(moment);
        vm.kill()?;
        tally::power_cut();
        drop(vm);
        self.next_boot(running, &asleep.waiting)
    }

    /// What the next boot must do, by what is on the disk.
    fn must_resume(&self) -> Result<bool> {
        let state = hibernation::mark_at(&self.image_disk, STATE_OFFSET)?;
        let resume = hibernation::mark_at(&self.image_disk, RESUME_OFFSET)?;
        let committed = state.magic == MARK_MAGIC && state.state.get() == STATE_COMMITTED;
        let entered = resume.magic == MARK_MAGIC
            && resume.state.get() == STATE_RESUMING
            && resume.seal.uuid == state.seal.uuid;
        Ok(committed && !entered)
    }

    /// Switches the machine on after a cut; gives one that runs.
    fn next_boot(&self, running: Running, waiting: &Waiting) -> Result<Running> {
        let must_resume = self.must_resume()?;
        let Running { vm, work, reached } = running;
        drop(vm);
        let config = self.again(Way::Initramfs);
        let (mut vm, start) = hibernation::start(self.story, "the next boot", &config, waiting)?;
        match start {
            Start::Resumed(output) => {
                ensure!(must_resume, "resumed from an image that is none");
                ensure!(output.rc == 0, "{} and \"{}\"", output.rc, output.text);
                let reached = work.healthy(&mut vm, reached)?;
                Ok(Running { vm, work, reached })
            }
            Start::Booted => {
                let said = hibernation::said_by_resume(&vm.console.since(0));
                if must_resume {
                    bail!("a good image was not resumed:\n{said}");
                }
                self.after_a_cut(&mut vm, reached)?;
                drop(vm);
                self.boot()
            }
        }
    }

    /// A machine that has lost its memory: its disk is as after any power cut, and what was
    /// written safely is there.
    fn after_a_cut(&self, vm: &mut Vm, before: Reached) -> Result<()> {
        vm.sh("mount -t ext4 /dev/vda /mnt")?;
        Work::survived(vm, before)?;
        vm.sh("umount /mnt")?;
        vm.power_off()?;
        disk::check_ext4(&self.work_disk)
    }
}
