// SPDX-License-Identifier: GPL-2.0

//! \[bad-disk\]: the disk with the image fails while the machine comes back, at a read in the middle
//! or at the mark that says that the image is used; or it is full in the middle of a save. The
//! machine boots normally, or goes on, and says why. What has not been entered is still good.

use std::path::Path;

use anyhow::{bail, ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::disk;
use crate::drive::{Drive, Fault};
use crate::ending::Start;
use crate::hibernation::{self, Asleep, Mode, Way, LONG};
use crate::initramfs::Purpose;
use crate::kjump::{self, exit};
use crate::story::Story;
use crate::vm::Config;
use crate::work::{Reached, Work};

/// Sector 6 MiB into the image's disk: amid the chunks of a machine with 24 MiB of noise.
const MIDDLE: u64 = 6 << 11;
/// Sector of the mark that an image carries once it was entered.
const MARK: u64 = kjump_image::layout::RESUME_OFFSET / 512;

/// A read that fails, where, what is said of it, and how the last boot's `kjump resume` ends.
const READS: [(&str, u64, &str, i32); 2] = [
    (
        "a read at the start",
        0,
        "reading the first block failed",
        exit::TARGET_FAILED,
    ),
    (
        "a read in the middle",
        MIDDLE,
        "reading a chunk's pages failed",
        exit::DAMAGED,
    ),
];

/// What fails when the image is marked as used.
const MARKS: [(&str, Fault); 2] = [
    ("the write of the mark", Fault::Write),
    ("the flush of the mark", Fault::Flush),
];

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Hibernation)?;
    // The image has to fit beside the kernel that reads it; a kernel that looks for mistakes is larger.
    config.memory = if story.artifacts.is_debug() { 320 } else { 160 };
    let work_disk = Work::prepare(story, &mut config)?;
    let (target, tight) = (story.file("target.img"), story.file("tight.img"));
    disk::empty(&target, 352)?;
    // More than the least that an image takes, and less than this one.
    disk::empty(&tight, 20)?;
    config
        .disks
        .extend([Drive::from(target.clone()), Drive::from(tight)]);
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, work_disk.clone())?;
    vm.sh("mkdir /run/noise; mount -t ramfs ramfs /run/noise; guest ramfill 24M 5 /run/noise")?;
    let mut reached = work.reached(&mut vm)?;

    let line = "kjump hibernate --target /dev/vdc --optimistic";
    let output = vm.run_for(line, LONG)?;
    ensure!(
        output.rc == exit::TARGET && output.text.contains("this kernel goes on"),
        "full in the middle: {} and \"{}\"",
        output.rc,
        output.text
    );
    reached = work.healthy(&mut vm, reached)?;
    // It had begun there, and nothing of that counts.
    kjump::refuses(
        &mut vm,
        "kjump image verify /dev/vdc",
        exit::TORN,
        "unfinished image",
    )?;

    let asleep = hibernation::hibernate(&mut vm, "/dev/vdb", Mode::Poweroff)?;
    drop(vm);
    let untouched = story.file("untouched.img");
    disk::copy(&work_disk, &untouched)?;
    let good = story.file("good.img");
    disk::copy(&target, &good)?;
    let words = "kjump.resume=/dev/vdb";
    unharmed(
        story,
        &hibernation::again(story, &config, Way::Initramfs, words),
        &asleep,
        &target,
    )?;
    let config = hibernation::again(story, &config, Way::Peer, words);
    // All of them only when all was asked for: each is a boot or two.
    let skip = |rest: usize| if story.long { 0 } else { rest };
    for (what, sector, words, code) in READS.into_iter().skip(skip(1)) {
        disk::copy(&good, &target)?;
        let mut config = config.clone();
        // A kernel C that has begun to write has nothing to go back to, and restarts the machine.
        config.reboot = true;
        config.disks[1] = Drive::from(target.clone()).failing(Fault::Read, sector);
        let mut vm = story.power_on(what, &config)?;
        story.expect_trouble(0);
        let start = vm.wait_start(&asleep.waiting, LONG).context(what)?;
        let said = hibernation::said_by_resume(&vm.console.since(0));
        let ended = format!("kjump resume ended with {code}");
        ensure!(
            matches!(start, Start::Booted) && said.contains(&ended) && said.contains(words),
            "{what}: {said}"
        );
    }
    // On a disk that can be read it is whole, and the user may say so.
    let mut config = config;
    config.disks[1] = Drive::from(target.clone());
    entered_after_all(story, &config, &asleep, &work, reached)?;
    for (what, fault) in MARKS.into_iter().skip(skip(1)) {
        disk::copy(&good, &target)?;
        disk::copy(&untouched, &work_disk)?;
        let mut bad = config.clone();
        bad.disks[1] = Drive::from(target.clone()).failing(fault, MARK);
        not_marked(story, what, &bad).context(what)?;
        // Whether the mark is there decides: an image is entered once, or never.
        let mark = hibernation::mark_at(&target, MARK * 512)?;
        let marked = mark.magic == kjump_image::layout::MARK_MAGIC;
        let (mut vm, start) = hibernation::start(story, "the next boot", &config, &asleep.waiting)?;
        match start {
            Start::Resumed(_) if !marked => work.healthy(&mut vm, reached).map(drop)?,
            Start::Booted if marked => {
                let said = hibernation::said_by_resume(&vm.console.since(0));
                ensure!(said.contains("kjump resume ended with"), "{what}: {said}");
            }
            _ => bail!("{what}: marked: {marked}, and the next boot did otherwise"),
        }
    }
    Ok(())
}

