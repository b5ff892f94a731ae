// SPDX-License-Identifier: GPL-2.0

//! \[cycle\]: A, busy, hibernates; QEMU ends; another QEMU starts; the work goes on where it was,
//! and not a byte differs.

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::disk;
use crate::hibernation::{self, Mode, Way};
use crate::initramfs::Purpose;
use crate::kjump;
use crate::story::Story;
use crate::text::Text;
use crate::vm::Vm;
use crate::work::Work;

/// Where the image goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// A disk without anything on it.
    Disk,
    /// A partition of a disk.
    Partition,
    /// A file on a filesystem that A has mounted.
    File,
}

/// A machine, and how it goes and comes.
#[derive(Clone, Copy, Debug)]
struct Case {
    kernel: Kernel,
    cpu: &'static str,
    append: &'static str,
    way: Way,
    mode: Mode,
    target: Target,
    /// Everything is in /etc/kjump.toml, also the slower compression.
    configured: bool,
    /// How the kernel that resumes is told where the image is; `{}` is replaced by the image's
    /// UUID.
    words: &'static str,
}

const USUAL: Case = Case {
    kernel: Kernel::Full,
    cpu: "max,vendor=GenuineIntel",
    append: "",
    way: Way::Bootloader,
    mode: Mode::Poweroff,
    target: Target::Disk,
    configured: false,
    words: "kjump.resume=/dev/vdb",
};

/// C from the bootloader, a disk, power off.
pub fn disk(story: &Story) -> Result<()> {
    one(story, &USUAL)
}

/// From an initramfs, which restores by itself; a file, ACPI S4.
pub fn file(story: &Story) -> Result<()> {
    one(
        story,
        &Case {
            way: Way::Initramfs,
            mode: Mode::S4,
            target: Target::File,
            ..USUAL
        },
    )
}

/// A with PAE, C without, told as the seeds have it; restart; free pages that must be zero.
pub fn pae(story: &Story) -> Result<()> {
    one(
        story,
        &Case {
            kernel: Kernel::Pae,
            cpu: "coreduo",
            append: "init_on_free=1",
            mode: Mode::Reboot,
            target: Target::Partition,
            // virtio's disks have the first major number that is given out; /dev/vdb1.
            words: "go_to_resume khdev=254:17",
            ..USUAL
        },
    )
}

/// A file again, by the other way; C finds the filesystem's disk by its first blocks alone. The processor has no
/// SSE2, as far as the emulator looks.
pub fn file_from_bootloader(story: &Story) -> Result<()> {
    one(
        story,
        &Case {
            cpu: "pentium3",
            append: "init_on_free=1",
            mode: Mode::S4,
            target: Target::File,
            ..USUAL
        },
    )
}

/// By the configuration alone; found by the image's own name, from an initramfs that jumps to C, with PAE.
pub fn by_uuid(story: &Story) -> Result<()> {
    one(
        story,
        &Case {
            kernel: Kernel::Pae,
            cpu: "coreduo",
            way: Way::Peer,
            target: Target::Partition,
            configured: true,
            words: "kjump.resume=UUID={}",
            ..USUAL
        },
    )
}

/// No module and no peer when it resumes: the normal kernel's own /dev/snapshot takes the image.
pub fn snapshot(story: &Story) -> Result<()> {
    one(
        story,
        &Case {
            way: Way::Initramfs,
            words: "kjump.resume=/dev/vdb kjump.snapshot",
            ..USUAL
        },
    )
}

/// The same with PAE, where the kernel's tables for it have another format, and with free pages
/// that must be zero.
pub fn snapshot_pae(story: &Story) -> Result<()> {
    one(
        story,
        &Case {
            kernel: Kernel::Pae,
            cpu: "coreduo",
            append: "init_on_free=1",
            way: Way::Initramfs,
            words: "kjump.resume=/dev/vdb kjump.snapshot",
            ..USUAL
        },
    )
}

/// The rest: every mode and target by each way, with each kernel.
pub fn all(story: &Story) -> Result<()> {
    for (kernel, cpu) in [(Kernel::Full, USUAL.cpu), (Kernel::Pae, "coreduo")] {
        for way in hibernation::WAYS {
            for mode in [Mode::Poweroff, Mode::S4, Mode::Reboot] {
                for target in [Target::Disk, Target::File] {
                    let case = Case {
                        kernel,
                        cpu,
                        way,
                        mode,
                        target,
                        ..USUAL
                    };
                    one(story, &case).with_context(|| format!("{case:?}"))?;
                }
            }
        }
    }
    Ok(())
}

