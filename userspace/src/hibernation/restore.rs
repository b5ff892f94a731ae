//! Bringing A back, in C: each page straight to its final place, then the mark, then A.

use std::io;
use std::time::Duration;

use kjump_abi as abi;
use kjump_abi::{ControlSlot, Handoff, Mailbox, PAGE_SIZE, REASON_SIZE};
use kjump_image::{
    layout::Seal, mark_resuming, refuse, withdraw, Chunk, Header, Image, Machine, Piece, Refusal,
    Source, Target, Verified,
};
use kjump_target::System;
use rustix::io::Errno;
use std::mem::offset_of;

use super::guards::{self, Watch};
use super::machine;
use crate::abort::hold_signals;
use crate::device::{Device, Memory};
use crate::error::{Error, Result};
use crate::parse;
use crate::progress::Reporter;

/// How often the way down is tried, and how long between: a device may refuse once.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes mapped at a time.
const REGION: u64 = 4 << 20;

/// How far a restore came before it failed.
#[derive(Debug)]
pub enum Failed {
    /// Nothing was written: whoever jumped here can be gone back to.
    Untouched(Error),
    /// RAM was written. The image has a mark that keeps it from being tried again by itself, or,
    /// if that is false, could not be given one.
    Begun(Error, bool),
}

/// What C knows of the machine, and what it is to do.
pub struct Restore<'a> {
    /// The module's device.
    pub device: &'a Device,
    /// The machine, RAM included.
    pub machine: Machine,
    /// For messages: the source as the user names it.
    pub name: &'a str,
    /// Compare filesystems with what the image says of them.
    pub guard: bool,
    /// Try an image that was refused in the middle before.
    pub retry: bool,
}

impl Restore<'_> {
    fn refused(&self, source: Refusal) -> Error {
        Error::Refused {
            target: self.name.into(),
            source,
        }
    }

    /// Opens an image and checks all that can be checked before a page is written.
    pub fn open<S: Source>(&self, source: S) -> Result<(Image<S>, Watch)> {
        let image =
            Image::open_again(source, &self.machine, self.retry).map_err(|e| self.refused(e))?;
        let header = image.header();
        let missing = machine::missing_features(&header.cpu_features, &machine::cpu_features());
        if missing > 0 {
            return Err(self.refused(Refusal::Foreign {
                what: "the CPU's features",
                image: format!("{missing} more"),
                here: "fewer".into(),
            }));
        }
        let guards = if self.guard { image.guards() } else { &[] };
        let swap = guards::check(&System::default(), guards, self.name)?;
        Ok((image, swap))
    }

    /// Restores and enters the saved kernel: does not return if that succeeds.
    pub fn run<S: Source + Target>(&self, source: S, reporter: &mut Reporter) -> Failed {
        hold_signals();
        let opened = self.open(source);
        let (mut image, swap) = match opened {
            Ok(opened) => opened,
            Err(e) => return Failed::Untouched(e),
        };
        let ram = machine_ram(&self.machine);
        if let Err(e) = self.device.claim(&ram) {
            return Failed::Untouched(Error::from_errno("restore", e));
        }
        let header = image.header().clone();
        let verified = match self.fill(&mut image, reporter) {
            Ok(verified) => verified,
            Err(e) => {
                let seal = *image.seal();
                let marked = self.give_up_trying(&mut image.into_source(), &seal);
                return Failed::Begun(e, marked);
            }
        };
        let mut target = image.into_source();
        let e = self.enter(&mut target, &header, &verified, &swap);
        let marked = self.give_up_trying(&mut target, &verified.seal);
        Failed::Begun(e, marked)
    }

    /// So that the next boot does not try the same and fail the same, for ever; says whether that
    /// is sure.
    fn give_up_trying(&self, target: &mut impl Target, seal: &Seal) -> bool {
        if target.size().is_none() {
            return true;
        }
        match refuse(target, seal) {
            Ok(()) => true,
            Err(e) => {
                log::warn!("{}: cannot be marked as refused: {e}", self.name);
                false
            }
        }
    }

    /// Writes every page to its place.
    fn fill<S: Source>(&self, image: &mut Image<S>, reporter: &mut Reporter) -> Result<Verified> {
        let mut places = Places {
            device: self.device,
            mapped: None,
        };
        let mut chunks = image.chunks().map_err(|e| self.refused(e))?;
        while let Some(chunk) = chunks.next_chunk().map_err(|e| self.refused(e))? {
            places
                .put(&chunk)
                .map_err(|e| Error::io("memory to be restored", e))?;
            reporter.update(&chunks.progress());
        }
        reporter.finish(&chunks.progress());
        chunks.finish().map_err(|e| self.refused(e))
    }

    /// All pages are in place and right: the mark, flushed, and in. Whatever fails from here on is
    /// taken back.
    fn enter<T: Target>(
        &self,
        target: &mut T,
        header: &Header,
        verified: &Verified,
        swap: &Watch,
    ) -> Error {
        let system = System::default();
        let failed = |source| Error::Save {
            target: self.name.into(),
            source,
        };
        if let Err(e) = self.leave_word(header) {
            return e;
        }
        if target.size().is_some() {
            if let Err(e) = mark_resuming(target, verified) {
                // It may be on the disk all the same.
                let _ = withdraw(target, verified);
                return failed(e);
            }
        }
        let error = match swap.show_swap(&system) {
            Ok(()) => {
                let mut enter = abi::Enter {
                    entry: header.jump_back_entry,
                    ..Default::default()
                };
                let mut errno = None;
                for _ in 0..TRIES {
                    errno = self.device.enter(&mut enter).err();
                    if enter.failed_rung == 0 {
                        break;
                    }
                    std::thread::sleep(PAUSE);
                }
                not_entered("restore", &enter, errno)
            }
            Err(e) => e,
        };
        if let Err(e) = swap.hide_swap(&system) {
            log::warn!("{e}");
        }
        if target.size().is_some() {
            if let Err(e) = withdraw(target, verified) {
                return failed(e);
            }
        }
        error
    }

    /// Tells A, in the mailbox of its own handoff block, that it was restored.
    fn leave_word(&self, header: &Header) -> Result<()> {
        let io = |e| Error::io("the saved kernel's handoff", e);
        let page = header.jump_back_entry & !(PAGE_SIZE - 1);
        let mut slot = [0; size_of::<ControlSlot>()];
        self.device.read_at(page, &mut slot).map_err(io)?;
        let mut address = [0; 8];
        address.copy_from_slice(&slot[offset_of!(ControlSlot, handoff)..][..8]);
        let handoff = u64::from_le_bytes(address);
        if slot[..8] != abi::CONTROL_MAGIC || handoff % PAGE_SIZE != 0 || handoff == 0 {
            return Err(self.refused(Refusal::BadHeader(
                "there is no control page at the jump-back entry",
            )));
        }
        let mailbox = handoff + offset_of!(Handoff, mailbox) as u64;
        let mut reason = [0; REASON_SIZE];
        let text = format!("restored from {}", self.name);
        let length = text.len().min(REASON_SIZE - 1);
        reason[..length].copy_from_slice(&text.as_bytes()[..length]);
        let put = |field: usize, bytes: &[u8]| self.device.write_at(mailbox + field as u64, bytes);
        put(offset_of!(Mailbox, reason), &reason).map_err(io)?;
        let status = abi::STATUS_RESUMED.to_le_bytes();
        put(offset_of!(Mailbox, status), &status).map_err(io)
    }
}