/// The normal kernel that reads the image itself has lost nothing when a read fails: it boots, and the
/// image is as it was.
fn unharmed(story: &Story, config: &Config, asleep: &Asleep, target: &Path) -> Result<()> {
    let mut config = config.clone();
    config.disks[1] = Drive::from(target.to_path_buf()).failing(Fault::Read, MIDDLE);
    let mut vm = story.power_on("a read in the middle, without a peer", &config)?;
    story.expect_trouble(0);
    let start = vm.wait_start(&asleep.waiting, LONG)?;
    let said = hibernation::said_by_resume(&vm.console.since(0));
    let ended = format!("kjump resume ended with {}", exit::TARGET_FAILED);
    ensure!(
        matches!(start, Start::Booted)
            && said.contains(&ended)
            && said.contains("reading a chunk's pages failed"),
        "a read in the middle, without a peer: {said}"
    );
    let free = vm.sh("ls /dev/kjump 2>/dev/null | wc -l")?;
    ensure!(free.trim() == "0", "the module could not be removed");
    vm.power_off()?;
    let mark = hibernation::mark_at(target, MARK * 512)?;
    ensure!(
        mark.magic != kjump_image::layout::MARK_MAGIC,
        "the image was marked"
    );
    Ok(())
}

/// A kernel C that cannot mark the image does not enter it, and has nothing to go back to.
fn not_marked(story: &Story, what: &str, config: &Config) -> Result<()> {
    let mut vm = story.power_on(what, config)?;
    story.expect_trouble(0);
    vm.wait_for(0, "the image could not be marked: switching off", LONG)?;
    let said = vm.console.since(0);
    ensure!(
        said.contains("writing the mark of the restore failed"),
        "{}",
        hibernation::said_by_resume(&said)
    );
    vm.wait_off(LONG)
}

/// An image that was refused once as it could not be read is whole, and is entered when asked for.
fn entered_after_all(
    story: &Story,
    config: &Config,
    asleep: &Asleep,
    work: &Work,
    reached: Reached,
) -> Result<()> {
    let mut vm = story.boot("the next boot, with a disk that can be read", config)?;
    vm.sh("insmod /lib/kjump.ko")?;
    let started = vm.start_command("kjump resume --retry /dev/vdb")?;
    let output = vm.wait_resumed(&asleep.waiting, started, LONG)?;
    ensure!(output.rc == 0, "{} and \"{}\"", output.rc, output.text);
    work.healthy(&mut vm, reached)?;
    vm.sh("guest ramcheck 5 /run/noise").map(drop)
}
