// SPDX-License-Identifier: GPL-2.0

//! `bench`: the figures, side by side from one run. They tell of an emulated machine, so compare
//! them with each other only.

mod calls;
mod charts;
mod cpus;
mod dumps;
pub mod figures;
mod hibernation;
pub mod jumps;
mod peers;
mod snapshots;
mod switches;
mod targets;

use std::time::Duration;

use anyhow::{bail, Result};

use crate::artifacts::Artifacts;
use crate::story::Story;

/// How to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Jumps of each kind
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// RAM of the machine, MiB
    #[arg(long, default_value_t = 512)]
    memory: u32,
    /// CPUs of the machine
    #[arg(long, default_value_t = 2)]
    smp: u32,
    /// Switches of each kind
    #[arg(long, default_value_t = 200)]
    switches: usize,
    /// How full the machine is that hibernates, per cent
    #[arg(long, value_delimiter = ',', default_value = "10,40,70,85")]
    fill: Vec<u32>,
    /// Power cycles by each means at each of them
    #[arg(long, default_value_t = 5)]
    cycles: usize,
    /// kjump drops caches before it hibernates
    #[arg(long)]
    drop_caches: bool,
    /// Calls of each kind
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..))]
    calls: u32,
    /// Only one of them: jumps, switches, peers, calls, hibernation, dumps, cpus, snapshots
    #[arg(long, value_enum)]
    only: Option<Part>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Jumps to a peer and back.
    Jumps,
    /// Switches to a kernel that has booted, by kjump and by mainline's kexec.
    Switches,
    /// Hibernation with peers of several kinds.
    Peers,
    /// Programs with paging off, and the firmware.
    Calls,
    /// Hibernation and resume.
    Hibernation,
    /// Saving from a peer, by kjump and by others.
    Dumps,
    /// Saving from a peer with several CPUs.
    Cpus,
    /// Snapshots, whole and of what has changed, and going back to them.
    Snapshots,
}

/// A part's code.
type Measure = fn(&Story, &Options) -> Result<()>;

/// Measures, and prints the figures.
pub fn run(options: &Options) -> Result<()> {
    let artifacts = Artifacts::find()?;
    let parts: [(Part, &str, Measure); 8] = [
        (Part::Jumps, "bench-jumps", jumps::run),
        (Part::Switches, "bench-switches", switches::run),
        (Part::Peers, "bench-peers", peers::run),
        (Part::Calls, "bench-calls", calls::run),
        (Part::Hibernation, "bench-hibernation", hibernation::run),
        (Part::Dumps, "bench-dumps", dumps::run),
        (Part::Cpus, "bench-cpus", cpus::run),
        (Part::Snapshots, "bench-snapshots", snapshots::run),
    ];
    for (part, name, measure) in parts {
        if options.only.is_some_and(|only| only != part) {
            continue;
        }
        // A guard against hanging: a minute for each jump, an hour for each fill.
        let limit = match part {
            Part::Jumps | Part::Peers => 300 + 180 * options.rounds as u64,
            Part::Calls => 300 + 20 * u64::from(options.calls),
            Part::Switches => 300 + 60 * options.switches as u64,
            Part::Dumps | Part::Cpus => 3600,
            Part::Snapshots => 3600 * options.fill.len() as u64,
            Part::Hibernation => 1800 * (options.fill.len() * options.cycles) as u64,
        };
        let story = Story::new(&artifacts, name, Duration::from_secs(limit))?;
        let outcome = measure(&story, options);
        story.keep_logs(name)?;
        if outcome.is_err() {
            println!("{}", story.logs());
        }
        outcome?;
        if let Some(splat) = story.splat() {
            println!("{}", story.logs());
            bail!("a kernel complained: {splat}");
        }
    }
    targets::print();
    let directory = artifacts.dir().to_path_buf();
    let told = serde_json::json!({
        "memory": options.memory,
        "smp": options.smp,
        "rounds": options.rounds,
        "switches": options.switches,
        "cycles": options.cycles,
        "fill": options.fill,
        "drop_caches": options.drop_caches,
    });
    let json = directory.join("bench.json");
    figures::write(&json, &told)?;
    println!();
    println!("all samples: {}", json.display());
    for chart in charts::draw(&directory)? {
        println!("chart: {}", chart.display());
    }
    Ok(())
}

/// A line of a table.
fn row(title: &str, cells: impl Iterator<Item = String>) {
    print!("{title:<32}");
    cells.for_each(|cell| print!("{cell:>20}"));
    println!();
}
