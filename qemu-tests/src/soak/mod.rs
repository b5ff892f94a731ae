// SPDX-License-Identifier: GPL-2.0

//! `soak`: machine after machine, each drawn at random, each going through jumps, snapshots, rollbacks
//! and hibernations drawn at random, under a workload of which every byte is known.

mod busy;
mod life;
mod plan;

use std::fmt;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{anyhow, bail, Context, Result};

use crate::artifacts::{Artifacts, Kernel};
use crate::story::Story;
pub use plan::{Kind, Plan};

/// How long a machine may take, all of its operations together: a guard against hanging.
const LIMIT: Duration = Duration::from_secs(7200);

/// So many failures, and it ends.
const GIVE_UP: u64 = 20;

/// How long, and which.
#[derive(clap::Args)]
pub struct Options {
    /// So long (`2h`, `90m`), or so many operations (`50`)
    #[arg(value_parser = parse_amount)]
    amount: Amount,
    /// The same machines and operations as with that seed
    #[arg(long)]
    seed: Option<u64>,
    /// Show the guests' consoles as they run
    #[arg(long, short)]
    verbose: bool,
}

/// When it is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Amount {
    /// After that time; what has begun is finished.
    Time(Duration),
    /// After so many operations.
    Operations(u64),
}

/// Reads `2h`, `90m` or `50`.
fn parse_amount(text: &str) -> Result<Amount> {
    let (number, unit) = match text.strip_suffix(['h', 'm']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, ""),
    };
    let number: u64 = match number.parse() {
        Ok(number) if number > 0 => number,
        _ => bail!("neither a time as 2h or 90m nor a number of operations"),
    };
    Ok(match unit {
        "h" => Amount::Time(Duration::from_secs(number * 3600)),
        "m" => Amount::Time(Duration::from_secs(number * 60)),
        _ => Amount::Operations(number),
    })
}

/// What has been done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    jumps: u64,
    snapshots: u64,
    rollbacks: u64,
    hibernations: u64,
}

impl Counts {
    fn add(&mut self, kind: Kind) {
        *match kind {
            Kind::Jump => &mut self.jumps,
            Kind::Snapshot => &mut self.snapshots,
            Kind::Rollback => &mut self.rollbacks,
            Kind::Hibernation => &mut self.hibernations,
        } += 1;
    }

    fn all(&self) -> u64 {
        self.jumps + self.snapshots + self.rollbacks + self.hibernations
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} jumps, {} snapshots, {} rollbacks, {} hibernations",
            self.jumps, self.snapshots, self.rollbacks, self.hibernations
        )
    }
}

/// Runs machines until it is enough. The last line printed has the counts.
pub fn run(artifacts: &Artifacts, options: &Options) -> Result<ExitCode> {
    let first = options.seed.unwrap_or_else(by_the_clock);
    let started = Instant::now();
    let (mut counts, mut failures, mut machines) = (Counts::default(), 0u64, 0u64);
    loop {
        // An operation that failed is one, too.
        let tried = counts.all() + failures;
        let left = match options.amount {
            Amount::Time(time) if started.elapsed() < time => u64::MAX,
            Amount::Operations(all) if tried < all => all - tried,
            _ => break,
        };
        if failures == GIVE_UP {
            println!("soak: that is enough");
            break;
        }
        let seed = first.wrapping_add(machines);
        machines += 1;
        let enough = || matches!(options.amount, Amount::Time(time) if started.elapsed() >= time);
        let mut plan = Plan::drawn(seed, &kernels(artifacts));
        plan.limit(left);
        if !one(artifacts, seed, plan, options.verbose, &enough, &mut counts)? {
            failures += 1;
        }
    }
    let minutes = started.elapsed().as_secs() / 60;
    println!("soak: {machines} machines, {minutes} minutes, seed {first}");
    println!("{counts}, {failures} failures");
    Ok(ExitCode::from(u8::from(failures > 0)))
}

/// Kernels that a machine may have as A.
pub fn kernels(artifacts: &Artifacts) -> Vec<Kernel> {
    match artifacts.is_debug() {
        true => vec![Kernel::Full],
        false => vec![Kernel::Full, Kernel::Pae],
    }
}

/// A seed that nobody chose.
fn by_the_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    // Short enough to be typed again.
    now.map_or(1, |time| time.as_millis() as u64 % 1_000_000_000)
}

/// Runs one machine, and tells about it; whether all was well.
fn one(
    artifacts: &Artifacts,
    seed: u64,
    plan: Plan,
    verbose: bool,
    enough: &dyn Fn() -> bool,
    counts: &mut Counts,
) -> Result<bool> {
    println!("soak: seed {seed}: {}", plan.machine);
    let story = Story::new(artifacts, "soak", LIMIT)?.verbose(verbose);
    let mut here = Counts::default();
    let outcome = life::live(&story, plan, enough, &mut |kind, line| {
        println!("  {line}");
        here.add(kind);
        counts.add(kind);
    });
    let outcome = outcome.and_then(|()| match story.splat() {
        None => Ok(()),
        Some(line) => Err(anyhow!("a kernel complained: {line}")),
    });
    let Err(error) = outcome else {
        return Ok(true);
    };
    let keep = Story::log_dir();
    fs::create_dir_all(&keep)?;
    let log = keep.join(format!("soak-{seed}.log"));
    let text = format!("{}soak: seed {seed}: {error:#}\n", story.logs());
    fs::write(&log, text).with_context(|| log.display().to_string())?;
    let log = log.canonicalize().unwrap_or(log);
    println!("soak: seed {seed}: FAILED: {error:#}");
    if let Some(line) = story.splat() {
        println!("  a kernel complained: {line}");
    }
    println!("  log: {}", log.display());
    let kernel = if artifacts.is_debug() {
        " --kernel debug"
    } else {
        ""
    };
    let times = here.all() + 1;
    println!("  replay: cargo xtask soak {times} --seed {seed}{kernel}");
    Ok(false)
}

/// The test: one machine, every kind of operation. The seed can be given by `KJUMP_SEED`.
pub fn short(story: &Story) -> Result<()> {
    let chance = crate::chance::Chance::new()?;
    let seed = chance.seed();
    story.note(format!("KJUMP_SEED={seed}"));
    let plan = Plan::short(seed, &kernels(&story.artifacts));
    story.note(plan.machine.to_string());
    tell(story, plan).with_context(|| format!("KJUMP_SEED={seed}"))
}

/// Some machines, as they are drawn.
pub fn long(story: &Story) -> Result<()> {
    let chance = crate::chance::Chance::new()?;
    for seed in (0..6).map(|n| chance.seed().wrapping_add(n)) {
        let plan = Plan::drawn(seed, &kernels(&story.artifacts));
        let title = plan.machine.to_string();
        tell(story, plan).with_context(|| format!("seed {seed}: {title}"))?;
    }
    Ok(())
}

/// Runs one machine; its operations go into the line with the verdict.
fn tell(story: &Story, plan: Plan) -> Result<()> {
    let mut counts = Counts::default();
    life::live(story, plan, &|| false, &mut |kind, _| counts.add(kind))?;
    story.note(counts.to_string());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        let hours = |n: u64| Amount::Time(Duration::from_secs(n * 3600));
        assert_eq!(parse_amount("2h").unwrap(), hours(2));
        assert_eq!(parse_amount("120m").unwrap(), hours(2));
        assert_eq!(parse_amount("50").unwrap(), Amount::Operations(50));
        for bad in ["", "0", "h", "2d", "-1"] {
            assert!(parse_amount(bad).is_err(), "{bad}");
        }
    }
}
