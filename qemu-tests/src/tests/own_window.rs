// SPDX-License-Identifier: GPL-2.0

//! \[own-window\]: three peers, each with a window of its own, beside one that has the usual window.
//! Each keeps a count and a pattern over random switches while nearly all of A's memory holds
//! patterns, and what is a peer's own is nobody else's. \[own-window-pae\]: a snapshot that another
//! peer takes has them in it.

use std::mem::offset_of;
use std::ops::Range;

use anyhow::{ensure, Context, Result};
use kjump_abi::{Handoff, DEFAULT_WINDOW_END, PAGE_SIZE, SHARED_WINDOW_END};
use serde_json::Value;

use super::integrity::{fill, inside};
use crate::artifacts::Kernel;
use crate::bench::jumps::median;
use crate::chance::Chance;
use crate::disk;
use crate::kjump::{self, exit, JUMP};
use crate::pattern::verify;
use crate::shell;
use crate::snapshots::{rollback, snapshot};
use crate::story::Story;
use crate::vm::Vm;
use crate::workload::Workload;

/// Switches at random.
const SWITCHES: u32 = 30;
/// Not for a peer with a window of its own.
const NOT_SUPPORTED: i32 = 11;
/// What such a refusal says.
const OWN: &str = "window of its own";

/// A peer's name, its window, and the seed of its pattern. The last one has the usual window.
const PEERS: [(&str, &str, u32); 4] = [
    ("own-a", "--own-window", 21),
    ("own-b", "--own-window", 22),
    ("own-c", "--own-window=22M", 23),
    ("classic", "", 24),
];

/// Times entered, and milliseconds of each exchange with the peer between, of each peer.
#[derive(Default)]
struct Tally {
    counts: [u32; PEERS.len()],
    away: [Vec<f64>; PEERS.len()],
}

impl Tally {
    /// Enters a peer; it must answer with the number of times that it was entered, as it counts them.
    fn enter(&mut self, vm: &mut Vm, peer: usize) -> Result<()> {
        let name = PEERS[peer].0;
        self.counts[peer] += 1;
        let output = vm.run_for(&format!("kjump jump {name} --command run"), JUMP)?;
        let wanted = format!("peer came back: status {}", self.counts[peer]);
        ensure!(
            output.rc == exit::PEER_STATUS && output.text == wanted,
            "{name}: {} and \"{}\", not \"{wanted}\"",
            output.rc,
            output.text
        );
        let status = status(vm, name)?;
        self.away[peer].extend(kjump::part(&status, "away"));
        Ok(())
    }
}

fn load(vm: &mut Vm, peer: usize) -> Result<()> {
    let (name, window, seed) = PEERS[peer];
    let program = format!("kjump.run=/bin/guest,tally,/tally,{seed}");
    let append = format!("console=ttyS0 panic=-1 i8042.noaux {program}");
    let files = "/boot/lean --initrd /boot/peer.cpio.gz";
    vm.sh(&format!(
        "kjump load {files} {window} --as {name} --append \"{append}\""
    ))
    .map(drop)
}

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    config.append = "i8042.noaux".into();
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let before = allocated(&mut vm)?;
    for peer in 0..PEERS.len() {
        load(&mut vm, peer)?;
    }
    refusals(&mut vm)?;
    let own = windows(&mut vm)?;
    let workload = Workload::start(&mut vm, image)?;
    let progress = workload.progress(&mut vm)?;

    fill(&mut vm, inside(story))?;
    let mut chance = Chance::new()?;
    println!("own-window: KJUMP_SEED={} repeats this", chance.seed());
    let mut tally = Tally::default();
    for peer in 0..PEERS.len() {
        tally.enter(&mut vm, peer)?;
    }
    let mark = vm.console.mark();
    for _ in 0..SWITCHES {
        let peer = chance.below(PEERS.len() as u64) as usize;
        tally.enter(&mut vm, peer)?;
    }
    // The figures are of these; each has some.
    for peer in 0..PEERS.len() {
        tally.enter(&mut vm, peer)?;
    }
    ensure!(
        !vm.console.since(mark).contains("Linux version"),
        "a peer has booted again"
    );
    verify(&mut vm)?;
    vm.sh("kill $(cat /run/pattern.pid)")?;
    workload.healthy(&mut vm, progress)?;
    ensure!(windows(&mut vm)? == own, "a window has moved");
    figures(story, &mut vm, &tally)?;
    from_inside(&mut vm, &own[0])?;

    unloaded(&mut vm, &own[0])?;
    for peer in [2, 1, 3] {
        tally.enter(&mut vm, peer)?;
    }
    panics(story, &mut vm)?;
    tally.enter(&mut vm, 1)?;
    vm.sh("kjump unload own-b && kjump unload own-c && kjump unload classic")?;
    let now = allocated(&mut vm)?;
    ensure!(now == before, "{now} pages, {before} before");
    workload.end(&mut vm)
}

