// SPDX-License-Identifier: GPL-2.0

//! Hibernation: kjump and swsusp take the same guest, with the same unswappable data in memory,
//! through a power cycle, one after the other. Times by the host's clock.

use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use kjump_image::layout::STATE_OFFSET;

use super::figures::{self, Figure, Summary};
use super::{row, Options};
use crate::artifacts::Kernel;
use crate::disk;
use crate::ending::{Start, Waiting};
use crate::hibernation::{self, Asleep, Mode, Way, LONG};
use crate::initramfs::Purpose;
use crate::kjump;
use crate::story::Story;
use crate::swsusp::{self, Compressor, Outcome};
use crate::vm::{Config, Vm};

/// A way to hibernate and come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// The kernel's own.
    Swsusp(Compressor),
    /// Nothing is loaded: the peer is read, loaded, booted. C comes from the bootloader.
    Cold,
    /// Nothing is loaded: a peer that has booted before is read from a file. C comes from the bootloader.
    File,
    /// A peer is there and has booted. A comes back by the initramfs of a normal kernel, which restores it
    /// itself if memory holds the image, else by C.
    Resident,
}

/// Columns, by name.
pub const LZO: &str = "swsusp lzo";
/// See [`LZO`].
pub const LZ4: &str = "swsusp lz4";
/// See [`LZO`].
pub const COLD: &str = "kjump cold";
/// See [`LZO`].
pub const FROM_FILE: &str = "kjump kimgcore";
/// See [`LZO`].
pub const RESIDENT: &str = "kjump resident";

/// Where the peer that has booted is kept.
const KIMGCORE: &str = "/data/kimgcore";

const MEANS: [Means; 5] = [
    Means::Swsusp(Compressor::Lzo),
    Means::Swsusp(Compressor::Lz4),
    Means::Cold,
    Means::File,
    Means::Resident,
];

impl Means {
    fn name(self) -> &'static str {
        match self {
            Means::Swsusp(Compressor::Lzo) => LZO,
            Means::Swsusp(Compressor::Lz4) => LZ4,
            Means::Cold => COLD,
            Means::File => FROM_FILE,
            Means::Resident => RESIDENT,
        }
    }
}

/// What was measured of a power cycle.
#[derive(Default)]
struct Cycle {
    /// From the command to power off, seconds.
    down: f64,
    /// From the first line of the first kernel to the first word of A's user space, seconds.
    up: f64,
    /// Bytes of the image.
    image: u64,
    /// What the saving and the restoring kernel say, millions of bytes of memory a second.
    rates: [Option<f64>; 2],
    /// What B says of its memory.
    memory: Option<String>,
}

/// A machine at one fill.
struct Bench<'a> {
    story: &'a Story,
    config: Config,
    fill: u32,
    drop_caches: bool,
}

/// Measures, and prints the figures.
pub fn run(story: &Story, options: &Options) -> Result<()> {
    println!();
    println!(
        "QEMU TCG, {} CPUs, {} MiB; a ramfs holds so much noise, per cent of MemTotal; {} cycles by each \
         means in turn; medians (min-max)",
        options.smp, options.memory, options.cycles
    );
    let (mut floor, mut memory) = (None, None);
    for &fill in &options.fill {
        let bench = Bench::new(story, options, fill)?;
        let mut vm = bench.boot()?;
        if floor.is_none() {
            floor = Some(Floor::measure(&mut vm)?);
        }
        let mut columns: [Vec<Cycle>; MEANS.len()] = Default::default();
        let mut fails = [false; MEANS.len()];
        for round in 1..=options.cycles {
            for (at, means) in MEANS.into_iter().enumerate() {
                if fails[at] {
                    continue;
                }
                eprintln!("bench: {fill} %, {}, cycle {round}", means.name());
                let (next, cycle) = bench
                    .cycle(vm, means)
                    .with_context(|| format!("{fill} %, {}", means.name()))?;
                vm = next;
                match cycle {
                    Some(cycle) => {
                        memory = cycle.memory.clone().or(memory);
                        columns[at].push(cycle);
                    }
                    None => fails[at] = true,
                }
            }
        }
        vm.power_off()?;
        print(fill, &columns);
    }
    println!();
    if let Some(floor) = floor {
        floor.print();
    }
    if let Some(memory) = memory {
        println!("B's memory, beside its kernel in the window of 15.6 MiB: {memory}");
    }
    Ok(())
}

