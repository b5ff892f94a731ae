// SPDX-License-Identifier: GPL-2.0

//! \[peers\]: three kernels resident beside A, entered at random, each with a memory of its own; and one
//! of Debian's, which comes back once.

use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;

use crate::artifacts::Kernel;
use crate::chance::Chance;
use crate::hibernation::LONG;
use crate::kjump::{self, exit, JUMP};
use crate::story::Story;
use crate::tests::stock;
use crate::vm::Vm;
use crate::workload::Workload;

/// Switches at random.
const SWITCHES: u32 = 200;
/// So many of them beside A's workload, which is what takes most of the time then.
const BUSY: u32 = 20;

/// A peer's name, its kernel and window, the seed of its pattern.
const PEERS: [(&str, &str, u32); 3] = [
    ("lean-a", "/boot/lean", 11),
    ("lean-b", "/boot/lean --window 24M", 12),
    ("full", "/boot/full --window 64M", 13),
];

/// Which of Debian's kernels is the fourth.
const STOCK: &str = "686";

/// KiB by which the free memory of a peer may be less at its last entry than at its fifth. In a run
/// of 205 entries it was 92 and 96 for `lean`, 212 for `full`, which has two CPUs to start each time.
const BOUND: u64 = 512;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    config.append = "i8042.noaux".into();
    // Windows of 24 and twice 64 MiB, at the end.
    config.memory = 320;
    stock::add(story, &mut config, STOCK)?;
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let allocated = allocated(&mut vm)?;
    for (name, files, seed) in PEERS {
        let program = format!("kjump.run=/bin/guest,tally,/tally,{seed}");
        let append = format!("console=ttyS0 panic=-1 i8042.noaux {program}");
        vm.sh(&format!(
            "kjump load {files} --initrd /boot/peer.cpio.gz --as {name} --append \"{append}\""
        ))?;
    }
    refusals(&mut vm)?;
    let workload = Workload::start(&mut vm, image)?;
    let before = workload.progress(&mut vm)?;

    let mut chance = Chance::new()?;
    println!("peers: KJUMP_SEED={} repeats this", chance.seed());
    let mut counts = [0; PEERS.len()];
    let start = vm.console.mark();
    // Each is booted first; what it does then is by the command word, as at each entry.
    for peer in 0..PEERS.len() {
        enter(&mut vm, peer, &mut counts)?;
    }
    let mark = vm.console.mark();
    for switch in 0..SWITCHES {
        if switch == BUSY {
            workload.pause(&mut vm, true)?;
        }
        let peer = chance.below(PEERS.len() as u64) as usize;
        enter(&mut vm, peer, &mut counts)?;
    }
    workload.pause(&mut vm, false)?;
    ensure!(
        !vm.console.since(mark).contains("Linux version"),
        "a peer has booted again"
    );
    for (_, _, seed) in PEERS {
        nothing_used_up(&vm.console.since(start), seed)?;
    }
    workload.healthy(&mut vm, before)?;
    let listed = peers(&mut vm)?;
    for ((name, _, _), count) in PEERS.iter().zip(counts) {
        let found = listed.iter().find(|l| l["name"] == *name);
        let found = found.with_context(|| format!("{name} is not listed: {listed:?}"))?;
        ensure!(
            found["state"] == "resident" && found["jumps"] == count,
            "{count} entries: {found}"
        );
    }

    // One goes, the others stay.
    vm.sh("kjump unload lean-a")?;
    ensure!(peers(&mut vm)?.len() == 2);
    expect(&mut vm, "kjump jump lean-a", exit::NOTHING_LOADED)?;
    comes_once(&mut vm)?;
    for peer in [1, 2] {
        enter(&mut vm, peer, &mut counts)?;
    }
    vm.sh("kjump unload lean-b && kjump unload full")?;
    let now = self::allocated(&mut vm)?;
    ensure!(now == allocated, "{now} pages, {allocated} before");
    workload.end(&mut vm)
}

