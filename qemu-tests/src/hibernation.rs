// SPDX-License-Identifier: GPL-2.0

//! Hibernating and resuming as the stories do it: A goes off with its memory on a disk, QEMU
//! ends, another QEMU starts, and A goes on in the middle of `kjump hibernate`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use kjump_image::layout;
use zerocopy::FromBytes;

use crate::agent::Output;
use crate::artifacts::Kernel;
use crate::ending::{Ending, Left, Start, Waiting};
use crate::smp_peer;
use crate::story::Story;
use crate::vm::{Config, Vm};

/// How long a save or a restore, a boot of the other kernel included, may take on a busy machine.
pub const LONG: Duration = Duration::from_secs(600);

/// What limits a kernel to the window, on its command line. With a tmpfs, half of that little memory
/// would be all that there is for the initramfs.
pub const WINDOW: &str = "memmap=exactmap memmap=640K@0 memmap=15M@1M mem=16M rootfstype=ramfs";

/// What the normal kernel beside an image is told, so that it can be told apart.
pub const MARKER: &str = "started.by=c";

/// How a saved machine comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Kernel C is what the bootloader starts, limited to the window.
    Bootloader,
    /// The normal kernel boots, and its initramfs restores: by itself if memory holds the image beside
    /// it, else it jumps to C.
    Initramfs,
    /// The normal kernel boots, and its initramfs jumps to C.
    Peer,
}

/// All of them.
pub const WAYS: [Way; 3] = [Way::Bootloader, Way::Initramfs, Way::Peer];

/// A machine that has hibernated.
#[derive(Debug)]
pub struct Asleep {
    /// What it was in.
    pub waiting: Waiting,
    /// How it went off.
    pub ending: Ending,
    /// What the kernels printed meanwhile.
    pub console: String,
}

/// The way to end that `kjump hibernate --mode` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Switch off.
    Poweroff,
    /// ACPI S4.
    S4,
    /// Restart.
    Reboot,
}

impl Mode {
    /// As the command has it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Poweroff => "poweroff",
            Mode::S4 => "s4",
            Mode::Reboot => "reboot",
        }
    }

    /// Whether QEMU ended as this mode ends.
    fn ended(self, ending: &Ending) -> bool {
        match self {
            Mode::Poweroff => ending.reason == "guest-shutdown" && !ending.s4,
            Mode::S4 => ending.reason == "guest-shutdown" && ending.s4,
            Mode::Reboot => ending.reason == "guest-reset" && !ending.s4,
        }
    }
}

/// Runs a command that must end with the machine off.
pub fn go_off(vm: &mut Vm, command: &str) -> Result<Asleep> {
    let mark = vm.console.mark();
    let started = vm.start_command(command)?;
    match vm.wait_left(started, LONG).context("going off")? {
        Left::Off(ending) => Ok(Asleep {
            waiting: vm.waiting(started),
            ending,
            console: vm.console.since(mark),
        }),
        Left::Back(output) => bail!(
            "{command}: the machine did not go off: {} and \"{}\"",
            output.rc,
            output.text
        ),
    }
}

/// Hibernates to `target`.
pub fn hibernate(vm: &mut Vm, target: &str, mode: Mode) -> Result<Asleep> {
    let mode_name = mode.name();
    let asleep = go_off(
        vm,
        &format!("kjump hibernate --target {target} --mode {mode_name}"),
    )?;
    ensure!(
        mode.ended(&asleep.ending),
        "--mode {mode_name}: {:?}",
        asleep.ending
    );
    Ok(asleep)
}

/// Hibernates as /etc/kjump.toml says, which gets these settings first.
pub fn hibernate_as_configured(vm: &mut Vm, settings: &[String]) -> Result<Asleep> {
    for setting in settings {
        vm.sh(&format!("echo '{setting}' >>/etc/kjump.toml"))?;
    }
    let asleep = go_off(vm, "kjump hibernate")?;
    ensure!(Mode::Poweroff.ended(&asleep.ending), "{:?}", asleep.ending);
    Ok(asleep)
}

/// The machine that A's was, with what starts it again: `words` go to the kernel that looks for an
/// image, as `kjump.resume=/dev/vdb`.
pub fn again(story: &Story, config: &Config, way: Way, words: &str) -> Config {
    again_by(story, config, way, words, Kernel::Lean)
}

