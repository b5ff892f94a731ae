// SPDX-License-Identifier: GPL-2.0

//! \[fuzz-device\]: calls on `/dev/kjump` at random, in A and in a peer, by root and by somebody who may
//! do nothing, from one thread and from several at once. No kernel complains, nothing is left behind,
//! nobody gets anything, and the next jump goes as ever.
//!
//! `KJUMP_SEED` sets the seed, `--long` makes ten times as many calls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use kjump_abi as abi;

use crate::artifacts::Kernel;
use crate::chance::Chance;
use crate::kjump;
use crate::story::Story;
use crate::vm::Vm;

/// Calls in all, and how they are shared out: in A from one thread, from several, by nobody; in a peer.
const CALLS: u64 = 200_000;
const SHARES: [u64; 4] = [40, 35, 10, 15];
/// Threads where there are several.
const THREADS: u64 = 4;
/// Jumps and way down to a late rung, in each part.
const JUMPS: u64 = 12;
/// RAM that A is told to leave alone, and so nobody's: what can be claimed.
const NOBODYS: (u64, u64) = (224 << 20, 255 << 20);
/// KiB that may be less free afterwards, for what any kernel keeps.
const SLACK: u64 = 4096;

/// What the calls came to.
#[derive(Debug, Default)]
struct Tally {
    /// Good and refused calls, by name.
    calls: BTreeMap<String, (u64, u64)>,
    states: BTreeSet<u32>,
    /// Of all parts.
    total: u64,
}

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    config.append = format!("mem={}M i8042.noaux", NOBODYS.0 >> 20);
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "testing=1")?;
    let mut chance = Chance::new()?;
    println!("fuzz-device: KJUMP_SEED={} repeats this", chance.seed());
    let calls = if story.long { 10 * CALLS } else { CALLS };
    let part = |share: u64| calls * share / 100;
    let [one, several, nobody, peer] = SHARES.map(part);

    // A jump of each kind first, so that what is kept from then on is no leak.
    normal_jump(&mut vm)?;
    let before = left(&mut vm)?;
    let free = memory_free(&mut vm)?;
    let here = format!("kernel:{:#x}:{:#x}", NOBODYS.0, NOBODYS.1);
    let mut tally = Tally::default();
    for (calls, threads) in [(one, 1), (several, THREADS)] {
        let seed = chance.below(1 << 40);
        let line = format!("guest fuzz {seed} {calls} {threads} {JUMPS} {here}");
        tally.add(&by_program(&mut vm, &line)?)?;
        let now = left(&mut vm)?;
        ensure!(
            now == before,
            "{threads} threads: {now:?} is left, {before:?} before"
        );
        let now = memory_free(&mut vm)?;
        ensure!(
            now + SLACK >= free,
            "{threads} threads: {now} KiB are free, {free} before"
        );
    }
    tally.in_a_kernel()?;

    // Something is loaded, which somebody who may do nothing must not see or disturb.
    kjump::load_lean(&mut vm, kjump::COME_BACK)?;
    let seed = chance.below(1 << 40);
    tally.add(&by_program(
        &mut vm,
        &format!("guest fuzz {seed} {nobody} 2 0 nobody"),
    )?)?;
    let state = kjump::status(&mut vm)?;
    ensure!(state["state"] == "loaded", "after nobody's calls: {state}");
    kjump::jump_and_return(&mut vm, "")?;
    vm.sh("kjump unload")?;

    for threads in [1, 3] {
        let seed = chance.below(1 << 40);
        let calls = peer / 2;
        let run = format!("kjump.run=/bin/guest,fuzz,{seed},{calls},{threads},4,peer");
        kjump::load_lean_with_programs(
            &mut vm,
            &format!("kjump.testing=1 kjump.do=run,back {run}"),
        )?;
        let mark = vm.console.mark();
        let jump = vm.run_for("kjump jump", limit(calls))?;
        let said = vm.console.since(mark);
        ensure!(jump.rc == 0, "in a peer: {}: {}", jump.rc, jump.text);
        tally.add(&said)?;
        vm.sh("kjump unload")?;
    }
    ensure!(
        tally.states.contains(&abi::STATE_PEER),
        "no peer: {tally:?}"
    );
    ensure!(tally.total >= calls, "{} calls", tally.total);
    story.note(format!("{} calls", tally.total));

    normal_jump(&mut vm)?;
    let now = left(&mut vm)?;
    ensure!(now == before, "{now:?} is left, {before:?} before");
    let now = memory_free(&mut vm)?;
    ensure!(now + SLACK >= free, "{now} KiB are free, {free} before");
    Ok(())
}

