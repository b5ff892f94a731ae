//! Bringing A back, in C: each page straight to its final place, then the mark, then A.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use kjump_abi as abi;
use kjump_abi::{ControlSlot, Handoff, PAGE_SIZE};
use kjump_image::{
    layout::Seal, mark_resuming, refuse, withdraw, Header, Image, Link, Machine, MasterKey,
    Refusal, Source, Target, Verified,
};
use kjump_target::System;
use rustix::io::Errno;
use std::mem::offset_of;

use super::guards::{self, Watch};
use super::places::Places;
use super::word::{self, Word};
use super::{chain, machine};
use crate::abort::hold_signals;
use crate::cmd::jump::rung_error;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::progress::Reporter;
use crate::secret::Opener;

/// How often the way down is tried, and how long between: a device may refuse once.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// What is wrong with an image that cannot be entered.
pub const NO_CONTROL_PAGE: &str = "there is no control page at the jump-back entry";

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
    /// What opens an encrypted one.
    pub opener: Opener<'a>,
    /// Whether RAM is claimed.
    pub claimed: &'a Cell<bool>,
    /// Read and check all of it before a page is written: the kernel that jumped here is alive, and
    /// goes on if something is wrong.
    pub spare: bool,
}

/// An image that was checked as far as that goes before a page is written.
pub struct Checked<S: Source> {
    /// The image.
    pub image: Image<S>,
    /// Those that it builds on.
    pub links: Vec<Link>,
    /// Its swap areas, which are hidden.
    pub swap: Watch,
    /// Its key, if it is encrypted.
    pub key: Option<MasterKey>,
}

/// Opens an image and checks all that can be checked before a page is written; the arguments are
/// those of [`Restore`].
pub fn open_checked<S: Source>(
    source: S,
    machine: &Machine,
    name: &str,
    guard: bool,
    retry: bool,
    opener: &Opener,
) -> Result<Checked<S>> {
    let refused = |source| Error::Refused {
        target: name.into(),
        source,
    };
    let mut image = Image::open_again(source, machine, retry).map_err(refused)?;
    let header = image.header();
    let missing = machine::missing_features(&header.cpu_features, &machine::cpu_features());
    if missing > 0 {
        return Err(refused(Refusal::Foreign {
            what: "the CPU's features",
            image: format!("{missing} more"),
            here: "fewer".into(),
        }));
    }
    // Only then is it known that nobody has changed header and guards.
    let key = opener.unlock(&mut image, name)?;
    let guards = if guard { image.guards() } else { &[] };
    let swap = guards::check(&System::default(), guards, name)?;
    let links = chain::links(&image).map_err(refused)?;
    Ok(Checked {
        image,
        links,
        swap,
        key,
    })
}

