// SPDX-License-Identifier: GPL-2.0

//! \[space\]: a target that cannot take the image. A comes back, or never leaves, and says why;
//! what is on the target that must not be touched stays.

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::disk;
use crate::drive::{Drive, Fault};
use crate::hibernation::{self, Mode, Way, LONG};
use crate::initramfs::Purpose;
use crate::kjump::{self, exit};
use crate::story::Story;
use crate::vm::Vm;
use crate::work::Work;

/// Sector 24 MiB into a disk: in the middle of the image of a machine with 48 MiB of noise.
const MIDDLE: u64 = 24 << 11;

/// A target, what the refusal's exit code is, and what it says.
struct Case {
    name: &'static str,
    target: &'static str,
    code: i32,
    words: &'static str,
}

const fn case(name: &'static str, target: &'static str, code: i32, words: &'static str) -> Case {
    Case {
        name,
        target,
        code,
        words,
    }
}

/// What A refuses before it goes anywhere.
const IN_A: &[Case] = &[
    case("missing", "/dev/nothing", exit::TARGET, "/dev/nothing"),
    case("mounted", "/dev/vdb", exit::TARGET, "mounted"),
    case("active swap", "/dev/vdc", exit::TARGET, "swap"),
    case("read-only", "/dev/vdd", exit::TARGET, "read-only"),
    case("covered by device mapper", "/dev/vde", exit::TARGET, "use"),
    case(
        "device mapper",
        "/dev/dm-0",
        exit::TARGET,
        "does not work as a target",
    ),
    case("a filesystem", "/dev/vdf", exit::TARGET, "ext"),
    case("a file that is no target", "/init", exit::TARGET, "/init"),
];

/// What turns out in B.
const IN_B: &[Case] = &[
    case("too small", "/dev/vdb", exit::TARGET, "too small"),
    case(
        "a write error in the middle",
        "/dev/vdc",
        exit::TARGET_FAILED,
        "failed",
    ),
    case(
        "a write error at the start",
        "/dev/vdd",
        exit::TARGET_FAILED,
        "failed",
    ),
    case(
        "an error at each flush",
        "/dev/vde",
        exit::TARGET_FAILED,
        "failed",
    ),
];

/// The story.
pub fn run(story: &Story) -> Result<()> {
    refused_in_a(story)?;
    failed_in_b(story)
}

/// The command must fail as the case says.
fn fails(vm: &mut Vm, case: &Case) -> Result<()> {
    let command = format!("kjump hibernate --target {}", case.target);
    let output = vm.run_for(&command, LONG)?;
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
    Ok(())
}

/// Targets that are refused at once; nothing on them is touched.
fn refused_in_a(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Small)?;
    config.append = "dm-mod.create=\"covered,,,rw,0 131072 linear /dev/vde 0\"".into();
    let file = |name: &str| story.file(&format!("{name}.img"));
    disk::empty(&file("usual"), 64)?;
    disk::ext4(&file("mounted"), 64)?;
    disk::swap(&file("swap"), 64)?;
    disk::empty(&file("fixed"), 256)?;
    disk::empty(&file("covered"), 64)?;
    disk::ext4(&file("kept"), 256)?;
    config.disks = ["usual", "mounted", "swap", "fixed", "covered", "kept"]
        .map(|name| Drive::from(file(name)))
        .to_vec();
    config.disks[3] = config.disks[3].clone().read_only();
    let mut vm = story.boot("A, whose targets are bad", &config)?;
    kjump::insmod(&mut vm, "")?;
    vm.sh("mount -t ext4 /dev/vdb /mnt; cp /init /mnt/kept; sync; swapon /dev/vdc")?;
    let mark = vm.console.mark();
    for case in IN_A {
        fails(&mut vm, case)?;
    }
    ensure!(
        !vm.console.since(mark).contains("Linux version"),
        "A left for a target that cannot be"
    );
    vm.sh("cmp /mnt/kept /init && grep -q vdc /proc/swaps && swapoff /dev/vdc")?;
    vm.power_off()?;
    ["mounted", "kept"]
        .iter()
        .try_for_each(|name| disk::check_ext4(&file(name)))
}

/// Targets that fail when they are written to: A comes back, and a good target works after all.
fn failed_in_b(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Hibernation)?;
    let image = Work::prepare(story, &mut config)?;
    let make = |name: &str, mebibytes| -> Result<Drive> {
        let file = story.file(&format!("{name}.img"));
        disk::empty(&file, mebibytes)?;
        Ok(file.into())
    };
    config.disks.extend([
        make("small", 8)?,
        make("bad", 256)?.failing(Fault::Write, MIDDLE),
        make("worse", 256)?.failing(Fault::Write, 0),
        make("hasty", 256)?.failing(Fault::Flush, 0),
        make("good", 320)?,
    ]);
    let mut vm = story.boot("A, whose targets fail", &config)?;
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, image)?;
    vm.sh("mkdir /run/noise; mount -t ramfs ramfs /run/noise")?;
    vm.sh("guest ramfill 48M 5 /run/noise")?;
    let mut reached = work.reached(&mut vm)?;
    for case in IN_B {
        // Kernels complain about the disk.
        story.expect_trouble(vm.console.mark());
        fails(&mut vm, case)?;
        story.trouble_is_over();
        reached = work.healthy(&mut vm, reached).context(case.name)?;
    }

    let asleep = hibernation::hibernate(&mut vm, "/dev/vdf", Mode::Poweroff)?;
    drop(vm);
    let words = "kjump.resume=/dev/vdf";
    let config = hibernation::again(story, &config, Way::Bootloader, words);
    let (mut vm, _) = hibernation::resume(story, "A, resumed", &config, &asleep)?;
    work.healthy(&mut vm, reached)?;
    vm.sh("guest ramcheck 5 /run/noise")?;
    work.end(&mut vm)
}