/// The same where B was that kernel, and C is.
pub fn again_by(story: &Story, config: &Config, way: Way, words: &str, peer: Kernel) -> Config {
    let mut config = config.clone();
    match way {
        Way::Bootloader => {
            let artifacts = &story.artifacts;
            let (window, initrd) = match peer {
                Kernel::LeanSmp => (smp_peer::WINDOW, artifacts.peer_initramfs_smp()),
                _ => (WINDOW, artifacts.peer_initramfs()),
            };
            config.kernel = artifacts.bzimage(peer);
            config.initrd = initrd;
            config.append = format!("{window} {words}");
        }
        Way::Initramfs => config.append = format!("{} {words}", config.append),
        Way::Peer => config.append = format!("{} {words} kjump.peer", config.append),
    }
    config
}

/// Starts a machine again; gives it and what it has become.
pub fn start(
    story: &Story,
    title: &str,
    config: &Config,
    waiting: &Waiting,
) -> Result<(Vm, Start)> {
    let mut vm = story.power_on(title, config)?;
    let start = vm.wait_start(waiting, LONG).context("starting again")?;
    Ok((vm, start))
}

/// Starts a machine again, which must go on where A was; gives what the command that A was in has
/// printed, before and after.
pub fn resume(
    story: &Story,
    title: &str,
    config: &Config,
    asleep: &Asleep,
) -> Result<(Vm, Output)> {
    let (vm, start) = start(story, title, config, &asleep.waiting)?;
    match start {
        Start::Resumed(mut output) => {
            ensure!(
                output.rc == 0,
                "the resumed command ended with {}: {}",
                output.rc,
                output.text
            );
            output.text = format!("{}{}", asleep.waiting.said, output.text);
            Ok((vm, output))
        }
        Start::Booted => bail!(
            "the machine has booted afresh:\n{}",
            said_by_resume(&vm.console.since(0))
        ),
    }
}

/// Whether a kernel C has come up on the console of a machine that started.
pub fn peer_booted(console: &str) -> bool {
    console.contains("kjump-init: Linux")
}

/// The normal kernel runs: the one that was told [`MARKER`], with all of the machine's memory.
pub fn is_normal(story: &Story, vm: &mut Vm, config: &Config) -> Result<()> {
    let line = vm.sh("cat /proc/cmdline")?;
    ensure!(line.contains(MARKER), "another kernel: {line}");
    let total = vm.sh("grep MemTotal /proc/meminfo")?;
    let total = total.split_whitespace().nth(1).context("MemTotal")?;
    let total: u64 = total.parse()?;
    // A kernel that looks for mistakes keeps a good part for itself.
    let tenths = if story.artifacts.is_debug() { 8 } else { 9 };
    ensure!(
        total > u64::from(config.memory) * 1024 * tenths / 10,
        "the normal kernel has {total} KiB only"
    );
    Ok(())
}

/// The lines of a console that tell about a resume that was refused.
pub fn said_by_resume(console: &str) -> String {
    let lines = console.lines().filter(|line| line.contains("kjump"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The words that tell a kernel where the image in a file is: the disk that the filesystem is on,
/// and where on it the file begins.
pub fn words_of_file(vm: &mut Vm, file: &str, disk: &str) -> Result<String> {
    let shown = vm.sh(&format!("kjump target show {file}"))?;
    let offset = offset_in(&shown).with_context(|| format!("kjump target show: {shown}"))?;
    Ok(format!("kjump.resume={disk} kjump.resume_offset={offset}"))
}

/// The number after `resume_offset=`.
fn offset_in(shown: &str) -> Option<u64> {
    let (_, after) = shown.split_once("resume_offset=")?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The UUID of the image `at` so many bytes on a disk, as its state has it, 32 hex digits.
pub fn image_uuid(disk: &Path, at: u64) -> Result<String> {
    let mark = mark_at(disk, at + layout::STATE_OFFSET)?;
    Ok(kjump_image::hex(&mark.seal.uuid))
}

/// A mark on a disk.
pub fn mark_at(disk: &Path, offset: u64) -> Result<layout::Mark> {
    let mut sector = [0; layout::SECTOR];
    File::open(disk)?.read_exact_at(&mut sector, offset)?;
    let mark = layout::Mark::read_from_bytes(&sector[..]);
    mark.map_err(|_| anyhow::anyhow!("a mark has another size"))
}
