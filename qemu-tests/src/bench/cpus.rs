// SPDX-License-Identifier: GPL-2.0

//! A save from a B with several CPUs, which compress, and from the same B with all but one of them switched
//! off, in turn. The emulator runs each CPU on a thread of the host's here. Times by B's clock.

use anyhow::{ensure, Context, Result};

use super::dumps::FILL;
use super::figures::{self, Figure, Summary};
use super::{row, Options};
use crate::artifacts::Kernel;
use crate::initramfs::Purpose;
use crate::smp_peer;
use crate::story::Story;
use crate::vm::Vm;
use crate::{disk, hibernation, kjump, shell};

/// Where the image goes: to a disk, and nowhere.
const TARGETS: [(&str, &str); 2] = [
    ("to a disk", "/dev/vda >/tmp/told"),
    ("nowhere", "- >/dev/null"),
];
const CODECS: [&str; 2] = ["lz4", "zstd"];

/// Measures, and prints the figures.
pub fn run(story: &Story, options: &Options) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Hibernation)?;
    config.memory = options.memory;
    config.smp = options.smp;
    config.thread_each = true;
    smp_peer::add(story, &mut config)?;
    let image = story.file("image.img");
    disk::empty(&image, u64::from(options.memory) + 256)?;
    config.disks = vec![image.into()];
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    vm.sh("mkdir -p /run/full; mount -t ramfs ramfs /run/full")?;
    let fill = format!("guest ramfill {FILL} 1 /run/full");
    vm.run_for(&fill, hibernation::LONG)?.ok()?;
    smp_peer::load(&mut vm, "--window", "")?;
    let mark = vm.console.mark();
    let jump = vm.start_command("kjump jump --command shell")?;
    shell::wait(&vm, mark)?;

    println!();
    println!(
        "QEMU TCG, a thread for each of {} CPUs, {} MiB, {FILL} % of it noise in a ramfs; kjump save from \
         lean-smp, {} times each in turn; medians (min-max), s",
        options.smp, options.memory, options.cycles
    );
    let all = format!("{} CPUs", options.smp);
    let titles = ["1 CPU".to_string(), all, "ratio".to_string()];
    row("", titles.iter().cloned());
    for codec in CODECS {
        for (title, target) in TARGETS {
            let means = format!("{codec}, {title}");
            eprintln!("bench: {means}");
            let mut columns = [Vec::new(), Vec::new()];
            for _ in 0..options.cycles {
                for (online, column) in columns.iter_mut().enumerate() {
                    others(&mut vm, options.smp, online)?;
                    column.push(save(&mut vm, codec, target)?);
                }
            }
            let [one, several] = columns.each_ref().map(|c| Summary::of(c));
            let (one, several) = one.zip(several).context("no samples")?;
            let ratio = format!("{:.2}", several.median / one.median);
            row(&means, [one.text(2), several.text(2), ratio].into_iter());
            // Of the last one, with all CPUs.
            if target.starts_with('/') {
                let told = shell::line(&mut vm, "cat /tmp/told")?;
                println!("  {}", told.lines().last().unwrap_or_default());
            }
            for (what, samples) in titles.iter().zip(columns) {
                figures::note(Figure {
                    part: "cpus",
                    what: what.clone(),
                    means: means.clone(),
                    unit: "s",
                    fill: Some(FILL),
                    samples,
                });
            }
        }
    }
    vm.type_in("exit\n")?;
    let output = vm.finish(jump, kjump::JUMP)?;
    ensure!(output.rc == 0, "kjump jump: {} {}", output.rc, output.text);
    vm.power_off()
}

/// Switches B's other CPUs on (1) or off (0).
fn others(vm: &mut Vm, cpus: u32, online: usize) -> Result<()> {
    for cpu in 1..cpus {
        let file = format!("/sys/devices/system/cpu/cpu{cpu}/online");
        shell::line(vm, &format!("echo {online} >{file}"))?;
    }
    Ok(())
}

/// Seconds that a save takes.
fn save(vm: &mut Vm, codec: &str, target: &str) -> Result<f64> {
    let command = format!("kjump save --no-guards --compression {codec} {target}");
    let up = "cut -d' ' -f1 /proc/uptime";
    let said = shell::line(
        vm,
        &format!("a=$({up}); {command} 2>/tmp/said && echo took $a $({up})"),
    )?;
    let (_, times) = said.split_once("took ").context("no times")?;
    let mut times = times.split_whitespace().map(str::parse::<f64>);
    let mut next = || anyhow::Ok(times.next().context("no time")??);
    let before = next()?;
    Ok(next()? - before)
}
