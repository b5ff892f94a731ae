// SPDX-License-Identifier: GPL-2.0

//! Builds the test kernels, in the cache: a build directory's name has the hash of all that went
//! into it, so every checkout with the same input finds it, and a warm cache runs no make at all.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::SystemTime,
};

use anyhow::{bail, Context, Result};

use crate::{
    artifacts::{self, Kernel},
    sh::{self, say},
    tools::Tools,
};

mod config;
mod progress;
mod source;
mod types;

pub use source::Source;

/// Build directories of one kernel that are kept in the cache.
const KEPT: usize = 3;

/// A kernel's complete build directory.
pub struct Built {
    /// Which one.
    pub kernel: Kernel,
    /// The directory (`O=`), good for building modules against.
    pub dir: PathBuf,
    /// Hash of all that went into it.
    pub key: String,
}

/// Builds the given kernels, as far as they are not in the cache, and puts their images and
/// configurations where [`Kernel`] says. One process builds at a time, others wait.
pub fn ensure(kernels: &[Kernel], tools: &Tools) -> Result<Vec<Built>> {
    let cache = artifacts::cache()?;
    sh::create_dir(&cache.join("log"))?;
    let lock = || lock(&cache.join("lock"));
    let source = match source::cached()? {
        Some(source) => source,
        None => {
            let _lock = lock()?;
            source::ensure()?
        }
    };
    let versions = tools.versions()?;
    kernels
        .iter()
        .map(|&kernel| {
            let wishes = fragments(kernel)?;
            let all = wishes.clone() + kernel.compiler().unwrap_or_default();
            let key = sh::hash([&source.key, &versions, &all]);
            let dir = cache
                .join("kernel")
                .join(format!("{}-{}", kernel.name(), &key[..16]));
            let built = Built { kernel, dir, key };
            if !built.stamp().exists() {
                let _lock = lock()?;
                // Another may have built it while this one waited.
                if !built.stamp().exists() {
                    built.build(&source, &wishes, tools)?;
                    prune(&built)?;
                }
            }
            built.publish(tools)?;
            Ok(built)
        })
        .collect()
}

/// Waits for other builders, saying so.
fn lock(path: &Path) -> Result<fs::File> {
    let fail = || format!("cannot lock {}", path.display());
    let file = fs::File::create(path).with_context(fail)?;
    if file.try_lock().is_err() {
        say(format_args!(
            "waiting for another build ({})",
            path.display()
        ));
        file.lock().with_context(fail)?;
    }
    Ok(file)
}

/// The configuration fragments of a kernel, concatenated.
fn fragments(kernel: Kernel) -> Result<String> {
    let dir = artifacts::repo().join("qemu-tests/kernels");
    kernel
        .fragments()
        .iter()
        .map(|name| sh::read(&dir.join(name)))
        .collect()
}

impl Built {
    /// Written last: a directory without it is no build.
    fn stamp(&self) -> PathBuf {
        self.dir.join("kjump.complete")
    }

    /// `uname -r` of the kernel.
    pub fn release(&self) -> Result<String> {
        Ok(sh::read(&self.dir.join("include/config/kernel.release"))?
            .trim()
            .to_owned())
    }

    fn build(&self, source: &Source, wishes: &str, tools: &Tools) -> Result<()> {
        let name = self.kernel.name();
        let log = artifacts::cache()?.join(format!("log/kernel-{name}.log"));
        say(format_args!(
            "building kernel {name} in {}",
            self.dir.display()
        ));
        sh::remove_dir(&self.dir)?;
        sh::create_dir(&self.dir)?;
        let make = || {
            let mut make = tools.make();
            make.arg("-C")
                .arg(&source.dir)
                .arg(format!("O={}", self.dir.display()));
            if let Some(compiler) = self.kernel.compiler() {
                make.arg(format!("CC={compiler}"));
            }
            make
        };

        sh::output(make().arg("tinyconfig"))?;
        let config = self.dir.join(".config");
        fs::write(&config, sh::read(&config)? + wishes)
            .with_context(|| format!("cannot write {}", config.display()))?;
        sh::output(make().arg("olddefconfig"))?;
        let unfulfilled = config::unfulfilled(wishes, &sh::read(&config)?);
        if !unfulfilled.is_empty() {
            bail!(
                "kernel {name}: Kconfig did not take these lines of qemu-tests/kernels (a \
                 dependency is missing?):\n  {}",
                unfulfilled.join("\n  ")
            );
        }

        let jobs = thread::available_parallelism().map_or(1, |n| n.get());
        let mut all = make();
        all.arg(format!("-j{jobs}")).args(["bzImage", "modules"]);
        progress::run(&format!("kernel {name}"), &mut all, &log)?;
        sh::write(&self.stamp(), self.key.as_bytes())
    }

    /// Copies what others use to `build/i386/`.
    fn publish(&self, tools: &Tools) -> Result<()> {
        sh::copy(
            &self.dir.join("arch/x86/boot/bzImage"),
            &self.kernel.bzimage(),
        )?;
        sh::copy(&types::vmlinux(self, tools)?, &self.kernel.vmlinux())?;
        sh::copy(&self.dir.join(".config"), &self.kernel.config())?;
        sh::write(
            &self.kernel.release(),
            format!("{}\n", self.release()?).as_bytes(),
        )
    }
}

/// Removes a kernel's older build directories, all but the newest few.
fn prune(newest: &Built) -> Result<()> {
    let parent = newest.dir.parent().context("no parent")?;
    let prefix = format!("{}-", newest.kernel.name());
    let mut builds: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            builds.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    builds.sort_by(|a, b| b.cmp(a));
    builds
        .iter()
        .skip(KEPT)
        .try_for_each(|(_, dir)| sh::remove_dir(dir))
}
