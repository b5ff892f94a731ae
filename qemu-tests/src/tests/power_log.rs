// SPDX-License-Identifier: GPL-2.0

//! \[power-log\]: the writes of a real save are recorded, with its flushes; then the power goes
//! after each of them, and in between with any part of what was not flushed on the disk. What the
//! image's reader says to each such disk is judged here, and some of them are booted.

use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use kjump_image::{Image, Machine, State};

use crate::artifacts::Kernel;
use crate::chance::Chance;
use crate::disk;
use crate::ending::Start;
use crate::hibernation::{self, Asleep, Mode, Way};
use crate::initramfs::Purpose;
use crate::kjump;
use crate::story::Story;
use crate::vm::Config;
use crate::work::{Reached, Work};
use crate::writes::{self, Disk, Op};

/// Bytes of the disk with the image.
const SIZE: u64 = 160;
/// Disks with any part of what was not flushed, for each time between two flushes.
const PARTS: u32 = 60;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut chance = Chance::new()?;
    let seed = chance.seed();
    let saved = save(story)?;
    let said = format!("with KJUMP_SEED={seed}");
    judge(story, &saved, &mut chance).with_context(|| said.clone())?;
    boot(story, &saved, &mut chance).context(said)
}

/// A save over an older image, recorded.
struct Saved {
    config: Config,
    /// The disk with the older image.
    before: Vec<u8>,
    ops: Vec<Op>,
    /// Which images are on the disk before and after.
    old: [u8; 16],
    new: [u8; 16],
    asleep: Asleep,
    work: Work,
    reached: Reached,
}

fn save(story: &Story) -> Result<Saved> {
    let mut config = story.config_for(Kernel::Full, Purpose::Hibernation)?;
    config.memory = 128;
    let work_disk = Work::prepare(story, &mut config)?;
    let (target, log) = (story.file("target.img"), story.file("writes.log"));
    disk::empty(&target, SIZE)?;
    config.disks.push(target.clone().into());

    // An image that is complete and that nobody has used.
    let mut vm = story.boot("A, long ago", &config)?;
    kjump::insmod(&mut vm, "")?;
    hibernation::hibernate(&mut vm, "/dev/vdb", Mode::Poweroff)?;
    drop(vm);
    let before = fs::read(&target)?;

    disk::ext4(&work_disk, 512)?;
    fs::write(&log, [])?;
    config.disks[1] = config.disks[1].clone().logged(&log);
    let mut vm = story.boot("A, whose writes are recorded", &config)?;
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, work_disk)?;
    let reached = work.reached(&mut vm)?;
    let asleep = hibernation::hibernate(&mut vm, "/dev/vdb", Mode::Poweroff)?;
    drop(vm);
    config.disks[1] = target.clone().into();
    let ops = writes::read(&log)?;
    let after = fs::read(&target)?;
    let mut all = Disk::new(&before);
    for op in &ops {
        if let Op::Write(offset, bytes) = op {
            all.write(*offset, bytes, |_| true);
        }
    }
    ensure!(all.bytes() == after, "the log has not all that was written");
    Ok(Saved {
        config,
        old: accepted(Disk::new(&before))?.context("the older image is none")?,
        new: accepted(Disk::new(&after))?.context("the image is none")?,
        before,
        ops,
        asleep,
        work,
        reached,
    })
}

/// Which image a kernel C would enter; `None` if it would refuse. An error if what it would enter is
/// not complete: each byte is compared with its checksums.
fn accepted(disk: Disk<'_>) -> Result<Option<[u8; 16]>> {
    let Some(uuid) = opened(disk.clone()) else {
        return Ok(None);
    };
    let mut image = Image::inspect_only(disk)?;
    image
        .verify_all()
        .context("an image is accepted that is not whole")?;
    Ok(Some(uuid))
}

/// The same by the head alone: what is looked at before a page is restored.
fn opened(disk: Disk<'_>) -> Option<[u8; 16]> {
    let header = Image::inspect_only(disk.clone()).ok()?.header().clone();
    let machine = Machine {
        arch: header.arch,
        fingerprint: Some(header.fingerprint),
        build_id: Some(header.build_id),
        ram: header.ram.clone(),
        window_end: header.window_end,
    };
    let image = Image::open(disk, &machine).ok()?;
    (image.state() == State::Committed).then_some(header.uuid)
}

/// Where the older image ends to be one, and where the new one begins to be one, as numbers of
/// operations that were done.
struct Course {
    gone: usize,
    there: usize,
}

