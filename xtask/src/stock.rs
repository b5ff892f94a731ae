// SPDX-License-Identifier: GPL-2.0

//! Kernels that nobody here built: Debian's own for i386, as peers of the tests, each with the
//! modules that its disk needs. They come by package; the version moves on, so it is the one that
//! the suite has when the cache has none.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{bail, Context, Result};
use object::{
    elf,
    read::elf::{FileHeader, SectionHeader},
    Endianness,
};

use crate::{
    apt::Mirror,
    artifacts,
    sh::{self, say},
};

/// The last suite with kernels for i386.
const SUITE: &str = "bookworm";
/// Without PAE, and with: the packages are `linux-image-` and this.
pub const FLAVOURS: [&str; 2] = ["686", "686-pae"];
/// What a machine with a virtio disk and ext2 to ext4 on it needs. ext4 asks for a checksum by a name
/// that is no module's, so no dependency tells of that one.
const WANTED: [&str; 4] = ["virtio_pci", "virtio_blk", "crc32c_generic", "ext4"];
/// The directory in the cache; its name changes when what is in it does.
const CACHED: &str = "tools/stock-i386-1";

/// Puts `vmlinuz`, `release` and `modules/*.ko`, which are to be loaded in the order of their
/// names, into `build/i386/stock/FLAVOUR/`; fetches those that are not in the cache.
pub fn ensure() -> Result<()> {
    let cache = artifacts::cache()?.join(CACHED);
    for flavour in FLAVOURS {
        let cached = cache.join(flavour);
        if !cached.exists() {
            sh::create_dir(&cache)?;
            fetch(flavour, &cached)?;
        }
        let to = artifacts::stock(flavour);
        for name in ["vmlinuz", "release"] {
            sh::copy(&cached.join(name), &to.join(name))?;
        }
        let modules = to.join("modules");
        // One of an earlier version may have another number.
        sh::remove_dir(&modules)?;
        for entry in fs::read_dir(cached.join("modules"))? {
            let entry = entry?;
            sh::copy(&entry.path(), &modules.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// apt verifies the packages against their suite's signature.
fn fetch(flavour: &str, to: &Path) -> Result<()> {
    let mirror = Mirror::of_this_machine()?;
    let debs = artifacts::cache()?.join("debs");
    sh::create_dir(&debs)?;
    let root = debs.join(format!("stock-{flavour}-{}", std::process::id()));
    sh::remove_dir(&root)?;
    let made = fetch_to(&mirror, flavour, &debs, &root).and_then(|()| gather(&root, to));
    sh::remove_dir(&root)?;
    made.with_context(|| format!("Debian's kernel linux-image-{flavour}"))
}

/// Unpacks the package that the one without a version names.
fn fetch_to(mirror: &Mirror, flavour: &str, debs: &Path, root: &Path) -> Result<()> {
    let wanted = format!("linux-image-{flavour}");
    say(format_args!(
        "fetching {wanted} for i386 from Debian's {SUITE}"
    ));
    let newest = mirror.download(SUITE, "i386", &wanted, debs)?;
    let mut ask = sh::command("dpkg-deb");
    let depends = sh::output(ask.arg("--field").arg(&newest).arg("Depends"))?;
    let package = kernel_package(&depends, flavour)
        .with_context(|| format!("{wanted} depends on no kernel: {}", depends.trim()))?;
    let deb = mirror.download(SUITE, "i386", &package, debs)?;
    sh::output(sh::command("dpkg-deb").arg("--extract").arg(&deb).arg(root))?;
    for deb in [newest, deb] {
        fs::remove_file(&deb).with_context(|| format!("cannot remove {}", deb.display()))?;
    }
    Ok(())
}

/// The kernel among the dependencies of a package that only names one, as `name=version`.
fn kernel_package(depends: &str, flavour: &str) -> Option<String> {
    depends.split(',').find_map(|one| {
        let mut words = one.split_whitespace();
        let name = words.next()?;
        let ours = name.starts_with("linux-image-") && name.ends_with(&format!("-{flavour}"));
        let version = match (words.next(), words.next()) {
            (Some("(="), Some(version)) => format!("={}", version.strip_suffix(')')?),
            _ => String::new(),
        };
        ours.then(|| format!("{name}{version}"))
    })
}

/// Takes what is wanted of an unpacked package. The directory appears whole or not at all.
fn gather(root: &Path, to: &Path) -> Result<()> {
    let new = to.with_extension("new");
    sh::remove_dir(&new)?;
    let modules = only_entry(&root.join("lib/modules"))?;
    let release = modules.file_name().context("no file name")?;
    let release = release.to_string_lossy();
    let kernel = root.join(format!("boot/vmlinuz-{release}"));
    sh::copy(&kernel, &new.join("vmlinuz"))?;
    sh::write(&new.join("release"), format!("{release}\n").as_bytes())?;
    for (number, module) in in_order(&modules)?.iter().enumerate() {
        let name = module.file_name().context("no file name")?;
        let name = format!("{number:02}-{}", name.to_string_lossy());
        sh::copy(module, &new.join("modules").join(name))?;
    }
    fs::rename(&new, to).with_context(|| format!("cannot create {}", to.display()))
}

fn only_entry(dir: &Path) -> Result<PathBuf> {
    let list = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let entries = list.collect::<std::io::Result<Vec<_>>>()?;
    match &entries[..] {
        [one] => Ok(one.path()),
        _ => bail!("{} has {} entries", dir.display(), entries.len()),
    }
}

/// The modules that are wanted, each behind those that it depends on.
fn in_order(modules: &Path) -> Result<Vec<PathBuf>> {
    let built_in = sh::read(&modules.join("modules.builtin"))?;
    let built_in: Vec<String> = built_in.lines().map(|l| name_of(Path::new(l))).collect();
    let mut files = BTreeMap::new();
    find(&modules.join("kernel"), &mut files)?;
    let mut out = Vec::new();
    for name in WANTED {
        if !built_in.iter().any(|b| b == name) {
            add(name, &files, &mut out, 0)?;
        }
    }
    Ok(out)
}

/// A module's name is its file's with underscores.
fn name_of(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default();
    stem.to_string_lossy().replace('-', "_")
}

/// All modules below a directory, by name.
fn find(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|end| end == "ko") {
            files.insert(name_of(&path), path);
        }
    }
    Ok(())
}

/// Adds a module behind what it needs; nothing twice. No chain of dependencies is so `deep`.
fn add(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    out: &mut Vec<PathBuf>,
    deep: u32,
) -> Result<()> {
    let file = files.get(name).filter(|_| deep < 32);
    let file = file.with_context(|| format!("the package has no module {name}"))?;
    if out.contains(file) {
        return Ok(());
    }
    let data = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let info = modinfo(&data).with_context(|| format!("{} is no module", file.display()))?;
    for needed in depends(&info) {
        add(&needed.replace('-', "_"), files, out, deep + 1)?;
    }
    out.push(file.clone());
    Ok(())
}

/// What a module of 32 bits says of itself.
fn modinfo(data: &[u8]) -> Result<Vec<u8>> {
    let header = elf::FileHeader32::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let found = sections.section_by_name(endian, b".modinfo");
    let (_, section) = found.context("no section .modinfo")?;
    Ok(section.data(endian, data)?.to_vec())
}

/// The modules that it needs.
fn depends(info: &[u8]) -> Vec<String> {
    let lines = info.split(|&byte| byte == 0);
    let found = lines.filter_map(|line| line.strip_prefix(b"depends="));
    let names = found.flat_map(|list| list.split(|&byte| byte == b','));
    let names = names.filter(|name| !name.is_empty());
    names
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_of_a_flavour_is_found() {
        let depends = "linux-image-6.1.0-50-686 (= 6.1.176-1)\n";
        assert_eq!(
            kernel_package(depends, "686").as_deref(),
            Some("linux-image-6.1.0-50-686=6.1.176-1")
        );
        assert!(kernel_package("kmod, linux-base (>= 4.3)", "686").is_none());
        assert!(kernel_package("linux-image-6.1.0-50-686 (= 1)", "686-pae").is_none());
    }

    #[test]
    fn dependencies_are_read() {
        let info = b"license=GPL\0depends=virtio,virtio_ring\0depends=\0";
        assert_eq!(depends(info), ["virtio", "virtio_ring"]);
        assert!(depends(b"license=GPL\0").is_empty());
    }

    #[test]
    fn names_of_modules() {
        assert_eq!(
            name_of(Path::new("kernel/crypto/crc32c-intel.ko")),
            "crc32c_intel"
        );
    }
}
