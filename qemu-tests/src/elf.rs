// SPDX-License-Identifier: GPL-2.0

//! ELF cores as the host reads them: with a parser that is not kjump's, and with binutils and gdb.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{ensure, Context, Result};
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader};
use object::Endianness;

const PAGE: usize = kjump_abi::PAGE_SIZE as usize;

/// A core.
pub struct ElfCore {
    bytes: Vec<u8>,
    /// Physical start, length in the file, offset there.
    segments: Vec<(u64, u64, u64)>,
}

impl ElfCore {
    /// Reads a file; it must be an ELF64 core of an i386.
    pub fn read(file: &Path) -> Result<Self> {
        let bytes = fs::read(file).with_context(|| file.display().to_string())?;
        let header = elf::FileHeader64::<Endianness>::parse(&*bytes)?;
        let endian = header.endian()?;
        ensure!(
            header.e_type(endian) == elf::ET_CORE && header.e_machine(endian) == elf::EM_386,
            "no core of an i386"
        );
        let mut segments = Vec::new();
        for segment in header.program_headers(endian, &*bytes)? {
            if segment.p_type(endian) == elf::PT_LOAD {
                let (offset, size) = segment.file_range(endian);
                ensure!(
                    offset + size <= bytes.len() as u64,
                    "the core is cut off: a segment ends at {}",
                    offset + size
                );
                segments.push((segment.p_paddr(endian), size, offset));
            }
        }
        Ok(Self { bytes, segments })
    }

    /// A page by its physical address, if the core has it.
    pub fn page(&self, address: u64) -> Option<&[u8]> {
        let segment = |(start, size, offset): &(u64, u64, u64)| {
            let at = address.checked_sub(*start)?;
            (at + PAGE as u64 <= *size).then(|| (offset + at) as usize)
        };
        let at = self.segments.iter().find_map(segment)?;
        Some(&self.bytes[at..at + PAGE])
    }

    /// Bytes of the file.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Loadable segments.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }
}

/// What a program of the host's says.
pub fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program}: run `cargo xtask setup`"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program}: {}\n{text}{errors}",
        output.status
    );
    Ok(text + &errors)
}
