// SPDX-License-Identifier: GPL-2.0

//! \[core-tools\]: `kjump save --format elf` writes an ordinary core. What was in A's memory is in it at
//! its own address, also what lay in the window; readelf lists it, gdb walks A's tasks, crash shows
//! them, also from what makedumpfile makes of it. A goes on, and the core can no longer be resumed from.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use kjump_core::{Core, Kind, Reader, Refusal};
use kjump_image::Device;

use crate::artifacts::Kernel;
use crate::disk;
use crate::ending::Left;
use crate::hibernation::LONG;
use crate::initramfs::Purpose;
use crate::kjump::{self, exit};
use crate::shell;
use crate::story::Story;
use crate::tests::old_memory::plant;
use crate::tools;
use crate::vm::Vm;

/// The seed of A's patterns.
const SEED: u32 = 20_080_119;
/// What a program in A calls itself.
const TASK: &str = "marked-task";
/// Room for all of A's memory, the window twice, MiB.
const ROOM: u64 = 300;
const PAGE: u64 = kjump_abi::PAGE_SIZE;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    of(story, Kernel::Full)
}

/// The same of a kernel with PAE.
pub fn pae(story: &Story) -> Result<()> {
    of(story, Kernel::Pae)
}

fn of(story: &Story, kernel: Kernel) -> Result<()> {
    let mut config = story.config_for(kernel, Purpose::Small)?;
    let target = story.file("target.img");
    disk::empty(&target, ROOM)?;
    config.disks.push(target.clone().into());
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    vm.sh(&format!(
        "sh -c 'echo {TASK} >/proc/$$/comm; while :; do sleep 1000; done' >/dev/null 2>&1 &"
    ))?;
    let frames = frames_of(&plant(&mut vm, 40, SEED)?)?;
    let release = vm.sh("uname -r")?.trim().to_owned();
    kjump::load_plain(&mut vm, "")?;

    let jump = in_shell(&mut vm)?;
    shell::line(&mut vm, "kjump save --format elf /dev/vda")?;
    let core = story.file("core.elf");
    keep(&target, &core)?;
    look_at(story, kernel, &core, &release, &frames)?;
    // With what is free, too, where the window's pages are not read twice from the shadow.
    shell::line(&mut vm, "kjump save --format elf --all /dev/vda")?;
    let all = story.file("all.elf");
    keep(&target, &all)?;
    let (some, all) = (open(&core)?.0, open(&all)?.0);
    ensure!(
        all.memory_bytes() > some.memory_bytes() && all.segments.len() < some.segments.len(),
        "--all: {} bytes in {} segments, without {} in {}",
        all.memory_bytes(),
        all.segments.len(),
        some.memory_bytes(),
        some.segments.len()
    );

    // A goes on: from now on the core is history.
    go_back(&mut vm, jump)?;
    vm.sh(&format!("grep -l {TASK} /proc/[0-9]*/comm"))?;
    let refused = open(&target).map(|_| ());
    ensure!(
        is_given_up(&refused),
        "a core of a kernel that went on: {refused:?}"
    );
    Ok(())
}

/// Jumps to B's shell; gives the jump that goes on in A.
pub fn in_shell(vm: &mut Vm) -> Result<usize> {
    let mark = vm.console.mark();
    let jump = vm.start_command("kjump jump --command shell")?;
    shell::wait(vm, mark)?;
    Ok(jump)
}

/// Has B's shell go back, which must end the jump well.
fn go_back(vm: &mut Vm, jump: usize) -> Result<()> {
    vm.type_in("kjump back\n")?;
    match vm.wait_left(jump, LONG)? {
        Left::Back(output) => ensure!(output.rc == 0, "{}: {}", output.rc, output.text),
        Left::Off(ending) => anyhow::bail!("the machine went off: {ending:?}"),
    }
    Ok(())
}

