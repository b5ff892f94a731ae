//! Where everything goes: kernel, initrd, command line, boot_params.

use super::alloc::Free;
use super::boot_params::{self, BootParams};
use super::bzimage::BzImage;
use super::elf::{Elf, Piece};
use super::memmap::{self, Entry};
use super::{page_up, PAGE};
use crate::error::{Error, Result};

/// Low memory for boot_params and the command line: above what a BIOS keeps there.
const LOW: (u64, u64) = (0x1_0000, 0xa_0000);
/// Nothing but the low pages above goes below this.
const HIGH: u64 = 1 << 20;
const FOUR_GIB: u64 = 1 << 32;

/// A kernel, as the loader sees it.
pub enum Kernel<'a> {
    /// A bzImage.
    BzImage(BzImage<'a>),
    /// An ELF.
    Elf(Elf),
}

/// What is to be loaded, and where it may go.
pub struct Request<'a> {
    /// The kernel.
    pub kernel: Kernel<'a>,
    /// Bytes of the initrd, 0 for none. Its contents are not needed to place it.
    pub initrd_size: u64,
    /// The whole command line.
    pub command_line: String,
    /// This machine's memory map.
    pub map: &'a [Entry],
    /// The window's end; `None` goes one way and takes any RAM.
    pub window_end: Option<u64>,
    /// RAM that is the peer's own beside the window: start and end.
    pub own: Option<(u64, u64)>,
    /// Nothing goes below this address, bytes: another kernel runs there.
    pub floor: u64,
    /// Nothing goes at this address or above, bytes: a kernel that is told to use less memory than
    /// there is must find its initrd in it.
    pub below: Option<u64>,
    /// This kernel's own boot_params.
    pub own_boot_params: Option<Vec<u8>>,
}

/// What to tell the module.
#[derive(Debug)]
pub struct Plan {
    /// The segments; those that this file placed lie in RAM of the window and overlap nothing.
    pub segments: Vec<Piece>,
    /// Physical address of the first instruction.
    pub entry: u64,
    /// Physical address of boot_params.
    pub boot_params: u64,
    /// Where a bzImage's code goes, and where in its file it is; it is not among the segments.
    pub code: Option<(Place, u64)>,
    /// Where the initrd goes; it is not among the segments either.
    pub initrd: Option<Place>,
}

/// A place for contents that are somewhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Physical address.
    pub mem: u64,
    /// Bytes there.
    pub size: u64,
}

/// Places everything.
pub fn plan(request: Request) -> Result<Plan> {
    let map = match request.window_end {
        Some(end) => memmap::for_window(request.map, end, request.own),
        None => request.map.to_vec(),
    };
    let own_end = request.own.map(|(_, end)| end);
    let limits = [own_end.or(request.window_end), request.below];
    let limits = limits.into_iter().flatten();
    let limit = limits.fold(FOUR_GIB, u64::min);
    let mut free = Free::new(memmap::ram(&map), limit);
    free.take(0, request.floor);
    let mut segments = Vec::new();
    let mut code = None;

    let (entry, header, initrd_addr_max, cmdline_size) = match request.kernel {
        Kernel::BzImage(k) => {
            let at = place_bzimage(&k, &free, request.own.is_some())?;
            free.take(at, at + k.init_size);
            let place = Place {
                mem: at,
                size: k.code_size,
            };
            code = Some((place, k.code_start));
            (at, Some(k.setup_header), k.initrd_addr_max, k.cmdline_size)
        }
        Kernel::Elf(k) => {
            let outside = |p: &&Piece| !free.has(p.mem, p.mem + p.memsz);
            if let (Some(_), Some(p)) = (request.own, k.pieces.iter().find(outside)) {
                return Err(Error::NotRelocatable { at: p.mem });
            }
            k.pieces
                .iter()
                .for_each(|p| free.take(p.mem, p.mem + p.memsz));
            segments.extend(k.pieces);
            (k.entry, None, 0x7fff_ffff, 2047)
        }
    };

    let mut params = BootParams::new(request.own_boot_params.as_deref(), header);
    params.e820(&map)?;
    params.code(address(entry));

    let mut initrd = None;
    if request.initrd_size > 0 {
        let max = initrd_addr_max.saturating_add(1).min(limit);
        let place = place_initrd(request.initrd_size, &mut free, max)?;
        params.initrd(address(place.mem), address(place.size));
        initrd = Some(place);
    }

    if request.command_line.len() > cmdline_size {
        let len = request.command_line.len();
        return Err(Error::CommandLineTooLong {
            len,
            max: cmdline_size,
        });
    }
    let mut line = request.command_line.into_bytes();
    line.push(0);
    let line = place_low(line, &mut free)?;
    params.command_line(address(line.mem));
    segments.push(line);

    // Placed first, so that its address does not depend on what it holds.
    let at = place_low(vec![0; boot_params::SIZE], &mut free)?;
    let boot_params = at.mem;
    segments.push(Piece {
        data: params.into_bytes(),
        ..at
    });
    Ok(Plan {
        segments,
        entry,
        boot_params,
        code,
        initrd,
    })
}

/// An address or a size below 4 GiB; everything that [`plan`] places is.
fn address(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The preferred address, or else the lowest one above it. Below it even a relocatable kernel
/// does not run: it would move itself up, out of what is reserved for it here.
fn place_bzimage(k: &BzImage, free: &Free, own: bool) -> Result<u64> {
    let at = k.pref_address;
    if at >= HIGH && free.has(at, at + k.init_size) {
        return Ok(at);
    }
    let other = k
        .relocatable
        .then(|| free.lowest(k.init_size, k.alignment, at.max(HIGH), FOUR_GIB));
    other.flatten().ok_or_else(|| {
        if own && !k.relocatable {
            return Error::NotRelocatable { at };
        }
        let end = at.max(HIGH).saturating_add(k.init_size);
        let window = match own {
            true => format!("--own-window={}M", k.init_size.div_ceil(1 << 20)),
            false => format!("--window {}M", end.div_ceil(1 << 20)),
        };
        Error::KernelDoesNotFit {
            need: k.init_size,
            at: at.max(HIGH),
            window: window + " or larger",
        }
    })
}

/// As high as it may be: what is above the kernel is then in one piece.
fn place_initrd(size: u64, free: &mut Free, max: u64) -> Result<Place> {
    let pages = page_up(size);
    let Some(mem) = free.highest(pages, HIGH, max) else {
        let missing = pages.saturating_sub(free.largest(HIGH, max));
        return Err(Error::InitrdDoesNotFit { size, missing });
    };
    free.take(mem, mem + pages);
    Ok(Place { mem, size })
}

/// In low memory, else (a test program may have taken it) anywhere.
fn place_low(data: Vec<u8>, free: &mut Free) -> Result<Piece> {
    let size = page_up(data.len() as u64);
    let at = free
        .lowest(size, PAGE, LOW.0, LOW.1)
        .or_else(|| free.lowest(size, PAGE, 0, FOUR_GIB))
        .ok_or_else(|| {
            let why = "no free page for boot_params or the command line";
            Error::MemoryMap(format!("{why}; use a larger --window"))
        })?;
    free.take(at, at + size);
    Ok(Piece {
        mem: at,
        memsz: data.len() as u64,
        data,
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
