// SPDX-License-Identifier: GPL-2.0

//! \[corrupt\]: one good image, and everything that can be wrong with it: bytes that differ, parts
//! that are missing, another machine, another kernel, disks that were written since. It is
//! refused before it is marked, with a message of its own, and the normal boot follows.

mod damage;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use kjump_image::layout::{BLOCK, DISCARD_OFFSET};

use crate::artifacts::Kernel;
use crate::disk;
use crate::drive::Drive;
use crate::ending::{Start, Waiting};
use crate::hibernation::{self, Asleep, Mode, Way, LONG};
use crate::initramfs::Purpose;
use crate::kjump::{self, exit};
use crate::story::Story;
use crate::vm::{Config, Vm};

/// The disks of A that have something on them, and where A has mounted them.
const FILESYSTEMS: [(&str, &str); 4] = [
    ("ext4", "/dev/vdb"),
    ("vfat", "/dev/vdc"),
    ("xfs", "/dev/vdd"),
    ("btrfs", "/dev/vde"),
];
/// A's swap area.
const SWAP: &str = "/dev/vdf";
/// The image's disk.
const IMAGE: &str = "/dev/vda";
/// What the kernel that resumes is told.
const WORDS: &str = "kjump.resume=/dev/vda";

/// A saved machine, as it was when it went off.
struct Saved<'a> {
    story: &'a Story,
    config: Config,
    asleep: Asleep,
    /// All disks, and a copy of each; the image is the first.
    disks: Vec<(PathBuf, PathBuf)>,
}

/// Bytes, truncations: many refusals in one boot.
pub fn bytes(story: &Story) -> Result<()> {
    let saved = save(story)?;
    let mut vm = saved.normal_boot()?;
    damage::run(&mut vm, &saved.disks[0].1)?;
    vm.power_off()?;
    drop(vm);
    saved.untouched()?;
    damage::through_c(&saved)?;
    saved.resumes()
}

/// Another machine, another kernel, and an image that was used.
pub fn foreign(story: &Story) -> Result<()> {
    let saved = save(story)?;
    let other = |change: fn(&mut Config)| {
        let mut config = saved.again(Way::Initramfs);
        change(&mut config);
        config
    };
    let cases = [
        ("more memory", other(|config| config.memory += 32)),
        ("less memory", other(|config| config.memory -= 16)),
        ("another CPU", other(|config| config.cpu = "coreduo".into())),
    ];
    for (name, config) in &cases {
        saved
            .refuses(name, config, exit::FOREIGN, "foreign image")
            .with_context(|| name.to_string())?;
    }
    // Another kernel build, which would not know how to boot afterwards what it resumes now.
    let mut config = story.config_for(Kernel::Pae, Purpose::Small)?;
    config.disks = saved.config.disks.clone();
    config.memory = saved.config.memory;
    config.append = WORDS.into();
    saved
        .refuses("another build", &config, exit::FOREIGN, "foreign image")
        .context("another build")?;
    saved.untouched()?;
    saved.resumes()?;
    // It has been resumed now, and A, which goes on, has given it up as well.
    let config = saved.again(Way::Initramfs);
    saved
        .refuses("given up", &config, exit::USED, "discarded image")
        .context("given up")?;
    // As if power had been lost before A could do so.
    let image = File::options().write(true).open(saved.image().0)?;
    image.write_all_at(&[0; BLOCK], DISCARD_OFFSET)?;
    saved
        .refuses("used", &config, exit::USED, "used image")
        .context("used")
}

/// Filesystems that were written since, and swap that was used.
pub fn stale(story: &Story) -> Result<()> {
    let saved = save(story)?;
    for (kind, disk) in FILESYSTEMS {
        let write = format!("mount -t {kind} {disk} /mnt && echo more >/mnt/file && umount /mnt");
        saved
            .after(&write, disk)
            .with_context(|| kind.to_string())?;
    }
    // A mount that writes nothing but the journal's state is a write as well.
    let disk = FILESYSTEMS[0].1;
    saved
        .after(&format!("mount -t ext4 {disk} /mnt && umount /mnt"), disk)
        .context("mounted only")?;
    // A's swap area does not look like one while A is away, so nobody swaps there by mistake.
    let mut vm = saved.normal_boot()?;
    let taken = vm.run(&format!("swapon {SWAP}"))?;
    ensure!(taken.rc != 0, "A's swap area could be switched on");
    vm.power_off()?;
    drop(vm);
    saved
        .after(
            &format!("mkswap {SWAP} && swapon {SWAP} && swapoff {SWAP}"),
            SWAP,
        )
        .context("swap")?;
    saved.resumes()
}

