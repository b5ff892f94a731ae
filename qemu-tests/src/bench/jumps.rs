// SPDX-License-Identifier: GPL-2.0

//! Jumps: medians, taken by the module's own time stamps.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{ensure, Context, Result};
use object::{Object, ObjectSection, SectionKind};
use serde_json::Value;

use super::figures::{self, Figure};
use super::{row, Options};
use crate::artifacts::{Artifacts, Kernel};
use crate::kjump;
use crate::story::Story;
use crate::vm::Vm;
use crate::workload::Workload;

/// Parts of a jump by their names in `kjump status --json`, and what they are.
const PARTS: [(&str, &str); 7] = [
    ("tasks", "down: notifiers, sync, tasks"),
    ("devices", "down: devices"),
    ("cpus", "down: other CPUs"),
    ("rest_down", "down: IRQs, syscore, page map"),
    ("away", "exchange, peer, exchange back"),
    ("up", "up again: all of it"),
    ("total", "total"),
];

/// A kind of jump: its name, and the status after each.
struct Series {
    name: &'static str,
    samples: Vec<Value>,
}

impl Series {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            samples: Vec::new(),
        }
    }

    fn jump(&mut self, vm: &mut Vm) -> Result<()> {
        kjump::jump_and_return(vm, "")?;
        self.samples.push(kjump::status(vm)?);
        Ok(())
    }

    fn values(&self, part: &str) -> Vec<f64> {
        let values = self.samples.iter();
        values
            .filter_map(|status| kjump::part(status, part))
            .collect()
    }

    fn part(&self, part: &str) -> Option<f64> {
        median(self.values(part))
    }

    fn count(&self, field: &str) -> Option<f64> {
        median(
            self.samples
                .iter()
                .filter_map(|status| status[field].as_f64())
                .collect(),
        )
    }
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[half]),
        _ => Some((values[half - 1] + values[half]) / 2.0),
    }
}

/// Measures, and prints the figures.
pub fn run(story: &Story, options: &Options) -> Result<()> {
    let series = measure(story, options)?;
    print(&series, options);
    sizes(&story.artifacts)
}

fn measure(story: &Story, options: &Options) -> Result<[Series; 4]> {
    let mut config = story.config(Kernel::Full)?;
    config.memory = options.memory;
    config.smp = options.smp;
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    Workload::start(&mut vm, image)?;
    let started = Instant::now();
    let tell = |what: &str| {
        eprintln!("bench: {what} ({:.0} s)", started.elapsed().as_secs_f32());
    };

    let mut first = Series::new("first jump");
    for round in 1..=options.rounds {
        if round > 1 {
            vm.sh("kjump unload")?;
        }
        kjump::load_lean(&mut vm, kjump::COME_BACK)?;
        first.jump(&mut vm)?;
        tell(&format!("first jump {round} of {}", options.rounds));
    }
    let mut resident = Series::new("resident");
    for round in 1..=options.rounds {
        resident.jump(&mut vm)?;
        tell(&format!(
            "resident round trip {round} of {}",
            options.rounds
        ));
    }
    vm.sh("kjump unload")?;
    kjump::load_lean_own(&mut vm, kjump::COME_BACK)?;
    kjump::jump_and_return(&mut vm, "")?;
    let mut own = Series::new("own window");
    for round in 1..=options.rounds {
        own.jump(&mut vm)?;
        tell(&format!(
            "resident with a window of its own {round} of {}",
            options.rounds
        ));
    }
    vm.sh("kjump unload; kjump load /boot/bounce")?;
    kjump::jump_and_return(&mut vm, "")?;
    let mut bounce = Series::new("no peer");
    for _ in 0..options.rounds {
        bounce.jump(&mut vm)?;
    }
    tell("done");
    let all = [first, resident, own, bounce];
    for series in &all {
        ensure!(
            series.samples.len() == options.rounds,
            "{}: samples are missing",
            series.name
        );
    }
    Ok(all)
}

/// A table: a row for each part, a column for each kind of jump.
fn print(series: &[Series], options: &Options) {
    println!();
    println!(
        "QEMU TCG, {} CPUs, {} MiB; A is full, B is lean in 16 MiB; a counter, a writer and a \
         TCP connection run in A",
        options.smp, options.memory
    );
    println!("medians of {} jumps each, milliseconds", options.rounds);
    println!();
    for series in series {
        for (part, title) in PARTS {
            figures::note(Figure {
                part: "jumps",
                what: title.into(),
                means: series.name.into(),
                fill: None,
                unit: "ms",
                samples: series.values(part),
            });
        }
    }
    row("", series.iter().map(|series| series.name.to_string()));
    for (part, title) in PARTS {
        row(
            title,
            series.iter().map(|series| show(series.part(part), 1)),
        );
    }
    println!();
    let counts = [
        ("window_pages", "pages in the window"),
        ("backed_up", "A's pages backed up"),
        ("loaded", "B's pages loaded"),
        ("peer_kept", "B's pages kept on the way back"),
        ("kept_pages", "A's pages that a load keeps"),
    ];
    for (field, title) in counts {
        row(
            title,
            series.iter().map(|series| show(series.count(field), 0)),
        );
    }
    println!();
    println!(
        "first jump: B boots, prints its memory map, comes back. resident: B is entered again"
    );
    println!(
        "and comes back, devices down and up on both sides. own window: the same with 16 MiB of"
    );
    println!(
        "its own, and 640 KiB that are exchanged. no peer: seven bytes of code that come back at"
    );
    println!("once, so \"exchange\" is the stub's alone, with A's pages only.");
}

fn show(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}"))
}

/// What the built files weigh.
fn sizes(artifacts: &Artifacts) -> Result<()> {
    println!();
    for kernel in [Kernel::Full, Kernel::Pae, Kernel::Lean] {
        let text = text_size(&artifacts.module(kernel))?;
        println!(
            "{:<32}{text:>14} bytes",
            format!("kjump.ko for {kernel:?}, text")
        );
    }
    let files = [
        ("lean's bzImage", artifacts.bzimage(Kernel::Lean)),
        ("B's initramfs", artifacts.peer_initramfs()),
        ("the command, static", artifacts.kjump()),
    ];
    for (title, path) in files {
        let size = fs::metadata(&path)
            .with_context(|| path.display().to_string())?
            .len();
        println!("{title:<32}{size:>14} bytes");
    }
    Ok(())
}

/// Bytes of a module's code.
fn text_size(module: &Path) -> Result<u64> {
    let bytes = fs::read(module).with_context(|| module.display().to_string())?;
    let elf = object::File::parse(&*bytes)?;
    let code = elf
        .sections()
        .filter(|section| section.kind() == SectionKind::Text);
    Ok(code.map(|section| section.size()).sum())
}

#[cfg(test)]
mod unit {
    use super::median;

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }
}