/// The story with PAE and a snapshot: what others have as their own is in it.
pub fn pae(story: &Story) -> Result<()> {
    let mut config = story.config(Kernel::Pae)?;
    let target = story.file("target.img");
    disk::empty(&target, 512)?;
    config.disks.push(target.into());
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let mut tally = Tally::default();
    for peer in [0, 2] {
        load(&mut vm, peer)?;
        tally.enter(&mut vm, peer)?;
    }
    let (then, _) = snapshot(&mut vm, "kjump snapshot /dev/vda")?;
    let counts = tally.counts;
    for peer in [0, 2, 2] {
        tally.enter(&mut vm, peer)?;
    }
    // Whoever goes back has other peers, at other places.
    vm.sh("kjump unload own-a")?;
    rollback(&mut vm, "kjump rollback /dev/vda", &then)?;
    tally.counts = counts;
    for peer in [0, 2, 0] {
        tally.enter(&mut vm, peer)?;
    }
    vm.power_off()
}

/// One line each, and nothing is left of what was begun.
fn refusals(vm: &mut Vm) -> Result<()> {
    let before = allocated(vm)?;
    let load = |window: &str| format!("kjump load /boot/lean --as other {window}");
    let mut refused = |command: &str, code, words| kjump::refuses(vm, command, code, words);
    // All that is free is tried first.
    refused(&load("--own-window=200M"), exit::NO_MEMORY, "no room")?;
    refused(&load("--own-window=2G"), exit::WINDOW_TOO_LARGE, "smaller")?;
    refused(&load("--own-window=0"), exit::WINDOW_ZERO, "zero")?;
    refused(&load("--own-window=5000"), exit::WINDOW_UNALIGNED, "4096")?;
    refused(
        &load("--own-window=4M"),
        exit::KERNEL_DOES_NOT_FIT,
        "--own-window=",
    )?;
    // It is linked to one address.
    refused(
        "kjump load /boot/bounce --own-window",
        exit::KERNEL_DOES_NOT_FIT,
        OWN,
    )?;
    // In a file it would have to come back to the same place; and nothing boots there to resume.
    refused(
        "kjump load /boot/lean --own-window 2>&1 && kjump peer dump /tmp/file",
        NOT_SUPPORTED,
        OWN,
    )?;
    let target = "--target /dev/vda";
    refused(&format!("kjump hibernate {target}"), NOT_SUPPORTED, OWN)?;
    refused("kjump snapshot /dev/vda", NOT_SUPPORTED, OWN)?;
    vm.sh("! cat /proc/kimgcore >/dev/null 2>&1 && kjump unload")?;
    let now = allocated(vm)?;
    ensure!(now == before, "{now} pages, {before} before");
    Ok(())
}

/// What `kjump peers` says that the three have: each some of its own above the usual window.
fn windows(vm: &mut Vm) -> Result<Vec<Range<u64>>> {
    let text = vm.sh("kjump peers --json")?;
    let listed: Vec<Value> = serde_json::from_str(&text).with_context(|| text.clone())?;
    let mut own = Vec::new();
    for (name, window, _) in PEERS {
        let found = listed.iter().find(|l| l["name"] == name);
        let found = found.with_context(|| format!("{name} is not listed: {text}"))?;
        if window.is_empty() {
            ensure!(
                found["own_window"].is_null() && found["window_bytes"] == DEFAULT_WINDOW_END,
                "{found}"
            );
            continue;
        }
        ensure!(found["window_bytes"] == SHARED_WINDOW_END, "{found}");
        let start = kjump::address(&found["own_window"], "start")?;
        let end = start + kjump::number(&found["own_window"], "bytes")?;
        ensure!(start >= DEFAULT_WINDOW_END && end > start, "{found}");
        own.push(start..end);
    }
    for (n, one) in own.iter().enumerate() {
        let apart = |other: &Range<u64>| one.end <= other.start || other.end <= one.start;
        ensure!(own[n + 1..].iter().all(apart), "they overlap: {own:?}");
    }
    Ok(own)
}

