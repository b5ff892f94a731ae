// SPDX-License-Identifier: GPL-2.0

//! How much stack the module's functions take. A kernel of 32 bits gives a task 8 KiB; drivers' callbacks,
//! which a jump calls, want most of it. The kernel has its compiler warn of C that takes too much
//! (`CONFIG_FRAME_WARN`), and nobody warns of Rust.

use std::{fs, path::Path};

use anyhow::{bail, Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

/// Bytes that one function may have.
const MOST: u32 = 1280;

/// Bytes from a function's start in which it makes its room.
const PROLOGUE: usize = 64;

/// Refuses a module with a function that takes more.
pub fn check(module: &Path) -> Result<()> {
    let bytes = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    let too_large: Vec<_> = frames(&bytes)?
        .into_iter()
        .filter(|(_, size)| *size > MOST)
        .map(|(name, size)| format!("{name}: {size} bytes"))
        .collect();
    if !too_large.is_empty() {
        bail!(
            "{}: functions with more than {MOST} bytes of stack, of 8 KiB that there are: keep arrays on \
             the heap, or have what needs them not inlined:\n{}",
            module.display(),
            too_large.join("\n")
        );
    }
    Ok(())
}

/// Functions of an object, and the bytes that each takes of the stack at once.
fn frames(bytes: &[u8]) -> Result<Vec<(String, u32)>> {
    let object = object::File::parse(bytes).context("no object file")?;
    let mut frames = Vec::new();
    for symbol in object.symbols().filter(|s| s.kind() == SymbolKind::Text) {
        let Some(section) = symbol
            .section_index()
            .and_then(|index| object.section_by_index(index).ok())
        else {
            continue;
        };
        let start = symbol.address() - section.address();
        let code = section.data()?.get(start as usize..).unwrap_or_default();
        let length = (symbol.size() as usize).min(PROLOGUE).min(code.len());
        if let Some(size) = room(&code[..length]) {
            frames.push((symbol.name().unwrap_or_default().into(), size));
        }
    }
    Ok(frames)
}

/// What the first `sub $imm32, %esp` in a prologue takes. Less than 128 bytes are taken by another form.
fn room(prologue: &[u8]) -> Option<u32> {
    let at = prologue.windows(6).find(|w| w[..2] == [0x81, 0xec])?;
    Some(u32::from_le_bytes([at[2], at[3], at[4], at[5]]))
}

#[cfg(test)]
mod tests {
    use super::room;

    #[test]
    fn room_in_prologues() {
        // push %ebp; push %ebx; sub $0x9cc,%esp
        let large = [0x55, 0x53, 0x81, 0xec, 0xcc, 0x09, 0, 0, 0x8b, 0x45];
        assert_eq!(room(&large), Some(2508));
        // sub $0x7c,%esp
        assert_eq!(room(&[0x55, 0x83, 0xec, 0x7c, 0x90, 0x90, 0x90]), None);
        assert_eq!(room(&[]), None);
    }
}
