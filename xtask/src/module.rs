// SPDX-License-Identifier: GPL-2.0

//! Builds kjump's module against a kernel, and the tests' own, out of tree and with the output in a
//! directory of its own, so that the kernels' modules do not collide. Any warning is a failure.

use std::{
    path::{Path, PathBuf},
    thread,
};

use anyhow::{bail, Context, Result};

use crate::{
    artifacts::{self, Kernel},
    kernel::Built,
    sh::{self, say},
    stack,
    tools::Tools,
};

/// Where a kernel's module is built (`MO=`). The FFI check reads what is left there.
pub fn output_dir(kernel: Kernel) -> PathBuf {
    artifacts::repo().join("build/module").join(kernel.name())
}

/// Builds kjump's module for one kernel and puts it where [`Kernel::module`] says, and the tests'
/// own modules beside their programs.
pub fn build(built: &Built, tools: &Tools) -> Result<()> {
    let (kernel, repo) = (built.kernel, artifacts::repo());
    let out = output_dir(kernel);
    compile(built, tools, &repo, &out)?;
    stack::check(&out.join("kjump.ko"))?;
    sh::copy(&out.join("kjump.ko"), &kernel.module())?;
    let out = repo.join("build/test-modules").join(kernel.name());
    compile(built, tools, &repo.join("qemu-tests/modules"), &out)?;
    sh::copy(&out.join("trouble.ko"), &kernel.trouble())?;
    match kernel {
        Kernel::Full => sh::copy(&out.join("stubborn.ko"), &artifacts::stubborn()),
        _ => Ok(()),
    }
}

/// Builds what a directory's Kbuild names, into `out`.
fn compile(built: &Built, tools: &Tools, source: &Path, out: &Path) -> Result<()> {
    // Objects made for another kernel are not told apart by their time stamps alone.
    let key = out.join("kernel.key");
    if std::fs::read_to_string(&key).ok().as_deref() != Some(&built.key) {
        sh::remove_dir(out)?;
        sh::write(&key, built.key.as_bytes())?;
    }
    let what = format!("of {} for kernel {}", source.display(), built.kernel.name());
    let jobs = thread::available_parallelism().map_or(1, |n| n.get());
    let mut make = tools.make();
    make.arg("-C").arg(&built.dir).arg(format!("-j{jobs}"));
    make.arg(format!("M={}", source.display()));
    make.arg(format!("MO={}", out.display())).arg("modules");
    let result = make.output().context("cannot run make")?;
    let said = [result.stdout, result.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if !result.status.success() {
        bail!("the module {what} does not build:\n{}", said.trim_end());
    }
    if said.lines().any(is_warning) {
        // The next attempt must compile it again to warn again.
        sh::remove_dir(out)?;
        bail!("the module {what} has warnings:\n{said}");
    }
    if said.lines().any(|line| line.contains("LD [M]")) {
        say(format_args!("built the module {what}"));
    }
    Ok(())
}

/// A warning of rustc, gcc, the assembler, modpost or make itself.
fn is_warning(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    line.contains("warning: ") || line.starts_with("warning[")
}

#[cfg(test)]
mod tests {
    use super::is_warning;

    #[test]
    fn warnings_of_every_tool() {
        for line in [
            "warning: unused variable: `x`",
            "/src/kmod/helpers.c:3:5: warning: unused variable 'x' [-Wunused-variable]",
            "WARNING: modpost: missing MODULE_DESCRIPTION() in kjump.o",
            "make[3]: Warning: File 'x' has modification time in the future",
        ] {
            assert!(is_warning(line), "{line}");
        }
        assert!(!is_warning("  RUSTC [M] kmod/warning_free.o"));
    }
}
