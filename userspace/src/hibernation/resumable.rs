//! Bringing A back from an ELF core of its memory: `cp /proc/vmcore`, or `kjump save --format elf`.
//!
//! Everything that is needed is in the core itself: the control page at the jump-back entry names the
//! handoff block, and that the page map. What the page map calls free is left alone, as in an image;
//! the window's own segments are too, as A's stub puts the window back from the shadow.

use std::cell::RefCell;
use std::io;

use kjump_abi::{Handoff, Range, PAGE_SIZE};
use kjump_core::{Core, Kind, Reader, Refusal};
use kjump_image::{hex, Guard, Machine, Progress, Source};
use kjump_target::System;

use super::guards::{self, Watch};
use super::machine;
use super::pages::SavedPages;
use super::places::Places;
use super::request::Request;
use super::restore::{self, Failed};
use crate::abort::hold_signals;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::progress::Reporter;

/// A core whose kernel can be entered, as far as the core itself can tell.
pub struct Resumable<S> {
    /// For messages: the file as the user names it.
    name: String,
    core: Core,
    reader: RefCell<Reader<S>>,
    handoff_at: u64,
    handoff: Box<Handoff>,
    pages: SavedPages,
}

impl<S: Source> Resumable<S> {
    /// Reads all but the pages, and makes sure that all of them are there. Without `entry` the core's
    /// note says where its kernel is entered.
    ///
    /// # Errors
    ///
    /// [`Error::Core`]; [`Error::Usage`] for an entry that is none.
    pub fn open(mut source: S, name: &str, entry: Option<u64>) -> Result<Self> {
        let refused = |source| Error::Core {
            file: name.into(),
            source,
        };
        let core = Core::read(&mut source).map_err(refused)?;
        let at = match (&core.kind, entry) {
            (Kind::Peer(..), _) => {
                let what = "the memory of a peer; `kjump load --peer` makes that one";
                return Err(refused(Refusal::NotResumable(what)));
            }
            (_, Some(entry)) => entry,
            (Kind::Core(note), None) => note.jump_back_entry,
            (Kind::Plain, None) => {
                let what = "it does not say where its kernel is entered; use `kexec -l \
                            --entry=0x…` with the kexec_jump_back_entry= of the peer that made it";
                return Err(refused(Refusal::NotResumable(what)));
            }
        };
        let mut reader = Reader::new(source, PAGE_SIZE as usize).map_err(refused)?;
        let found = core.handoff(&mut reader, at);
        let (handoff_at, handoff) = found.map_err(|e| match (entry, e) {
            (Some(at), Refusal::Bad(_) | Refusal::Missing { .. } | Refusal::BadVersion { .. }) => {
                Error::Usage(format!(
                    "{name}: --entry={at:#x} is not where its kernel is entered; give the \
                     kexec_jump_back_entry= of the peer that made it, or leave it out"
                ))
            }
            (_, e) => refused(e),
        })?;
        let reader = RefCell::new(reader);
        let what = "the page map";
        let read_at = |at: u64, buf: &mut [u8]| {
            let read = core.read_memory(&mut reader.borrow_mut(), at, buf, what);
            read.map_err(io::Error::other)
        };
        let pages = SavedPages::read(&read_at, &handoff)
            .map_err(|e| Error::io(format!("{name}: the page map in it"), e))?;
        let core = Self {
            name: name.into(),
            core,
            reader,
            handoff_at,
            handoff,
            pages,
        };
        core.is_whole().map_err(refused)?;
        Ok(core)
    }

    /// Whether every page that A needs is in the core: a dump may have been thinned.
    fn is_whole(&self) -> std::result::Result<(), Refusal> {
        let mut last = None;
        self.each_run(|mut at, end| {
            while at < end {
                let has = |s: &&kjump_core::Segment| s.paddr <= at && at - s.paddr < s.memsz;
                // Mostly the one that the page before was in.
                let segment = last.filter(|s| has(s)).or_else(|| self.core.find(at));
                let what = "a page that its kernel needs";
                let segment = segment.ok_or(Refusal::Missing { what, at })?;
                (at, last) = (segment.paddr + segment.memsz, Some(segment));
            }
            Ok(())
        })
    }

