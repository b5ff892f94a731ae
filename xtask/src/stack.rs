// SPDX-License-Identifier: GPL-2.0

//! How much stack the module's functions take. A kernel of 32 bits gives a task 8 KiB; drivers' callbacks,
//! which a jump calls, want most of it. The kernel has its compiler warn of C that takes too much
//! (`CONFIG_FRAME_WARN`), and nobody warns of Rust.

use std::{fs, path::Path};

use anyhow::{bail, Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

/// Bytes that one function may have.
const MOST: u32 = 1280;

/// Bytes that a task has.
const STACK: i32 = 8192;

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
        let code = &code[..(symbol.size() as usize).min(code.len())];
        if let Some(size) = room(code) {
            frames.push((symbol.name().unwrap_or_default().into(), size));
        }
    }
    Ok(frames)
}

/// The most that an instruction of a function takes: `sub $imm32, %esp`, or `add` or `lea` with a negative
/// number. Less than 128 bytes are taken by other forms. What only looks like one is taken for one up
/// to a size that no stack has.
fn room(code: &[u8]) -> Option<u32> {
    let word = |at: &[u8]| i32::from_le_bytes([at[0], at[1], at[2], at[3]]);
    let sizes = code.windows(7).filter_map(|w| match w {
        [0x81, 0xec, size @ ..] => Some(word(size)),
        [0x81, 0xc4, size @ ..] => word(size).checked_neg(),
        [0x8d, 0xa4, 0x24, size @ ..] => word(size).checked_neg(),
        _ => None,
    });
    let sizes = sizes.filter(|size| (128..STACK).contains(size));
    sizes.max().map(|size| size as u32)
}

#[cfg(test)]
mod tests {
    use super::room;

    #[test]
    fn room_in_prologues() {
        // push %ebp; push %ebx; sub $0x9cc,%esp
        let large = [0x55, 0x53, 0x81, 0xec, 0xcc, 0x09, 0, 0, 0x8b, 0x45];
        assert_eq!(room(&large), Some(2508));
        // lea -0x5dc(%esp),%esp; add $-0x600,%esp
        assert_eq!(
            room(&[0x8d, 0xa4, 0x24, 0x24, 0xfa, 0xff, 0xff, 0x90]),
            Some(1500)
        );
        assert_eq!(
            room(&[0x90, 0x81, 0xc4, 0, 0xfa, 0xff, 0xff, 0x90]),
            Some(1536)
        );
        // Amid another instruction.
        assert_eq!(
            room(&[0xb8, 0x81, 0xec, 0xff, 0xff, 0xff, 0x7f, 0x90]),
            None
        );
        // sub $0x7c,%esp
        assert_eq!(room(&[0x55, 0x83, 0xec, 0x7c, 0x90, 0x90, 0x90]), None);
        assert_eq!(room(&[]), None);
    }
}