/// Where a core goes, and where not: a file on a disk that B mounts, a stream; not where there is no
/// room, not over A's filesystem, and not while B has mounted that. A's swap area is hidden while
/// there is a core that can be resumed from, and back when A goes on.
pub fn places(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Small)?;
    let [files, swap, data, small, stream] = [
        "files.img",
        "swap.img",
        "data.img",
        "small.img",
        "stream.img",
    ]
    .map(|n| story.file(n));
    let nothing = story.file("nothing");
    std::fs::create_dir(&nothing)?;
    disk::ext2(&files, ROOM, &nothing)?;
    disk::swap(&swap, 16)?;
    disk::ext2(&data, 16, &nothing)?;
    disk::empty(&small, 16)?;
    disk::empty(&stream, ROOM)?;
    for image in [&files, &swap, &data, &small, &stream] {
        config.disks.push(image.clone().into());
    }
    config.memory = 128;
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    vm.sh("swapon /dev/vdb && mount /dev/vdc /mnt && echo x >/mnt/x")?;
    let frames = frames_of(&plant(&mut vm, 40, SEED)?)?;
    kjump::load_plain(&mut vm, "")?;

    let jump = in_shell(&mut vm)?;
    let refused = |vm: &mut Vm, line: &str, code: i32, words: &str| {
        let mark = shell::start(vm, line)?;
        let (rc, said) = shell::finish(vm, mark)?;
        ensure!(
            rc == code && said.contains(words),
            "{line}: wanted {code} and \"{words}\", got {rc} and {said}"
        );
        Ok(())
    };
    let save = "kjump save --format elf";
    refused(
        &mut vm,
        &format!("{save} /dev/vdd"),
        exit::TARGET,
        "too small",
    )?;
    refused(&mut vm, &format!("{save} /dev/vdc"), exit::TARGET, "ext")?;
    refused(
        &mut vm,
        "kjump save --all /dev/vdd",
        exit::USAGE,
        "--format elf",
    )?;
    shell::line(
        &mut vm,
        "mkdir -p /data /files && mount -o ro /dev/vdc /data",
    )?;
    shell::line(&mut vm, "mount /dev/vda /files")?;
    refused(
        &mut vm,
        &format!("{save} /files/dump.elf"),
        exit::USAGE,
        "unmount it",
    )?;
    shell::line(&mut vm, "umount /data")?;
    ensure!(
        signature(&swap)? == *b"SWAPSPACE2",
        "hidden by a refused save"
    );
    shell::line(&mut vm, &format!("{save} /files/dump.elf"))?;
    ensure!(signature(&swap)? == *b"KJUMPSWAP2", "A's swap area shows");
    let listed = shell::line(&mut vm, "ls -l /files")?;
    let dump = listed.lines().find(|l| l.contains("dump.elf"));
    ensure!(
        dump.is_some_and(|l| l.starts_with("-rw-------")),
        "others can read the core: {dump:?}"
    );
    ensure!(
        listed.contains("dump.elf") && !listed.contains(".part"),
        "{listed}"
    );
    shell::line(&mut vm, &format!("{save} - | dd of=/dev/vde bs=64k; sync"))?;
    for file in [&whole(story, &files)?, &stream] {
        let (core, mut reader) = open(file)?;
        has_patterns(&core, &mut reader, &frames)?;
        let image = core.image.context("no note of an image")?;
        let kinds: Vec<u32> = image.guards.iter().map(|g| g.kind).collect();
        ensure!(
            kinds.contains(&1) && kinds.contains(&5),
            "guards: {kinds:?}"
        );
        ensure!(kinds.len() == 2, "guards: {kinds:?}");
    }

    go_back(&mut vm, jump)?;
    ensure!(signature(&swap)? == *b"SWAPSPACE2", "A's swap area is gone");
    let refused = open(&whole(story, &files)?).map(|_| ());
    ensure!(
        is_given_up(&refused),
        "a core of a kernel that went on: {refused:?}"
    );
    vm.sh("echo y >/mnt/y; sync")?;

    // A peer from a file has the command line of the load that it was booted by, whose core headers
    // are gone: it finds those of this one.
    vm.sh("kjump peer dump /run/peer && kjump unload && kjump load --peer /run/peer")?;
    let jump = in_shell(&mut vm)?;
    shell::line(&mut vm, &format!("{save} /dev/vde"))?;
    let (core, mut reader) = open(&stream)?;
    has_patterns(&core, &mut reader, &frames)?;
    ensure!(
        core.vmcoreinfo("OSRELEASE").is_some() && core.prstatus.len() == 1,
        "no core headers"
    );
    go_back(&mut vm, jump)
}

/// The file that was saved to a disk with a filesystem, copied out of it.
fn whole(story: &Story, disk: &Path) -> Result<std::path::PathBuf> {
    let file = story.file("dump.elf");
    disk::extract(disk, "/dump.elf", &file)?;
    Ok(file)
}

/// A swap area's signature, on the disk.
fn signature(disk: &Path) -> Result<[u8; 10]> {
    let mut signature = [0; 10];
    File::open(disk)?.read_exact_at(&mut signature, 4086)?;
    Ok(signature)
}

fn is_given_up(refused: &Result<()>) -> bool {
    let Err(e) = refused else {
        return false;
    };
    matches!(e.downcast_ref(), Some(Refusal::GivenUp))
}

