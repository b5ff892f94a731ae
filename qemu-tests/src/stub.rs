// SPDX-License-Identifier: GPL-2.0

//! Where the relocate stub's instructions are: in the module's text, and in the copy that a load makes
//! of it in its control page.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use object::{Object, ObjectSymbol};

use crate::vm::Vm;

/// The stub of one load.
pub struct Stub {
    symbols: HashMap<String, u64>,
    /// Jump-back entry, physical.
    entry: u64,
}

impl Stub {
    /// By the symbols of the module, and the load's jump-back entry.
    pub fn of(module: &Path, entry: u64) -> Result<Self> {
        let bytes = fs::read(module).with_context(|| module.display().to_string())?;
        let elf = object::File::parse(&*bytes)?;
        let mut symbols = HashMap::new();
        for symbol in elf.symbols() {
            if let Some(name) = symbol.name().ok().filter(|n| n.starts_with("kjump_stub_")) {
                symbols.insert(name.to_string(), symbol.address());
            }
        }
        Ok(Self { symbols, entry })
    }

    fn symbol(&self, name: &str) -> Result<u64> {
        let found = self.symbols.get(name).copied();
        found.with_context(|| format!("kjump.ko has no {name}"))
    }

    /// A label's physical address in the copy, which keeps distances.
    pub fn copied(&self, name: &str) -> Result<u64> {
        Ok(self.entry + self.symbol(name)? - self.symbol("kjump_stub_back")?)
    }

    /// A label's virtual address in the module's text, by where the running kernel has it.
    pub fn loaded(&self, vm: &mut Vm, name: &str) -> Result<u64> {
        let line = vm.sh("grep -w kjump_stub_enter /proc/kallsyms")?;
        let here = u64::from_str_radix(line.split(' ').next().unwrap_or_default(), 16)
            .with_context(|| format!("kallsyms: {line}"))?;
        Ok(here + self.symbol(name)? - self.symbol("kjump_stub_enter")?)
    }
}