/// A kernel that nobody here built, in the place of the one that has gone: it boots beside the others,
/// answers, and is gone, too.
fn comes_once(vm: &mut Vm) -> Result<()> {
    let append =
        "console=ttyS0 panic=-1 i8042.noaux cryptomgr.notests kjump.do=back kjump.status=9";
    vm.sh(&format!(
        "kjump load /boot/stock --window 64M --initrd /boot/stock.cpio.gz --as lean-a \
         --append \"{append}\""
    ))?;
    let output = vm.run_for("kjump jump lean-a", LONG)?;
    ensure!(
        output.rc == exit::PEER_STATUS && output.text.starts_with("peer came back: status 9;"),
        "Debian's: {} and \"{}\"",
        output.rc,
        output.text
    );
    let listed = peers(vm)?;
    let states: Vec<_> = listed.iter().map(|l| (&l["name"], &l["state"])).collect();
    let gone = listed
        .iter()
        .any(|l| l["name"] == "lean-a" && l["state"] == "gone");
    ensure!(gone && listed.len() == 3, "{states:?}");
    expect(vm, "kjump jump lean-a", exit::NOT_REENTERABLE)?;
    vm.sh("kjump unload lean-a").map(drop)
}

/// Enters a peer; it must answer with the number of times that it was entered, as it counts them.
fn enter(vm: &mut Vm, peer: usize, counts: &mut [u32; PEERS.len()]) -> Result<()> {
    let name = PEERS[peer].0;
    counts[peer] += 1;
    let output = vm.run_for(&format!("kjump jump {name} --command run"), JUMP)?;
    let wanted = format!("peer came back: status {}", counts[peer]);
    ensure!(
        output.rc == exit::PEER_STATUS && output.text == wanted,
        "{name}: {} and \"{}\", not \"{wanted}\"",
        output.rc,
        output.text
    );
    Ok(())
}

/// What a peer said of its free memory each time.
fn nothing_used_up(console: &str, seed: u32) -> Result<()> {
    let start = format!("tally {seed}: ");
    let free: Vec<u64> = console
        .lines()
        .filter_map(|line| line.split_once(&start))
        .filter_map(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok())
        .collect();
    let (Some(early), Some(last)) = (free.get(4), free.last()) else {
        bail!("peer {seed} told only {} times what is free", free.len());
    };
    ensure!(
        last + BOUND > *early,
        "peer {seed}: MemFree fell from {early} to {last} KiB in {} entries",
        free.len()
    );
    Ok(())
}

/// Names that are taken, unknown, or none.
fn refusals(vm: &mut Vm) -> Result<()> {
    let taken = "kjump load /boot/lean --as full";
    kjump::refuses(
        vm,
        taken,
        exit::ALREADY_LOADED,
        "a peer called full already",
    )?;
    expect(vm, "kjump jump nobody", exit::NOTHING_LOADED)?;
    expect(vm, "kjump unload nobody", exit::NOTHING_LOADED)?;
    expect(vm, "kjump jump", exit::NOTHING_LOADED)?;
    expect(vm, "kjump load /boot/lean --as a/b", exit::USAGE)?;
    // No room for another window: the shadow has to lie above it, in the direct map.
    let large = "kjump load /boot/lean --as large --window 250M";
    kjump::refuses(vm, large, exit::NO_MEMORY, "window 0xfa00000")?;
    ensure!(peers(vm)?.len() == PEERS.len());
    Ok(())
}

fn expect(vm: &mut Vm, command: &str, code: i32) -> Result<()> {
    let output = vm.run(command)?;
    let lines = output.text.trim().lines().count();
    ensure!(
        output.rc == code && (lines == 1 || code == exit::USAGE),
        "{command}: {} and \"{}\", not {code}",
        output.rc,
        output.text
    );
    Ok(())
}

fn peers(vm: &mut Vm) -> Result<Vec<Value>> {
    let text = vm.sh("kjump peers --json")?;
    serde_json::from_str(&text).with_context(|| text)
}

fn allocated(vm: &mut Vm) -> Result<u64> {
    kjump::number(&kjump::status(vm)?, "allocated_pages")
}
