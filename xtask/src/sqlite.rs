// SPDX-License-Identifier: GPL-2.0

//! Debian's `sqlite3` for i386 guests, of the machine's own suite, with the shared libraries that
//! it needs and nothing else: a database under writes is what a machine is busy with while it
//! hibernates.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{bail, Context, Result};
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

/// The directory in the cache; its name changes when what is in it does.
const CACHED: &str = "tools/sqlite-i386-1";
/// Where Debian has the program, and its libraries before and after the merge of /usr.
const PROGRAM: &str = "usr/bin/sqlite3";
const LIBRARIES: [&str; 2] = ["lib/i386-linux-gnu", "usr/lib/i386-linux-gnu"];
/// The dynamic linker. The program asks for it by this path, not by a needed name.
const LINKER: &str = "ld-linux.so.2";

/// Puts `bin/sqlite3` and `lib/*` into `build/i386/sqlite/`; fetches them when they are not in the
/// cache.
pub fn ensure() -> Result<()> {
    let cached = artifacts::cache()?.join(CACHED);
    if !cached.exists() {
        fetch(&cached)?;
    }
    let to = artifacts::sqlite();
    for part in ["bin", "lib"] {
        for entry in fs::read_dir(cached.join(part))? {
            let entry = entry?;
            sh::copy(&entry.path(), &to.join(part).join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// apt verifies the packages against their suite's signature.
fn fetch(to: &Path) -> Result<()> {
    let mirror = Mirror::of_this_machine()?;
    say(format_args!(
        "fetching sqlite3 for i386 from Debian's {}",
        mirror.codename
    ));
    let debs = mirror.download_all(&mirror.codename, "i386", "sqlite3")?;
    let root = debs.join("root");
    let made = unpack(&debs.join("archives"), &root).and_then(|()| gather(&root, to));
    sh::remove_dir(&debs)?;
    made
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

/// Copies the program and, by their names, all libraries that it and they need. The directory
/// appears whole or not at all.
fn gather(root: &Path, to: &Path) -> Result<()> {
    let new = to.with_extension("new");
    sh::remove_dir(&new)?;
    let program = root.join(PROGRAM);
    sh::copy(&program, &new.join("bin/sqlite3"))?;
    let mut wanted = vec![LINKER.to_owned()];
    wanted.extend(needed(&program)?);
    let mut copied = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        if copied.contains(&name) {
            continue;
        }
        let library = find(root, &name)?;
        sh::copy(&library, &new.join("lib").join(&name))?;
        wanted.extend(needed(&library)?);
        copied.insert(name);
    }
    fs::rename(&new, to).with_context(|| format!("cannot create {}", to.display()))
}

/// A library by the name that others need it by.
fn find(root: &Path, name: &str) -> Result<PathBuf> {
    let places = LIBRARIES.iter().map(|dir| root.join(dir).join(name));
    let Some(found) = places.into_iter().find(|path| path.exists()) else {
        bail!("no {name} among the packages that sqlite3 depends on");
    };
    Ok(found)
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
        let missing = find(here, "libnone.so.1").unwrap_err().to_string();
        assert!(missing.contains("libnone.so.1"));
    }
}
