// SPDX-License-Identifier: GPL-2.0

//! Which files the check reads, and what of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Adds the files of a directory tree that end in `.end`, in the order of their names. Symbolic
/// links are left alone: a module's build directory has one to the checkout, which contains it.
pub fn files_in(dir: &Path, end: &str, files: &mut Vec<PathBuf>) -> Result<()> {
    let fail = || format!("cannot list {}", dir.display());
    let mut entries: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(fail)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()
        .with_context(fail)?;
    entries.sort();
    for path in entries {
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            files_in(&path, end, files)?;
        } else if path.extension().is_some_and(|e| e == end) {
            files.push(path);
        }
    }
    Ok(())
}

/// bindgen's output without constants and impls, which are two thirds of it. Items start in the
/// first column; what else stands there are brackets and `where`. The lines that go are left
/// empty: their numbers stay.
pub fn thinned(bindings: &str) -> String {
    let mut skip = false;
    let mut thin = String::with_capacity(bindings.len());
    for line in bindings.lines() {
        let starts_item = line.starts_with(|c: char| c == '#' || c.is_ascii_alphabetic());
        if starts_item && !line.starts_with("where") {
            let word = line.trim_start_matches("pub ");
            skip = word.starts_with("impl") || word.starts_with("const ");
        }
        if !skip {
            thin.push_str(line);
        }
        thin.push('\n');
    }
    thin
}