/// A switch costs less where less is exchanged. Times are for people; pages are compared.
fn figures(story: &Story, vm: &mut Vm, tally: &Tally) -> Result<()> {
    let pages = |vm: &mut Vm, name: &str| {
        let status = status(vm, name)?;
        Ok::<_, anyhow::Error>(
            kjump::number(&status, "backed_up")? + kjump::number(&status, "loaded")?,
        )
    };
    let (own, classic) = (pages(vm, "own-a")?, pages(vm, "classic")?);
    let most = 2 * SHARED_WINDOW_END / PAGE_SIZE;
    ensure!(
        own <= most && classic > most,
        "pages moved on the way out: {own} and {classic}"
    );
    let away = |peer: usize| median(tally.away[peer].clone()).unwrap_or_default();
    story.note(format!(
        "exchange, peer, exchange back: {:.1} ms with a window of its own ({own} pages on the way out), \
         {:.1} ms without ({classic})",
        away(0),
        away(3)
    ));
    Ok(())
}

/// The peer's own window from the peer, and from outside while it runs: no memory of A's.
fn from_inside(vm: &mut Vm, own: &Range<u64>) -> Result<()> {
    let handoff = kjump::address(&status(vm, PEERS[0].0)?, "handoff")?;
    let mark = vm.console.mark();
    let jump = vm.start_command("kjump jump own-a --command shell")?;
    shell::wait(vm, mark)?;
    let ram = shell::line(vm, "cat /proc/iomem")?;
    let ram: Vec<&str> = ram
        .lines()
        .filter(|l| l.ends_with(": System RAM"))
        .collect();
    let wanted = format!("{:08x}-{:08x} : System RAM", own.start, own.end - 1);
    ensure!(ram.len() == 2 && ram[1] == wanted, "{ram:?}, not {wanted}");
    for (at, there) in [
        (own.start - PAGE_SIZE, true),
        (own.start, false),
        (own.end - PAGE_SIZE, false),
        (own.end, true),
    ] {
        let skip = at / PAGE_SIZE;
        let read = format!("dd if=/dev/kjump of=/dev/null bs=4096 count=1 skip={skip} 2>/dev/null");
        let said = shell::line(
            vm,
            &format!("if {read}; then echo there; else echo not; fi"),
        )?;
        ensure!((said == "there") == there, "{at:#x} is {said}");
    }
    for format in ["image", "elf"] {
        let save = format!("kjump save - --no-guards --format {format} 2>&1 >/dev/null");
        let started = shell::start(vm, &save)?;
        let (code, text) = shell::finish(vm, started)?;
        let one = text.lines().count() == 1 && text.contains(OWN);
        ensure!(code == NOT_SUPPORTED && one, "{save}: {code}, {text}");
    }
    let checked = page_map(vm, handoff, own).and_then(|()| core_headers(vm, handoff, own));
    vm.type_in("exit\n")?;
    let output = vm.finish(jump, JUMP)?;
    ensure!(output.rc == 0, "kjump jump: {} {}", output.rc, output.text);
    checked
}

/// A number in physical memory.
fn number_at(vm: &mut Vm, address: u64, bytes: usize) -> Result<u64> {
    let mut word = [0; 8];
    word[..bytes].copy_from_slice(&vm.memory(address, bytes as u64)?);
    Ok(u64::from_le_bytes(word))
}

/// No page of the peer's own is among those that are to be saved; others around it are.
fn page_map(vm: &mut Vm, handoff: u64, own: &Range<u64>) -> Result<()> {
    let index = number_at(vm, handoff + offset_of!(Handoff, page_map) as u64, 8)?;
    let mut saved = |frames: Range<u64>| {
        let mut count = 0;
        for first in frames.clone().step_by(32) {
            let page = number_at(vm, index + first / 32768 * 4, 4)?;
            let word = number_at(vm, page + first % 32768 / 8, 4)?;
            count += (0..32)
                .filter(|bit| frames.contains(&(first + bit)) && word >> bit & 1 == 1)
                .count();
        }
        Ok::<_, anyhow::Error>(count)
    };
    let inside = saved(own.start / PAGE_SIZE..own.end / PAGE_SIZE)?;
    let below = saved(0..SHARED_WINDOW_END / PAGE_SIZE)?;
    ensure!(
        inside == 0 && below > 0,
        "{inside} of its own pages are to be saved, {below} below 640 KiB"
    );
    Ok(())
}

