//! Calls: a program runs on this machine with paging off, in flat 32-bit mode or in real mode, and
//! comes back with its registers and what it wrote. This kernel steps aside for it as for a peer:
//! the memory that the program is given is exchanged, so what it does there is undone afterwards.

pub mod shim;

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use kjump_abi as abi;
use raw_cpuid::native_cpuid::cpuid_count;

use crate::cli::{Trust, Way};
use crate::cmd::jump;
use crate::cmd::load::{commit_error, prepare_error, send};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::loader::page_up;
use shim::{Outcome, Registers, Told};

/// Under this name a call is loaded, so that no peer is in its way.
const NAME: &str = "kjump.call";
/// Everything below this address can be had for a call, and above it as much as is asked for.
const LEAST: u64 = 1 << 20;
/// Where a program lies, is entered, and its stack ends, unless it is told otherwise: what a boot
/// sector finds.
pub const ADDRESS: u32 = 0x7c00;
/// Programs must not be given less than this: the shim and the stack are below.
pub const LOWEST: u64 = 0x4000;

/// What ends a program that does not return.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    /// Physical address of the HPET's registers.
    pub hpet: u32,
    /// Physical address of the first IO-APIC's registers.
    pub ioapic: u32,
    /// Of the CPU that runs the program: the first one.
    pub apic_id: u32,
    /// How long it is given.
    pub milliseconds: u64,
}

impl Timer {
    /// One for that many milliseconds; `None` if this machine has no HPET or no IO-APIC.
    pub fn new(milliseconds: u64) -> Option<Self> {
        let iomem = fs::read_to_string("/proc/iomem").ok()?;
        let (hpet, ioapic) = (resource(&iomem, "HPET 0")?, resource(&iomem, "IOAPIC 0")?);
        Some(Self {
            hpet,
            ioapic,
            apic_id: first_apic_id(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            milliseconds,
        })
    }
}

/// APIC id of the first CPU, which is the one that jumps. A kernel for one CPU does not say it.
fn first_apic_id(cpuinfo: &str) -> u32 {
    let said = cpuinfo.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "initial apicid").then(|| value.trim().parse().ok())?
    });
    said.unwrap_or_else(|| cpuid_count(1, 0).ebx >> 24)
}

/// Start of a resource of /proc/iomem, by name.
fn resource(iomem: &str, name: &str) -> Option<u32> {
    iomem.lines().find_map(|line| {
        let (range, what) = line.trim().split_once(" : ")?;
        let start = range.split('-').next()?;
        (what == name).then(|| u32::from_str_radix(start, 16).ok())?
    })
}

/// Memory that a call is given.
pub struct Piece {
    /// Physical address, bytes.
    pub at: u64,
    /// What is there; zeros behind it up to the page's end.
    pub bytes: Vec<u8>,
}

/// Where the window ends that has all of them.
pub fn window(pieces: &[Piece]) -> u64 {
    let end = pieces.iter().map(|p| p.at + p.bytes.len() as u64).max();
    page_up(end.unwrap_or(0).max(LEAST))
}

/// A call, ready to be made.
pub struct Call {
    device: Device,
}

impl Call {
    /// Loads shim, program and whatever else it is given. Pieces may share pages, but not bytes.
    pub fn load(told: &Told, pieces: &[Piece]) -> Result<Self> {
        let device = Device::open_load(NAME)?;
        let window = window(pieces);
        device
            .prepare(0, window)
            .map_err(|e| prepare_error(e, window))?;
        let base = shim::BASE.into();
        send(
            &device,
            &shim::pages(told),
            base,
            shim::SIZE.into(),
            Some(window),
        )?;
        for piece in merged(pieces) {
            let size = page_up(piece.bytes.len() as u64);
            send(&device, &piece.bytes, piece.at, size, Some(window))?;
        }
        device.commit(base, 0).map_err(|e| commit_error(e, base))?;
        Ok(Self { device })
    }

    /// Makes it. It can be made again: the program finds its memory as it left it, and the
    /// registers that it was given the first time.
    pub fn make(&self, way: &Way, trust: Trust) -> Result<Outcome> {
        let mut jump = abi::Jump {
            flags: way.flags() | trust.flags(),
            fail_at: way.fail_at.unwrap_or(0),
            ..Default::default()
        };
        // A program that wrecks the machine wrecks no files.
        rustix::fs::sync();
        self.device
            .jump(&mut jump)
            .map_err(|e| jump::error("call", way, e, jump.failed_rung))
            .and_then(|()| jump::untouched("call", &self.device, &jump))?;
        let mut frame = vec![0; abi::PAGE_SIZE as usize];
        self.read(shim::frame_address(), &mut frame)?;
        Ok(shim::outcome(&frame))
    }

    /// Makes it so many times, one after the other, as long as the program returns; gives the
    /// registers that the last one left, and how long they took.
    pub fn repeat(&self, (way, trust): (&Way, Trust), count: u32) -> Result<(Registers, Times)> {
        let mut times = Vec::new();
        let mut left = Registers::default();
        for _ in 0..count {
            let started = Instant::now();
            left = finished(self.make(way, trust)?)?;
            times.push(started.elapsed());
        }
        times.sort_unstable();
        Ok((left, Times(times)))
    }

    /// What the program left at a physical address.
    pub fn read(&self, at: u64, to: &mut [u8]) -> Result<()> {
        self.device
            .read_at(at, to)
            .map_err(|e| Error::io(format!("memory of the call at {at:#x}"), e))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Err(e) = self.device.unload() {
            log::warn!("the call's memory is not given back: {e}");
        }
    }
}

