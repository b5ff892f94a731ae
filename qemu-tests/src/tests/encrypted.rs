// SPDX-License-Identifier: GPL-2.0

//! \[cycle-encrypted\]: A hibernates encrypted, and nothing of its memory is on the disk. In a window of
//! 16 MiB, where the passphrase's derivation has no room, C asks for it: another one is refused and
//! nothing is changed, an image that somebody has altered is refused, and then A goes on, with no key
//! left in memory. By a key file the same through the initramfs.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{ensure, Context, Result};
use argon2::{Algorithm, Argon2, Params, Version};
use kjump_abi::crc32;
use kjump_image::layout::{ChunkHead, RESUME_OFFSET, STATE_COMMITTED, STATE_REFUSED};
use kjump_image::{hex, Device, Image, KeySource, MasterKey};
use xxhash_rust::xxh32::xxh32;
use zerocopy::{FromBytes, IntoBytes};

use crate::artifacts::Kernel;
use crate::disk;
use crate::ending::Start;
use crate::hibernation::{self, Asleep, Mode, Way, LONG};
use crate::initramfs::Purpose;
use crate::kjump::{self, exit, refuses};
use crate::shell;
use crate::story::Story;
use crate::vm::{Config, Vm};
use crate::work::Work;

const PASSPHRASE: &str = "correct horse battery";
/// More than C's window holds, so that it needs memory above.
const KDF: [&str; 3] = [
    "encrypt = \"passphrase\"",
    "kdf_memory = \"24M\"",
    "kdf_passes = 1",
];
/// What C asks.
const QUESTION: &str = "Passphrase for /dev/vd";

/// By a passphrase, with C from the bootloader.
pub fn passphrase(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Hibernation)?;
    let image = Work::prepare(story, &mut config)?;
    let (target, other) = (story.file("target.img"), story.file("other.img"));
    for disk in [&target, &other] {
        disk::empty(disk, 320)?;
        config.disks.push(disk.clone().into());
    }
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, image)?;
    let secret = plant(&mut vm)?;
    // Plain it is found, so looking for it works.
    let plain = "kjump hibernate --target /dev/vdc --mode none";
    vm.run_for(plain, LONG)?.ok()?;
    ensure!(
        has(&fs::read(&other)?, &secret),
        "A's memory is in no image"
    );

    for setting in KDF {
        vm.sh(&format!("echo '{setting}' >>/etc/kjump.toml"))?;
    }
    let hibernate = "kjump hibernate --target /dev/vdb";
    refuses(&mut vm, hibernate, exit::NO_KEY, "no terminal to ask")?;
    vm.sh(&format!("echo '{PASSPHRASE}' >/run/passphrase"))?;
    let before = work.reached(&mut vm)?;
    let line = format!("{hibernate} --passphrase-fd 3 3</run/passphrase");
    let asleep = hibernation::go_off(&mut vm, &line)?;
    drop(vm);
    let bytes = fs::read(&target)?;
    ensure!(!has(&bytes, &secret), "A's memory shows in the image");
    let key = key_of(&target)?;
    ensure!(!holds_key(&bytes, &key), "the key is on the disk");
    let peak = asleep.console.lines().find(|l| l.contains("saved: "));
    story.note(peak.unwrap_or("the peer did not say what it saved"));
    drop(bytes);
    disk::copy(&target, &other)?;
    alter(&other)?;
    let kept = story.file("kept.img");
    disk::copy(&target, &kept)?;

    // C, and somebody who does not know it.
    let words = "kjump.resume=/dev/vdb kjump.encrypt=passphrase kjump.fallback=shell";
    let again = hibernation::again(story, &config, Way::Bootloader, words);
    let mut vm = story.power_on("C, wrong passphrases", &again)?;
    let mut mark = 0;
    for wrong in ["incorrect horse", "correct horse", "x"] {
        mark = answer(&mut vm, mark, wrong)?;
    }
    let said = vm.wait_for(mark, "not resumed:", LONG)?;
    ensure!(said.contains("wrong passphrase"), "{said}");
    shell::wait(&vm, mark)?;
    ensure!(
        disk::same(&target, &kept)?,
        "a wrong passphrase changes the image"
    );
    // The altered one, by hand, with the right passphrase.
    let mark = shell::start(&mut vm, "kjump restore /dev/vdc")?;
    answer(&mut vm, mark, PASSPHRASE)?;
    let (code, said) = shell::finish(&vm, mark)?;
    ensure!(
        code == exit::DAMAGED && said.contains("written there with this key"),
        "an altered image: {code}, {said}"
    );
    let refused = hibernation::mark_at(&other, RESUME_OFFSET)?.state.get();
    ensure!(refused == STATE_REFUSED, "its mark is {refused}");
    drop(vm);

    // And the user, who mistypes once.
    let mut vm = story.power_on("A, resumed", &again)?;
    let mark = answer(&mut vm, 0, "correct hrse")?;
    answer(&mut vm, mark, PASSPHRASE)?;
    let output = match vm.wait_start(&asleep.waiting, LONG)? {
        Start::Resumed(output) => output,
        Start::Booted => anyhow::bail!("C booted something"),
    };
    ensure!(output.rc == 0, "{} and {}", output.rc, output.text);
    work.healthy(&mut vm, before)?;
    let memory = vm.memory(0, u64::from(again.memory) << 20)?;
    ensure!(has(&memory, &secret), "A's memory is not searched");
    ensure!(!holds_key(&memory, &key), "the key is left in memory");
    drop(memory);

    // Used as it is, all of it can still be checked by whoever has the key.
    let verify = "kjump image verify /dev/vdb";
    vm.sh(&format!("echo {PASSPHRASE}s >/run/other"))?;
    let with = |file: &str| format!("{verify} --passphrase-fd 3 3</run/{file} 2>&1 | tail -1");
    let said = vm.run_for(&with("passphrase"), LONG)?.text;
    ensure!(
        said.contains("used image") || said.contains("discarded"),
        "{said}"
    );
    let said = vm.run_for(&with("other"), LONG)?.text;
    ensure!(said.contains("wrong passphrase"), "{said}");
    work.end(&mut vm)
}

