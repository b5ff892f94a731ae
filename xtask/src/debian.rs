// SPDX-License-Identifier: GPL-2.0

//! Debian's own programs for i386 guests, each with the shared libraries that it needs and nothing
//! else: what a machine is busy with while it hibernates, and the tools that others read memory
//! with or jump by.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use object::{
    elf,
    read::elf::{Dyn, FileHeader},
    Endianness,
};

use crate::{
    apt::Mirror,
    artifacts,
    sh::{self, say},
};

/// A package, and what is taken from it.
pub struct Package {
    /// As in the archive, and the directory's name in `build/i386/debian/`.
    pub name: &'static str,
    /// The suites, the first that can be had; none: the machine's own.
    suites: &'static [&'static str],
    /// The programs, by file name.
    programs: &'static [&'static str],
}

/// For what has to know the kernel, or its loader: a mirror may be in the middle of taking over one
/// of them, and then its lists do not have the signed hashes.
const NEWER: [&str; 2] = ["forky", "trixie"];

/// All packages for guests.
pub const PACKAGES: [Package; 4] = [
    Package {
        name: "sqlite3",
        suites: &[],
        programs: &["sqlite3"],
    },
    Package {
        name: "kexec-tools",
        suites: &NEWER,
        programs: &["kexec"],
    },
    Package {
        name: "makedumpfile",
        suites: &NEWER,
        programs: &["makedumpfile"],
    },
    Package {
        name: "crash",
        suites: &NEWER,
        programs: &["crash"],
    },
];

/// The directory in the cache; its name changes when what is in it does.
const CACHED: &str = "tools/debian-i386-1";
/// Where Debian has programs and libraries, before and after the merge of /usr.
const PROGRAMS: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];
const LIBRARIES: [&str; 2] = ["lib/i386-linux-gnu", "usr/lib/i386-linux-gnu"];
/// The dynamic linker. Programs ask for it by this path, not by a needed name.
const LINKER: &str = "ld-linux.so.2";

/// Puts `bin/*` and `lib/*` of each package into `build/i386/debian/NAME/`; fetches those that are
/// not in the cache.
pub fn ensure() -> Result<()> {
    let cache = artifacts::cache()?.join(CACHED);
    for package in &PACKAGES {
        let cached = cache.join(package.name);
        if !cached.exists() {
            sh::create_dir(&cache)?;
            fetch(package, &cached)?;
        }
        let to = artifacts::debian(package.name);
        for part in ["bin", "lib"] {
            for entry in fs::read_dir(cached.join(part))? {
                let entry = entry?;
                sh::copy(&entry.path(), &to.join(part).join(entry.file_name()))?;
            }
        }
    }
    Ok(())
}

/// apt verifies the packages against their suite's signature.
fn fetch(package: &Package, to: &Path) -> Result<()> {
    let mirror = Mirror::of_this_machine()?;
    let own = [&*mirror.codename];
    let suites = match package.suites {
        [] => &own[..],
        some => some,
    };
    let mut fetched = None;
    for suite in suites {
        say(format_args!(
            "fetching {} for i386 from Debian's {suite}",
            package.name
        ));
        let now = mirror.download_all(suite, "i386", package.name);
        let good = now.is_ok();
        fetched = Some(now);
        if good {
            break;
        }
    }
    let debs = fetched.context("no suite")??;
    let root = debs.join("root");
    let made =
        unpack(&debs.join("archives"), &root).and_then(|()| gather(&root, package.programs, to));
    sh::remove_dir(&debs)?;
    made.with_context(|| format!("Debian's package {}", package.name))
}

/// Unpacks all packages of a directory into one root.
fn unpack(debs: &Path, root: &Path) -> Result<()> {
    for entry in fs::read_dir(debs)? {
        let deb = entry?.path();
        if deb.extension().is_some_and(|end| end == "deb") {
            sh::output(sh::command("dpkg-deb").arg("--extract").arg(&deb).arg(root))?;
        }
    }
    Ok(())
}

/// Copies the programs and, by their names, all libraries that they and those need. The directory
/// appears whole or not at all.
fn gather(root: &Path, programs: &[&str], to: &Path) -> Result<()> {
    let new = to.with_extension("new");
    sh::remove_dir(&new)?;
    let mut wanted = vec![LINKER.to_owned()];
    for name in programs {
        let program = find(root, &PROGRAMS, name)?;
        sh::copy(&program, &new.join("bin").join(name))?;
        wanted.extend(needed(&program)?);
    }
    let mut copied = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        if copied.contains(&name) {
            continue;
        }
        let library = find(root, &LIBRARIES, &name)?;
        sh::copy(&library, &new.join("lib").join(&name))?;
        wanted.extend(needed(&library)?);
        copied.insert(name);
    }
    fs::rename(&new, to).with_context(|| format!("cannot create {}", to.display()))
}

/// A file by its name, in the first of the places that has it.
fn find(root: &Path, places: &[&str], name: &str) -> Result<PathBuf> {
    let mut paths = places.iter().map(|dir| root.join(dir).join(name));
    paths
        .find(|path| path.exists())
        .with_context(|| format!("no {name} in the package or what it depends on"))
}

/// The names of the libraries that an ELF file of 32 bits says it needs.
fn needed(file: &Path) -> Result<Vec<String>> {
    let data = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let names = || -> object::Result<Vec<String>> {
        let header = elf::FileHeader32::<Endianness>::parse(&*data)?;
        let endian = header.endian()?;
        let sections = header.sections(endian, &*data)?;
        let Some((entries, link)) = sections.dynamic(endian, &*data)? else {
            return Ok(Vec::new());
        };
        let strings = sections.strings(endian, &*data, link)?;
        let mut names = Vec::new();
        for entry in entries.iter().filter(|e| e.tag(endian) == elf::DT_NEEDED) {
            let name = entry.string(endian, strings)?;
            names.push(String::from_utf8_lossy(name).into_owned());
        }
        Ok(names)
    };
    names().with_context(|| format!("{} is no ELF file of 32 bits", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_32_bit_elf_files_are_read() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(needed(&here.join("Cargo.toml")).is_err());
        let missing = find(here, &LIBRARIES, "libnone.so.1")
            .unwrap_err()
            .to_string();
        assert!(missing.contains("libnone.so.1"));
    }
}