fn judge(story: &Story, saved: &Saved, chance: &mut Chance) -> Result<()> {
    let ops = &saved.ops;
    // In order: first the old image, then none, then the new one.
    let mut now = Disk::new(&saved.before);
    let (mut gone, mut there) = (None, None);
    for (done, op) in ops.iter().enumerate() {
        if let Op::Write(offset, bytes) = op {
            now.write(*offset, bytes, |_| true);
        }
        match opened(now.clone()) {
            Some(uuid) if uuid == saved.new => _ = there.get_or_insert(done),
            Some(uuid) if uuid == saved.old && gone.is_none() => {}
            Some(_) => bail!("operation {done}: the older image is back"),
            None if there.is_some() => bail!("operation {done}: the new image is gone"),
            None => _ = gone.get_or_insert(done),
        }
    }
    let course = Course {
        gone: gone.context("the older image was never invalid")?,
        there: there.context("there never was a new image")?,
    };
    ensure!(
        course.gone < course.there,
        "there was no time without an image"
    );
    let flushes: Vec<usize> = (0..ops.len()).filter(|&n| ops[n] == Op::Flush).collect();
    ensure!(
        flushes
            .iter()
            .any(|f| (course.gone..course.there).contains(f)),
        "nothing is flushed between the two"
    );
    ensure!(
        flushes.last() > Some(&course.there),
        "the commit is not flushed"
    );

    // And with any part of what was not flushed.
    let mut disks = 0;
    let mut from = 0;
    let (mut base, mut base_done) = (saved.before.clone(), 0);
    for until in flushes.iter().copied().chain([ops.len()]) {
        apply(&mut base, &ops[base_done..from]);
        base_done = from;
        disks += parts(saved, &course, &base, from..until, chance)
            .with_context(|| format!("between operations {from} and {until}"))?;
        from = until;
    }
    let mark = ops[course.there..].len();
    story.note(format!(
        "{} writes and {} flushes judged, {disks} disks with parts of them; commit {mark} before the end",
        ops.len() - flushes.len(),
        flushes.len()
    ));
    Ok(())
}

fn apply(disk: &mut [u8], ops: &[Op]) {
    for op in ops {
        if let Op::Write(offset, bytes) = op {
            let at = *offset as usize;
            disk[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }
}

/// Disks on which all before a time is, and any part of what was written in it.
fn parts(
    saved: &Saved,
    course: &Course,
    base: &[u8],
    time: Range<usize>,
    chance: &mut Chance,
) -> Result<u32> {
    let written: Vec<_> = saved.ops[time.clone()]
        .iter()
        .filter_map(|op| match op {
            Op::Write(offset, bytes) => Some((*offset, bytes)),
            Op::Flush => None,
        })
        .collect();
    // No image but those that this time may have.
    let may = |uuid: [u8; 16]| {
        (uuid == saved.old && course.gone >= time.start)
            || (uuid == saved.new && course.there < time.end)
    };
    let few = written.len() <= 4;
    let count = if written.is_empty() { 0 } else { PARTS };
    for number in 0..count {
        let mut disk = Disk::new(base);
        // All combinations of few writes, whole; after that sectors, seldom and often.
        let whole = few && number < 1 << written.len();
        let density = 1 + chance.below(7);
        for (at, (offset, bytes)) in written.iter().enumerate() {
            disk.write(*offset, bytes, |_| match whole {
                true => number >> at & 1 == 1,
                false => chance.below(8) < density,
            });
        }
        match opened(disk.clone()) {
            None => {}
            Some(uuid) if !may(uuid) => bail!("an image that must not be is accepted"),
            // Also where only the data in the middle are missing.
            Some(_) if number % 8 == 0 || !few => _ = accepted(disk)?,
            Some(_) => {}
        }
    }
    Ok(count)
}

/// Boots the machine with some of these disks.
fn boot(story: &Story, saved: &Saved, chance: &mut Chance) -> Result<()> {
    let ops = &saved.ops;
    let find = |wanted: [u8; 16]| -> Result<usize> {
        let mut now = Disk::new(&saved.before);
        for (done, op) in ops.iter().enumerate() {
            if let Op::Write(offset, bytes) = op {
                now.write(*offset, bytes, |_| true);
            }
            if opened(now.clone()) == Some(wanted) {
                return Ok(done + 1);
            }
        }
        bail!("no such image")
    };
    let commit = find(saved.new)?;
    let target = story.file("target.img");
    let put = |done: usize| -> Result<()> {
        let mut bytes = saved.before.clone();
        apply(&mut bytes, &ops[..done]);
        write_sparse(&target, &bytes)
    };
    let config = hibernation::again(
        story,
        &saved.config,
        Way::Initramfs,
        "kjump.resume=/dev/vdb",
    );
    let middle = commit / 4 + chance.below(commit as u64 / 2) as usize;
    for done in [middle, commit - 1] {
        put(done)?;
        let what = format!("power lost after {done} of {} operations", ops.len());
        let (vm, start) = hibernation::start(story, &what, &config, &saved.asleep.waiting)?;
        let said = hibernation::said_by_resume(&vm.console.since(0));
        ensure!(
            matches!(start, Start::Booted) && said.contains("unfinished image"),
            "{what}:\n{said}"
        );
    }
    put(commit)?;
    let (mut vm, _) = hibernation::resume(
        story,
        "power lost right after the commit",
        &config,
        &saved.asleep,
    )?;
    saved.work.healthy(&mut vm, saved.reached).map(drop)
}

/// Writes a disk image; what is zero is a hole.
fn write_sparse(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let file = fs::File::create(path)?;
    file.set_len(bytes.len() as u64)?;
    for (number, piece) in bytes.chunks(1 << 16).enumerate() {
        if piece.iter().any(|&b| b != 0) {
            file.write_all_at(piece, (number as u64) << 16)?;
        }
    }
    Ok(())
}
