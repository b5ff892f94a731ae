// SPDX-License-Identifier: GPL-2.0

//! \[quiet\]: while the other side runs, this side's devices and CPUs are at rest: looked at from
//! outside, at four moments of two jumps.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{bail, ensure, Result};

use crate::artifacts::Kernel;
use crate::kjump;
use crate::machine;
use crate::peer;
use crate::story::Story;
use crate::stub::Stub;
use crate::vm::Vm;
use crate::workload::Workload;

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let workload = Workload::start(&mut vm, image)?;

    // A has gone down, and a peer that touches no device runs: all is as A has left it. Twice,
    // as the second time A goes down with what it has resumed itself.
    kjump::load_spin(&mut vm)?;
    let quiet = quiet_address(story, &mut vm)?;
    for entry in ["first", "second"] {
        let before = workload.progress(&mut vm)?;
        let mark = vm.console.mark();
        let jump = vm.start_command("kjump jump")?;
        vm.wait_for(mark, peer::LINE, kjump::JUMP)?;
        let when = format!("on the {entry} entry");
        others_waited_for_sipi(&mut vm, &when)?;
        vm.qmp.stop()?;
        devices_at_rest(&mut vm, Side::A, &when)?;
        vm.qmp.cont()?;
        // Its other CPUs run. A's stub stops them before it exchanges memory.
        let mut gdb = vm.gdb()?;
        gdb.break_at(quiet)?;
        gdb.go()?;
        vm.type_in("x")?;
        gdb.wait_stop(Duration::from_secs(60))?;
        stands_at(&mut vm, quiet)?;
        others_wait_for_sipi(&mut vm, &format!("on the way back from the {entry} entry"))?;
        gdb.unbreak(quiet)?;
        gdb.detach()?;
        vm.finish(jump, kjump::JUMP)?.ok()?;
        workload.healthy(&mut vm, before)?;
    }
    vm.sh("kjump unload")?;

    // B, a Linux with drivers of its own, has gone down and enters A: all is as B has left it.
    kjump::load_lean(&mut vm, kjump::COME_BACK)?;
    comes_back(story, &mut vm, &workload, Side::Lean)?;
    vm.sh("kjump unload")?;

    // And a B that has brought up all CPUs, and drives all devices.
    kjump::load_full(&mut vm, kjump::COME_BACK)?;
    comes_back(story, &mut vm, &workload, Side::Full)?;
    workload.end(&mut vm)
}

/// A jump whose way back is watched: at the jump-back entry, and before memory is exchanged.
fn comes_back(story: &Story, vm: &mut Vm, workload: &Workload, peer: Side) -> Result<()> {
    let before = workload.progress(vm)?;
    let entry = kjump::address(&kjump::status(vm)?, "jump_back_entry")?;
    let quiet = quiet_address(story, vm)?;
    let mut gdb = vm.gdb()?;
    gdb.break_at(entry)?;
    gdb.break_at(quiet)?;
    gdb.go()?;
    let jump = vm.start_command("kjump jump")?;
    gdb.wait_stop(kjump::JUMP)?;
    stands_at(vm, entry)?;
    devices_at_rest(vm, peer, "after B's way down")?;
    cpus_at_rest(vm, peer, "after B's way down")?;

    // A's stub makes sure of it before it touches memory: now no device at all is bus master.
    gdb.unbreak(entry)?;
    gdb.go()?;
    gdb.wait_stop(Duration::from_secs(60))?;
    stands_at(vm, quiet)?;
    devices_at_rest(vm, peer, "before the exchange back")?;
    cpus_at_rest(vm, peer, "before the exchange back")?;
    let masters = machine::pci(&mut vm.qmp)?
        .into_iter()
        .filter(|f| f.is_bus_master());
    let masters: Vec<_> = masters.collect();
    ensure!(
        masters.is_empty(),
        "still bus masters before the exchange back: {masters:x?}"
    );
    gdb.unbreak(quiet)?;
    gdb.detach()?;
    vm.finish(jump, kjump::JUMP)?.ok()?;
    workload.healthy(vm, before).map(drop)
}

