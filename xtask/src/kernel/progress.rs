// SPDX-License-Identifier: GPL-2.0

//! Runs a long `make` with its output in a log and one line of progress on stderr.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{bail, Context, Result};

use crate::sh;

/// Lines of a log that are shown when it ends in failure.
const TAIL: usize = 40;

/// Runs `make`, writes what it says to `log`, shows `title: N objects, 1m40s`; on failure the
/// error has the log's end and path.
pub fn run(title: &str, make: &mut Command, log: &Path) -> Result<()> {
    let what = sh::describe(make);
    let fail = || format!("cannot write {}", log.display());
    let mut file = File::create(log).with_context(fail)?;
    writeln!(file, "{what}").with_context(fail)?;

    let (reader, writer) = io::pipe().context("no pipe")?;
    make.stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let mut child = make
        .spawn()
        .with_context(|| format!("cannot run `{what}`"))?;
    // The command keeps its ends of the pipe; without this the reader would wait for ever.
    make.stdout(Stdio::null()).stderr(Stdio::null());

    let mut meter = Meter::new(title);
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context("cannot read make's output")?;
        file.write_all(&line)
            .and_then(|()| file.write_all(b"\n"))
            .with_context(fail)?;
        meter.line(&String::from_utf8_lossy(&line));
    }
    let status = child.wait().context("cannot wait for make")?;
    meter.finish();
    if !status.success() {
        let text = sh::read(log)?;
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        bail!(
            "{tail}\n`{what}` failed ({status}); the whole log is {}",
            log.display()
        );
    }
    Ok(())
}

/// The line of progress: rewritten in place on a terminal, else repeated now and then.
struct Meter<'a> {
    title: &'a str,
    objects: usize,
    start: Instant,
    shown: Instant,
    terminal: bool,
}

impl<'a> Meter<'a> {
    fn new(title: &'a str) -> Self {
        let now = Instant::now();
        Meter {
            title,
            objects: 0,
            start: now,
            shown: now,
            terminal: io::stderr().is_terminal(),
        }
    }

    fn line(&mut self, line: &str) {
        if !makes_object(line) {
            return;
        }
        self.objects += 1;
        let interval = Duration::from_millis(if self.terminal { 200 } else { 30_000 });
        if self.shown.elapsed() >= interval {
            self.shown = Instant::now();
            self.show(if self.terminal { "\r" } else { "\n" });
        }
    }

    fn show(&self, end: &str) {
        let s = self.start.elapsed().as_secs();
        eprint!(
            "xtask: {}: {} objects, {}m{:02}s{end}",
            self.title,
            self.objects,
            s / 60,
            s % 60
        );
    }

    fn finish(&self) {
        self.show("\n");
    }
}

/// `  CC      foo.o` and its like, as kbuild prints them.
fn makes_object(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let kind = words.next().unwrap_or_default();
    line.starts_with("  ")
        && [
            "CC", "AS", "LD", "AR", "HOSTCC", "HOSTLD", "RUSTC", "BINDGEN",
        ]
        .contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_counted() {
        assert!(makes_object("  CC      kernel/fork.o"));
        assert!(makes_object("  RUSTC L rust/core.o"));
        assert!(!makes_object("make[1]: Entering directory"));
        assert!(!makes_object("CC is gcc"));
    }

    #[test]
    fn a_failure_shows_the_end_of_the_log() {
        let log = std::env::temp_dir().join(format!("xtask-progress-{}.log", std::process::id()));
        let mut fails = Command::new("sh");
        fails.args(["-c", "seq 1 100; echo broken >&2; exit 3"]);
        let error = run("test", &mut fails, &log).unwrap_err().to_string();
        std::fs::remove_file(&log).unwrap();
        assert!(
            error.contains("\n100\nbroken\n") && !error.contains("\n50\n"),
            "{error}"
        );
    }
}