/// What an entry that returned means.
pub fn not_entered(verb: &'static str, enter: &abi::Enter, errno: Option<Errno>) -> Error {
    let source = io::Error::from(errno.unwrap_or(Errno::IO));
    match enter.failed_rung {
        0 => Error::Kernel { verb, source },
        rung => Error::Rung {
            verb,
            rung: parse::rung_name(rung),
            source,
        },
    }
}

/// RAM that is to be claimed.
fn machine_ram(machine: &Machine) -> Vec<abi::Range> {
    let above = |r: &abi::Range| abi::Range {
        start: r.start.max(machine.window_end),
        end: r.end,
    };
    let ranges = machine.ram.iter().map(above);
    ranges.filter(|r| r.start < r.end).collect()
}

/// Where pages go, a region mapped at a time.
struct Places<'a> {
    device: &'a Device,
    mapped: Option<(u64, Memory)>,
}

impl Places<'_> {
    fn put(&mut self, chunk: &Chunk) -> io::Result<()> {
        for piece in chunk.pieces() {
            match piece {
                Piece::Data { pfn, bytes } => {
                    let (mut at, mut rest) = (pfn * PAGE_SIZE, bytes);
                    while !rest.is_empty() {
                        let place = self.place(at, rest.len() as u64)?;
                        let (now, later) = rest.split_at(place.len());
                        place.copy_from_slice(now);
                        (at, rest) = (at + now.len() as u64, later);
                    }
                }
                Piece::Zero { pfn, count } => {
                    let (mut at, end) = (pfn * PAGE_SIZE, (pfn + count) * PAGE_SIZE);
                    while at < end {
                        let place = self.place(at, end - at)?;
                        place.fill(0);
                        at += place.len() as u64;
                    }
                }
            }
        }
        Ok(())
    }

    /// The memory at `at`, bytes; as much of `len` as lies in one region.
    fn place(&mut self, at: u64, len: u64) -> io::Result<&mut [u8]> {
        let region = at / REGION * REGION;
        if self.mapped.as_ref().is_none_or(|(r, _)| *r != region) {
            // The old one goes first: page tables are short.
            self.mapped = None;
            let memory = self.device.map(region, REGION as usize, true)?;
            self.mapped = Some((region, memory));
        }
        let len = len.min(region + REGION - at) as usize;
        match &mut self.mapped {
            Some((_, memory)) => Ok(memory.bytes_mut((at - region) as usize, len)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
