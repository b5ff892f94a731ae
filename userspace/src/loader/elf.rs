//! 32-bit x86 ELF files: a `vmlinux`, or a flat test program. Only the headers and the PT_LOADs
//! are read, so a `vmlinux` with debug information costs no more than one without.

use std::path::Path;

use object::elf::{FileHeader32, ProgramHeader32, EM_386, ET_DYN, ET_EXEC, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::read::ReadRef;
use object::LittleEndian;

use super::bzimage::MAX_SIZE;
use super::{page_down, page_up};
use crate::error::{Error, Result};

/// A piece of memory to fill: `data`, then zeros up to `memsz`, at `mem`. Starts on a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Physical address.
    pub mem: u64,
    /// Bytes there.
    pub memsz: u64,
    /// Contents.
    pub data: Vec<u8>,
}

/// What an ELF file says about itself.
#[derive(Clone, Debug)]
pub struct Elf {
    /// Its PT_LOADs, ascending, those that share a page in one piece. Whether they overlap or lie
    /// in the window's RAM is the module's to judge.
    pub pieces: Vec<Piece>,
    /// Physical address of the first instruction.
    pub entry: u64,
}

/// Does the file look like an ELF at all?
pub fn is_elf(file: &[u8]) -> bool {
    file.starts_with(b"\x7fELF")
}

/// Reads the headers and the PT_LOADs; `path` is for the messages.
pub fn parse<'a, R: ReadRef<'a>>(file: R, path: &Path) -> Result<Elf> {
    let not_kernel = |why: &str| Error::NotKernel {
        path: path.into(),
        why: why.into(),
    };
    let have = file.len().unwrap_or(0);
    let truncated = |what, need| Error::TruncatedKernel {
        path: path.into(),
        what,
        need,
        have,
    };
    // The class decides how long the header is, so look at it before the file's length.
    if file
        .read_bytes_at(0, 5)
        .is_ok_and(|ident| ident.get(4) != Some(&1))
    {
        return Err(not_kernel("it is an ELF, but not a 32-bit one"));
    }
    let header_size = size_of::<FileHeader32<LittleEndian>>() as u64;
    if have < header_size {
        return Err(truncated("its ELF header", header_size));
    }
    let header = FileHeader32::<LittleEndian>::parse(file)
        .map_err(|_| not_kernel("its ELF header makes no sense"))?;
    let endian = header
        .endian()
        .map_err(|_| not_kernel("it is not little-endian"))?;
    if header.e_machine(endian) != EM_386 || ![ET_EXEC, ET_DYN].contains(&header.e_type(endian)) {
        return Err(not_kernel("it is an ELF, but no executable for 32-bit x86"));
    }
    let headers = program_headers(file, header, endian)
        .map_err(|need| truncated("its program headers", need))?;
    let mut loads: Vec<&ProgramHeader32<LittleEndian>> = headers
        .iter()
        .filter(|p| p.p_type(endian) == PT_LOAD && p.p_memsz(endian) != 0)
        .collect();
    if loads.is_empty() {
        return Err(not_kernel("it is an ELF with nothing to load"));
    }
    loads.sort_by_key(|p| p.p_paddr(endian));

    let total: u64 = loads.iter().map(|p| u64::from(p.p_filesz(endian))).sum();
    if total > MAX_SIZE {
        let why = "it is larger than 256 MiB; the file is broken".into();
        return Err(Error::UnsupportedKernel {
            path: path.into(),
            why,
        });
    }
    let mut pieces: Vec<Piece> = Vec::with_capacity(loads.len());
    for load in &loads {
        let mem = u64::from(load.p_paddr(endian));
        let memsz = u64::from(load.p_memsz(endian));
        let filesz = u64::from(load.p_filesz(endian));
        if filesz > memsz {
            return Err(not_kernel(
                "a segment has more bytes in the file than in memory",
            ));
        }
        let offset = u64::from(load.p_offset(endian));
        let need = offset + filesz;
        if need > have {
            return Err(truncated("a PT_LOAD segment", need));
        }
        let data = file
            .read_bytes_at(offset, filesz)
            .map_err(|()| truncated("a PT_LOAD segment", need))?;
        add(&mut pieces, mem, memsz, data);
    }
    Ok(Elf {
        pieces,
        entry: entry(header.e_entry(endian).into(), &loads, endian),
    })
}

/// The program header table, or how long the file would have to be.
fn program_headers<'a, R: ReadRef<'a>>(
    file: R,
    header: &FileHeader32<LittleEndian>,
    endian: LittleEndian,
) -> std::result::Result<&'a [ProgramHeader32<LittleEndian>], u64> {
    let one = size_of::<ProgramHeader32<LittleEndian>>() as u64;
    let need = u64::from(header.e_phoff(endian)) + one * u64::from(header.e_phnum(endian));
    header.program_headers(endian, file).map_err(|_| need)
}

/// Adds a PT_LOAD. If it shares a page, but no byte, with the last piece, then they become one
/// piece; or, where the last one has only zeros there, that one ends a page earlier.
fn add(pieces: &mut Vec<Piece>, mem: u64, memsz: u64, data: &[u8]) {
    let page = page_down(mem);
    if let Some(last) = pieces.last_mut() {
        let end = last.mem + last.memsz;
        if end <= mem && page < page_up(end) {
            if page == last.mem || last.data.len() as u64 > page - last.mem {
                fill(last, mem, data);
                last.memsz = mem - last.mem + memsz;
                return;
            }
            last.memsz = page - last.mem;
        }
    }
    let mut piece = Piece {
        mem: page,
        memsz: mem - page + memsz,
        data: vec![],
    };
    fill(&mut piece, mem, data);
    pieces.push(piece);
}

/// Appends `data` at `mem`, which lies less than a page beyond the piece's data.
fn fill(piece: &mut Piece, mem: u64, data: &[u8]) {
    if !data.is_empty() {
        // CAST: data lies in memory, and the gap after it is less than a page.
        piece.data.resize((mem - piece.mem) as usize, 0);
        piece.data.extend_from_slice(data);
    }
}

/// The entry's physical address: as it is if some segment has it there, else through the segment
/// whose virtual addresses have it.
fn entry(e_entry: u64, loads: &[&ProgramHeader32<LittleEndian>], endian: LittleEndian) -> u64 {
    let offset_in = |start: u32, p: &ProgramHeader32<LittleEndian>| {
        e_entry
            .checked_sub(start.into())
            .filter(|n| *n < p.p_memsz(endian).into())
    };
    if loads
        .iter()
        .any(|p| offset_in(p.p_paddr(endian), p).is_some())
    {
        return e_entry;
    }
    let translate = |p: &&ProgramHeader32<LittleEndian>| {
        Some(offset_in(p.p_vaddr(endian), p)? + u64::from(p.p_paddr(endian)))
    };
    loads.iter().find_map(translate).unwrap_or(e_entry)
}

#[cfg(test)]
#[path = "elf_tests.rs"]
pub mod tests;
