// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask test`: the host's tests, the FFI check, a bounded run of the fuzz targets, with `--long`
//! what runs under Miri, the tests in virtual machines, in this order, and one line at the end that sums them up.

use std::{
    io::{BufRead, BufReader, Write},
    ops::AddAssign,
    process::{Command, Stdio},
};

use anyhow::{bail, Context, Result};

use crate::{
    artifacts::{self, Flavour},
    build, ffi, fuzz, guest, miri, sh, tools,
};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Options {
    /// Only tests in whose name one of these occurs (then only those in virtual machines, unless
    /// one is `host`, `ffi`, `fuzz` or `miri`)
    filter: Vec<String>,
    /// All combinations where the default is pairwise
    #[arg(long)]
    long: bool,
    /// Name the tests in virtual machines and run nothing
    #[arg(long)]
    list: bool,
    /// Show the guests' consoles as they run
    #[arg(long, short)]
    verbose: bool,
    /// Run each test in virtual machines so many times
    #[arg(long, value_name = "N")]
    repeat: Option<u32>,
    /// Run so many tests in virtual machines at once; each takes a core
    #[arg(long, short, value_name = "N")]
    jobs: Option<u32>,
    /// Kernel A in the tests in virtual machines; `debug` is built when it is asked for
    #[arg(long, value_enum, default_value_t)]
    kernel: Flavour,
}

/// How many tests passed and did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// Runs the subcommand.
pub fn run(options: &Options) -> Result<()> {
    if options.list {
        let mut command = guest::qemu_tests()?;
        command.arg("--list").args(options.kernel.option());
        return sh::run(command.args(&options.filter));
    }
    let named = |name: &str| options.filter.iter().any(|f| f == name);
    let all = options.filter.is_empty();
    let vm_filter: Vec<&String> = options
        .filter
        .iter()
        .filter(|f| !["host", "ffi", "fuzz", "miri"].contains(&f.as_str()))
        .collect();

    build::build(&options.kernel.kernels())?;
    let mut tally = Tally::default();
    if all || named("host") {
        tally += stage("host tests", host());
    }
    if all || named("ffi") {
        tally += stage("ffi check", ffi());
    }
    if all || named("fuzz") {
        tally += stage("fuzz", fuzz());
    }
    if (all && options.long) || named("miri") {
        tally += stage("Miri", miri());
    }
    if all || !vm_filter.is_empty() {
        let mut command = guest::qemu_tests()?;
        command.args(vm_filter);
        command.args(options.long.then_some("--long"));
        command.args(options.kernel.option());
        command.args(options.verbose.then_some("--verbose"));
        if let Some(times) = options.repeat {
            command.args(["--repeat", &times.to_string()]);
        }
        if let Some(jobs) = options.jobs {
            command.args(["--jobs", &jobs.to_string()]);
        }
        tally += stage("tests in virtual machines", vm(&mut command));
    }
    println!("\n{}", tally.line());
    // The line stays the last one on either stream.
    std::process::exit(i32::from(tally.failed > 0))
}

/// A part that could not be run to its end counts as one failure.
fn stage(title: &str, result: Result<Tally>) -> Tally {
    result.unwrap_or_else(|error| {
        println!("{title}: {error:#}");
        Tally {
            failed: 1,
            ..Tally::default()
        }
    })
}

/// The workspace's default members: what needs no virtual machine.
fn host() -> Result<Tally> {
    let mut cargo = sh::command("cargo");
    cargo
        .args(["test", "--quiet", "--no-fail-fast"])
        .current_dir(artifacts::repo());
    let (success, lines) = stream(cargo.env("RUSTUP_TOOLCHAIN", tools::channel()?))?;
    let mut tally = Tally::default();
    for line in lines {
        tally += Tally::of_libtest(&line).unwrap_or_default();
    }
    if !success && tally.failed == 0 {
        bail!("`{}` failed", sh::describe(&cargo));
    }
    Ok(tally)
}

/// One test for each kernel would be too fine: the check is one.
fn ffi() -> Result<Tally> {
    ffi::run(&ffi::Options::default())?;
    Ok(Tally {
        passed: 1,
        ..Tally::default()
    })
}

