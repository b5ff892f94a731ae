// SPDX-License-Identifier: GPL-2.0

//! What A is busy with while it steps aside, and whether it is as healthy afterwards as before:
//! the checks that every story shares.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};

use crate::disk;
use crate::story::Story;
use crate::vm::{Config, Vm};

/// Programs that run in the background, each with a progress file.
const BUSY: [&str; 3] = ["counter", "writer", "tcp"];

/// A counter, a file being written on an ext4 disk, and a TCP connection over loopback.
pub struct Workload {
    image: PathBuf,
    online: String,
}

/// How far each of the programs has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress([u64; 3]);

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ticks, records, exchanges] = self.0;
        write!(
            f,
            "{ticks} ticks, {records} records on disk, {exchanges} exchanges by TCP"
        )
    }
}

impl Progress {
    /// Records that are safely on the disk.
    pub fn records(&self) -> u64 {
        self.0[1]
    }
}

impl Workload {
    /// Gives a machine that is yet to be started the disk that the workload writes to.
    pub fn prepare(story: &Story, config: &mut Config) -> Result<PathBuf> {
        Self::prepare_sized(story, config, 512)
    }

    /// As [`Workload::prepare`], with a disk of so many MiB.
    pub fn prepare_sized(story: &Story, config: &mut Config, mebibytes: u64) -> Result<PathBuf> {
        let image = story.file("workload.img");
        disk::ext4(&image, mebibytes)?;
        config.disks.push(image.clone().into());
        Ok(image)
    }

    /// Starts the programs in A and waits until all three are going.
    pub fn start(vm: &mut Vm, image: PathBuf) -> Result<Self> {
        vm.sh("mount -t ext4 /dev/vda /mnt")?;
        let arguments = ["/run/counter", "/mnt/records /run/writer", "/run/tcp"];
        for (program, arguments) in BUSY.iter().zip(arguments) {
            vm.sh(&format!("guest {program} {arguments} >/run/{program}.err 2>&1 & echo $! >/run/{program}.pid"))?;
        }
        let online = vm.sh("cat /sys/devices/system/cpu/online")?;
        let workload = Self { image, online };
        workload.goes_on(vm, Progress([0; 3]))?;
        Ok(workload)
    }

    /// Stops all of it, without ending it; or lets it go on.
    pub fn pause(&self, vm: &mut Vm, pause: bool) -> Result<()> {
        let signal = if pause { "STOP" } else { "CONT" };
        BUSY.iter().try_for_each(|program| {
            vm.sh(&format!("kill -{signal} $(cat /run/{program}.pid)"))
                .map(drop)
        })
    }

    /// How far it is.
    pub fn progress(&self, vm: &mut Vm) -> Result<Progress> {
        let text = vm.sh("cd /run; cat counter writer tcp")?;
        let mut counts = text.split_whitespace().map(str::parse);
        let mut next = || {
            counts
                .next()
                .context("a progress file is empty")?
                .context("progress")
        };
        Ok(Progress([next()?, next()?, next()?]))
    }

    /// All three programs are alive and get further than `before`.
    pub fn goes_on(&self, vm: &mut Vm, before: Progress) -> Result<Progress> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            for program in BUSY {
                let alive = format!("kill -0 $(cat /run/{program}.pid) 2>/dev/null");
                if vm.run(&alive)?.rc != 0 {
                    let why = vm.sh(&format!("cat /run/{program}.err"))?;
                    bail!("{program} has died: {why}");
                }
            }
            let now = self.progress(vm)?;
            for ((name, now), before) in BUSY.iter().zip(now.0).zip(before.0) {
                ensure!(now >= before, "{name} went back from {before} to {now}");
            }
            if now
                .0
                .iter()
                .zip(before.0)
                .all(|(&now, before)| now > before)
            {
                return Ok(now);
            }
            ensure!(
                Instant::now() < end,
                "no progress since {before:?}: {now:?}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A is as healthy as `before` the jump: everything goes on, all CPUs are there, memory and
    /// disk hold what was written, time passes, devices answer.
    pub fn healthy(&self, vm: &mut Vm, before: Progress) -> Result<Progress> {
        let now = self.goes_on(vm, before)?;
        let online = vm.sh("cat /sys/devices/system/cpu/online")?;
        ensure!(
            online == self.online,
            "CPUs online: {online}, before: {}",
            self.online
        );
        let slept = vm.sh("a=$(cut -d. -f1 /proc/uptime); sleep 1; b=$(cut -d. -f1 /proc/uptime); echo $((b - a))")?;
        ensure!(slept != "0", "a second of sleep took no time");
        vm.sh("test -d /sys/class/net/eth0/device -o ! -e /sys/class/net/eth0")?;
        vm.sh("sync; echo 3 >/proc/sys/vm/drop_caches")?;
        vm.sh("guest writer-verify /mnt/records")
            .context("data on the disk")?;
        Ok(now)
    }

    /// Ends it, the machine too, and checks all that is on the disk.
    pub fn end(self, vm: &mut Vm) -> Result<()> {
        for program in BUSY {
            vm.sh(&format!("kill $(cat /run/{program}.pid)"))?;
        }
        let on_disk = vm.sh("cat /run/writer")?.trim().parse::<u64>()?;
        // A writer that dies in the middle of an fsync keeps the filesystem busy for a moment.
        vm.sh("for i in $(seq 100); do umount /mnt 2>/dev/null && break; sleep 0.1; done")?;
        vm.sh("mount -t ext4 /dev/vda /mnt")?;
        let found = vm.sh("guest writer-verify /mnt/records")?;
        let records: u64 = found.trim_start_matches("records ").parse()?;
        ensure!(
            records >= on_disk,
            "{on_disk} records were written safely, {records} are there"
        );
        vm.sh("umount /mnt")?;
        vm.power_off()?;
        disk::check_ext4(&self.image)
    }
}
