// SPDX-License-Identifier: GPL-2.0

//! Running tests one after the other, and the verdict.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, Result};

use crate::artifacts::Artifacts;
use crate::story::Story;
use crate::tests;

/// A test: a story that ends well or not.
pub struct Test {
    /// Its name.
    pub name: &'static str,
    /// Whether it is told only when asked for by `--long`.
    pub long: bool,
    /// Seconds after which it has failed. Generous: a guard against hanging, not a measure.
    pub limit: u64,
    /// The story.
    pub run: fn(&Story) -> Result<()>,
}

/// Which tests to run, and how.
#[derive(clap::Args, Default)]
pub struct Options {
    /// Only tests whose name contains one of these
    filter: Vec<String>,
    /// Everything: all of the matrix, not a choice that covers all pairs
    #[arg(long)]
    long: bool,
    /// Only print the names
    #[arg(long)]
    list: bool,
    /// Show the guests' consoles as they run
    #[arg(long, short)]
    verbose: bool,
    /// Run each test so many times
    #[arg(long, default_value_t = 1)]
    repeat: u32,
    /// Run so many tests at once; each takes a core, and there are as many by default
    #[arg(long, short, default_value_t = cores())]
    jobs: usize,
}

/// Cores to run tests on. A test takes up to a GiB of memory, so not more than eight.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(8))
}

impl Options {
    fn wants(&self, test: &Test, debug: bool) -> bool {
        let named = |filter: &String| test.name.contains(filter.as_str());
        let in_full = self.filter.iter().any(|filter| filter == test.name);
        (self.filter.is_empty() || self.filter.iter().any(named))
            && (self.long || !test.long || in_full)
            && (in_full || !debug || why_not_on_debug(test).is_none())
    }
}

/// Why a test is left out on the kernel that finds mistakes, if it is.
fn why_not_on_debug(test: &Test) -> Option<&'static str> {
    let (_, why) = tests::NOT_ON_DEBUG
        .iter()
        .find(|(name, _)| *name == test.name)?;
    Some(why)
}

/// Runs what was asked for. The last line printed is `N passed, N failed`.
pub fn run(artifacts: &Artifacts, options: &Options) -> Result<ExitCode> {
    let chosen: Vec<&Test> = tests::ALL
        .iter()
        .filter(|test| options.wants(test, artifacts.is_debug()))
        .collect();
    if artifacts.is_debug() {
        let left_out = |test: &&Test| options.wants(test, false) && !options.wants(test, true);
        for test in tests::ALL.iter().filter(left_out) {
            let why = why_not_on_debug(test).unwrap_or_default();
            println!("left out: {}: {why}", test.name);
        }
    }
    if options.list {
        chosen.iter().for_each(|test| println!("{}", test.name));
        return Ok(ExitCode::SUCCESS);
    }
    let runs = (0..options.repeat).flat_map(|_| &chosen);
    let runs: Vec<&Test> = runs.copied().collect();
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        while let Some(test) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let passed = tell(test, artifacts, options)?;
            let mut verdicts = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
            verdicts.push((test.name, passed));
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..options.jobs.max(1))
            .map(|_| scope.spawn(work))
            .collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined
            .map(|result| result.unwrap_or_else(|_| Err(anyhow!("a test panicked"))))
            .collect::<Result<Vec<()>>>()
    })?;
    let verdicts = verdicts
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let failed = verdicts.iter().filter(|(_, passed)| !passed);
    let failed: Vec<_> = failed.map(|(name, _)| *name).collect();
    let passed = verdicts.len() - failed.len();
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
    }
    let tried = crate::tally::told();
    if !tried.is_empty() {
        println!("tried: {tried}");
    }
    println!("{passed} passed, {} failed", failed.len());
    Ok(if failed.is_empty() && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Lines of each console that are printed when a test fails; all of them are in its log.
const LINES: usize = 60;

/// Runs one test and prints its verdict.
fn tell(test: &Test, artifacts: &Artifacts, options: &Options) -> Result<bool> {
    let title = format!("test {} ... ", test.name);
    // With others beside it the name waits for the verdict.
    let alone = options.jobs <= 1;
    if alone {
        print!("{title}");
        std::io::stdout().flush()?;
    }
    let title = if alone { "" } else { &title };
    let started = Instant::now();
    let story = Story::new(artifacts, test.name, Duration::from_secs(test.limit))?
        .long(options.long)
        .verbose(options.verbose);
    let outcome = (test.run)(&story).and_then(|()| match story.splat() {
        None => Ok(()),
        Some(line) => Err(anyhow!("a kernel complained: {line}")),
    });
    let mut notes = format!("{:.1} s", started.elapsed().as_secs_f32());
    if !story.notes().is_empty() {
        notes = format!("{notes}; {}", story.notes());
    }
    story.keep_logs(test.name)?;
    match outcome {
        Ok(()) => {
            println!("{title}ok ({notes})");
            Ok(true)
        }
        Err(error) => {
            let splat = story.splat().map_or_else(String::new, |line| {
                format!("test {}: and a kernel complained: {line}\n", test.name)
            });
            // In one piece, so that others do not come between; what is wrong before the consoles, which are
            // long, and their ends only.
            let (name, tails) = (test.name, story.tails(LINES));
            print!("{title}FAILED ({notes})\ntest {name}: {error:#}\n{splat}{tails}");
            Ok(false)
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = tests::ALL.iter().map(|test| test.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), tests::ALL.len());
    }

    #[test]
    fn what_is_left_out_exists() {
        for (name, _) in tests::NOT_ON_DEBUG {
            assert!(tests::ALL.iter().any(|test| test.name == *name), "{name}");
        }
    }

    #[test]
    fn filters_choose() {
        let test = |name, long| Test {
            name,
            long,
            limit: 1,
            run: |_| Ok(()),
        };
        let options = |filter: &[&str], long| Options {
            filter: filter.iter().map(|name| name.to_string()).collect(),
            long,
            ..Options::default()
        };
        assert!(options(&[], false).wants(&test("jump", false), false));
        assert!(!options(&[], false).wants(&test("jump", true), false));
        assert!(options(&[], true).wants(&test("jump", true), false));
        assert!(options(&["jum"], false).wants(&test("jump", false), false));
        assert!(!options(&["back"], false).wants(&test("jump", false), false));
        assert!(options(&["jump"], false).wants(&test("jump", true), false));
        // On the kernel that finds mistakes some are left out, unless they are named in full.
        assert!(options(&[], false).wants(&test("jump", false), true));
        assert!(!options(&[], true).wants(&test("matrix", false), true));
        assert!(!options(&["matri"], true).wants(&test("matrix", false), true));
        assert!(options(&["matrix"], false).wants(&test("matrix", false), true));
    }
}