/// By a key file, with C jumped to by a normal kernel; an image of somebody else's is not taken.
pub fn key_file(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Hibernation)?;
    let image = Work::prepare(story, &mut config)?;
    let target = story.file("target.img");
    disk::empty(&target, 320)?;
    config.disks.push(target.clone().into());
    let mut drives = Vec::new();
    for (name, byte) in [("key.img", 0x11u8), ("other.img", 0x22)] {
        let file = story.file(name);
        let contents: Vec<u8> = (0..4096u32)
            .map(|i| byte.wrapping_mul(i as u8 | 1))
            .collect();
        fs::write(&file, &contents)?;
        drives.push((file, MasterKey::of_file(&contents)));
    }
    config.disks.push(drives[0].0.clone().into());
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let work = Work::start(&mut vm, image)?;
    let before = work.reached(&mut vm)?;
    let line = "kjump hibernate --target /dev/vdb --key-file /dev/vdc";
    let asleep = hibernation::go_off(&mut vm, line)?;
    drop(vm);
    let mut image = Image::inspect_only(Device::new(File::open(&target)?)?)?;
    image.unlock(&drives[0].1).context("it has another key")?;
    drop(image);

    let words = "kjump.resume=/dev/vdb kjump.encrypt=key-file kjump.key_file=/dev/vdc";
    let again = hibernation::again(story, &config, Way::Peer, words);
    let mut wrong = again.clone();
    wrong.disks.pop();
    wrong.disks.push(drives[1].0.clone().into());
    let (vm, start) = hibernation::start(story, "N, another key", &wrong, &asleep.waiting)?;
    ensure!(matches!(start, Start::Booted), "another key does");
    let said = hibernation::said_by_resume(&vm.console.since(0));
    ensure!(said.contains("wrong passphrase or key"), "{said}");
    drop(vm);
    let state = hibernation::mark_at(&target, 0)?.state.get();
    ensure!(state == STATE_COMMITTED, "its state is {state}");

    let resume = |again: &Config, asleep: &Asleep| -> Result<Vm> {
        let (mut vm, _) = hibernation::resume(story, "A, resumed", again, asleep)?;
        work.healthy(&mut vm, before)?;
        let memory = vm.memory(0, u64::from(again.memory) << 20)?;
        ensure!(
            !holds_key(&memory, &drives[0].1),
            "the key is left in memory"
        );
        Ok(vm)
    };
    let mut vm = resume(&again, &asleep)?;
    // And without a peer.
    let asleep = hibernation::go_off(&mut vm, line)?;
    drop(vm);
    let alone = hibernation::again(story, &config, Way::Initramfs, words);
    let mut vm = resume(&alone, &asleep)?;
    let peer = hibernation::peer_booted(&vm.console.since(0));
    ensure!(!peer, "kernel C has booted");

    // A plain image, where an encrypted one is wanted.
    let asleep = hibernation::hibernate(&mut vm, "/dev/vdb", Mode::Poweroff)?;
    drop(vm);
    let (vm, start) = hibernation::start(story, "N, a plain image", &again, &asleep.waiting)?;
    ensure!(matches!(start, Start::Booted), "a plain image does");
    let said = hibernation::said_by_resume(&vm.console.since(0));
    ensure!(said.contains("plain image"), "{said}");
    drop(vm);
    let again = hibernation::again(story, &config, Way::Initramfs, "kjump.resume=/dev/vdb");
    let (mut vm, _) = hibernation::resume(story, "A, resumed again", &again, &asleep)?;
    work.healthy(&mut vm, before)?;
    work.end(&mut vm)
}

