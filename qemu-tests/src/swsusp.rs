// SPDX-License-Identifier: GPL-2.0

//! The kernel's own hibernation, for comparison: the same machine with a swap area and `resume=`.

use std::path::PathBuf;

use anyhow::{ensure, Context, Result};

use crate::agent::Output;
use crate::disk;
use crate::ending::Left;
use crate::hibernation::{self, Asleep, LONG};
use crate::story::Story;
use crate::vm::{Config, Vm};

/// What it packs its image with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compressor {
    /// Its default.
    Lzo,
    /// The other one.
    Lz4,
}

impl Compressor {
    /// As the kernel's command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Compressor::Lzo => "lzo",
            Compressor::Lz4 => "lz4",
        }
    }
}

/// What a hibernation came to.
#[derive(Debug)]
pub enum Outcome {
    /// The machine is off, its image in the swap area.
    Off(Asleep),
    /// The kernel has refused, with that line; the machine goes on.
    Failed(String),
}

/// Gives a machine a swap area as its next disk, `name` as the guest calls it, and the words for
/// its command line.
pub fn prepare(
    story: &Story,
    config: &mut Config,
    name: &str,
    mebibytes: u64,
    compressor: Compressor,
) -> Result<PathBuf> {
    let image = story.file("swap.img");
    disk::swap(&image, mebibytes)?;
    config.disks.push(image.clone().into());
    let word = compressor.name();
    config.append += &format!(" resume={name} hibernate.compressor={word}");
    Ok(image)
}

/// The machine without the words that [`prepare`] has put on its command line: the next boot leaves
/// the swap area alone.
pub fn off(mut config: Config) -> Config {
    let swsusp = |word: &&str| !word.starts_with("resume=") && !word.starts_with("hibernate.");
    let words: Vec<_> = config.append.split(' ').filter(swsusp).collect();
    config.append = words.join(" ");
    config
}

/// Switches the swap area on.
pub fn switch_on(vm: &mut Vm, name: &str) -> Result<()> {
    vm.sh(&format!("swapon {name}")).map(drop)
}

/// Hibernates by `/sys/power/state`; `how` goes to `/sys/power/disk` first: `shutdown`,
/// `platform`…
pub fn hibernate(vm: &mut Vm, how: &str) -> Result<Outcome> {
    vm.sh(&format!("echo {how} >/sys/power/disk"))?;
    let mark = vm.console.mark();
    let started = vm.start_command("echo disk >/sys/power/state")?;
    match vm.wait_left(started, LONG).context("swsusp")? {
        Left::Off(ending) => Ok(Outcome::Off(Asleep {
            waiting: vm.waiting(started),
            ending,
            console: vm.console.since(mark),
        })),
        Left::Back(output) => refused(&output).map(Outcome::Failed),
    }
}

/// Why the kernel refused.
fn refused(output: &Output) -> Result<String> {
    ensure!(
        output.rc != 0,
        "the machine is still on, and the kernel says that all is well"
    );
    Ok(output.text.clone())
}

/// Starts the machine again, which must go on.
pub fn resume(story: &Story, title: &str, config: &Config, asleep: &Asleep) -> Result<Vm> {
    let (vm, _) = hibernation::resume(story, title, config, asleep)?;
    Ok(vm)
}

#[cfg(test)]
mod tests {
    use super::off;
    use crate::vm::Config;

    #[test]
    fn other_words_stay() {
        let config = off(Config {
            append: "a resume=/dev/vdb hibernate.compressor=lz4 kjump.resume=/dev/vda".into(),
            ..Config::default()
        });
        assert_eq!(config.append, "a kjump.resume=/dev/vda");
    }
}