/// Makes the image: A with a few filesystems mounted, swap on, and little memory.
fn save(story: &Story) -> Result<Saved<'_>> {
    let mut config = story.config_for(Kernel::Full, Purpose::Small)?;
    config.memory = 96;
    config.net = false;
    let file = |name: &str| story.file(&format!("{name}.img"));
    disk::empty(&file("image"), 128)?;
    disk::ext4(&file("ext4"), 32)?;
    disk::vfat(&file("vfat"), 32)?;
    disk::xfs(&file("xfs"), 320)?;
    disk::btrfs(&file("btrfs"), 128)?;
    disk::swap(&file("swap"), 64)?;
    let names = ["image", "ext4", "vfat", "xfs", "btrfs", "swap"];
    config.disks = names.iter().map(|name| Drive::from(file(name))).collect();
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    for (kind, disk) in FILESYSTEMS {
        let mount = format!("mkdir -p /run/{kind}; mount -t {kind} {disk} /run/{kind}");
        vm.sh(&format!("{mount} && echo some >/run/{kind}/file"))?;
    }
    vm.sh(&format!("swapon {SWAP}"))?;
    let asleep = hibernation::hibernate(&mut vm, IMAGE, Mode::Poweroff)?;
    drop(vm);
    let disks: Vec<_> = names
        .iter()
        .map(|name| (file(name), file(&format!("{name}-saved"))))
        .collect();
    for (now, then) in &disks {
        disk::copy(now, then)?;
    }
    Ok(Saved {
        story,
        config,
        asleep,
        disks,
    })
}

impl Saved<'_> {
    fn again(&self, way: Way) -> Config {
        hibernation::again(self.story, &self.config, way, WORDS)
    }

    /// A normal boot that looks for no image, with the module loaded.
    fn normal_boot(&self) -> Result<Vm> {
        let mut vm = self.story.boot("a normal boot", &self.config)?;
        kjump::insmod(&mut vm, "")?;
        Ok(vm)
    }

    /// Puts all disks back to how they were.
    fn restore(&self) -> Result<()> {
        self.disks
            .iter()
            .try_for_each(|(now, then)| disk::copy(then, now))
    }

    /// The image is, byte for byte, what was saved: nobody has marked it.
    fn untouched(&self) -> Result<()> {
        let (now, then) = &self.disks[0];
        ensure!(disk::same(now, then)?, "a refused image was written to");
        Ok(())
    }

    /// Booted with the image in its way, this machine says why not, and boots normally.
    fn refuses(&self, title: &str, config: &Config, code: i32, words: &str) -> Result<()> {
        crate::tally::altered();
        let waiting = &self.asleep.waiting;
        let (mut vm, start) = hibernation::start(self.story, title, config, waiting)?;
        if let Start::Resumed(output) = start {
            bail!("it was resumed: {} and \"{}\"", output.rc, output.text);
        }
        let said = vm.console.since(0);
        let verdict = format!("kjump resume ended with {code}");
        ensure!(
            said.contains(&verdict) && said.contains(words),
            "wanted \"{words}\" and \"{verdict}\":\n{}",
            hibernation::said_by_resume(&said)
        );
        vm.power_off()
    }

    /// After this on a normal boot the image is stale, and the refusal names the disk.
    fn after(&self, what: &str, disk: &str) -> Result<()> {
        crate::tally::altered();
        let mut vm = self.normal_boot()?;
        vm.sh(what)?;
        let output = vm.run_for(&format!("kjump resume {IMAGE}"), LONG)?;
        let name = disk.trim_start_matches("/dev/");
        ensure!(
            output.rc == exit::STALE
                && output.text.contains(name)
                && output.text.contains("discard"),
            "{} and \"{}\"",
            output.rc,
            output.text
        );
        vm.power_off()?;
        drop(vm);
        self.untouched()?;
        self.restore()
    }

    /// The image is good: it is resumed, and A has what it had.
    fn resumes(&self) -> Result<()> {
        let config = self.again(Way::Bootloader);
        let (mut vm, _) = hibernation::resume(self.story, "A, resumed", &config, &self.asleep)?;
        for (kind, _) in FILESYSTEMS {
            let read = format!("cat /run/{kind}/file && echo more >>/run/{kind}/file");
            ensure!(vm.sh(&read)? == "some", "{kind} has lost its file");
        }
        vm.sh(&format!("swapoff {SWAP} && sync"))?;
        vm.power_off()
    }

    /// What A waits for, wherever it goes on.
    fn waiting(&self) -> &Waiting {
        &self.asleep.waiting
    }

    /// The image's disk, and the copy of it.
    fn image(&self) -> (&Path, &Path) {
        (&self.disks[0].0, &self.disks[0].1)
    }
}
