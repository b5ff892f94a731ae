// SPDX-License-Identifier: GPL-2.0

//! \[nmi-steps\]: an NMI before one instruction of the stub after the other, on the way down and up. Each is
//! answered by the stub's own handler, or by the kernel's, and the instruction that it came before is the next. A
//! stretch ends with a loop's second turn; what follows until the next label is left out, and so are the
//! exchange and what only a jump one way does.

use std::collections::HashSet;
use std::ops::Range;
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use serde_json::json;

use crate::artifacts::Kernel;
use crate::gdb::Gdb;
use crate::kjump;
use crate::story::Story;
use crate::stub::Stub;
use crate::vm::Vm;
use crate::workload::Workload;

/// How long it takes to get to a breakpoint.
const SOON: Duration = Duration::from_secs(120);

struct Walk<'a> {
    vm: &'a mut Vm,
    gdb: Gdb,
    /// The stub's text, and its copy.
    text: [Range<u64>; 2],
    /// The lone iret, there and there.
    handlers: [u64; 2],
    by_stub: usize,
    by_kernel: usize,
}

impl Walk<'_> {
    /// Goes on to that address.
    fn run_to(&mut self, address: u64) -> Result<()> {
        self.gdb.break_at(address)?;
        self.gdb.go()?;
        self.arrive(address)
    }

    fn arrive(&mut self, address: u64) -> Result<()> {
        self.gdb
            .wait_stop(SOON)
            .with_context(|| format!("on the way to {address:#x}"))?;
        let at = self.gdb.eip()?;
        ensure!(at == address, "at {at:#x}, not {address:#x}");
        self.gdb.unbreak(address)
    }

    fn in_stub(&self, address: u64) -> bool {
        self.text.iter().any(|text| text.contains(&address))
    }

    /// Instruction by instruction, an NMI before each, until one comes a second time or the stub is left.
    fn walk(&mut self) -> Result<()> {
        let mut seen = HashSet::new();
        loop {
            let at = self.gdb.eip()?;
            if !self.in_stub(at) || !seen.insert(at) {
                return Ok(());
            }
            self.nmi(at)
                .with_context(|| format!("an NMI before {at:#x}"))?;
            self.step()?;
        }
    }

    /// On by an instruction, or into a handler: where to. An interrupt that only has the local APIC look for
    /// another one is a step to QEMU; no instruction that is come by here goes to itself.
    fn step(&mut self) -> Result<u64> {
        let before = self.gdb.eip()?;
        for _ in 0..10 {
            self.gdb.step()?;
            let now = self.gdb.eip()?;
            if now != before {
                return Ok(now);
            }
        }
        bail!("at {before:#x} it does not go on")
    }

    fn nmi(&mut self, at: u64) -> Result<()> {
        self.vm.qmp.execute("inject-nmi", json!({}))?;
        let handler = self.step()?;
        if self.handlers.contains(&handler) {
            self.by_stub += 1;
            self.step()?;
        } else {
            ensure!(!self.in_stub(handler), "went on at {handler:#x}");
            self.by_kernel += 1;
            self.run_to(at)?;
        }
        let back = self.gdb.eip()?;
        ensure!(back == at, "its handler returned to {back:#x}");
        Ok(())
    }
}

/// Kernel A has page tables of two levels.
pub fn plain(story: &Story) -> Result<()> {
    run(story, Kernel::Full)
}

/// Of three.
pub fn pae(story: &Story) -> Result<()> {
    run(story, Kernel::Pae)
}

fn run(story: &Story, kernel: Kernel) -> Result<()> {
    let mut config = story.config(kernel)?;
    // A debugger steps one of them.
    config.smp = 1;
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let workload = Workload::start(&mut vm, image)?;
    let before = workload.progress(&mut vm)?;
    kjump::load_lean(&mut vm, kjump::COME_BACK)?;
    kjump::jump_and_return(&mut vm, "")?;

    let entry = kjump::address(&kjump::status(&mut vm)?, "jump_back_entry")?;
    let stub = Stub::of(&story.artifacts.module(kernel), entry)?;
    let enter = stub.loaded(&mut vm, "kjump_stub_enter")?;
    let [silence, leave, quiet, up] = [
        "kjump_stub_silence_devices",
        "kjump_stub_leave",
        "kjump_stub_quiet",
        "kjump_stub_up",
    ]
    .map(|label| stub.copied(label));
    let (silence, leave, quiet, up) = (silence?, leave?, quiet?, up?);
    let text = enter..stub.loaded(&mut vm, "kjump_stub_resume_end")?;
    let copy = stub.copied("kjump_stub_start")?..stub.copied("kjump_stub_end")?;
    let handlers = [
        stub.loaded(&mut vm, "kjump_stub_nmi")?,
        stub.copied("kjump_stub_nmi")?,
    ];
    let mut gdb = vm.gdb()?;
    gdb.step_with_interrupts()?;
    gdb.break_at(enter)?;
    gdb.go()?;
    let jump = vm.start_command("kjump jump")?;
    let mut walk = Walk {
        vm: &mut vm,
        gdb,
        text: [text, copy],
        handlers,
        by_stub: 0,
        by_kernel: 0,
    };
    walk.arrive(enter)?;
    walk.walk().context("on the way down")?;
    for label in [silence, leave] {
        walk.run_to(label)?;
        walk.walk().context("on the way down")?;
    }
    let down = walk.by_stub;
    for label in [entry, silence, quiet] {
        walk.run_to(label)?;
        walk.walk().context("at the jump-back entry")?;
    }
    let back = walk.by_stub;
    walk.run_to(up)?;
    walk.walk().context("on the way up")?;
    let (by_stub, by_kernel) = (walk.by_stub, walk.by_kernel);
    walk.gdb.detach()?;
    vm.finish(jump, kjump::JUMP)?.ok()?;
    story.note(format!(
        "{down} down, {} at the entry, {} up, {by_kernel} of the kernel's",
        back - down,
        by_stub - back
    ));
    ensure!(
        down > 20 && back - down > 20 && by_stub - back > 20 && by_kernel > 20,
        "hardly any NMIs"
    );
    workload.healthy(&mut vm, before)?;
    vm.sh("kjump unload")?;
    workload.end(&mut vm)
}