fn one(story: &Story, case: &Case) -> Result<()> {
    let mut config = story.config_for(case.kernel, Purpose::Hibernation)?;
    config.cpu = case.cpu.into();
    config.append = case.append.into();
    let image = Work::prepare(story, &mut config)?;
    let holds_target = story.file("target.img");
    match case.target {
        Target::Disk => disk::empty(&holds_target, 320)?,
        Target::Partition => disk::partitioned(&holds_target, 320)?,
        Target::File => disk::ext4(&holds_target, 512)?,
    }
    config.disks.push(holds_target.clone().into());
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let (target, mut words) = match case.target {
        Target::Disk => ("/dev/vdb".to_string(), case.words.to_string()),
        Target::Partition => {
            let target = format!("PARTUUID={}", disk::PARTITION_UUID);
            (target, case.words.to_string())
        }
        Target::File => file_target(&mut vm)?,
    };

    let work = Work::start(&mut vm, image)?;
    let boot = vm.sh("cat /proc/sys/kernel/random/boot_id")?;
    let text = Text::of(&story.artifacts.vmlinux(case.kernel))?;
    let text_before = text.read(&mut vm)?;
    let before = work.reached(&mut vm)?;
    let asleep = if case.configured {
        let settings = [
            format!("target = \"{target}\""),
            "compression = \"zstd\"".to_string(),
            "drop_caches = true".to_string(),
        ];
        let asleep = hibernation::hibernate_as_configured(&mut vm, &settings)?;
        let dropped = asleep.console.contains("drop_caches: 3");
        ensure!(dropped, "no caches were dropped");
        asleep
    } else {
        hibernation::hibernate(&mut vm, &target, case.mode)?
    };
    drop(vm);
    if words.contains("{}") {
        let uuid = hibernation::image_uuid(&holds_target, disk::PARTITION_AT)?;
        words = words.replace("{}", &uuid);
    }

    let config = hibernation::again(story, &config, case.way, &words);
    let (mut vm, output) = hibernation::resume(story, "A, resumed", &config, &asleep)?;
    let peer = hibernation::peer_booted(&vm.console.since(0));
    ensure!(
        peer == (case.way != Way::Initramfs),
        "by {:?}: kernel C has booted: {peer}",
        case.way
    );
    ensure!(
        output.text.contains("resumed"),
        "kjump hibernate says \"{}\"",
        output.text
    );
    text.same(&text_before, &text.read(&mut vm)?)?;
    work.healthy(&mut vm, before)?;
    let now = vm.sh("cat /proc/sys/kernel/random/boot_id")?;
    ensure!(now == boot, "another boot goes on");
    let status = kjump::status(&mut vm)?;
    ensure!(status["state"] == "empty", "a peer is left: {status}");
    // ACPI reaches A, whatever two other kernels did with it.
    kjump::power_button(&mut vm)?;
    // The image has done its work, and says so.
    let inspected = vm.sh(&format!("kjump image inspect --json {target}"))?;
    let inspected: serde_json::Value = serde_json::from_str(&inspected)?;
    let state = inspected["state"].as_str().unwrap_or_default();
    ensure!(
        ["used", "discarded"].contains(&state),
        "the image can be resumed once more: {inspected}"
    );
    work.end(&mut vm)?;
    if case.target == Target::File {
        disk::check_ext4(&holds_target)?;
    }
    Ok(())
}

/// Makes a target in a file on the second disk; gives it, and the words that tell the kernel that
/// resumes where it is.
fn file_target(vm: &mut Vm) -> Result<(String, String)> {
    vm.sh("mkdir -p /data; mount -t ext4 /dev/vdb /data")?;
    vm.run_for(
        "kjump target create /data/image --size 320M",
        hibernation::LONG,
    )?
    .ok()?;
    let mode = vm.sh("stat -c %a /data/image")?;
    ensure!(mode == "600", "others can read the target: mode {mode}");
    let words = hibernation::words_of_file(vm, "/data/image", "/dev/vdb")?;
    Ok(("/data/image".into(), words))
}