/// The registers that a call came back with.
fn finished(outcome: Outcome) -> Result<Registers> {
    match outcome {
        Outcome::Returned(registers, _) => Ok(registers),
        Outcome::TimedOut => Err(Error::CallTimedOut),
        Outcome::Faulted(vector, at) => Err(Error::CallFaulted { vector, at }),
        Outcome::TooLong(most) => Err(Error::Usage(format!(
            "--timeout: the timer of this machine counts {most} ms at most; give the program less"
        ))),
        Outcome::Lost => Err(Error::CallLost),
    }
}

/// How long calls took, ascending: all of it, with the machine's way down and back.
pub struct Times(Vec<Duration>);

impl Times {
    /// The one in the middle, milliseconds; the mean of the two where there are two.
    pub fn median(&self) -> f64 {
        let middle = |at: usize| self.0.get(at).map_or(0.0, |t| t.as_secs_f64() * 1000.0);
        let half = self.0.len() / 2;
        match self.0.len() % 2 {
            0 => (middle(half.saturating_sub(1)) + middle(half)) / 2.0,
            _ => middle(half),
        }
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |t: Option<&Duration>| t.map_or(0.0, |t| t.as_secs_f64() * 1000.0);
        write!(
            f,
            "{} calls: median {:.3} ms, from {:.3} to {:.3}",
            self.0.len(),
            self.median(),
            ms(self.0.first()),
            ms(self.0.last())
        )
    }
}

/// Whole pages with all pieces in them, ascending.
fn merged(pieces: &[Piece]) -> Vec<Piece> {
    let mut order: Vec<&Piece> = pieces.iter().collect();
    order.sort_by_key(|p| p.at);
    let mut out: Vec<Piece> = Vec::new();
    for piece in order {
        let start = crate::loader::page_down(piece.at);
        match out.last_mut() {
            Some(last) if start < page_up(last.at + last.bytes.len() as u64) => {
                last.bytes.resize((piece.at - last.at) as usize, 0);
                last.bytes.extend(&piece.bytes);
            }
            _ => {
                let mut bytes = vec![0; (piece.at - start) as usize];
                bytes.extend(&piece.bytes);
                out.push(Piece { at: start, bytes });
            }
        }
    }
    out
}

/// Real-mode services by interrupt: `int`, and back.
pub fn interrupt(vector: u8) -> Vec<u8> {
    vec![0xcd, vector, 0xcb]
}

/// What a program of either kind is entered with.
pub fn told(real: bool, address: u32, registers: Registers, timer: Option<Timer>) -> Told {
    Told {
        real,
        // Real mode reaches the first 64 KiB by offset alone; beyond, the segment takes it all.
        entry: match real {
            true if address > 0xffff => (address >> 4) << 16 | (address & 0xf),
            _ => address,
        },
        stack: ADDRESS,
        registers,
        timer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_share_pages() {
        let piece = |at, bytes: &[u8]| Piece {
            at,
            bytes: bytes.to_vec(),
        };
        let out = merged(&[
            piece(0x7c00, b"ab"),
            piece(0x5000, b"x"),
            piece(0x7e00, b"c"),
        ]);
        assert_eq!(out.len(), 2);
        assert_eq!((out[0].at, out[0].bytes.as_slice()), (0x5000, &b"x"[..]));
        assert_eq!((out[1].at, out[1].bytes.len()), (0x7000, 0xe01));
        assert_eq!(&out[1].bytes[0xc00..0xc02], b"ab");
        assert_eq!(out[1].bytes[0xe00], b'c');
    }

    #[test]
    fn how_a_call_ended() {
        let code = |outcome| finished(outcome).unwrap_err().exit_code();
        assert_eq!(code(Outcome::TimedOut), 43);
        assert_eq!(code(Outcome::Faulted(6, 1)), 44);
        let too_long = finished(Outcome::TooLong(21_474)).unwrap_err();
        assert!(too_long.exit_code() == 2 && too_long.to_string().contains("21474 ms"));
    }

    #[test]
    fn the_middle_of_times() {
        let times = |ms: &[u64]| Times(ms.iter().map(|&n| Duration::from_millis(n)).collect());
        assert_eq!(times(&[1, 2, 9]).median(), 2.0);
        assert_eq!(times(&[1, 2, 4, 9]).median(), 3.0);
        assert_eq!(
            times(&[1, 2, 9]).to_string(),
            "3 calls: median 2.000 ms, from 1.000 to 9.000"
        );
    }

    #[test]
    fn resources() {
        let text =
            "fec00000-fec003ff : IOAPIC 0\nfed00000-fed003ff : HPET 0\n  fee00000-fee00fff : x\n";
        assert_eq!(resource(text, "HPET 0"), Some(0xfed0_0000));
        assert_eq!(resource(text, "IOAPIC 0"), Some(0xfec0_0000));
        assert_eq!(resource(text, "HPET 1"), None);
        let cpus = "processor\t: 0\ninitial apicid\t: 4\n\nprocessor\t: 1\ninitial apicid\t: 5\n";
        assert_eq!(first_apic_id(cpus), 4);
    }

    #[test]
    fn entries() {
        let entry = |real, at| told(real, at, Registers::default(), None).entry;
        assert_eq!(entry(true, 0x7c00), 0x7c00);
        assert_eq!(entry(true, 0x2_0005), 0x2000_0005);
        assert_eq!(entry(false, 0x2_0005), 0x2_0005);
        assert_eq!(interrupt(0x15), [0xcd, 0x15, 0xcb]);
    }
}