/// Who has gone down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// Kernel A, with its stub.
    A,
    /// `lean` as B: one CPU, no driver for the network card.
    Lean,
    /// `full` as B.
    Full,
}

/// virtio devices are reset and no bus masters.
fn devices_at_rest(vm: &mut Vm, side: Side, when: &str) -> Result<()> {
    let virtio = machine::virtio_status(&mut vm.qmp)?;
    ensure!(
        virtio.len() == 2,
        "{side:?}, {when}: virtio devices: {virtio:?}"
    );
    for device in virtio.iter().filter(|device| !device.bits.is_empty()) {
        // A bus without a driver for the device acknowledges it; nobody will give it a queue.
        let seen_only = device.name == "virtio-net" && device.bits == ["ACKNOWLEDGE"];
        ensure!(
            side == Side::Lean && seen_only,
            "{side:?}, {when}: not reset: {device:?}"
        );
    }
    for function in machine::pci(&mut vm.qmp)?
        .iter()
        .filter(|function| function.is_virtio())
    {
        ensure!(
            !function.is_bus_master(),
            "{side:?}, {when}: a bus master: {function:x?}"
        );
    }
    Ok(())
}

/// The first CPU has paging off, and all others have stopped. QEMU 7.2 keeps the INIT that a halted
/// CPU has been sent until something wakes it, and shows nothing of it: so a peer's own halt counts.
/// That they do wait for SIPI [`others_waited_for_sipi`] shows, and before the exchange back
/// [`others_wait_for_sipi`].
fn cpus_at_rest(vm: &mut Vm, side: Side, when: &str) -> Result<()> {
    let cpus = machine::cpus(&mut vm.qmp)?;
    ensure!(cpus.len() > 1, "this needs more than one CPU");
    ensure!(
        !cpus[0].paging,
        "{side:?}, {when}: paging is on: {:x?}",
        cpus[0]
    );
    for cpu in &cpus[1..] {
        ensure!(cpu.halted, "{side:?}, {when}: a CPU runs: {cpu:x?}");
    }
    Ok(())
}

/// The other CPUs, to which the spinning peer has sent a SIPI, have started where it says. Only a
/// CPU that waits for SIPI does so.
fn others_waited_for_sipi(vm: &mut Vm, when: &str) -> Result<()> {
    let started = |cpu: &machine::Cpu| cpu.cs == peer::LOOP_SEGMENT && !cpu.halted;
    others(vm, when, "did not wait for SIPI", started)
}

/// The other CPUs have heeded INIT.
fn others_wait_for_sipi(vm: &mut Vm, when: &str) -> Result<()> {
    others(
        vm,
        when,
        "does not wait for SIPI",
        machine::Cpu::waits_for_sipi,
    )
}

/// All CPUs but the first are as `is` wants them; or come to be in a moment, as an emulated CPU
/// is a thread, and takes what it is sent when it is scheduled next.
fn others(vm: &mut Vm, when: &str, what: &str, is: impl Fn(&machine::Cpu) -> bool) -> Result<()> {
    for _ in 0..50 {
        let cpus = machine::cpus(&mut vm.qmp)?;
        ensure!(cpus.len() > 1, "this needs more than one CPU");
        if cpus[1..].iter().all(&is) {
            return Ok(());
        }
        sleep(Duration::from_millis(100));
    }
    bail!("{when}: a CPU {what}: {:x?}", machine::cpus(&mut vm.qmp)?)
}

/// The first CPU is about to execute the instruction at `address`.
fn stands_at(vm: &mut Vm, address: u64) -> Result<()> {
    let cpus = machine::cpus(&mut vm.qmp)?;
    ensure!(
        u64::from(cpus[0].eip) == address,
        "stopped at {:x?}, not {address:#x}",
        cpus[0]
    );
    Ok(())
}

/// Where A's stub has silenced CPUs and devices, and exchanged no page yet; physical.
fn quiet_address(story: &Story, vm: &mut Vm) -> Result<u64> {
    let entry = kjump::address(&kjump::status(vm)?, "jump_back_entry")?;
    Stub::of(&story.artifacts.module(Kernel::Full), entry)?.copied("kjump_stub_quiet")
}
