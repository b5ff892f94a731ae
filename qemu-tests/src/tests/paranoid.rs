// SPDX-License-Identifier: GPL-2.0

//! \[paranoid\]: a peer that writes where it must not. With `--paranoid` the jump says so, which
//! page it is, and with a code of its own; and says nothing of a peer that keeps to its window, be
//! it that A's memory goes over a disk and back meanwhile.

use anyhow::{ensure, Context, Result};

use crate::agent::Output;
use crate::artifacts::Kernel;
use crate::disk;
use crate::hibernation::{self, Way};
use crate::initramfs::Purpose;
use crate::kjump::{self, exit, JUMP};
use crate::story::Story;
use crate::vm::Vm;
use crate::work::Work;
use crate::workload::Workload;

/// With paging off: `mov %eax, (%edi); ret`.
const POKE: &str = "printf '\\211\\007\\303' >/run/poke";

/// A as usual.
pub fn plain(story: &Story) -> Result<()> {
    run(story, Kernel::Full)
}

/// A with PAE.
pub fn pae(story: &Story) -> Result<()> {
    run(story, Kernel::Pae)
}

fn run(story: &Story, kernel: Kernel) -> Result<()> {
    let mut config = story.config(kernel)?;
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let workload = Workload::start(&mut vm, image)?;
    vm.sh(
        "guest lodger /run/lodger >/dev/null 2>&1 & until test -s /run/lodger; do sleep 0.1; done",
    )?;
    let address = vm.sh("cat /run/lodger")?;
    let frame = u64::from_str_radix(&address, 16)? / 4096;

    let before = workload.progress(&mut vm)?;
    // A program of two instructions.
    vm.sh(POKE)?;
    for (value, looked) in [(1, true), (2, false), (3, true)] {
        let options = if looked { "--paranoid" } else { "" };
        let line = format!(
            "kjump call /run/poke --timeout 20000 --in edi={:#x} --in eax={value} {options}",
            frame * 4096
        );
        let output = vm.run_for(&line, JUMP)?;
        judge(&output, looked, frame).with_context(|| line.clone())?;
    }
    let harmless = "kjump call /run/poke --timeout 20000 --in edi=0x9000 --in eax=1 --paranoid";
    let output = vm.run_for(harmless, JUMP)?;
    ensure!(output.rc == 0, "{}: {}", output.rc, output.text);
    let mut before = workload.healthy(&mut vm, before)?;

    // Peers that keep to their window: booted, entered again, and one that takes all it can get.
    kjump::load_lean_with_programs(&mut vm, "kjump.run=/bin/guest,scribble kjump.do=run,back")?;
    for options in ["--paranoid", "--paranoid --command run", "--command run"] {
        kjump::jump_and_return(&mut vm, options)?;
        before = workload.healthy(&mut vm, before)?;
        let status = kjump::status(&mut vm)?;
        ensure!(kjump::number(&status, "changed_pages")? == 0, "{status}");
    }
    vm.sh("kjump unload")?;
    let status = kjump::status(&mut vm)?;
    ensure!(
        kjump::number(&status, "allocated_pages")? == 0,
        "pages are left: {status}"
    );

    // One that does not: nobody notices without looking, and it is told apart from what else may
    // happen. Each jump changes the same word again.
    let what = format!("kjump.run=/bin/guest,trespass,{address} kjump.do=run,back");
    kjump::load_lean_with_programs(&mut vm, &what)?;
    for looked in [true, false, true] {
        let options = if looked { "--paranoid" } else { "" };
        let mark = vm.console.mark();
        let output = kjump::jump(&mut vm, &format!("--command run {options}"))?;
        let said = vm.console.since(mark);
        ensure!(
            said.contains("trespassed at"),
            "the peer did not write: {said}"
        );
        judge(&output, looked, frame).with_context(|| format!("jump {options}"))?;
        before = workload.healthy(&mut vm, before)?;
    }
    let status = kjump::status(&mut vm)?;
    ensure!(kjump::number(&status, "changed_pages")? == 1, "{status}");
    vm.sh("kjump unload")?;
    workload.end(&mut vm)
}

/// What a jump must say to a peer that writes to page frame `frame`.
fn judge(output: &Output, looked: bool, frame: u64) -> Result<()> {
    let words = format!(
        "1 pages of this kernel that it was not given have changed (page frames {frame:#x})"
    );
    let told = output.text.contains(&words) && output.rc == exit::TOUCHED;
    ensure!(
        if looked { told } else { output.rc == 0 },
        "{} and \"{}\"",
        output.rc,
        output.text
    );
    Ok(())
}

/// A's memory over a disk and back: every page that was there is what it was.
pub fn over_a_disk(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Hibernation)?;
    config.memory = 160;
    let image = Work::prepare(story, &mut config)?;
    let target = story.file("target.img");
    disk::empty(&target, 192)?;
    config.disks.push(target.into());
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, image)?;
    let reached = work.reached(&mut vm)?;
    let asleep = hibernation::go_off(&mut vm, "kjump hibernate --target /dev/vdb --paranoid")?;
    drop(vm);
    let config = hibernation::again(story, &config, Way::Initramfs, "kjump.resume=/dev/vdb");
    let (mut vm, output) = hibernation::resume(story, "A, resumed", &config, &asleep)?;
    ensure!(output.text.contains("resumed"), "{}", output.text);
    work.healthy(&mut vm, reached)?;
    all_compared(&mut vm)?;
    work.end(&mut vm)
}

/// The comparison has taken place: the module says that nothing has changed.
fn all_compared(vm: &mut Vm) -> Result<()> {
    let status = kjump::status(vm)?;
    ensure!(kjump::number(&status, "changed_pages")? == 0, "{status}");
    Ok(())
}
