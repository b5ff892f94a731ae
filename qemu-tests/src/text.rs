// SPDX-License-Identifier: GPL-2.0

//! A kernel's text: where it lies in memory, which of its bytes the kernel itself may change
//! while it runs, and whether the rest has stayed the same.

use std::fs;
use std::path::Path;

use anyhow::{bail, ensure, Context, Result};
use object::{Object, ObjectSection, ObjectSymbol};

use crate::vm::Vm;

/// Where i386 kernels of these configurations (3G/1G split) see physical address 0.
const PAGE_OFFSET: u64 = 0xc000_0000;

/// What is known of a kernel's text from its vmlinux.
pub struct Text {
    /// Physical address of the first byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Bytes that the kernel rewrites as it likes: offset and length.
    mask: Vec<(usize, usize)>,
    /// The bytes as linked, to see that this is the kernel that runs.
    linked: Vec<u8>,
}

impl Text {
    /// Reads a vmlinux.
    pub fn of(vmlinux: &Path) -> Result<Self> {
        let bytes = fs::read(vmlinux).with_context(|| vmlinux.display().to_string())?;
        let elf = object::File::parse(&*bytes)?;
        let symbol = |name: &str| {
            let found = elf.symbols().find(|symbol| symbol.name() == Ok(name));
            found
                .map(|symbol| symbol.address())
                .with_context(|| format!("vmlinux has no {name}"))
        };
        let (start, end) = (symbol("_stext")?, symbol("_etext")?);
        let contents = |from: u64, to: u64| -> Result<Vec<u8>> {
            let mut out = vec![0; (to - from) as usize];
            for section in elf.sections() {
                let (first, last) = (section.address(), section.address() + section.size());
                let (low, high) = (from.max(first), to.min(last));
                if low < high {
                    let data = section.data()?;
                    if !data.is_empty() {
                        out[(low - from) as usize..(high - from) as usize].copy_from_slice(
                            &data[(low - first) as usize..(high - first) as usize],
                        );
                    }
                }
            }
            Ok(out)
        };
        let table = symbol("__start___jump_table")?;
        let jumps = contents(table, symbol("__stop___jump_table")?)?;
        // Trampolines of static calls are jumps that the kernel redirects.
        let calls = [("__static_call_text_start", "__static_call_text_end")];
        let mut mask = jump_sites(table, &jumps)
            .into_iter()
            .filter(|site| (start..end).contains(site))
            .map(|site| ((site - start) as usize, JUMP_SIZE))
            .collect::<Vec<_>>();
        for (from, to) in calls {
            if let (Ok(from), Ok(to)) = (symbol(from), symbol(to)) {
                if from >= start && to <= end {
                    mask.push(((from - start) as usize, (to - from) as usize));
                }
            }
        }
        let size = end - start;
        Ok(Self {
            start: start - PAGE_OFFSET,
            size,
            mask,
            linked: contents(start, end)?,
        })
    }

    /// The text as it is in a machine's memory now, with what may change blanked.
    pub fn read(&self, vm: &mut Vm) -> Result<Vec<u8>> {
        let mut bytes = vm.memory(self.start, self.size)?;
        let same = bytes
            .iter()
            .zip(&self.linked)
            .filter(|(a, b)| a == b)
            .count();
        // Alternatives and paravirt patching change some bytes at boot, not most of them.
        ensure!(
            same * 10 > bytes.len() * 9,
            "only {same} of {} bytes at {:#x} are the kernel's text",
            bytes.len(),
            self.start
        );
        self.blank(&mut bytes);
        Ok(bytes)
    }

    fn blank(&self, bytes: &mut [u8]) {
        for &(at, length) in &self.mask {
            let end = (at + length).min(bytes.len());
            bytes[at..end].fill(0);
        }
    }

    /// Two readings must be the same.
    pub fn same(&self, before: &[u8], after: &[u8]) -> Result<()> {
        let differs: Vec<usize> = (0..before.len().max(after.len()))
            .filter(|&i| before.get(i) != after.get(i))
            .collect();
        match differs.first() {
            None => Ok(()),
            Some(first) => bail!(
                "{} bytes of kernel text have changed, the first at {:#x}",
                differs.len(),
                self.start + PAGE_OFFSET + *first as u64
            ),
        }
    }
}

/// Longest instruction that a jump label is patched to: `jmp rel32`.
const JUMP_SIZE: usize = 5;

/// Virtual addresses of the patched instructions in a `__jump_table` at `address`: entries of
/// three 32-bit words, the first of which is the site relative to itself.
fn jump_sites(address: u64, table: &[u8]) -> Vec<u64> {
    const ENTRY: usize = 12;
    table
        .chunks_exact(ENTRY)
        .enumerate()
        .map(|(i, entry)| {
            let relative = i32::from_le_bytes(entry[..4].try_into().expect("4 bytes"));
            let here = address as u32 + (i * ENTRY) as u32;
            u64::from(here.wrapping_add_signed(relative))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jump_table_entries_are_relative_to_themselves() {
        let mut table = Vec::new();
        for relative in [-0x1000i32, 0x20] {
            table.extend(relative.to_le_bytes());
            table.extend([0; 8]);
        }
        assert_eq!(jump_sites(0xc100_0000, &table), [0xc0ff_f000, 0xc100_002c]);
        assert!(jump_sites(0xc100_0000, &table[..11]).is_empty());
    }

    #[test]
    fn only_what_is_masked_may_change() {
        let text = Text {
            start: 0x20_0000,
            size: 16,
            mask: vec![(4, 5), (14, 5)],
            linked: vec![],
        };
        let (mut before, mut after) = ([1; 16], [1; 16]);
        (after[4], after[8], after[15]) = (9, 9, 9);
        text.blank(&mut before);
        text.blank(&mut after);
        assert!(text.same(&before, &after).is_ok());
        after[3] = 9;
        assert!(text
            .same(&before, &after)
            .unwrap_err()
            .to_string()
            .contains("0xc0200003"));
    }
}
