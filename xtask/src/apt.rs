// SPDX-License-Identifier: GPL-2.0

//! Fetches Debian packages of suites or architectures that the machine is not set up for, by an
//! apt configuration of its own: the user's lists, caches and sources stay as they are. The
//! mirror is the machine's; every list is verified with the machine's Debian archive keyring.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{bail, Context, Result};

use crate::{artifacts, sh};

/// Debian's archive as this machine reaches it.
pub struct Mirror {
    uri: String,
    /// The machine's own suite, such as `bookworm`.
    pub codename: String,
}

impl Mirror {
    /// Asks the machine's apt; where it has no lists yet (a fresh container), fetches them into
    /// the cache first.
    pub fn of_this_machine() -> Result<Self> {
        let ask = |apt: &mut Command| {
            apt.args([
                "indextargets",
                "--format",
                "$(REPO_URI)|$(RELEASE)|$(ORIGIN)",
            ]);
            sh::output(apt.arg("Created-By: Packages")).map(|targets| Self::choose(&targets))
        };
        if let Some(mirror) = ask(&mut sh::command("apt-get"))? {
            return Ok(mirror);
        }
        let state = prepare_state("machine")?;
        output(with_state(&state).arg("update"))?;
        ask(&mut with_state(&state))?.with_context(|| {
            "apt knows no Debian archive: have a line for Debian's main archive in \
             /etc/apt/sources.list, or set KJUMP_KERNEL_SRC to a kernel source"
        })
    }

    /// The first target that is Debian's and neither security nor updates. Before the first
    /// `apt-get update` the origin is not known yet.
    fn choose(targets: &str) -> Option<Self> {
        targets.lines().find_map(|line| {
            let mut fields = line.split('|');
            let (uri, release, origin) = (fields.next()?, fields.next()?, fields.next()?);
            let fits = ["Debian", ""].contains(&origin) && !uri.contains("security");
            (fits && !release.contains('-')).then(|| Mirror {
                uri: uri.to_owned(),
                codename: release.to_owned(),
            })
        })
    }

    /// Downloads a package (`name` or `name=version`) of a suite, for an architecture, and
    /// returns the path of the .deb in `into`.
    pub fn download(&self, suite: &str, arch: &str, package: &str, into: &Path) -> Result<PathBuf> {
        let state = self.lists(suite, arch)?;
        let apt = || private_apt(&state, arch);

        // apt downloads into its working directory: an empty one, so that the .deb is found.
        let fresh = into.join(format!("partial-{}", std::process::id()));
        sh::remove_dir(&fresh)?;
        sh::create_dir(&fresh)?;
        let fetched = output(apt().args(["download", package]).current_dir(&fresh));
        let moved = fetched.and_then(|_| move_deb(&fresh, into));
        sh::remove_dir(&fresh)?;
        moved.with_context(|| format!("cannot fetch {package} from {suite}"))
    }

    /// Downloads a package and all that it depends on, as for a machine with nothing on it, and
    /// returns the directory with the .debs; it is the caller's to remove.
    pub fn download_all(&self, suite: &str, arch: &str, package: &str) -> Result<PathBuf> {
        let state = self.lists(suite, arch)?;
        let cache = state.join(format!("all-{}", std::process::id()));
        sh::remove_dir(&cache)?;
        sh::create_dir(&cache.join("archives/partial"))?;
        let mut apt = private_apt(&state, arch);
        option(&mut apt, "Dir::Cache", cache.display());
        apt.args([
            "install",
            "-y",
            "--download-only",
            "--no-install-recommends",
        ]);
        let fetched = output(apt.arg(package));
        if fetched.is_err() {
            sh::remove_dir(&cache)?;
        }
        fetched.with_context(|| format!("cannot fetch {package} from {suite}"))?;
        Ok(cache)
    }

