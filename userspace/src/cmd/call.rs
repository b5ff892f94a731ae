//! `kjump call`: a program of one's own, with paging off.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use kjump_abi::PAGE_SIZE;

use super::say;
use crate::call::shim::Registers;
use crate::call::{self, Call, Piece, Timer, Times};
use crate::cli::{Trust, Way};
use crate::error::{Error, Result};
use crate::json::Json;
use crate::loader::memmap::{self, Entry};
use crate::loader::{page_down, page_up};
use crate::parse;

/// Arguments of `call`.
#[derive(Debug, clap::Args)]
pub struct CallArgs {
    /// The program: flat, without a header, ending with a `ret` (phys32) or `retf` (real16)
    pub program: PathBuf,
    /// phys32: flat 32-bit protected mode, paging and interrupts off; real16: real mode, interrupts on
    #[arg(long, value_name = "MODE", default_value = "phys32")]
    pub mode: Mode,
    /// Where it is loaded and entered; its stack ends at 0x7c00
    #[arg(long, value_name = "ADDR", value_parser = parse::number, default_value = "0x7c00")]
    pub at: u64,
    /// A register that it is given: eax to ebp, flags; in real mode also ds, es, fs, gs
    #[arg(long = "in", value_name = "REG=VALUE", value_parser = register)]
    pub registers: Vec<(String, u32)>,
    /// A file that it finds at an address
    #[arg(long = "mem", value_name = "ADDR=FILE", value_parser = memory)]
    pub memory: Vec<(u64, PathBuf)>,
    /// Memory to be written to a file when it has returned
    #[arg(long = "out", value_name = "ADDR+LEN=FILE", value_parser = output)]
    pub output: Vec<(u64, u64, PathBuf)>,
    /// Milliseconds after which it is given up
    #[arg(long, value_name = "MS", default_value_t = 5000)]
    pub timeout: u64,
    /// Make the call that many times, and tell what came of the last one
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub count: u32,
    /// How to go down.
    #[command(flatten)]
    pub way: Way,
    /// Whether the program is trusted.
    #[command(flatten)]
    pub trust: Trust,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What a program expects of the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Protected mode, flat, paging and interrupts off
    Phys32,
    /// Real mode, interrupts on
    Real16,
}

/// `REG=VALUE`, as it is given on the command line.
pub fn register(text: &str) -> std::result::Result<(String, u32), String> {
    let (name, value) = text.split_once('=').ok_or("write REG=VALUE")?;
    let value = u32::try_from(parse::number(value)?).map_err(|_| "a register has 32 bits")?;
    if Registers::default().by_name(name).is_none() {
        return Err(format!(
            "there is no register {name}; there are eax ebx ecx edx esi edi ebp flags ds es fs gs"
        ));
    }
    Ok((name.into(), value))
}

fn memory(text: &str) -> std::result::Result<(u64, PathBuf), String> {
    let (at, file) = text.split_once('=').ok_or("write ADDR=FILE")?;
    Ok((parse::number(at)?, file.into()))
}

fn output(text: &str) -> std::result::Result<(u64, u64, PathBuf), String> {
    let (place, file) = text.split_once('=').ok_or("write ADDR+LEN=FILE")?;
    let (at, length) = place.split_once('+').ok_or("write ADDR+LEN=FILE")?;
    Ok((parse::number(at)?, parse::number(length)?, file.into()))
}

/// Makes the call.
pub fn run(args: &CallArgs) -> Result<u8> {
    let read =
        |path: &PathBuf| fs::read(path).map_err(|e| Error::io(path.display().to_string(), e));
    let mut pieces = vec![Piece {
        at: args.at,
        bytes: read(&args.program)?,
    }];
    for (at, file) in &args.memory {
        pieces.push(Piece {
            at: *at,
            bytes: read(file)?,
        });
    }
    check(args, &pieces)?;
    let timer = Timer::new(args.timeout);
    if timer.is_none() {
        log::warn!("no HPET or no IO-APIC here: a program that does not return is not given up");
    }
    let mut registers = Registers {
        flags: if args.mode == Mode::Real16 { 0x202 } else { 2 },
        ..Registers::default()
    };
    registers.set(&args.registers);
    let told = call::told(args.mode == Mode::Real16, args.at as u32, registers, timer);
    // They are there before anything runs that cannot be run again.
    let mut files = Vec::new();
    for (at, length, file) in &args.output {
        let failed = |e| Error::io(file.display().to_string(), e);
        files.push((*at, *length, File::create(file).map_err(failed)?));
    }
    let call = Call::load(&told, &pieces)?;
    let (left, times) = call.repeat((&args.way, args.trust), args.count)?;
    for ((at, length, mut to), (_, _, file)) in files.into_iter().zip(&args.output) {
        let mut bytes = vec![0; length as usize];
        call.read(at, &mut bytes)?;
        to.write_all(&bytes)
            .map_err(|e| Error::io(file.display().to_string(), e))?;
    }
    say(show(&left, (args.count > 1).then_some(&times), args.json))?;
    Ok(0)
}