/// Leaves something in A's memory that no compression makes smaller.
fn plant(vm: &mut Vm) -> Result<Vec<u8>> {
    let secret: Vec<u8> = (1..=48u32)
        .map(|i| ((i * i * 7919) >> 3) as u8 | 1)
        .collect();
    let octal: String = secret.iter().map(|b| format!("\\{b:03o}")).collect();
    vm.sh(&format!("printf '{octal}' >/run/planted"))?;
    Ok(secret)
}

/// Waits for the question and answers it; gives where the console was then.
fn answer(vm: &mut Vm, mark: usize, passphrase: &str) -> Result<usize> {
    vm.console.wait_text(mark, QUESTION, LONG)?;
    let mark = mark + vm.console.since(mark).find(QUESTION).unwrap_or(0) + QUESTION.len();
    vm.type_in(&format!("{passphrase}\n"))?;
    Ok(mark)
}

fn has(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|w| w == what)
}

fn holds_key(bytes: &[u8], key: &MasterKey) -> bool {
    key_at(bytes, key).is_some()
}

/// Where a key is, as it is or as a request has it.
pub fn key_at(bytes: &[u8], key: &MasterKey) -> Option<usize> {
    let text = hex(key.bytes()).into_bytes();
    [&key.bytes()[..], &text]
        .iter()
        .find_map(|what| bytes.windows(what.len()).position(|w| w == *what))
}

/// The key that the image says the passphrase comes to.
fn key_of(disk: &Path) -> Result<MasterKey> {
    let mut image = Image::inspect_only(Device::new(File::open(disk)?)?)?;
    let source = image.encryption().context("it is not encrypted")?.source;
    let KeySource::Passphrase {
        salt,
        memory,
        passes,
        lanes,
    } = source
    else {
        anyhow::bail!("it has another key");
    };
    ensure!(
        (memory, passes) == (24 << 10, 1),
        "{memory} KiB, {passes} passes"
    );
    let params = Params::new(memory, passes, lanes, Some(32));
    let params = params.map_err(|e| anyhow::anyhow!("{e}"))?;
    let mut key = MasterKey::blank();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(PASSPHRASE.as_bytes(), &salt, key.bytes_mut())
        .map_err(|e| anyhow::anyhow!("{e}"))?;
    image.unlock(&key).context("it has another key")?;
    Ok(key)
}

/// Changes a bit of the first chunk's pages, and puts its checksums right.
fn alter(disk: &Path) -> Result<()> {
    let file = File::options().read(true).write(true).open(disk)?;
    let at = kjump_image::layout::CHUNKS_OFFSET;
    let mut head = [0; 64];
    file.read_exact_at(&mut head, at)?;
    let mut head = ChunkHead::read_from_bytes(&head)
        .map_err(|_| anyhow::anyhow!("a head has another size"))?;
    let mut runs = vec![0; head.run_count.get() as usize * 16];
    file.read_exact_at(&mut runs, at + 64)?;
    let place = at + 64 + runs.len() as u64 + 16;
    let mut payload = vec![0; head.stored_len.get() as usize];
    file.read_exact_at(&mut payload, place)?;
    let middle = payload.len() / 2;
    let byte = payload.get_mut(middle).context("a chunk without pages")?;
    *byte ^= 4;
    head.stored_sum.set(xxh32(&payload, 0));
    head.crc.set(0);
    head.crc.set(crc32(crc32(0, head.as_bytes()), &runs));
    file.write_all_at(&payload, place)?;
    Ok(file.write_all_at(head.as_bytes(), at)?)
}