/// What is measured of a cycle: the name in [`figures`], unit, digits, the sample.
type Line = (&'static str, &'static str, usize, fn(&Cycle) -> Option<f64>);

/// Names that [`super::charts`] and [`super::targets`] look for.
pub const DOWN: &str = "command to power off";
/// See [`DOWN`].
pub const UP: &str = "kernel's start to A";
/// See [`DOWN`].
pub const IMAGE: &str = "image";

const LINES: [Line; 5] = [
    (DOWN, "s", 2, |c| Some(c.down)),
    (UP, "s", 2, |c| Some(c.up)),
    (IMAGE, "MiB", 1, |c| Some(c.image as f64 / 1_048_576.0)),
    ("save", "MB/s", 0, |c| c.rates[0]),
    ("restore", "MB/s", 0, |c| c.rates[1]),
];

/// A table: a column for each means, and by how much it differs from the first.
fn print(fill: u32, columns: &[Vec<Cycle>]) {
    println!();
    row(
        &format!("{fill} %"),
        MEANS.iter().map(|means| means.name().into()),
    );
    for (what, unit, digits, sample) in LINES {
        let mut medians = Vec::new();
        let cells = MEANS.iter().zip(columns).map(|(means, cycles)| {
            let samples: Vec<f64> = cycles.iter().filter_map(sample).collect();
            let summary = Summary::of(&samples);
            medians.push(summary.map(|s| s.median));
            let text = match summary {
                None if cycles.is_empty() => "fails".into(),
                None => "-".into(),
                Some(summary) => summary.text(digits),
            };
            figures::note(Figure {
                part: "hibernation",
                what: what.into(),
                means: means.name().into(),
                fill: Some(fill),
                unit,
                samples,
            });
            text
        });
        let cells: Vec<String> = cells.collect();
        row(&format!("{what}, {unit}"), cells.into_iter());
        let ratio = |median: &Option<f64>| match (median, medians[0]) {
            (Some(this), Some(first)) => format!("{:.2}", this / first),
            _ => "-".into(),
        };
        if unit != "MB/s" {
            row("  ratio to the first", medians.iter().map(ratio));
        }
    }
}

/// What the same disk and the same memory take without any of this, MB/s.
struct Floor {
    write: f64,
    read: f64,
    copy: f64,
}

impl Floor {
    fn measure(vm: &mut Vm) -> Result<Self> {
        let [write, read] = dd(vm)?;
        let said = vm.run_for("guest memcpy 32 16", LONG)?.ok()?;
        let copy = said.parse().with_context(|| format!("memcpy: {said}"))?;
        Ok(Self { write, read, copy })
    }

    fn print(&self) {
        let Self { write, read, copy } = self;
        println!(
            "the floor: dd to the same disk, O_DIRECT, {write:.0} MB/s written, {read:.0} MB/s read; \
             memcpy {copy:.0} MB/s"
        );
        for (what, rate) in [("dd, written", write), ("dd, read", read), ("memcpy", copy)] {
            figures::note(Figure::once("hibernation", what, "floor", "MB/s", *rate));
        }
    }
}

