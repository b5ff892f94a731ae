// SPDX-License-Identifier: GPL-2.0

//! The framework itself, on a machine that does nothing special: what the other stories lean on.

use std::time::Duration;

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::console::splat_in;
use crate::machine;
use crate::story::Story;
use crate::text::Text;
use crate::workload::Workload;

/// Boots, runs commands, looks from outside, stops at a breakpoint, and notices a crash.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;

    // Commands run, and their status and text come back.
    let output = vm.run("echo hello; false")?;
    ensure!(
        (output.rc, output.text.as_str()) == (1, "hello"),
        "{output:?}"
    );
    ensure!(vm.sh("nproc")? == "2", "two CPUs");

    // The workload lives on while nothing happens.
    let workload = Workload::start(&mut vm, image)?;
    let progress = workload.progress(&mut vm)?;
    workload.healthy(&mut vm, progress)?;

    // From outside: virtio devices are running, and masters of the bus.
    vm.qmp.stop()?;
    let virtio = machine::virtio_status(&mut vm.qmp)?;
    let driven = virtio
        .iter()
        .filter(|device| device.bits.iter().any(|bit| bit == "DRIVER_OK"));
    ensure!(driven.count() == 2, "{virtio:?}");
    let pci = machine::pci(&mut vm.qmp)?;
    let masters = pci
        .iter()
        .filter(|function| function.is_virtio() && function.is_bus_master());
    ensure!(masters.count() == 2, "{pci:?}");
    let cpus = machine::cpus(&mut vm.qmp)?;
    ensure!(
        cpus.len() == 2 && cpus.iter().all(|cpu| cpu.paging),
        "{cpus:?}"
    );

    // The kernel's text is where vmlinux says, and stays as it is.
    let text = Text::of(&story.artifacts.vmlinux(Kernel::Full))?;
    let before = text.read(&mut vm)?;
    vm.qmp.cont()?;
    workload.goes_on(&mut vm, progress)?;
    let after = text.read(&mut vm)?;
    text.same(&before, &after)?;

    // A breakpoint stops the machine at one instruction.
    let line = vm.sh("grep ' T ksys_sync$' /proc/kallsyms")?;
    let address = u64::from_str_radix(line.split(' ').next().unwrap_or_default(), 16)
        .with_context(|| format!("kallsyms: {line}"))?;
    let mut gdb = vm.gdb()?;
    gdb.break_at(address)?;
    gdb.go()?;
    let started = vm.start_command("sync")?;
    gdb.wait_stop(Duration::from_secs(30))?;
    let cpus = machine::cpus(&mut vm.qmp)?;
    ensure!(
        cpus.iter().any(|cpu| u64::from(cpu.eip) == address),
        "{address:#x}: {cpus:x?}"
    );
    gdb.unbreak(address)?;
    gdb.detach()?;
    vm.finish(started, Duration::from_secs(30))?.ok()?;

    workload.end(&mut vm)?;
    drop(vm);

    // A crash is noticed, by the wait and by the detector.
    let mut vm = story.boot("A that crashes", &story.config(Kernel::Full)?)?;
    story.expect_trouble(vm.console.mark());
    ensure!(
        vm.run("echo c >/proc/sysrq-trigger").is_err(),
        "the crash went unnoticed"
    );
    vm.wait_off(Duration::from_secs(60))?;
    ensure!(
        splat_in(&vm.console.since(0)).is_some(),
        "no splat seen in a crash"
    );
    Ok(())
}
