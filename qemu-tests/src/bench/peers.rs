// SPDX-License-Identifier: GPL-2.0

//! Hibernating with a peer that has to boot, one that is resident, one that is loaded from a file: how
//! long until the first byte is saved. The machine comes back each time (`--mode none`).

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};

use super::figures::{self, Figure};
use super::jumps::median;
use super::{row, Options};
use crate::artifacts::Kernel;
use crate::disk;
use crate::hibernation::LONG;
use crate::initramfs::Purpose;
use crate::kjump;
use crate::story::Story;
use crate::vm::Vm;

/// The command; `/dev/vda` is the target, `/dev/vdb` holds the file.
const HIBERNATE: &str = "kjump hibernate --target /dev/vda --mode none";
const FILE: &str = "/mnt/kimgcore";
/// What B says just before it writes.
const SAVING: &str = "kjump-init: saving to";

/// A kind of peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Anew,
    Resident,
    File,
}

const KINDS: [(Kind, &str); 3] = [
    (Kind::Anew, "booted anew"),
    (Kind::Resident, "resident"),
    (Kind::File, "kimgcore"),
];

/// Measures, and prints the figures.
pub fn run(story: &Story, options: &Options) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Recipes)?;
    config.memory = options.memory;
    config.smp = options.smp;
    let (target, data) = (story.file("target.img"), story.file("data.img"));
    disk::empty(&target, u64::from(options.memory) + 128)?;
    disk::ext4(&data, 128)?;
    config.disks.extend([target.into(), data.into()]);
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    vm.sh("mount -t ext4 /dev/vdb /mnt")?;
    // The peer that goes to the file, and is the resident one afterwards.
    kjump::load_plain(&mut vm, "kjump.do=back")?;
    kjump::jump_and_return(&mut vm, "")?;
    vm.sh(&format!("kjump peer dump {FILE}"))?;

    let rounds = options.rounds.div_ceil(4);
    let mut columns = Vec::new();
    for (kind, name) in KINDS {
        eprintln!("bench: a peer {name}");
        let mut samples = Vec::new();
        for _ in 0..rounds {
            samples.push(one(&mut vm, kind).context(name)?);
        }
        columns.push(samples);
    }
    vm.power_off()?;

    println!();
    println!(
        "hibernating from a machine of {} MiB: medians of {rounds}, seconds",
        options.memory
    );
    row("", KINDS.iter().map(|(_, name)| (*name).into()));
    for (title, part) in [
        ("command to first byte saved", 0),
        ("command to all saved", 1),
    ] {
        for ((_, name), samples) in KINDS.iter().zip(&columns) {
            figures::note(Figure {
                part: "peers",
                what: title.into(),
                means: (*name).into(),
                fill: None,
                unit: "s",
                samples: samples
                    .iter()
                    .map(|sample: &[f64; 2]| sample[part])
                    .collect(),
            });
        }
        let middle = |samples: &Vec<[f64; 2]>| {
            let values = samples.iter().map(|sample| sample[part]).collect();
            median(values).map_or("-".into(), |seconds| format!("{seconds:.2}"))
        };
        row(title, columns.iter().map(middle));
    }
    Ok(())
}

/// Saves once: seconds from the command to the first byte, and to the return.
fn one(vm: &mut Vm, kind: Kind) -> Result<[f64; 2]> {
    let state = kjump::status(vm)?;
    if kind != Kind::Resident && state["state"] != "empty" {
        vm.sh("kjump unload")?;
    }
    let command = match kind {
        Kind::File => format!("{HIBERNATE} --peer {FILE}"),
        Kind::Anew | Kind::Resident => HIBERNATE.to_string(),
    };
    if kind == Kind::Resident && state["state"] != "returned" {
        kjump::load_plain(vm, "kjump.do=back")?;
        kjump::jump_and_return(vm, "")?;
    }
    let mark = vm.console.mark();
    let started = Instant::now();
    let running = vm.start_command(&command)?;
    let mut before = written(vm)?;
    let first = loop {
        let now = written(vm)?;
        if vm.console.since(mark).contains(SAVING) {
            if now > before {
                break started.elapsed();
            }
        } else {
            // A's own mark on the target is no byte of the image.
            before = now;
        }
        ensure!(started.elapsed() < LONG, "nothing is saved");
        sleep(Duration::from_millis(2));
    };
    vm.finish(running, LONG)?.ok()?;
    let all = started.elapsed();
    let booted = vm.console.since(mark).contains("Linux version");
    ensure!(booted == (kind == Kind::Anew), "{kind:?}: booted: {booted}");
    Ok([first, all].map(|time| time.as_secs_f64()))
}

/// Bytes that the machine has written to its disks.
fn written(vm: &mut Vm) -> Result<u64> {
    let stats = vm.qmp.execute("query-blockstats", serde_json::json!({}))?;
    let disks = stats.as_array().context("query-blockstats")?;
    let bytes = disks.iter().map(|d| d["stats"]["wr_bytes"].as_u64());
    Ok(bytes.map(Option::unwrap_or_default).sum())
}
