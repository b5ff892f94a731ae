// SPDX-License-Identifier: GPL-2.0

//! Running tests one after the other, and the verdict.

use std::fs;
use std::io::Write;
use std::process::ExitCode;
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
}

impl Options {
    fn wants(&self, test: &Test) -> bool {
        let named = |filter: &String| test.name.contains(filter.as_str());
        (self.filter.is_empty() || self.filter.iter().any(named))
            && (self.long || !test.long || self.filter.iter().any(|filter| filter == test.name))
    }
}

/// Runs what was asked for. The last line printed is `N passed, N failed`.
pub fn run(options: &Options) -> Result<ExitCode> {
    let chosen: Vec<&Test> = tests::ALL
        .iter()
        .filter(|test| options.wants(test))
        .collect();
    if options.list {
        chosen.iter().for_each(|test| println!("{}", test.name));
        return Ok(ExitCode::SUCCESS);
    }
    let artifacts = Artifacts::find()?;
    let (mut passed, mut failed) = (0, Vec::new());
    for _ in 0..options.repeat {
        for test in &chosen {
            match tell(test, &artifacts, options)? {
                true => passed += 1,
                false => failed.push(test.name),
            }
        }
    }
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
    }
    println!("{passed} passed, {} failed", failed.len());
    Ok(if failed.is_empty() && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs one test and prints its verdict.
fn tell(test: &Test, artifacts: &Artifacts, options: &Options) -> Result<bool> {
    print!("test {} ... ", test.name);
    std::io::stdout().flush()?;
    let started = Instant::now();
    let story = Story::new(artifacts, test.name, Duration::from_secs(test.limit))?
        .long(options.long)
        .verbose(options.verbose);
    let outcome = (test.run)(&story).and_then(|()| match story.splat() {
        None => Ok(()),
        Some(line) => Err(anyhow!("a kernel complained: {line}")),
    });
    let seconds = started.elapsed().as_secs_f32();
    let logs = story.logs();
    let keep = Story::log_dir();
    fs::create_dir_all(&keep)?;
    fs::write(keep.join(format!("{}.log", test.name)), &logs)?;
    match outcome {
        Ok(()) => {
            println!("ok ({seconds:.1} s)");
            Ok(true)
        }
        Err(error) => {
            println!("FAILED ({seconds:.1} s)");
            println!("{logs}test {}: {error:#}", test.name);
            if let Some(line) = story.splat() {
                println!("test {}: and a kernel complained: {line}", test.name);
            }
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
        assert!(options(&[], false).wants(&test("jump", false)));
        assert!(!options(&[], false).wants(&test("jump", true)));
        assert!(options(&[], true).wants(&test("jump", true)));
        assert!(options(&["jum"], false).wants(&test("jump", false)));
        assert!(!options(&["back"], false).wants(&test("jump", false)));
        assert!(options(&["jump"], false).wants(&test("jump", true)));
    }
}