    /// Calls with each run of pages to be restored, bytes.
    fn each_run<E>(
        &self,
        mut each: impl FnMut(u64, u64) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut from = 0;
        while let Some((start, count)) = self.pages.next_run(from, self.pages.frames()) {
            from = start + count;
            each(start * PAGE_SIZE, from * PAGE_SIZE)?;
        }
        Ok(())
    }

    /// One past the window of the kernel that is in the core, bytes.
    pub fn window_end(&self) -> u64 {
        self.handoff.window_end
    }

    /// Where that kernel is entered.
    pub fn entry(&self) -> u64 {
        self.handoff.jump_back_entry
    }

    /// Pages that are to be written.
    pub fn page_count(&self) -> u64 {
        self.pages.count
    }

    /// Whether its kernel can go on here.
    ///
    /// # Errors
    ///
    /// [`Error::Core`]: foreign.
    pub fn check(&self, here: &Machine) -> Result<()> {
        let header = self.core.image.as_ref().map(|image| &image.header);
        let identity = match header {
            Some(h) => Identity::of(h.fingerprint, h.build_id),
            // What A told the peer that it jumped to.
            None => {
                Request::parse(&self.handoff.request).map_or(Identity::default(), |r| Identity {
                    fingerprint: r.fingerprint,
                    build: r.build,
                })
            }
        };
        let checked = same_machine(&self.handoff, &identity, here).and_then(|()| {
            let missing = header.map_or(0, |h| {
                machine::missing_features(&h.cpu_features, &machine::cpu_features())
            });
            match missing {
                0 => Ok(()),
                n => Err(Refusal::Foreign {
                    what: "the CPU's features",
                    file: format!("{n} more"),
                    here: "fewer".into(),
                }),
            }
        });
        checked.map_err(|source| self.refused(source))
    }

    fn refused(&self, source: Refusal) -> Error {
        Error::Core {
            file: self.name.clone(),
            source,
        }
    }

    /// Compares filesystems with what the core says of them, if it says something; gives its swap
    /// areas, which are hidden.
    ///
    /// # Errors
    ///
    /// [`Error::Stale`].
    pub fn check_guards(&self) -> Result<Watch> {
        guards::check(&System::default(), guards(&self.core), &self.name)
    }

    /// What the core in `source` says of filesystems and swap areas.
    ///
    /// # Errors
    ///
    /// [`Error::Core`].
    pub fn guards_of(source: &mut S, name: &str) -> Result<Vec<Guard>> {
        let core = Core::read(source).map_err(|source| Error::Core {
            file: name.into(),
            source,
        })?;
        Ok(guards(&core).to_vec())
    }

    /// Claims the RAM above the window, puts every page to its place, and tells the kernel there
    /// that it was restored. It can be entered then. With `keep` all this outlives the open device.
    pub fn fill(
        &mut self,
        device: &Device,
        here: &Machine,
        keep: bool,
        reporter: &mut Reporter,
    ) -> std::result::Result<(), Failed> {
        hold_signals();
        let claimed = device.claim(&restore::machine_ram(here), keep);
        claimed.map_err(|e| Failed::Untouched(Error::from_errno("restore", e)))?;
        let begun = |e| Failed::Begun(e, true);
        self.pages_to(device, reporter).map_err(begun)?;
        restore::leave_word(device, self.handoff_at, &self.name)
            .map_err(|e| begun(Error::io("the saved kernel's handoff", e)))
    }

