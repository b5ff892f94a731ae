// SPDX-License-Identifier: GPL-2.0

//! Types for debuggers: an object with nothing but debug information is compiled against a built
//! kernel and added to a copy of its vmlinux, as the kernels are built without.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use object::{Object, ObjectSymbol};

use super::Built;
use crate::{artifacts, sh, tools::Tools};

/// The sections that make it up. They refer to each other by offsets from their starts, which stay
/// the same when they move together.
const SECTIONS: [&str; 5] = [
    ".debug_abbrev",
    ".debug_aranges",
    ".debug_info",
    ".debug_line",
    ".debug_str",
];

/// Names that crash for i386 looks for at its start, to see whether the kernel has frame pointers,
/// and what they are called since Linux 4.17.
const ALIASES: [(&str, &str); 2] = [
    ("sys_open", "__ia32_sys_open"),
    ("sys_fork", "__ia32_sys_fork"),
];

/// The kernel's vmlinux with the types of `qemu-tests/kernels/types`; made once.
pub fn vmlinux(built: &Built, tools: &Tools) -> Result<PathBuf> {
    let from = artifacts::repo().join("qemu-tests/kernels/types");
    let files = ["Kbuild", "types.c"];
    let texts: Vec<String> = files
        .iter()
        .map(|name| sh::read(&from.join(name)))
        .collect::<Result<_>>()?;
    let hash = sh::hash(texts.iter().map(String::as_str));
    let dir = built.dir.join(format!("kjump-types-{}", &hash[..16]));
    let made = dir.join("vmlinux");
    if made.exists() {
        return Ok(made);
    }
    sh::create_dir(&dir)?;
    for (name, text) in files.iter().zip(&texts) {
        sh::write(&dir.join(name), text.as_bytes())?;
    }
    let mut make = tools.make();
    make.arg("-C").arg(&built.dir);
    make.arg(format!("M={}", dir.display())).arg("types.o");
    sh::output(&mut make).context("the types for debuggers")?;
    add(&dir, &built.dir.join("vmlinux"), &made)?;
    Ok(made)
}

/// Takes the sections out of the object and puts them into a copy of `vmlinux`.
fn add(dir: &Path, vmlinux: &Path, made: &Path) -> Result<()> {
    let part = dir.join("vmlinux.part");
    let mut copy = sh::command("objcopy");
    for section in SECTIONS {
        let file = dir.join(section);
        let mut take = sh::command("objcopy");
        take.args(["-O", "binary", "--only-section", section]);
        take.arg(format!("--set-section-flags={section}=alloc"));
        sh::output(take.arg(dir.join("types.o")).arg(&file))?;
        copy.arg(format!("--add-section={section}={}", file.display()));
        copy.arg(format!("--set-section-flags={section}=readonly,debug"));
    }
    let bytes = std::fs::read(vmlinux).with_context(|| vmlinux.display().to_string())?;
    let elf = object::File::parse(&*bytes).context("vmlinux")?;
    for (alias, name) in ALIASES {
        let symbol = elf.symbol_by_name(name);
        let at = symbol.with_context(|| format!("vmlinux has no {name}"))?;
        let at = at.address();
        copy.arg(format!("--add-symbol={alias}={at:#x},function,global"));
    }
    sh::output(copy.arg(vmlinux).arg(&part))?;
    // Only whole ones are found again.
    std::fs::rename(&part, made).with_context(|| made.display().to_string())
}