/// No segment of the core headers has what is the peer's own.
fn core_headers(vm: &mut Vm, handoff: u64, own: &Range<u64>) -> Result<()> {
    let at = number_at(vm, handoff + offset_of!(Handoff, elfcorehdr) as u64, 8)?;
    ensure!(at != 0, "there are no core headers");
    let count = number_at(vm, at + 56, 2)?;
    let mut bytes = 0;
    for header in (0..count).map(|n| at + 64 + n * 56) {
        let (offset, start) = (
            number_at(vm, header + 8, 8)?,
            number_at(vm, header + 24, 8)?,
        );
        let size = number_at(vm, header + 32, 8)?;
        let clear = |from: u64| from + size <= own.start || own.end <= from;
        ensure!(clear(offset) && clear(start), "{start:#x}+{size:#x}");
        bytes += size;
    }
    ensure!(bytes > 128 << 20, "only {bytes} bytes are in them");
    Ok(())
}

/// One goes: nothing of it is left where it was, and the room can be had again.
fn unloaded(vm: &mut Vm, own: &Range<u64>) -> Result<()> {
    let size = own.end - own.start;
    let read = |vm: &mut Vm| vm.memory(own.start, size);
    let was = read(vm)?;
    let before = allocated(vm)?;
    vm.sh("kjump unload own-a")?;
    let now = read(vm)?;
    let pages = |bytes: &[u8]| {
        bytes
            .chunks(PAGE_SIZE as usize)
            .map(<[u8]>::to_vec)
            .collect()
    };
    let (was, now): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (pages(&was), pages(&now));
    let used = was.iter().filter(|p| p.iter().any(|b| *b != 0)).count();
    let same = was.iter().zip(&now);
    let left = same
        .filter(|(was, now)| was == now && was.iter().any(|b| *b != 0))
        .count();
    ensure!(
        used > 500 && left == 0,
        "{left} of the {used} pages that the peer used are still there"
    );
    let given_back = before - allocated(vm)?;
    ensure!(given_back >= size / PAGE_SIZE, "{given_back} pages");
    kjump::refuses(vm, "kjump jump own-a", exit::NOTHING_LOADED, "nothing")?;
    // On a machine that has worked for a while what is free lies in pieces, between pages of caches.
    vm.sh("sync; echo 3 >/proc/sys/vm/drop_caches")?;
    load(vm, 0)?;
    ensure!(windows(vm)?.len() == 3);
    vm.sh("kjump unload own-a").map(drop)
}

/// One that panics comes back like any other, and is gone. Its kernel's table of frames is larger the higher the
/// window lies, which is where there was room.
fn panics(story: &Story, vm: &mut Vm) -> Result<()> {
    let before = allocated(vm)?;
    vm.sh(
        "kjump load /boot/lean --initrd /boot/peer.cpio.gz --own-window=20M --as doomed \
         --append \"console=ttyS0 panic=-1 kjump.do=panic\"",
    )?;
    story.expect_trouble(vm.console.mark());
    let jump = vm.start_command("kjump jump doomed")?;
    let output = vm.finish(jump, JUMP)?;
    story.trouble_is_over();
    ensure!(
        output.rc == exit::PEER_PANIC && output.text.contains("peer panicked: "),
        "{} and \"{}\"",
        output.rc,
        output.text
    );
    let now = allocated(vm)?;
    ensure!(now == before, "{now} pages, {before} before");
    Ok(())
}

fn status(vm: &mut Vm, name: &str) -> Result<Value> {
    let text = vm.sh(&format!("kjump status {name} --json"))?;
    serde_json::from_str(&text).with_context(|| text)
}

fn allocated(vm: &mut Vm) -> Result<u64> {
    kjump::number(&kjump::status(vm)?, "allocated_pages")
}