    fn pages_to(&self, device: &Device, reporter: &mut Reporter) -> Result<()> {
        let mut places = Places::new(device);
        let mut progress = Progress {
            pages_total: self.pages.count,
            ..Progress::default()
        };
        self.each_run(|start, end| {
            let mut at = start;
            while at < end {
                let place = places
                    .place(at, end - at)
                    .map_err(|e| Error::io("memory to be restored", e))?;
                let len = place.len() as u64;
                let mut reader = self.reader.borrow_mut();
                self.core
                    .read_memory(&mut reader, at, place, "a page")
                    .map_err(|source| self.refused(source))?;
                at += len;
                progress.pages += len / PAGE_SIZE;
                progress.memory_bytes += len;
                progress.image_bytes += len;
                reporter.update(&progress);
            }
            Ok::<_, Error>(())
        })?;
        reporter.finish(&progress);
        Ok(())
    }
}

fn guards(core: &Core) -> &[Guard] {
    core.image.as_ref().map_or(&[][..], |i| &i.guards)
}

/// What is known of the machine and the kernel beside what every handoff block says.
#[derive(Clone, Copy, Debug, Default)]
struct Identity {
    fingerprint: Option<u64>,
    build: Option<[u8; 32]>,
}

impl Identity {
    fn of(fingerprint: u64, build: [u8; 32]) -> Self {
        Self {
            fingerprint: Some(fingerprint),
            build: (build != [0; 32]).then_some(build),
        }
    }
}

/// Whether the kernel of this handoff block can go on `here`.
fn same_machine(
    handoff: &Handoff,
    identity: &Identity,
    here: &Machine,
) -> std::result::Result<(), Refusal> {
    let foreign = |what, file: String, here: String| Err(Refusal::Foreign { what, file, here });
    let number = |n: u64| format!("{n:#x}");
    if handoff.arch != here.arch {
        let (file, here) = (handoff.arch.into(), here.arch.into());
        return foreign("the architecture", number(file), number(here));
    }
    // The high half is the CPU's; the low one is of RAM, which is compared below.
    let (file, cpu) = (handoff.fingerprint >> 32, machine::cpu_in_handoff().into());
    if file != cpu {
        return foreign("the CPU", number(file), number(cpu));
    }
    let both = identity.fingerprint.zip(here.fingerprint);
    if let Some((file, here)) = both.filter(|(file, here)| file != here) {
        return foreign("the memory map", number(file), number(here));
    }
    let builds = identity.build.zip(here.build_id);
    if let Some((file, here)) = builds.filter(|(file, here)| file != here) {
        return foreign("the kernel's build", hex(&file[..8]), hex(&here[..8]));
    }
    if handoff.window_end < here.window_end {
        let (file, here) = (handoff.window_end, here.window_end);
        return foreign("the end of the window", number(file), number(here));
    }
    let ram = handoff.ram.get(..handoff.ram_count as usize);
    let theirs = above(ram.unwrap_or_default(), handoff.window_end);
    let ours = above(&here.ram, handoff.window_end);
    // One that was told to leave RAM alone (mem=) cannot be told from one of a smaller machine,
    // unless the fingerprints say that this is the one.
    let same = match both {
        Some(_) => theirs.iter().all(|t| {
            let has = |o: &Range| o.start <= t.start && t.end <= o.end;
            ours.iter().any(has)
        }),
        None => theirs == ours,
    };
    match same {
        true => Ok(()),
        false => foreign("RAM", list(&theirs), list(&ours)),
    }
}

/// The parts of some RAM from `floor`, bytes, up; touching ranges are one.
fn above(ram: &[Range], floor: u64) -> Vec<Range> {
    let mut out: Vec<Range> = Vec::new();
    for range in ram {
        let start = range.start.max(floor);
        match out.last_mut() {
            _ if start >= range.end => {}
            Some(last) if last.end == start => last.end = range.end,
            _ => out.push(Range {
                start,
                end: range.end,
            }),
        }
    }
    out
}

fn list(ram: &[Range]) -> String {
    let one = |r: &Range| format!("{:#x}-{:#x}", r.start, r.end);
    ram.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "resumable_tests.rs"]
mod tests;