impl<'a> Bench<'a> {
    fn new(story: &'a Story, options: &Options, fill: u32) -> Result<Self> {
        let mut config = story.config_for(Kernel::Full, Purpose::Small)?;
        config.memory = options.memory;
        config.smp = options.smp;
        let target = story.file("target.img");
        let size = u64::from(options.memory) + 128;
        disk::empty(&target, size)?;
        config.disks.push(target.into());
        swsusp::prepare(story, &mut config, "/dev/vdb", size, Compressor::Lzo)?;
        let data = story.file("data.img");
        disk::ext4(&data, 64)?;
        config.disks.push(data.into());
        Ok(Self {
            story,
            config,
            fill,
            drop_caches: options.drop_caches,
        })
    }

    /// A machine with that much in its memory.
    fn boot(&self) -> Result<Vm> {
        let mut vm = self.story.boot("A", &self.config)?;
        kjump::insmod(&mut vm, "")?;
        if self.drop_caches {
            vm.sh("echo 'drop_caches = true' >>/etc/kjump.toml")?;
        }
        vm.sh("mkdir -p /data; mount -t ext4 /dev/vdc /data")?;
        kjump::load_plain(&mut vm, "kjump.do=back")?;
        kjump::jump_and_return(&mut vm, "")?;
        vm.sh(&format!("kjump peer dump {KIMGCORE} && kjump unload"))?;
        let fill = self.fill;
        vm.sh("mkdir -p /run/full; mount -t ramfs ramfs /run/full")?;
        vm.run_for(&format!("guest ramfill {fill} 1 /run/full"), LONG)?
            .ok()?;
        Ok(vm)
    }

    /// Hibernates and resumes; `None` with the machine as it was, if this means cannot.
    fn cycle(&self, vm: Vm, means: Means) -> Result<(Vm, Option<Cycle>)> {
        match means {
            Means::Swsusp(compressor) => self.swsusp(vm, compressor),
            Means::Cold => self.kjump(vm, "", Way::Bootloader),
            Means::File => {
                let peer = format!("--peer {KIMGCORE}");
                self.kjump(vm, &peer, Way::Bootloader)
            }
            Means::Resident => {
                let mut vm = vm;
                kjump::load_plain(&mut vm, "kjump.do=back")?;
                kjump::jump_and_return(&mut vm, "")?;
                self.kjump(vm, "", Way::Initramfs)
            }
        }
    }

    fn kjump(&self, mut vm: Vm, options: &str, way: Way) -> Result<(Vm, Option<Cycle>)> {
        let started = Instant::now();
        let target = format!("/dev/vda {options}");
        let asleep = hibernation::hibernate(&mut vm, &target, Mode::Poweroff)?;
        let down = started.elapsed().as_secs_f64();
        drop(vm);
        let mark = hibernation::mark_at(&self.story.file("target.img"), STATE_OFFSET)?;
        let config = hibernation::again(self.story, &self.config, way, "kjump.resume=/dev/vda");
        let config = swsusp::off(config);
        let (vm, up) = self.up(&config, &asleep.waiting)?;
        let cycle = Cycle {
            down,
            up,
            image: mark.seal.image_bytes.get(),
            rates: [rate(&asleep.console), rate(&vm.console.since(0))],
            memory: memory(&asleep.console),
        };
        Ok((vm, Some(cycle)))
    }

    fn swsusp(&self, mut vm: Vm, compressor: Compressor) -> Result<(Vm, Option<Cycle>)> {
        swsusp::switch_on(&mut vm, "/dev/vdb")?;
        let name = compressor.name();
        vm.sh(&format!(
            "echo {name} >/sys/module/hibernate/parameters/compressor"
        ))?;
        self.story.expect_trouble(vm.console.mark());
        let started = Instant::now();
        let outcome = swsusp::hibernate(&mut vm, "shutdown")?;
        let down = started.elapsed().as_secs_f64();
        self.story.trouble_is_over();
        let Outcome::Off(asleep) = outcome else {
            vm.sh("swapoff /dev/vdb")?;
            return Ok((vm, None));
        };
        drop(vm);
        let (mut vm, up) = self.up(&self.config, &asleep.waiting)?;
        vm.sh("swapoff /dev/vdb")?;
        let console = vm.console.since(0);
        let cycle = Cycle {
            down,
            up,
            image: swsusp_image(&asleep).unwrap_or(0),
            rates: [
                number_before(&asleep.console, " MB/s)"),
                number_before(&console, " MB/s)"),
            ],
            memory: None,
        };
        Ok((vm, Some(cycle)))
    }

