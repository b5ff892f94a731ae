// SPDX-License-Identifier: GPL-2.0

//! Running other programs and moving files, with errors that say what was tried.

use std::{
    fs, io,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{bail, Context, Result};
use sha2::{Digest, Sha256};

/// Tells the user about one thing that is being done, on stderr.
pub fn say(what: impl std::fmt::Display) {
    eprintln!("xtask: {what}");
}

/// A command that does not see what cargo set up for `cargo xtask` itself: rustc flags, the job
/// server, library paths, package variables. kbuild and a nested cargo would take them for theirs.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let ours = name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        let flags = [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "MAKEFLAGS",
            "MFLAGS",
            "MAKELEVEL",
        ];
        let kbuild = [
            "CARGO",
            "LD_LIBRARY_PATH",
            "KBUILD_OUTPUT",
            "ARCH",
            "CROSS_COMPILE",
        ];
        if ours || flags.contains(&&*name) || kbuild.contains(&&*name) {
            command.env_remove(&name);
        }
    }
    // Messages are read (`apt`, `make`), so they must not be translated.
    command.env("LC_ALL", "C");
    command
}

/// The command as one could type it, for messages.
pub fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|a| a.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Runs a command with the user's stdout and stderr; an exit code other than 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run `{}`", describe(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", describe(command));
    }
    Ok(())
}

/// Runs a command quietly and returns its stdout; on failure its stderr is in the error.
pub fn output(command: &mut Command) -> Result<String> {
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{}`", describe(command)))?;
    if !out.status.success() {
        let stderr = String::from_utf8_lossy(&out.stderr);
        bail!(
            "`{}` failed ({}):\n{}",
            describe(command),
            out.status,
            stderr.trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Hash of several inputs, each kept apart from the next, as hex.
pub fn hash<T: AsRef<[u8]>>(inputs: impl IntoIterator<Item = T>) -> String {
    let mut hasher = Sha256::new();
    for input in inputs {
        hasher.update((input.as_ref().len() as u64).to_le_bytes());
        hasher.update(input);
    }
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// SHA-256 of a file, as hex. By coreutils: the files are large and this crate is built for
/// debugging.
pub fn sha256_of(file: &Path) -> Result<String> {
    let line = output(command("sha256sum").arg("--").arg(file))?;
    let word = line.split_whitespace().next().unwrap_or_default();
    Ok(word.trim_start_matches('\\').to_owned())
}

/// Reads a text file; the error names it.
pub fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Creates a directory with its parents; the error names it.
pub fn create_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))
}

/// Removes a directory and what is in it, if it is there.
pub fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a file in one step: a reader sees the old contents or the new, never a part. An equal
/// file is left alone, so that its time stamp says when it really changed.
pub fn write(file: &Path, contents: &[u8]) -> Result<()> {
    if fs::read(file).is_ok_and(|old| old == contents) {
        return Ok(());
    }
    let fail = || format!("cannot write {}", file.display());
    if let Some(dir) = file.parent() {
        create_dir(dir)?;
    }
    let mut name = file.file_name().context("no file name")?.to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = file.with_file_name(name);
    fs::write(&new, contents).with_context(fail)?;
    fs::rename(&new, file).with_context(fail)
}

/// Copies a file as [`write`] does, permissions included.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let contents = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    write(to, &contents)?;
    let permissions = fs::metadata(from)?.permissions();
    fs::set_permissions(to, permissions).with_context(|| format!("cannot chmod {}", to.display()))
}
