// SPDX-License-Identifier: GPL-2.0

//! \[secrets\]: what a peer had in its memory is nowhere in the machine's once it is unloaded; the key of
//! an image is nowhere as soon as the image is written; files with memory in them are their owner's.

use std::fs::File;

use anyhow::{ensure, Context, Result};
use kjump_image::{Device, Image, MasterKey};

use crate::artifacts::Kernel;
use crate::disk;
use crate::hibernation::LONG;
use crate::initramfs::Purpose;
use crate::kjump::{self, exit};
use crate::shell;
use crate::snapshots::{rollback, snapshot};
use crate::story::Story;
use crate::tests::encrypted::key_at;
use crate::vm::{Config, Vm};

/// What B puts together, so that it is nowhere as it stands before.
const PARTS: [&str; 2] = ["a-secret-of-", "the-peers-"];
/// How often B has it.
const TIMES: usize = 3000;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Hibernation)?;
    for name in ["target.img", "other.img"] {
        let target = story.file(name);
        disk::empty(&target, 320)?;
        config.disks.push(target.into());
    }
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;

    kjump::load_plain(&mut vm, "")?;
    plant(&mut vm)?;
    let found = secrets_in(&mut vm, &config)?;
    // Some lie across the end of a page, and the next page is elsewhere.
    ensure!(
        found > TIMES * 9 / 10,
        "a resident peer's memory is searched: {found}"
    );
    vm.sh("kjump unload")?;
    let left = secrets_in(&mut vm, &config)?;
    ensure!(
        left == 0,
        "{left} of the peer's secrets are left after unload"
    );

    // With a key: first where an image is written and given up again, and the peer stays.
    let contents = [0x6b; 40];
    let key = MasterKey::of_file(&contents);
    let octal: String = contents.iter().map(|b| format!("\\{b:03o}")).collect();
    vm.sh(&format!("printf '{octal}' >/run/key; chmod 600 /run/key"))?;
    let line = "kjump hibernate --target /dev/vda --mode none --key-file /run/key";
    vm.run_for(line, LONG)?.ok()?;
    let inspected = vm.sh("kjump image inspect --json /dev/vda")?;
    ensure!(
        inspected.contains("\"encrypted\": \"key-file\""),
        "{inspected}"
    );
    let disk = File::open(config.disks[0].image())?;
    let mut image = Image::inspect_only(Device::new(disk)?)?;
    image.unlock(&key).context("another key is looked for")?;
    drop(image);
    no_key(&mut vm, &config, &key, "a save")?;

    // An encrypted snapshot, and back to it. It holds no digests of pages, so nothing builds on it.
    let (then, _) = snapshot(
        &mut vm,
        "kjump snapshot --force /dev/vda --key-file /run/key",
    )?;
    no_key(&mut vm, &config, &key, "a snapshot")?;
    vm.sh("echo later >/run/later")?;
    let refused = "kjump snapshot --base /dev/vda /dev/vdb --key-file /run/key";
    ensure!(vm.run_for(refused, LONG)?.rc != 0, "a base was taken");
    let unread = "kjump rollback /dev/vda";
    kjump::refuses(&mut vm, unread, exit::NO_KEY, "key")?;
    let back = "kjump rollback /dev/vda --key-file /run/key";
    rollback(&mut vm, back, &then)?;
    vm.sh("test ! -e /run/later")?;
    no_key(&mut vm, &config, &key, "a rollback")?;

    // Last, as a file has what a peer has: whoever may read it may know. (Going back has ended the one before.)
    kjump::load_plain(&mut vm, "kjump.do=back")?;
    kjump::jump_and_return(&mut vm, "")?;
    vm.sh("echo x >/run/dump; chmod 644 /run/dump; (umask 0; kjump peer dump /run/dump)")?;
    let mode = vm.sh("stat -c %a /run/dump")?;
    ensure!(mode == "600", "others can read the peer: mode {mode}");

    // A jump that does not come about: what was to be told the peer is taken back.
    vm.sh("echo integrity >/sys/kernel/security/lockdown")?;
    let output = vm.run_for(line, LONG)?;
    ensure!(
        output.rc == exit::NOT_PERMITTED,
        "under lockdown: {} {}",
        output.rc,
        output.text
    );
    no_key(&mut vm, &config, &key, "a jump that failed")?;
    vm.power_off()
}

/// The key is nowhere in memory, this kernel's and the peer's.
fn no_key(vm: &mut Vm, config: &Config, key: &MasterKey, after: &str) -> Result<()> {
    let at = key_at(&all(vm, config)?, key);
    ensure!(
        at.is_none(),
        "the key is in memory after {after}, at {at:x?}"
    );
    Ok(())
}

/// Has B make secrets in its memory, and come back.
fn plant(vm: &mut Vm) -> Result<()> {
    let mark = vm.console.mark();
    let jump = vm.start_command("kjump jump --command shell")?;
    shell::wait(vm, mark)?;
    let [one, two] = PARTS;
    shell::line(
        vm,
        &format!("for n in $(seq {TIMES}); do echo {one}\"\"{two}$n; done >/run/planted"),
    )?;
    vm.type_in("exit\n")?;
    vm.finish(jump, LONG)?.ok().map(drop)
}

fn all(vm: &mut Vm, config: &Config) -> Result<Vec<u8>> {
    vm.memory(0, u64::from(config.memory) << 20)
}

/// How many of B's secrets are in memory, this kernel's and the peer's.
fn secrets_in(vm: &mut Vm, config: &Config) -> Result<usize> {
    let secret = PARTS.concat().into_bytes();
    let memory = all(vm, config)?;
    Ok(memory
        .windows(secret.len())
        .filter(|w| *w == secret)
        .count())
}