/// `INDEX:FRAME,…` as pairs.
fn frames_of(text: &str) -> Result<Vec<(u64, u64)>> {
    let pair = |text: &str| {
        let (index, frame) = text.split_once(':').context("no pair")?;
        Ok((index.parse()?, frame.parse()?))
    };
    text.split(',').map(pair).collect()
}

fn open(core: &Path) -> Result<(Core, Reader<Device>)> {
    let mut file = Device::new(File::open(core)?)?;
    let read = Core::read(&mut file)?;
    Ok((read, Reader::new(file, 64 << 10)?))
}

/// Copies a core from the disk that it was saved to, as long as it says that it is.
pub fn keep(disk: &Path, core: &Path) -> Result<()> {
    disk::copy(disk, core)?;
    let segments = open(core)?.0.segments;
    let ends = segments.iter().map(|s| s.offset + s.filesz);
    let size = ends.max().context("a core without segments")?;
    Ok(File::options().write(true).open(core)?.set_len(size)?)
}

/// What everybody makes of it.
fn look_at(
    story: &Story,
    kernel: Kernel,
    file: &Path,
    release: &str,
    frames: &[(u64, u64)],
) -> Result<()> {
    let (core, mut reader) = open(file)?;
    ensure!(matches!(core.kind, Kind::Core(_)), "{:?}", core.kind);
    let image = core.image.as_ref().context("no note of an image")?;
    ensure!(image.header.release == release, "{:?}", image.header);
    ensure!(
        core.vmcoreinfo("OSRELEASE") == Some(release),
        "VMCOREINFO: {}",
        String::from_utf8_lossy(&core.vmcoreinfo)
    );
    ensure!(!core.prstatus.is_empty(), "no registers");
    has_patterns(&core, &mut reader, frames)?;

    let listed = tools::readelf(file)?;
    for what in [
        "CORE (Core file)",
        "Intel 80386",
        "ELF64",
        "VMCOREINFO",
        "KJUMP",
    ] {
        ensure!(listed.contains(what), "readelf has no {what}: {listed}");
    }

    let vmlinux = story.artifacts.vmlinux(kernel);
    let (index, frame) = frames[0];
    let shown = format!(
        "printf \"word %x\\n\", *(unsigned int *){:#x}",
        0xc000_0000 + frame * PAGE
    );
    let script = format!("{}{shown}\n", tools::TASKS);
    let said = tools::gdb(&vmlinux, file, &script, &story.dir)?;
    let word = page_words(SEED.into(), index).next().unwrap_or_default();
    let tasks = said
        .lines()
        .filter(|line| line.starts_with("task "))
        .count();
    for what in [
        "task 0 swapper",
        &format!(" {TASK}"),
        &format!("word {word:x}"),
    ] {
        ensure!(said.contains(what), "gdb does not say {what}: {said}");
    }
    story.note(format!(
        "{} segments, gdb walks {tasks} tasks",
        core.segments.len()
    ));

    // What makedumpfile makes of it, which leaves out pages of zeros, is for crash too.
    let packed = story.file("core.kdump");
    tools::makedumpfile(&story.artifacts, file, &["-l", "-d", "1"], &packed)?;
    for file in [file, &packed] {
        // Its `ps` overflows a buffer of its own where long has 32 bits.
        let commands = "foreach task -R comm\nlog\nbt 1";
        let (said, good) = tools::crash(&story.artifacts, &vmlinux, file, commands, &story.dir)?;
        for what in [
            TASK,
            "kjump: loading out-of-tree module",
            "__ia32_sys_wait4",
        ] {
            ensure!(good && said.contains(what), "crash: no {what}: {said}");
        }
    }
    Ok(())
}

/// Every page has what A wrote into it.
fn has_patterns(core: &Core, reader: &mut Reader<Device>, frames: &[(u64, u64)]) -> Result<()> {
    for (index, frame) in frames {
        let mut page = [0; PAGE as usize];
        core.read_memory(reader, frame * PAGE, &mut page, "a pattern")?;
        let words = page.as_chunks::<4>().0.iter().copied();
        ensure!(
            words
                .map(u32::from_le_bytes)
                .eq(page_words(SEED.into(), *index)),
            "the frame {frame:#x} has not what A wrote"
        );
    }
    Ok(())
}

/// The words of a page, as `guest plant` writes them.
fn page_words(seed: u64, index: u64) -> impl Iterator<Item = u32> {
    fn mixed(x: u64) -> u64 {
        let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    let mut x = (mixed(seed ^ mixed(index)) as u32) | 1;
    std::iter::repeat_with(move || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        x
    })
    .take(PAGE as usize / 4)
}
