// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask fuzz`: builds the targets of `userspace/fuzz` with coverage, and runs them; as long as
//! was asked for, or as part of `cargo xtask test` for a number of executions.
//!
//! The pinned stable Rust does it: the flags that the coverage needs are stable ones, and libFuzzer
//! itself comes with the crate `libfuzzer-sys`, in C++.

use std::{
    collections::VecDeque,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{bail, ensure, Context, Result};

use crate::{
    artifacts, setup,
    sh::{self, say},
    tools,
};

/// What makes a program that libFuzzer can steer.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Executions of a target in `cargo xtask test`: a few seconds' worth.
const RUNS: u64 = 60_000;
/// Of those that take longer.
const SLOW: &[(&str, u64)] = &[
    ("core", 8_000),
    ("guard", 2_000),
    ("handoff", 8_000),
    ("image", 6_000),
    ("resumable", 8_000),
];
/// Bytes of the longest input.
const MAX_LEN: u32 = 4096;
/// Seconds that one input may take: what takes longer has no end.
const TIMEOUT: u32 = 20;

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Options {
    /// How long, all targets together
    minutes: f64,
    /// Only these targets (default: all)
    target: Vec<String>,
    /// Begin with this seed (default: another one each time)
    #[arg(long)]
    seed: Option<u32>,
    /// Run so many targets at once (default: one for each CPU)
    #[arg(long, short)]
    jobs: Option<usize>,
}

/// How long a target runs.
#[derive(Clone, Copy)]
enum Bound {
    Seconds(u64),
    /// Executions.
    Runs,
}

/// Runs the subcommand.
pub fn run(options: &Options) -> Result<()> {
    setup::ensure()?;
    let all = targets()?;
    let unknown = options.target.iter().find(|name| !all.contains(name));
    if let Some(name) = unknown {
        bail!("no target `{name}`; there are {}", all.join(", "));
    }
    let names = match &options.target[..] {
        [] => all,
        some => some.to_vec(),
    };
    ensure!(
        options.minutes > 0.0,
        "{} minutes are no time",
        options.minutes
    );
    let jobs = options.jobs.unwrap_or_else(cpus).clamp(1, names.len());
    let seconds = options.minutes * 60.0 * jobs as f64 / names.len() as f64;
    // CAST: a whole number of seconds, at least one.
    let bound = Bound::Seconds((seconds as u64).max(1));
    let (_, failed) = all_of(&names, bound, options.seed, jobs)?;
    ensure!(
        failed == 0,
        "{failed} of {} targets have found something",
        names.len()
    );
    Ok(())
}

/// The bounded run of `cargo xtask test`: how many targets found nothing, and how many did.
pub fn bounded() -> Result<(usize, usize)> {
    setup::ensure()?;
    all_of(&targets()?, Bound::Runs, None, cpus())
}

fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn dir() -> PathBuf {
    artifacts::repo().join("userspace/fuzz")
}

/// Names of the targets, sorted.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    let folder = dir().join("fuzz_targets");
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|name| name.to_str());
        names.extend(stem.map(String::from));
    }
    names.sort_unstable();
    Ok(names)
}

/// Builds the targets and returns where they lie.
fn build() -> Result<PathBuf> {
    let channel = tools::channel()?;
    let about = sh::output(
        sh::command("rustc")
            .arg("-vV")
            .env("RUSTUP_TOOLCHAIN", &channel),
    )?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not say what machine this is")?;
    let to = artifacts::repo().join("target/fuzz");
    say("building the fuzz targets");
    let mut cargo = sh::command("cargo");
    // With a target named, the flags are not those of build scripts and macros.
    cargo.args([
        "build",
        "--quiet",
        "--release",
        "--locked",
        "--target",
        host,
    ]);
    cargo.arg("--target-dir").arg(&to).current_dir(dir());
    cargo.env("RUSTUP_TOOLCHAIN", channel);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    sh::run(&mut cargo)?;
    Ok(to.join(host).join("release"))
}

