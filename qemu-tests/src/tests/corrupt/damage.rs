// SPDX-License-Identifier: GPL-2.0

//! Bytes that differ and parts that are missing: where they are follows from the format's own
//! structures, so a field that is added to them is damaged here as well.

use std::collections::BTreeSet;
use std::fs::File;
use std::mem::offset_of;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use kjump_image::layout::{
    ChunkHead, GuardRecord, GuardsHead, Header, Mark, Seal, BLOCK, CHUNKS_OFFSET, DISCARD_OFFSET,
    GUARDS_OFFSET, HEADER_OFFSET, RESUME_OFFSET, SPARE_OFFSET, STATE_OFFSET,
};
use zerocopy::FromBytes;

use super::{Saved, IMAGE};
use crate::disk;
use crate::drive::Fault;
use crate::ending::Start;
use crate::hibernation::{self, Way, LONG};
use crate::kjump::exit;
use crate::vm::Vm;

/// A byte of the image to change.
struct Spot {
    /// What it belongs to.
    name: String,
    /// Where it is, bytes from the start.
    at: u64,
}

/// The offsets of fields of a structure, by their names.
macro_rules! fields {
    ($type:ident: $($field:ident),* $(,)?) => {
        [$((concat!(stringify!($type), ".", stringify!($field)), offset_of!($type, $field))),*]
    };
}

/// Where the image's parts lie.
struct Parts {
    /// Bytes of the whole.
    size: u64,
    /// The first chunk's head, run table, payload and end.
    chunk: (u64, u64, u64, u64),
}

impl Parts {
    fn of(image: &Path) -> Result<Self> {
        let state = hibernation::mark_at(image, STATE_OFFSET)?;
        let mut head = [0; size_of::<ChunkHead>()];
        File::open(image)?.read_exact_at(&mut head, CHUNKS_OFFSET)?;
        let head = ChunkHead::read_from_bytes(&head[..])
            .map_err(|_| anyhow::anyhow!("a chunk's head has another size"))?;
        let table = CHUNKS_OFFSET + size_of::<ChunkHead>() as u64;
        let payload = table + u64::from(head.run_count.get()) * 16;
        let end = (payload + u64::from(head.stored_len.get())).next_multiple_of(8);
        Ok(Self {
            size: state.seal.image_bytes.get(),
            chunk: (CHUNKS_OFFSET, table, payload, end),
        })
    }

    /// The end mark's block.
    fn end_mark(&self) -> u64 {
        self.size - BLOCK as u64
    }

    /// A byte in everything that is looked at before the first page is written.
    fn in_front(&self) -> Vec<Spot> {
        let header = fields!(Header: magic, version, size, crc, flags, arch, page_size, uuid,
            created, fingerprint, release, build_id, cpu_features, window_end, jump_back_entry,
            pages, skipped, guards_offset, guards_size, chunks_offset, codec, chunk_pages,
            ram_count, ram, reserved1);
        let mark = fields!(Mark: magic, version, crc, state, time, seal, image_digest, reserved1);
        let seal = fields!(Seal: uuid, header_digest, guards_digest, chunks_digest, image_bytes,
            chunks, runs, data_pages, zero_pages, stored_bytes, raw_chunks);
        let guards = fields!(GuardsHead: magic, version, crc);
        let record = fields!(GuardRecord: kind, device, data);
        let first_record = GUARDS_OFFSET + size_of::<GuardsHead>() as u64;
        let mut spots = Vec::new();
        let mut add = |base: u64, part: &str, list: &[(&str, usize)]| {
            spots.extend(list.iter().map(|(name, offset)| Spot {
                name: format!("{part} {name}"),
                at: base + *offset as u64,
            }));
        };
        add(HEADER_OFFSET, "header", &header);
        for (base, part) in [(STATE_OFFSET, "state"), (self.end_mark(), "end")] {
            add(base, part, &mark);
            add(base + offset_of!(Mark, seal) as u64, part, &seal);
        }
        add(GUARDS_OFFSET, "guards", &guards);
        add(first_record, "guards", &record);
        for (base, part) in [
            (RESUME_OFFSET, "mark of the restore"),
            (DISCARD_OFFSET, "mark of the discard"),
            (CHUNKS_OFFSET - 1, "the guards' last byte"),
        ] {
            add(base, part, &[("", 0)]);
        }
        spots
    }

    /// A byte in everything that is looked at as the chunks come.
    fn in_chunks(&self) -> Vec<Spot> {
        let (head, table, payload, end) = self.chunk;
        let spot = |name: &str, at| Spot {
            name: name.into(),
            at,
        };
        let mut spots: Vec<_> = fields!(ChunkHead: magic, crc, tag, index, run_count, raw_len,
            stored_len, codec, stored_sum, raw_sum, first_page)
        .iter()
        .map(|(name, offset)| spot(name, head + *offset as u64))
        .collect();
        spots.push(spot("run table", table));
        spots.push(spot("payload", payload));
        spots.push(spot("payload's end", end - 8));
        spots.push(spot("the second chunk", end));
        spots.push(spot("the middle", (self.size / 2) & !7));
        spots.push(spot("the last chunk", self.end_mark() - BLOCK as u64));
        spots
    }