/// How long so many calls may take on a busy machine.
fn limit(calls: u64) -> Duration {
    kjump::JUMP + Duration::from_millis(calls * 5)
}

/// Runs it and gives what it printed.
fn by_program(vm: &mut Vm, line: &str) -> Result<String> {
    let calls = line.split_whitespace().nth(3).and_then(|n| n.parse().ok());
    let output = vm.run_for(line, limit(calls.context("no number of calls")?))?;
    let text = output.ok().with_context(|| line.to_string())?;
    Ok(text.to_string())
}

fn normal_jump(vm: &mut Vm) -> Result<()> {
    kjump::load_lean(vm, kjump::COME_BACK)?;
    kjump::jump_and_return(vm, "")?;
    kjump::jump_and_return(vm, "")?;
    vm.sh("kjump unload").map(drop)
}

/// State, and pages that the module has.
fn left(vm: &mut Vm) -> Result<(String, u64)> {
    let status = kjump::status(vm)?;
    let state = status["state"].as_str().unwrap_or_default().to_string();
    Ok((state, kjump::number(&status, "allocated_pages")?))
}

fn memory_free(vm: &mut Vm) -> Result<u64> {
    vm.sh("sync; echo 3 >/proc/sys/vm/drop_caches")?;
    let text = vm.sh("awk '/^MemFree/ { print $2 }' /proc/meminfo")?;
    text.trim()
        .parse()
        .with_context(|| format!("MemFree: {text}"))
}

impl Tally {
    /// Reads what the program prints; it must have come to its end.
    fn add(&mut self, said: &str) -> Result<()> {
        let mut done = None;
        for line in said.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["call", name, "good", good, "refused", refused, ..] => {
                    let sum = self.calls.entry(name.into()).or_default();
                    sum.0 += good.parse::<u64>()?;
                    sum.1 += refused.parse::<u64>()?;
                }
                ["state", state, "seen", _] => {
                    self.states.insert(state.parse()?);
                }
                ["fuzz:", "done", calls] => done = Some(calls.parse::<u64>()?),
                _ => {}
            }
        }
        self.total += done.with_context(|| format!("it has not come to its end: {said}"))?;
        Ok(())
    }

    /// Whether all was tried, well and badly, in all states that a kernel comes to that is no peer.
    fn in_a_kernel(&self) -> Result<()> {
        for name in [
            "prepare", "segment", "commit", "jump", "unload", "status", "request", "label",
            "select", "list", "claim", "pread", "pwrite", "mmap", "kimgcore",
        ] {
            let (good, refused) = self.calls.get(name).copied().unwrap_or_default();
            ensure!(
                good > 0 && refused > 0,
                "{name}: {good} good, {refused} refused; {self:?}"
            );
        }
        for state in [
            abi::STATE_EMPTY,
            abi::STATE_PREPARING,
            abi::STATE_LOADED,
            abi::STATE_AWAY,
            abi::STATE_RETURNED,
            abi::STATE_CLAIMED,
        ] {
            ensure!(
                self.states.contains(&state),
                "state {state} was not seen; {self:?}"
            );
        }
        Ok(())
    }
}