/// Runs these targets, `jobs` at a time; how many found nothing, and how many did.
fn all_of(
    names: &[String],
    bound: Bound,
    seed: Option<u32>,
    jobs: usize,
) -> Result<(usize, usize)> {
    let programs = build()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    // CAST: any bits will do. 0 would mean another one for each target.
    let seed = seed
        .unwrap_or(now.map_or(1, |t| t.as_millis() as u32))
        .max(1);
    println!("fuzz: seed {seed}");
    let queue = Mutex::new(names.iter().collect::<VecDeque<_>>());
    let failed = Mutex::new(0);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| loop {
                let next = queue.lock().ok().and_then(|mut queue| queue.pop_front());
                let Some(name) = next else { break };
                let said = one(&programs, name, bound, seed);
                let found = !matches!(said, Ok((_, false)));
                println!(
                    "{}",
                    said.map_or_else(|e| format!("fuzz {name}: {e:#}"), |(line, _)| line)
                );
                if let Some(mut failed) = failed.lock().ok().filter(|_| found) {
                    *failed += 1;
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or(names.len());
    Ok((names.len() - failed, failed))
}

/// Runs a target; the line about it, and whether it has found something.
fn one(programs: &Path, name: &str, bound: Bound, seed: u32) -> Result<(String, bool)> {
    let work = artifacts::repo().join("target/fuzz");
    let [corpus, fresh, found] =
        ["corpus", "fresh", "found"].map(|part| work.join(part).join(name));
    // What was found before is gone on from, where there is time; a bounded run is always the same.
    let corpus = match bound {
        Bound::Seconds(_) => corpus,
        Bound::Runs => {
            sh::remove_dir(&fresh)?;
            fresh
        }
    };
    sh::create_dir(&corpus)?;
    sh::create_dir(&found)?;
    let log = work.join(format!("{name}.log"));
    let mut command = sh::command(programs.join(name));
    command.arg(match bound {
        Bound::Seconds(seconds) => format!("-max_total_time={seconds}"),
        Bound::Runs => {
            let slow = SLOW.iter().find(|(slow, _)| *slow == name);
            format!("-runs={}", slow.map_or(RUNS, |(_, runs)| *runs))
        }
    });
    command.args([
        format!("-seed={seed}"),
        format!("-max_len={MAX_LEN}"),
        format!("-timeout={TIMEOUT}"),
        "-print_final_stats=1".into(),
        format!("-artifact_prefix={}/", found.display()),
    ]);
    // libFuzzer writes to the first one that it is given.
    command.arg(&corpus);
    let seeds = dir().join("seeds").join(name);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    let file = File::create(&log).with_context(|| log.display().to_string())?;
    command
        .stdout(file.try_clone()?)
        .stderr(file)
        .current_dir(&work);
    let status = command
        .status()
        .with_context(|| format!("cannot run `{}`", sh::describe(&command)))?;
    let text = sh::read(&log)?;
    let runs = executions(&text);
    let runs = runs.map_or("no".into(), |runs| runs.to_string());
    if status.success() {
        return Ok((format!("fuzz {name}: {runs} executions, 0 crashes"), false));
    }
    let line = format!(
        "fuzz {name}: {runs} executions, 1 crash: {}; the input: {}; again: {} INPUT",
        why(&text),
        input(&text).unwrap_or("none was kept"),
        programs.join(name).display()
    );
    Ok((line, true))
}

/// Executions, as libFuzzer says at its end.
fn executions(text: &str) -> Option<u64> {
    let count = |line: &str| {
        line.strip_prefix("stat::number_of_executed_units:")?
            .trim()
            .parse()
            .ok()
    };
    text.lines().find_map(count)
}

/// Why it ended: where it panicked, or what libFuzzer says.
fn why(text: &str) -> String {
    let mut lines = text.lines();
    let at = lines
        .by_ref()
        .find_map(|line| line.split_once("panicked at ").map(|(_, at)| at));
    if let Some(at) = at {
        return format!("{} {}", at, lines.next().unwrap_or_default());
    }
    let own = |line: &&str| line.contains("ERROR: libFuzzer") || line.contains("memory allocation");
    text.lines().find(own).unwrap_or("it failed").into()
}

/// Where the input was put.
fn input(text: &str) -> Option<&str> {
    text.lines().find_map(|line| {
        line.split_once("Test unit written to ")
            .map(|(_, path)| path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_read() {
        let text = "INFO: Seed: 1\n\
                    thread '<unnamed>' (7) panicked at core/src/reader.rs:79:18:\n\
                    attempt to add with overflow\n\
                    ==1== ERROR: libFuzzer: deadly signal\n\
                    Test unit written to /x/crash-1\n\
                    stat::number_of_executed_units: 1398\n";
        assert_eq!(executions(text), Some(1398));
        assert_eq!(
            why(text),
            "core/src/reader.rs:79:18: attempt to add with overflow"
        );
        assert_eq!(input(text), Some("/x/crash-1"));
        let slow = "==1== ERROR: libFuzzer: timeout after 21 seconds\n";
        assert_eq!((why(slow).as_str(), executions(slow)), (slow.trim(), None));
    }

    #[test]
    fn every_target_is_declared() {
        let manifest = fs::read_to_string(dir().join("Cargo.toml")).unwrap();
        let names = targets().unwrap();
        assert!(names.len() > 10);
        for name in &names {
            assert!(
                manifest.contains(&format!("name = \"{name}\"\n")),
                "{name} is not built"
            );
        }
        assert!(SLOW
            .iter()
            .all(|(slow, _)| names.iter().any(|name| name == slow)));
    }
}
