// SPDX-License-Identifier: GPL-2.0

//! \[bitmap-reader\]: docs/protocol.md is enough to read A's memory by. A shell script that knows
//! nothing else finds the handoff block in B, reads the page map and saves the pages that it names;
//! what it has saved is, page by page, what QEMU sees.

use std::fs;

use anyhow::{bail, ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::old::OldMemory;
use crate::story::Story;
use crate::tests::old_memory::{frames, plant};
use crate::{disk, kjump};

/// A script, and then a B that waits: nothing of A's may change while the host looks.
const WHAT: &str = "kjump.do=run,shell,back kjump.run=/bin/bitmap-reader.sh,/dev/vda";

const PAGE: usize = kjump_abi::PAGE_SIZE as usize;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let image = story.file("saved");
    let mut config = story.config(Kernel::Full)?;
    disk::empty(&image, config.memory.into())?;
    config.disks.push(image.clone().into());
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let planted = frames(&plant(&mut vm, 40, 4)?)?;
    kjump::load_lean_with_programs(&mut vm, WHAT)?;
    let handoff = kjump::address(&kjump::status(&mut vm)?, "handoff")?;

    let mark = vm.console.mark();
    let jump = vm.start_command("kjump jump")?;
    vm.wait_for(
        mark,
        "kjump-init: run: /bin/bitmap-reader.sh: exit",
        kjump::JUMP,
    )?;
    let said = vm.console.since(mark);
    let told = said
        .lines()
        .rfind(|line| line.starts_with("bitmap-reader: "))
        .context("the script says nothing")?;
    let pages: usize = match told.split(' ').collect::<Vec<_>>()[..] {
        [_, pages, "pages", "in", _, "runs"] => pages.parse()?,
        _ => bail!("the script ended with: {told}"),
    };
    let old = OldMemory::take(&mut vm, config.memory, handoff)?;
    vm.type_in("exit\n")?;
    let output = vm.finish(jump, kjump::JUMP)?;
    ensure!(output.rc == 0, "kjump jump: {} {}", output.rc, output.text);

    let wanted = old.to_be_saved()?;
    ensure!(
        pages == wanted.len(),
        "the script saved {pages} pages, the page map has {}",
        wanted.len()
    );
    old.has_planted(&planted, &wanted)?;
    compare(&old, &wanted, &fs::read(&image)?)?;
    let window = old.window_end()?;
    let inside = wanted.iter().filter(|&&frame| frame < window).count();
    story.note(format!("{pages} pages, {inside} in the window"));
    vm.power_off()
}

/// Every page that was to be saved is there, and nothing else.
fn compare(old: &OldMemory, wanted: &[u64], image: &[u8]) -> Result<()> {
    let mut next = wanted.iter().peekable();
    let free = vec![0; PAGE];
    for (frame, saved) in (0..).zip(image.chunks(PAGE)) {
        let page = match next.next_if_eq(&&frame) {
            Some(_) => old.page(frame)?,
            None => None,
        };
        ensure!(
            saved == page.unwrap_or(&free),
            "frame {frame:#x} was not saved as it is"
        );
    }
    ensure!(
        next.next().is_none(),
        "the page map has frames beyond memory"
    );
    Ok(())
}