    /// Where an image can break off: the end of each part.
    fn ends(&self) -> Vec<u64> {
        let (head, table, payload, end) = self.chunk;
        vec![
            RESUME_OFFSET,
            SPARE_OFFSET,
            HEADER_OFFSET,
            GUARDS_OFFSET,
            head,
            table,
            payload,
            end,
            self.size / 2,
            self.end_mark(),
            self.size - 512,
        ]
    }
}

/// Codes by which an image is called no good image: none, torn, damaged, used or given up.
const NO_GOOD: [i32; 4] = [exit::NO_IMAGE, exit::TORN, exit::DAMAGED, exit::USED];

/// Damages the image on the guest's disk in every way, one after the other, and lets the guest
/// try to use it. `good` is a copy of it on the host.
pub fn run(vm: &mut Vm, good: &Path) -> Result<()> {
    let parts = Parts::of(good)?;
    let sound = vm.run_for(&format!("kjump image verify {IMAGE}"), LONG)?;
    ensure!(sound.rc == 0, "{} and \"{}\"", sound.rc, sound.text);
    let mut lines = BTreeSet::new();
    for spot in parts.in_front() {
        let line = damaged(vm, good, &spot, "kjump resume")?;
        lines.insert(line);
    }
    for spot in parts.in_chunks() {
        let line = damaged(vm, good, &spot, "kjump image verify")?;
        lines.insert(line);
    }
    // Header, guards, marks, chunks: each says which of it is damaged.
    ensure!(lines.len() >= 8, "few different messages: {lines:#?}");
    for end in parts.ends() {
        truncated(vm, end)?;
    }
    Ok(())
}

/// Changes the byte, runs the command on the image, puts the byte back; gives what it said.
fn damaged(vm: &mut Vm, good: &Path, spot: &Spot, command: &str) -> Result<String> {
    let mut byte = [0];
    File::open(good)?.read_exact_at(&mut byte, spot.at)?;
    let poke = |byte: u8| format!("guest poke {IMAGE} {} {byte:02x} >/dev/null", spot.at);
    vm.sh(&poke(byte[0] ^ 0x55))?;
    let output = vm.run_for(&format!("{command} {IMAGE}"), LONG)?;
    vm.sh(&poke(byte[0]))?;
    let last = output.text.lines().last().unwrap_or_default();
    ensure!(
        NO_GOOD.contains(&output.rc) && last.contains("image"),
        "{} (byte {}): {command} ended with {} and \"{}\"",
        spot.name,
        spot.at,
        output.rc,
        output.text
    );
    Ok(last.to_string())
}

/// A copy of the image that breaks off there is no good image.
fn truncated(vm: &mut Vm, size: u64) -> Result<()> {
    vm.sh(&format!("head -c {size} {IMAGE} >/run/short"))?;
    let output = vm.run_for("kjump image verify /run/short", LONG)?;
    vm.sh("rm /run/short")?;
    ensure!(
        [exit::TORN, exit::DAMAGED, exit::NO_IMAGE].contains(&output.rc),
        "cut off at {size}: {} and \"{}\"",
        output.rc,
        output.text
    );
    Ok(())
}

/// Damage that only shows when pages have been written already: C, which has taken the machine
/// over, says so, and the machine boots normally all the same.
pub(super) fn through_c(saved: &Saved<'_>) -> Result<()> {
    let (now, good) = saved.image();
    let parts = Parts::of(good)?;
    let (head, _, payload, _) = parts.chunk;
    for (name, at) in [
        ("the first chunk's head", head + 16),
        ("the first chunk's payload", payload),
        ("the middle", parts.size / 2),
    ] {
        let mut byte = [0];
        let file = File::options().read(true).write(true).open(now)?;
        file.read_exact_at(&mut byte, at)?;
        file.write_all_at(&[byte[0] ^ 0x55], at)?;
        if at == parts.size / 2 {
            // A kernel that reads the image itself has lost nothing.
            let config = saved.again(Way::Initramfs);
            saved.refuses(name, &config, exit::DAMAGED, "damaged image")?;
        }
        let mut config = saved.again(Way::Peer);
        config.reboot = true;
        let (mut vm, start) = hibernation::start(saved.story, name, &config, saved.waiting())
            .with_context(|| name.to_string())?;
        if let Start::Resumed(output) = start {
            bail!("{name}: it was resumed: {}", output.text);
        }
        let said = vm.console.since(0);
        ensure!(
            said.contains("damaged image"),
            "{name}: nobody says why:\n{}",
            hibernation::said_by_resume(&said)
        );
        vm.power_off()?;
        drop(vm);
        disk::copy(good, now)?;
    }
    unreadable(saved, parts.size / 2)
}

/// A sector in the middle cannot be read: no resume, and the normal boot follows.
fn unreadable(saved: &Saved<'_>, at: u64) -> Result<()> {
    let mut config = saved.again(Way::Peer);
    config.reboot = true;
    config.disks[0] = config.disks[0].clone().failing(Fault::Read, at / 512);
    let mut vm = saved.story.power_on("a read error", &config)?;
    saved.story.expect_trouble(0);
    if let Start::Resumed(output) = vm.wait_start(saved.waiting(), LONG)? {
        bail!("a read error: it was resumed: {}", output.text);
    }
    let said = vm.console.since(0);
    ensure!(
        said.contains("reading") && said.contains("failed"),
        "a read error: nobody says why:\n{}",
        hibernation::said_by_resume(&said)
    );
    vm.power_off()?;
    drop(vm);
    let (now, good) = saved.image();
    disk::copy(good, now)
}
