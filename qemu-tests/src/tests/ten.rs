// SPDX-License-Identifier: GPL-2.0

//! \[ten\]: ten cycles in a row with the work running; nothing is used up, and what is saved does
//! not grow.

use anyhow::{ensure, Context, Result};

use super::again::mem_free;
use crate::artifacts::Kernel;
use crate::disk;
use crate::hibernation::{self, Mode, WAYS};
use crate::initramfs::Purpose;
use crate::kjump;
use crate::story::Story;
use crate::work::Work;

/// Cycles.
const CYCLES: usize = 10;
/// KiB by which free memory may be less after the last than after the first: the work's files
/// in memory and the database's caches.
const BOUND: u64 = 4096;
/// Pages by which an image may be larger than the first.
const DRIFT: u64 = 2048;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Hibernation)?;
    config.memory = 192;
    let image = Work::prepare(story, &mut config)?;
    let target = story.file("target.img");
    disk::empty(&target, 256)?;
    config.disks.push(target.clone().into());
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, image)?;
    let mut reached = work.reached(&mut vm)?;
    let mut first = None;
    for cycle in 1..=CYCLES {
        // Caches differ from time to time, and are saved as well.
        let free = mem_free(&mut vm)?;
        let asleep = hibernation::hibernate(&mut vm, "/dev/vdb", Mode::Poweroff)
            .with_context(|| format!("cycle {cycle}"))?;
        drop(vm);
        let saved = saved_pages(&target)?;
        let way = WAYS[cycle % WAYS.len()];
        let again = hibernation::again(story, &config, way, "kjump.resume=/dev/vdb");
        let title = format!("A, resumed {cycle} times");
        (vm, _) = hibernation::resume(story, &title, &again, &asleep)
            .with_context(|| format!("cycle {cycle}"))?;
        reached = work
            .healthy(&mut vm, reached)
            .with_context(|| format!("cycle {cycle}"))?;
        let status = kjump::status(&mut vm)?;
        let allocated = kjump::number(&status, "allocated_pages")?;
        let (_, first_saved, first_allocated) = *first.get_or_insert((free, saved, allocated));
        ensure!(
            saved <= first_saved + DRIFT,
            "cycle {cycle} saved {saved} pages, the first one {first_saved}"
        );
        ensure!(
            allocated == first_allocated,
            "cycle {cycle}: kjump has {allocated} pages, {first_allocated} before"
        );
    }
    let (first_free, ..) = first.context("no cycle")?;
    let free = mem_free(&mut vm)?;
    ensure!(
        free + BOUND > first_free,
        "free memory fell from {first_free} to {free} KiB"
    );
    work.end(&mut vm)
}

/// Pages with contents in the image on a disk.
fn saved_pages(disk: &std::path::Path) -> Result<u64> {
    let mark = hibernation::mark_at(disk, kjump_image::layout::STATE_OFFSET)?;
    Ok(mark.seal.data_pages.get())
}
