//! Images of real filesystems, made by their own tools.
#![allow(dead_code, missing_docs)]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kjump_guard::{compare, probe, record, Found, Kind, Stale};
use kjump_image::Guard;

/// Where mkfs and its like are; not in every user's PATH.
const PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// Whether all of these are installed; says so where one is not: the test then passes untried.
pub fn have(tools: &[&str]) -> bool {
    let there = |tool: &&str| {
        PATH.split(':')
            .any(|dir| Path::new(dir).join(tool).exists())
    };
    match tools.iter().find(|tool| !there(tool)) {
        Some(missing) => eprintln!("skipped: {missing} is not installed"),
        None => return true,
    }
    false
}

/// Runs a tool to its end, with `input`; returns what it printed.
pub fn run(tool: &str, args: &[&str], input: Option<&Path>) -> String {
    let stdin = input.map_or(Stdio::null(), |path| File::open(path).unwrap().into());
    let mut command = Command::new(tool);
    command.args(args).stdin(stdin).env("PATH", PATH);
    command.env("MTOOLS_SKIP_CHECK", "1");
    let out = command.output().unwrap_or_else(|e| panic!("{tool}: {e}"));
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        out.status.success(),
        "{tool} {args:?}: {}{}",
        text(&out.stdout),
        text(&out.stderr)
    );
    text(&out.stdout)
}

/// A sparse file as a disk; gone at the end.
pub struct Image {
    pub path: PathBuf,
    pub file: File,
}

impl Image {
    /// `size` bytes of zeros.
    pub fn new(name: &str, size: u64) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(&path).unwrap();
        file.set_len(size).unwrap();
        Self { path, file }
    }

    /// Runs a tool with the image as its last argument.
    pub fn run(&self, tool: &str, args: &[&str]) -> String {
        let path = self.path.to_str().unwrap();
        run(tool, &[args, &[path]].concat(), None)
    }

    pub fn found(&self) -> Found {
        probe(&self.file).unwrap().expect("something known")
    }

    pub fn record(&self) -> Guard {
        record(&self.file, &self.found()).unwrap()
    }

    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    pub fn write(&self, offset: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, offset).unwrap();
    }

    /// Changes a byte.
    pub fn flip(&self, offset: u64) {
        let byte = self.read(offset, 1)[0];
        self.write(offset, &[byte ^ 1]);
    }

    /// What differs since `then`.
    pub fn stale(&self, then: &Guard) -> Option<Stale> {
        compare(then, &self.record()).err()
    }

    /// Nothing differs since `then`.
    pub fn same(&self, then: &Guard) {
        assert_eq!(self.stale(then), None);
    }

    /// Something differs, and the message has `word` in it.
    pub fn differs(&self, then: &Guard, word: &str) {
        let stale = self.stale(then).expect("a change must show").to_string();
        assert!(stale.contains(word), "{word:?} in {stale:?}");
        assert!(!stale.contains('\n'));
    }

    /// What it is, and that nothing else is seen in it.
    pub fn is(&self, kind: Kind, uuid: &str, label: &str) {
        let found = self.found();
        assert_eq!((found.kind, found.label.as_str()), (kind, label));
        assert_eq!(found.uuid_text(), uuid);
        assert!(found.has_uuid(&uuid.to_uppercase()));
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        fs::remove_file(&self.path).unwrap();
    }
}

pub const UUID: &str = "6b6a756d-7000-4a11-8001-0123456789ab";