/// What does not need the module to be refused.
fn check(args: &CallArgs, pieces: &[Piece]) -> Result<()> {
    /// Windows are this large at most: what a program is given lies below.
    const HIGHEST: u64 = 512 << 20;
    let refused = |why: String| Err(Error::Usage(why));
    let map = memmap::read()?;
    let mut order: Vec<(u64, u64)> = Vec::new();
    for piece in pieces {
        let end = piece.at.saturating_add(piece.bytes.len() as u64);
        if piece.bytes.is_empty() {
            return refused(format!(
                "there is nothing to be put at {:#x}; the file is empty",
                piece.at
            ));
        }
        if piece.at < call::LOWEST || end > HIGHEST {
            return refused(format!(
                "{:#x}-{end:#x}: a call has memory from {:#x} to {HIGHEST:#x}; use other addresses",
                piece.at,
                call::LOWEST
            ));
        }
        if !has_ram(page_down(piece.at), page_up(end), &map) {
            return Err(Error::SegmentOutside {
                mem: piece.at,
                memsz: end - piece.at,
                hint: "there is no memory at that address; use another one".into(),
            });
        }
        order.push((piece.at, end));
    }
    order.sort_unstable();
    if let Some(two) = order.windows(2).find(|two| two[1].0 < two[0].1) {
        return refused(format!(
            "{:#x} is used twice; use other addresses",
            two[1].0
        ));
    }
    if args.mode == Mode::Real16 && pieces[0].at > 0xf_ffff {
        return refused(format!(
            "{:#x}: real mode reaches 1 MiB; use --at",
            pieces[0].at
        ));
    }
    if args.count == 0 {
        return refused("--count 0: make it at least once".into());
    }
    if args.timeout == 0 {
        return refused("--timeout 0: give it a millisecond at least".into());
    }
    let end = call::window(pieces);
    for (at, length, _) in &args.output {
        if !output_fits(*at, *length, end, &map) {
            return refused(format!(
                "--out {at:#x}+{length:#x}: the call has no such memory; it has RAM from {PAGE_SIZE:#x} \
                 to {end:#x}"
            ));
        }
    }
    Ok(())
}

/// Whether what a program leaves in `[at, at + length)` can be read: RAM of the window that ends at
/// `end`.
fn output_fits(at: u64, length: u64, end: u64, map: &[Entry]) -> bool {
    let to = at.checked_add(length).filter(|&to| to <= end);
    // Page 0 is firmware's.
    to.is_some_and(|to| at >= PAGE_SIZE && length > 0 && has_ram(at, to, map))
}

/// Whether all of it is in whole pages of RAM.
fn has_ram(mut from: u64, to: u64, map: &[Entry]) -> bool {
    while from < to {
        let next = memmap::ram(map)
            .map(|(start, end)| (page_up(start), page_down(end)))
            .find(|&(start, end)| start <= from && from < end);
        match next {
            Some((_, end)) => from = end,
            None => return false,
        }
    }
    true
}

fn show(registers: &Registers, times: Option<&Times>, json: bool) -> String {
    if json {
        let members = registers
            .named()
            .map(|(name, value)| (name.to_string(), Json::Int(value.into())))
            .chain(times.map(|t| ("median_ms".to_string(), Json::Float(t.median()))));
        return Json::Object(members.collect()).to_string();
    }
    match times {
        Some(times) => format!("{registers}\n{times}"),
        None => registers.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given() {
        assert_eq!(register("eax=0x10").unwrap(), ("eax".into(), 16));
        assert!(register("rax=1").unwrap_err().contains("rax"));
        assert!(register("eax=0x100000000").is_err() && register("eax").is_err());
        assert_eq!(output("0x5000+16=f").unwrap(), (0x5000, 16, "f".into()));
        assert!(memory("0x5000").is_err() && output("0x5000=f").is_err());
    }

    #[test]
    fn what_is_left() {
        let registers = Registers {
            eax: 0x2a,
            ..Registers::default()
        };
        let text = show(&registers, None, false);
        assert!(text.starts_with("eax=0x2a ebx=0x0 ") && text.ends_with("gs=0x0"));
    }

    #[test]
    fn memory_that_can_be_had_back() {
        let ram = |start, end| Entry {
            start,
            end,
            kind: memmap::RAM,
        };
        let map = [ram(0, 0x9_fc00), ram(0x10_0000, 0x1000_0000)];
        let fits = |at, length| output_fits(at, length, 0x20_0000, &map);
        assert!(fits(0x1000, 1) && fits(0x9_e000, 0x1000) && fits(0x10_0000, 0x10_0000));
        assert!(!fits(0x1000, 0) && !fits(0xfff, 2) && !fits(0x9_e000, 0x1001));
        assert!(!fits(0xa_0000, 16) && !fits(0x10_0000, 0x10_0001));
        assert!(!fits(0x5000, u64::MAX) && !fits(0x5000, 1 << 32));
    }
}
