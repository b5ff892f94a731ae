// SPDX-License-Identifier: GPL-2.0

//! \[vmcore\]: the stock kernel's /proc/vmcore in B shows A: `cp` makes an ordinary core of it, whose
//! every page is what A has there, the window's too; binutils and gdb read it, and Debian's
//! makedumpfile finds what it needs.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::elf::{self, ElfCore};
use crate::initramfs::Purpose;
use crate::kdump::Kdump;
use crate::old::OldMemory;
use crate::story::Story;
use crate::tests::old_memory::{frames, plant};
use crate::vm::Vm;
use crate::{disk, kjump, shell};

const PAGE: u64 = kjump_abi::PAGE_SIZE;

/// Where `full`'s text starts, physical.
const KERNEL_TEXT: u64 = 2 << 20;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let image = story.file("dumps");
    let mut config = story.config_for(Kernel::Full, Purpose::Dumps)?;
    let empty = story.file("empty");
    std::fs::create_dir(&empty)?;
    disk::ext2(&image, 600, &empty)?;
    config.disks.push(image.clone().into());
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let release = vm.sh("uname -r")?.trim().to_string();
    let planted = frames(&plant(&mut vm, 30, 9)?)?;

    // A copy, in the window of 16 MiB.
    kjump::load_plain(&mut vm, "")?;
    let copied = dumps(&mut vm, config.memory, &["cp /proc/vmcore /mnt/dump.elf"])?;
    vm.sh("kjump unload")?;

    // makedumpfile and its libraries take more. Without -l, -c or -z pages are stored as they are.
    vm.sh(
        "kjump load /boot/lean --initrd /boot/makedumpfile.cpio.gz --window 32M \
         --append console=ttyS0",
    )?;
    let lines = [
        "makedumpfile -d 1 /proc/vmcore /mnt/dump.1",
        "makedumpfile -d 31 /proc/vmcore /mnt/dump.31",
    ];
    let filtered = dumps(&mut vm, config.memory, &lines)?;
    vm.power_off()?;

    let file = extract(story, &image, "dump.elf")?;
    let core = ElfCore::read(&file)?;
    compare(&copied, &planted, |frame| core.page(frame * PAGE))?;
    story.note(format!(
        "a core of {} MiB in {} segments",
        core.size() >> 20,
        core.segments()
    ));
    drop(core);
    readable(story, &file, &release)?;
    let all = Kdump::read(&extract(story, &image, "dump.1")?)?;
    let pages: HashMap<u64, &[u8]> = all.pages()?.into_iter().collect();
    let zeros = [0; PAGE as usize];
    // Pages of zeros are left out.
    compare(&filtered, &planted, |frame| {
        Some(pages.get(&frame).copied().unwrap_or(&zeros))
    })?;
    let few = Kdump::read(&extract(story, &image, "dump.31")?)?;
    let said = kernel_only(&few, &filtered, &planted)?;
    story.note(format!(
        "makedumpfile -d 1: {} pages, -d 31: {said}",
        pages.len()
    ));
    Ok(())
}

/// Jumps to B's shell, mounts the disk and types these lines; gives A's memory as it was then.
fn dumps(vm: &mut Vm, mebibytes: u32, lines: &[&str]) -> Result<OldMemory> {
    let handoff = kjump::address(&kjump::status(vm)?, "handoff")?;
    let mark = vm.console.mark();
    let jump = vm.start_command("kjump jump --command shell")?;
    shell::wait(vm, mark)?;
    shell::line(vm, "mkdir -p /mnt; mount -t ext2 /dev/vda /mnt")?;
    for line in lines {
        shell::line(vm, line)?;
    }
    shell::line(vm, "umount /mnt")?;
    let old = OldMemory::take(vm, mebibytes, handoff)?;
    vm.type_in("exit\n")?;
    let output = vm.finish(jump, kjump::JUMP)?;
    ensure!(output.rc == 0, "kjump jump: {} {}", output.rc, output.text);
    Ok(old)
}

/// Copies a file out of a filesystem in an image.
fn extract(story: &Story, image: &Path, name: &str) -> Result<PathBuf> {
    let to = story.file(name);
    disk::extract(image, name, &to)?;
    Ok(to)
}

/// A dump has every page that A uses, as A has it.
fn compare<'a>(
    old: &OldMemory,
    planted: &[u64],
    page: impl Fn(u64) -> Option<&'a [u8]>,
) -> Result<()> {
    let wanted = old.to_be_saved()?;
    for frame in &wanted {
        let right = old.page(*frame)?.context("a page in use is nowhere")?;
        let saved = page(*frame);
        ensure!(
            saved == Some(right),
            "frame {frame:#x} is not in the dump as it is: {}",
            saved.map_or("missing", |_| "different")
        );
    }
    old.has_planted(planted, &wanted)?;
    Ok(())
}

/// What makedumpfile keeps with -d 31: the kernel, as it is, and no program's pages.
fn kernel_only(dump: &Kdump, old: &OldMemory, planted: &[u64]) -> Result<String> {
    let pages: HashMap<u64, &[u8]> = dump.pages()?.into_iter().collect();
    let wanted: HashSet<u64> = old.to_be_saved()?.into_iter().collect();
    let mut used = 0;
    for (frame, page) in &pages {
        if wanted.contains(frame) {
            used += 1;
            ensure!(
                old.page(*frame)? == Some(page),
                "frame {frame:#x} was not dumped as it is"
            );
        }
    }
    let text = KERNEL_TEXT / PAGE;
    ensure!(
        (text..text + 256).all(|frame| pages.contains_key(&frame)),
        "the kernel's text is not in the dump"
    );
    let found = planted.iter().filter(|frame| pages.contains_key(frame));
    ensure!(
        found.count() == 0,
        "pages of a program are in the dump: makedumpfile did not know them"
    );
    Ok(format!("{} pages, {used} of them in use", pages.len()))
}

/// readelf shows the notes, gdb the kernel's data.
fn readable(story: &Story, dump: &Path, release: &str) -> Result<()> {
    let dump = dump.to_str().context("path")?;
    let notes = elf::output("readelf", &["-n", dump])?;
    for name in ["VMCOREINFO", "KJUMP", "NT_PRSTATUS"] {
        ensure!(notes.contains(name), "the core has no {name}: {notes}");
    }
    let vmlinux = story.artifacts.vmlinux(Kernel::Full);
    let said = elf::output(
        "gdb",
        &[
            "-nx",
            "-batch",
            "-ex",
            "printf \"%s\\n\", (char *) &linux_banner",
            vmlinux.to_str().context("path")?,
            dump,
        ],
    )?;
    let banner = format!("Linux version {release}");
    ensure!(said.contains(&banner), "gdb says: {said}");
    Ok(())
}
