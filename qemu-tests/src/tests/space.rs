// SPDX-License-Identifier: GPL-2.0

//! \[space\]: a target that cannot take the image. A comes back, or never leaves, and says why;
//! what is on the target that must not be touched stays.

use anyhow::{ensure, Result};

use crate::artifacts::Kernel;
use crate::disk;
use crate::drive::{Drive, Fault};
use crate::hibernation::{self, Mode, Way, LONG};
use crate::initramfs::Purpose;
use crate::kjump::{self, exit};
use crate::story::Story;
use crate::vm::{Config, Vm};
use crate::work::Work;

/// Sector 24 MiB into a disk: in the middle of the image of a machine with 48 MiB of noise.
const MIDDLE: u64 = 24 << 11;

/// A target, what the refusal's exit code is, and what it says.
struct Case {
    name: &'static str,
    target: &'static str,
    code: i32,
    words: &'static str,
    /// Whether kernels complain about the disk.
    trouble: bool,
}

const CASES: &[Case] = &[
    case("missing", "/dev/nothing", exit::TARGET, "/dev/nothing"),
    case("too small", "/dev/vdb", exit::TARGET, "too small"),
    case("mounted", "/dev/vdc", exit::TARGET, "mounted"),
    case("active swap", "/dev/vdd", exit::TARGET, "swap"),
    case("read-only", "/dev/vde", exit::TARGET, "read-only"),
    case(
        "device mapper",
        "/dev/dm-0",
        exit::TARGET,
        "does not work as a target",
    ),
    case("a filesystem", "/dev/vdh", exit::TARGET, "ext"),
    case("a file that is none", "/init", exit::TARGET, "/init"),
    Case {
        name: "a write error in the middle",
        target: "/dev/vdf",
        code: exit::TARGET_FAILED,
        words: "failed",
        trouble: true,
    },
    Case {
        name: "a write error at the start",
        target: "/dev/vdi",
        code: exit::TARGET_FAILED,
        words: "failed",
        trouble: true,
    },
    Case {
        name: "an error at each flush",
        target: "/dev/vdk",
        code: exit::TARGET_FAILED,
        words: "failed",
        trouble: true,
    },
];

const fn case(name: &'static str, target: &'static str, code: i32, words: &'static str) -> Case {
    Case {
        name,
        target,
        code,
        words,
        trouble: false,
    }
}

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let (mut vm, config, work) = machine(story)?;
    for case in CASES {
        let before = work.reached(&mut vm)?;
        if case.trouble {
            story.expect_trouble(vm.console.mark());
        }
        let command = format!("kjump hibernate --target {}", case.target);
        let output = vm.run_for(&command, LONG)?;
        if case.trouble {
            story.trouble_is_over();
        }
        let last = output.text.lines().last().unwrap_or_default();
        ensure!(
            output.rc == case.code && last.contains(case.words),
            "{}: wanted {} and \"{}\", got {} and:\n{}",
            case.name,
            case.code,
            case.words,
            output.rc,
            output.text
        );
        if case.trouble {
            // A was away.
            work.healthy(&mut vm, before)?;
        }
    }
    vm.sh("cmp /mnt3/kept /init && grep -q vdd /proc/swaps")?;

    // Nothing of this stands in the way of a good target.
    let before = work.reached(&mut vm)?;
    let asleep = hibernation::hibernate(&mut vm, "/dev/vdj", Mode::Poweroff)?;
    drop(vm);
    let words = "kjump.resume=/dev/vdj";
    let config = hibernation::again(story, &config, Way::Bootloader, words);
    let (mut vm, _) = hibernation::resume(story, "A, resumed", &config, &asleep)?;
    work.healthy(&mut vm, before)?;
    vm.sh("cmp /mnt3/kept /init && swapoff /dev/vdd && umount /mnt3")?;
    work.end(&mut vm)
}

/// A machine with all these disks, at work, and 48 MiB of noise in its memory.
fn machine(story: &Story) -> Result<(Vm, Config, Work)> {
    let mut config = story.config_for(Kernel::Full, Purpose::Hibernation)?;
    config.append = "dm-mod.create=\"covered,,,rw,0 131072 linear /dev/vdg 0\"".into();
    let image = Work::prepare(story, &mut config)?;
    let file = |name: &str| story.file(&format!("{name}.img"));
    let make = |name: &str, mebibytes| -> Result<Drive> {
        disk::empty(&file(name), mebibytes)?;
        Ok(file(name).into())
    };
    let small = make("b", 8)?;
    disk::ext4(&file("c"), 64)?;
    disk::swap(&file("d"), 64)?;
    let fixed = make("e", 256)?.read_only();
    let bad = make("f", 256)?.failing(Fault::Write, MIDDLE);
    let covered = make("g", 64)?;
    disk::ext4(&file("h"), 256)?;
    let worse = make("i", 256)?.failing(Fault::Write, 0);
    let good = make("j", 320)?;
    let hasty = make("k", 256)?.failing(Fault::Flush, 0);
    config.disks.extend([
        small,
        file("c").into(),
        file("d").into(),
        fixed,
        bad,
        covered,
        file("h").into(),
        worse,
        good,
        hasty,
    ]);
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, image)?;
    vm.sh("mkdir /mnt3; mount -t ext4 /dev/vdc /mnt3; cp /init /mnt3/kept; sync")?;
    vm.sh("swapon /dev/vdd")?;
    vm.sh("mkdir /run/noise; mount -t ramfs ramfs /run/noise")?;
    vm.sh("guest ramfill 48M 5 /run/noise")?;
    Ok((vm, config, work))
}