    /// Starts a machine that goes on; seconds from its first kernel's first line.
    fn up(&self, config: &Config, waiting: &Waiting) -> Result<(Vm, f64)> {
        let mut vm = self.story.power_on("A, resumed", config)?;
        vm.console
            .wait_text(0, "Linux version", Duration::from_secs(60))?;
        let started = Instant::now();
        match vm.wait_start(waiting, LONG)? {
            Start::Resumed(_) => Ok((vm, started.elapsed().as_secs_f64())),
            Start::Booted => bail!("the machine was not resumed"),
        }
    }
}

/// The last number before that text.
fn number_before(text: &str, after: &str) -> Option<f64> {
    let end = text.rfind(after)?;
    let start = text[..end].rfind(|c: char| !c.is_ascii_digit() && c != '.')? + 1;
    text[start..end].parse().ok()
}

/// The last speed that a progress bar shows.
fn rate(console: &str) -> Option<f64> {
    number_before(console, " MB/s, ratio")
}

/// Bytes of an image of swsusp's, as its kernel says.
fn swsusp_image(asleep: &Asleep) -> Option<u64> {
    let (_, after) = asleep
        .console
        .split_once("Image size after compression: ")?;
    let kbytes: u64 = after.split(' ').next()?.parse().ok()?;
    Some(kbytes << 10)
}

/// How fast the target's disk is written and read without any of this, MB/s.
fn dd(vm: &mut Vm) -> Result<[f64; 2]> {
    const MEBIBYTES: u32 = 256;
    let mut speed = |files: &str| -> Result<f64> {
        let clock = "cut -d' ' -f1 /proc/uptime";
        let copy = format!("dd {files} bs=1M count={MEBIBYTES} 2>/dev/null");
        let said = vm
            .run_for(&format!("{clock}; {copy}; {clock}"), LONG)?
            .ok()?;
        let times: Vec<f64> = said.lines().map(str::parse).collect::<Result<_, _>>()?;
        let [start, end] = times[..] else {
            bail!("dd: {said}");
        };
        Ok(f64::from(MEBIBYTES) * 1.048_576 / (end - start))
    };
    Ok([
        speed("if=/dev/zero of=/dev/vda oflag=direct conv=fsync")?,
        speed("if=/dev/vda of=/dev/null iflag=direct")?,
    ])
}

/// What B says of its memory when it has saved.
fn memory(console: &str) -> Option<String> {
    let line = console
        .lines()
        .rfind(|line| line.contains("kjump-init: saved"))?;
    let line = line.split("bytes; ").nth(1)?;
    Some(
        line.rsplit_once(';')
            .map_or(line, |(memory, _)| memory)
            .to_string(),
    )
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn speeds_are_read_off_consoles() {
        let bar = "saving [##--]  50 %, 81.3 MB/s, ratio 1.20, 2 s left\
                   saving [####] 100 %, 90.5 MB/s, ratio 1.21, 4 s";
        assert_eq!(rate(bar), Some(90.5));
        let swsusp = "PM: hibernation: Wrote 41568 kbytes in 1.79 seconds (23.22 MB/s)";
        assert_eq!(number_before(swsusp, " MB/s)"), Some(23.22));
        assert_eq!(rate("nothing"), None);
        let saved = "kjump-init: saved: 9 pages and 1 of zeros in 7 bytes; 2548 of 10384 KiB of \
                     memory left here, 2836 KiB at most used by this program; power off";
        let left = "2548 of 10384 KiB of memory left here, 2836 KiB at most used by this program";
        assert_eq!(memory(saved).as_deref(), Some(left));
    }
}