impl Restore<'_> {
    fn refused(&self, source: Refusal) -> Error {
        Error::Refused {
            target: self.name.into(),
            source,
        }
    }

    /// Opens an image and checks all that can be checked before a page is written.
    pub fn open<S: Source>(&self, source: S) -> Result<Checked<S>> {
        let (machine, opener) = (&self.machine, &self.opener);
        open_checked(source, machine, self.name, self.guard, self.retry, opener)
    }

    /// Restores and enters the saved kernel: does not return if that succeeds.
    pub fn run<S: Source + Target>(&self, source: S, reporter: &mut Reporter) -> Failed {
        hold_signals();
        let opened = self.open(source);
        let opened = opened.and_then(|mut checked| {
            if self.spare {
                self.check_all(&mut checked)?;
            }
            Ok(checked)
        });
        let (mut image, mut links, swap) = match opened {
            Ok(checked) => (checked.image, checked.links, checked.swap),
            Err(e) => return Failed::Untouched(e),
        };
        let left = self.device.status().map_or(0, |s| s.handoff);
        if !self.claimed.get() {
            let ram = machine_ram(&self.machine);
            if let Err(e) = self.device.claim(&ram, false) {
                return Failed::Untouched(Error::from_errno("restore", e));
            }
            self.claimed.set(true);
        }
        if let Err(e) = self.wipe_request(left) {
            log::warn!("what the kernel that jumped here asked stays in memory: {e}");
        }
        let header = image.header().clone();
        let verified = match self.fill(&mut image, &mut links, reporter) {
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

    /// The block of the kernel that jumped here may be in a page that is free in the saved one, and has
    /// the key in it.
    fn wipe_request(&self, left: u64) -> io::Result<()> {
        match left {
            0 => Ok(()),
            at => {
                let request = at + offset_of!(Handoff, request) as u64;
                self.device.write_at(request, &[0; abi::REQUEST_SIZE])
            }
        }
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

    /// Reads and checks every chunk, of those below too, as [`fill`](Self::fill) will.
    fn check_all<S: Source>(&self, checked: &mut Checked<S>) -> Result<()> {
        let mut reporter = Reporter::new("checking", false, false);
        let chunks = checked.image.chunks_over(&mut checked.links);
        let mut chunks = chunks.map_err(|e| self.refused(e))?;
        while chunks.next_chunk().map_err(|e| self.refused(e))?.is_some() {
            reporter.update(&chunks.progress());
        }
        reporter.finish(&chunks.progress());
        chunks.finish().map_err(|e| self.refused(e)).map(drop)
    }

    /// Writes every page to its place.
    fn fill<S: Source>(
        &self,
        image: &mut Image<S>,
        links: &mut [Link],
        reporter: &mut Reporter,
    ) -> Result<Verified> {
        let mut places = Places::new(self.device);
        let mut chunks = image.chunks_over(links).map_err(|e| self.refused(e))?;
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
        if let Err(e) = self.leave_word(header) {
            return e;
        }
        marked(target, verified, swap, self.name, || {
            enter(self.device, "restore", header.jump_back_entry)
        })
    }

    /// Tells A, in the mailbox of its own handoff block, that it was restored.
    fn leave_word(&self, header: &Header) -> Result<()> {
        let io = |e| Error::io("the saved kernel's handoff", e);
        let page = header.jump_back_entry & !(PAGE_SIZE - 1);
        let mut slot = [0; size_of::<ControlSlot>()];
        self.device.read_at(page, &mut slot).map_err(io)?;
        let handoff = word::handoff(&slot)
            .ok_or_else(|| self.refused(Refusal::BadHeader(NO_CONTROL_PAGE)))?;
        leave_word(self.device, handoff, self.name).map_err(io)
    }
}

/// Marks the image as used, flushed, makes its swap areas usable, and calls `go`, which enters A. If that
/// returns, with an error, all is taken back. What cannot be marked (`target` has no size) is not.
pub fn marked<T: Target>(
    target: &mut T,
    verified: &Verified,
    swap: &Watch,
    name: &str,
    go: impl FnOnce() -> Error,
) -> Error {
    let failed = |source| Error::Save {
        target: name.into(),
        source,
    };
    if target.size().is_some() {
        if let Err(e) = mark_resuming(target, verified) {
            // It may be on the disk all the same.
            let _ = withdraw(target, verified);
            return failed(e);
        }
    }
    let error = with_swap(swap, go);
    if target.size().is_some() {
        if let Err(e) = withdraw(target, verified) {
            return failed(e);
        }
    }
    error
}

/// Makes A's swap areas usable and calls `go`, which enters A; hides them again if that returns.
pub fn with_swap(swap: &Watch, go: impl FnOnce() -> Error) -> Error {
    let system = System::default();
    let error = match swap.show_swap(&system) {
        Ok(()) => go(),
        Err(e) => e,
    };
    if let Err(e) = swap.hide_swap(&system) {
        log::warn!("{e}");
    }
    error
}

/// Tells A, in the mailbox of its handoff block at `handoff`, that it was restored.
pub fn leave_word(device: &Device, handoff: u64, from: &str) -> io::Result<()> {
    let word = Word::new(from);
    let mut parts = word.parts().into_iter();
    parts.try_for_each(|(at, bytes)| device.write_at(handoff + at as u64, bytes))
}

/// Enters what was claimed and written, trying some times; returns only if that failed.
pub fn enter(device: &Device, verb: &'static str, entry: u64) -> Error {
    let mut enter = abi::Enter {
        entry,
        ..Default::default()
    };
    let mut errno = None;
    tries(|| {
        errno = device.enter(&mut enter).err();
        enter.failed_rung != 0
    });
    not_entered(verb, &enter, errno)
}

/// Calls `go` until it says that there is no use in trying again, some times at most.
pub fn tries(mut go: impl FnMut() -> bool) {
    for _ in 0..TRIES {
        if !go() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// What an entry that returned means.
pub fn not_entered(verb: &'static str, enter: &abi::Enter, errno: Option<Errno>) -> Error {
    let errno = errno.unwrap_or(Errno::IO);
    match enter.failed_rung {
        0 => Error::Kernel {
            verb,
            source: errno.into(),
        },
        rung => rung_error(verb, errno, rung),
    }
}

/// RAM that is to be claimed.
pub fn machine_ram(machine: &Machine) -> Vec<abi::Range> {
    let above = |r: &abi::Range| abi::Range {
        start: r.start.max(machine.window_end),
        end: r.end,
    };
    let ranges = machine.ram.iter().map(above);
    ranges.filter(|r| r.start < r.end).collect()
}