    /// Fetches the package lists of a suite for an architecture; gives the directory of apt's
    /// state.
    fn lists(&self, suite: &str, arch: &str) -> Result<PathBuf> {
        let state = prepare_state(&format!("{suite}-{arch}"))?;
        let keyring = keyring()?;
        let source = format!(
            "deb [signed-by={}] {} {suite} main\n",
            keyring.display(),
            self.uri
        );
        sh::write(&state.join("sources.list"), source.as_bytes())?;
        output(private_apt(&state, arch).arg("update"))
            .with_context(|| format!("no package lists of {suite}"))?;
        Ok(state)
    }
}

/// A directory for lists and downloads, in the cache.
fn prepare_state(name: &str) -> Result<PathBuf> {
    let state = artifacts::cache()?.join("apt").join(name);
    sh::create_dir(&state.join("lists/partial"))?;
    sh::create_dir(&state.join("cache/archives/partial"))?;
    sh::write(&state.join("status"), b"")?;
    Ok(state)
}

fn option(apt: &mut Command, name: &str, value: impl std::fmt::Display) {
    apt.arg("-o").arg(format!("{name}={value}"));
}

/// `apt-get` with the machine's sources that neither reads nor writes the machine's lists and
/// packages.
fn with_state(state: &Path) -> Command {
    let mut apt = sh::command("apt-get");
    let path = |name: &str| state.join(name).display().to_string();
    option(&mut apt, "Dir::State", path(""));
    option(&mut apt, "Dir::State::Lists", path("lists"));
    option(&mut apt, "Dir::State::status", path("status"));
    option(&mut apt, "Dir::Cache", path("cache"));
    option(&mut apt, "APT::Get::List-Cleanup", 0);
    option(&mut apt, "APT::Update::Error-Mode", "any");
    option(&mut apt, "Acquire::Languages", "none");
    option(&mut apt, "Acquire::Retries", 3);
    // apt's own user may not be able to enter the cache; nothing is executed here.
    option(&mut apt, "APT::Sandbox::User", "root");
    apt.arg("-q");
    apt
}

/// `apt-get` that sees nothing of the machine's own sources either.
fn private_apt(state: &Path, arch: &str) -> Command {
    let mut apt = with_state(state);
    option(
        &mut apt,
        "Dir::Etc::sourcelist",
        state.join("sources.list").display(),
    );
    option(&mut apt, "Dir::Etc::sourceparts", "/dev/null");
    option(&mut apt, "Dir::Etc::preferences", "/dev/null");
    option(&mut apt, "Dir::Etc::preferencesparts", "/dev/null");
    option(&mut apt, "APT::Architecture", arch);
    option(&mut apt, "APT::Architectures", arch);
    apt
}

/// Runs apt-get; the error has what it said, without the options above.
fn output(apt: &mut Command) -> Result<()> {
    let out = apt.output().context("cannot run apt-get")?;
    if !out.status.success() {
        bail!("apt-get: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}

/// The keys of Debian's archive, as the machine has them.
fn keyring() -> Result<PathBuf> {
    ["gpg", "pgp"]
        .iter()
        .map(|end| PathBuf::from(format!("/usr/share/keyrings/debian-archive-keyring.{end}")))
        .find(|file| file.exists())
        .context("no Debian archive keyring: install the package debian-archive-keyring")
}

/// Moves the only .deb of one directory to another.
fn move_deb(from: &Path, to: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "deb") {
            let target = to.join(path.file_name().context("no file name")?);
            fs::rename(&path, &target)?;
            return Ok(target);
        }
    }
    bail!("apt-get succeeded, but left no .deb");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_archive_is_chosen() {
        let targets = "http://m.example/other/|stable|Other\n\
                       http://m.example/debian-security/|bookworm-security|Debian\n\
                       http://m.example/debian/|bookworm-updates|Debian\n\
                       http://m.example/debian/|bookworm|Debian\n";
        let mirror = Mirror::choose(targets).unwrap();
        assert_eq!(
            (&*mirror.uri, &*mirror.codename),
            ("http://m.example/debian/", "bookworm")
        );
        assert!(Mirror::choose("http://m.example/other/|stable|Other\n").is_none());
    }

    #[test]
    fn an_archive_without_lists_is_taken_as_it_is() {
        assert!(Mirror::choose("http://m.example/debian/|trixie|\n").is_some());
    }
}