/// All of it is one.
fn miri() -> Result<Tally> {
    miri::run(&miri::Options {})?;
    Ok(Tally {
        passed: 1,
        ..Tally::default()
    })
}

/// One test for each target.
fn fuzz() -> Result<Tally> {
    let (passed, failed) = fuzz::bounded()?;
    Ok(Tally {
        passed,
        failed,
        skipped: 0,
    })
}

/// The last line of `qemu-tests` is its sum.
fn vm(command: &mut Command) -> Result<Tally> {
    let (success, lines) = stream(command)?;
    let tally = lines.iter().rev().find_map(|line| Tally::of_sum(line));
    let tally = tally.with_context(|| format!("`{}` told no sum", sh::describe(command)))?;
    if !success && tally.failed == 0 {
        bail!("`{}` failed", sh::describe(command));
    }
    Ok(tally)
}

/// Runs a command, shows its stdout as it comes (but for its sum) and returns the lines.
fn stream(command: &mut Command) -> Result<(bool, Vec<String>)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{}`", sh::describe(command)))?;
    let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
    let mut lines = Vec::new();
    let mut line = Vec::new();
    loop {
        let chunk = stdout.fill_buf().context("cannot read a test's output")?;
        if chunk.is_empty() {
            break;
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.map_or(chunk.len(), |at| at + 1)];
        line.extend_from_slice(part);
        // A test's name appears before its verdict; only what may become a sum is held back.
        let sum = line.first().is_some_and(u8::is_ascii_digit);
        if !sum {
            write_out(part)?;
        }
        let length = part.len();
        stdout.consume(length);
        if end.is_some() {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sum && Tally::of_sum(&text).is_none() {
                write_out(&line)?;
            }
            lines.push(text);
            line.clear();
        }
    }
    Ok((child.wait()?.success(), lines))
}

fn write_out(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .context("cannot write to stdout")
}

impl Tally {
    /// `N passed, N failed`, with `, N skipped` where something was.
    fn line(&self) -> String {
        let line = format!("{} passed, {} failed", self.passed, self.failed);
        if self.skipped == 0 {
            return line;
        }
        format!("{line}, {} skipped", self.skipped)
    }

    /// Reads what [`Tally::line`] writes.
    fn of_sum(line: &str) -> Option<Self> {
        let mut tally = Tally::default();
        let mut parts = line.trim().split(", ");
        tally.passed = parts.next()?.strip_suffix(" passed")?.parse().ok()?;
        tally.failed = parts.next()?.strip_suffix(" failed")?.parse().ok()?;
        if let Some(part) = parts.next() {
            tally.skipped = part.strip_suffix(" skipped")?.parse().ok()?;
        }
        parts.next().is_none().then_some(tally)
    }

    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn of_libtest(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count = |what: &str| {
            counts
                .split("; ")
                .find_map(|part| part.trim().strip_suffix(what)?.trim().parse().ok())
        };
        Some(Tally {
            passed: count("passed")?,
            failed: count("failed")?,
            skipped: count("ignored")?,
        })
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn sums_are_read_as_they_are_written() {
        for (passed, failed, skipped) in [(3, 0, 0), (0, 12, 0), (1, 2, 3)] {
            let tally = Tally {
                passed,
                failed,
                skipped,
            };
            assert_eq!(Tally::of_sum(&tally.line()), Some(tally));
        }
        assert_eq!(Tally::of_sum("ping: 3 passed, 0 failed"), None);
        assert_eq!(Tally::of_sum("3 passed"), None);
    }

    #[test]
    fn libtest_is_read() {
        let line = "test result: FAILED. 24 passed; 1 failed; 2 ignored; 0 measured; 0 filtered \
                    out; finished in 0.11s";
        let expected = Tally {
            passed: 24,
            failed: 1,
            skipped: 2,
        };
        assert_eq!(Tally::of_libtest(line), Some(expected));
        assert_eq!(Tally::of_libtest("test a ... ok"), None);
    }
}
