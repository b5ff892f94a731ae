// SPDX-License-Identifier: GPL-2.0

//! What a test gets to work with: built files, a directory of its own, a deadline, and machines
//! whose consoles are kept for the verdict.

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::artifacts::{Artifacts, Kernel};
use crate::console::Console;
use crate::initramfs::{self, Purpose};
use crate::vm::{Config, Vm};

/// A machine that the test has started.
struct Witness {
    title: String,
    console: Console,
    /// Parts of its text that do not count: from here to there.
    forgiven: Vec<(usize, usize)>,
}

/// One run of one test.
pub struct Story {
    /// What has been built.
    pub artifacts: Artifacts,
    /// For the test's own files; removed afterwards.
    pub dir: PathBuf,
    /// Whether all was asked for, not the short selection.
    pub long: bool,
    deadline: Instant,
    verbose: bool,
    witnesses: RefCell<Vec<Witness>>,
    notes: RefCell<Vec<String>>,
}

impl Story {
    /// Begins.
    pub fn new(artifacts: &Artifacts, name: &str, limit: Duration) -> Result<Self> {
        let limit = if artifacts.is_debug() {
            limit * 4
        } else {
            limit
        };
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let dir = std::env::temp_dir().join(format!("kjump-test-{pid}-{number}-{name}"));
        fs::create_dir_all(&dir)?;
        Ok(Self {
            artifacts: artifacts.clone(),
            dir,
            long: false,
            deadline: Instant::now() + limit,
            verbose: false,
            witnesses: RefCell::default(),
            notes: RefCell::default(),
        })
    }

    /// Asks for everything.
    pub fn long(mut self, long: bool) -> Self {
        self.long = long;
        self
    }

    /// Copies the consoles to stderr as they grow.
    pub fn verbose(mut self, verbose: bool) -> Self {
        self.verbose = verbose;
        self
    }

    /// The usual machine with that kernel as A.
    pub fn config(&self, kernel: Kernel) -> Result<Config> {
        self.config_for(kernel, Purpose::Jumps)
    }

    /// A machine with that kernel as A, for one purpose or another.
    pub fn config_for(&self, kernel: Kernel, purpose: Purpose) -> Result<Config> {
        let initrd = self.dir.join(initramfs::name(kernel, purpose));
        if !initrd.exists() {
            initramfs::build(&self.artifacts, kernel, purpose, &self.dir)?;
        }
        Ok(Config {
            kernel: self.artifacts.bzimage(kernel),
            initrd,
            patience: if self.artifacts.is_debug() { 4 } else { 1 },
            ..Config::default()
        })
    }

    /// Starts a machine and waits until A takes commands.
    pub fn boot(&self, title: &str, config: &Config) -> Result<Vm> {
        let vm = self.power_on(title, config)?;
        vm.wait_boot()?;
        Ok(vm)
    }

    /// Starts a machine.
    pub fn power_on(&self, title: &str, config: &Config) -> Result<Vm> {
        let verbose = self.verbose;
        let vm = Vm::start(config, self.deadline, move |text| {
            if verbose {
                std::io::stderr().write_all(text.as_bytes()).ok();
            }
        })?;
        self.witnesses.borrow_mut().push(Witness {
            title: title.to_string(),
            console: vm.console.clone(),
            forgiven: Vec::new(),
        });
        Ok(vm)
    }

    /// What the kernels of the machine started last print from `mark` on may be complaints: the
    /// test makes them. Until [`Story::trouble_is_over`], if that comes.
    pub fn expect_trouble(&self, mark: usize) {
        if let Some(last) = self.witnesses.borrow_mut().last_mut() {
            last.forgiven.push((mark, usize::MAX));
        }
    }

    /// The trouble that was expected is over: complaints count again.
    pub fn trouble_is_over(&self) {
        if let Some(last) = self.witnesses.borrow_mut().last_mut() {
            let now = last.console.mark();
            if let Some(span) = last.forgiven.last_mut() {
                span.1 = now;
            }
        }
    }

    /// Something worth knowing, for the line with the verdict.
    pub fn note(&self, note: impl Into<String>) {
        self.notes.borrow_mut().push(note.into());
    }

    /// What was noted.
    pub fn notes(&self) -> String {
        self.notes.borrow().join("; ")
    }

    /// The first complaint of any kernel that was not to complain.
    pub fn splat(&self) -> Option<String> {
        self.witnesses.borrow().iter().find_map(|machine| {
            let line = machine.console.splat(&machine.forgiven)?;
            Some(format!("{}: {line}", machine.title))
        })
    }

    /// All consoles, whole.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for machine in self.witnesses.borrow().iter() {
            text += &format!(
                "---- console of {}\n{}",
                machine.title,
                machine.console.since(0)
            );
            text += "\n---- end\n";
        }
        text
    }

    /// Keeps all consoles, under the story's name, in [`Story::log_dir`].
    pub fn keep_logs(&self, name: &str) -> Result<()> {
        let keep = Self::log_dir();
        fs::create_dir_all(&keep)?;
        Ok(fs::write(keep.join(format!("{name}.log")), self.logs())?)
    }

    /// The last lines of all consoles.
    pub fn tails(&self, lines: usize) -> String {
        let mut text = String::new();
        for machine in self.witnesses.borrow().iter() {
            let console = machine.console.since(0);
            let all: Vec<&str> = console.lines().collect();
            let tail = &all[all.len().saturating_sub(lines)..];
            text += &format!("---- console of {}, its end\n", machine.title);
            tail.iter().for_each(|line| text += &format!("{line}\n"));
            text += "---- end\n";
        }
        text
    }

    /// A file of the test's own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where logs are kept.
    pub fn log_dir() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/qemu-tests")
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).ok();
    }
}
