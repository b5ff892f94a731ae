// SPDX-License-Identifier: GPL-2.0

//! A's free memory full of seeded patterns, the window's own pages included; each byte is compared.

use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};

use crate::vm::Vm;

/// What was filled.
pub struct Filled {
    /// Pages with a pattern.
    pub pages: u64,
    /// Pages that were free before.
    pub free: u64,
    /// Pages with a pattern that lie in the window.
    pub inside: u64,
}

/// Fills so much of A's free memory, per cent.
pub fn fill(vm: &mut Vm, percent: u32) -> Result<Filled> {
    vm.sh("mkfifo /run/pattern.ask; rm -f /run/pattern.said")?;
    vm.sh(&format!(
        "guest pattern {percent} 20261121 /run/pattern.ask /run/pattern.said \
         >/run/pattern.err 2>&1 & echo $! >/run/pattern.pid"
    ))?;
    let said = answer(vm)?;
    let mut numbers = said
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok());
    let mut next = || numbers.next().with_context(|| said.clone());
    Ok(Filled {
        pages: next()?,
        free: next()?,
        inside: next()?,
    })
}

/// Has every page compared.
pub fn verify(vm: &mut Vm) -> Result<()> {
    vm.sh("rm /run/pattern.said; echo >/run/pattern.ask")?;
    let said = answer(vm)?;
    ensure!(said.starts_with("good "), "memory has changed: {said}");
    Ok(())
}

/// Gives the memory back.
pub fn stop(vm: &mut Vm) -> Result<()> {
    vm.sh("kill $(cat /run/pattern.pid)").map(drop)
}

/// Waits for the pattern program's report.
fn answer(vm: &mut Vm) -> Result<String> {
    let wait = "while ! test -s /run/pattern.said; do kill -0 $(cat /run/pattern.pid) || exit 1; \
                sleep 0.2; done; cat /run/pattern.said";
    let output = vm.run_for(wait, Duration::from_secs(180))?;
    if output.rc != 0 {
        let why = vm.sh("cat /run/pattern.err")?;
        bail!("the pattern program has died: {why}");
    }
    Ok(output.text)
}
