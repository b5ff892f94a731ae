//! Writing A's memory as an ELF core, in the peer: for tools, and to be resumed all the same.

use std::io;
use std::ops::ControlFlow;

use kjump_abi::{CoreNote, Handoff, PAGE_SIZE};
use kjump_core::{ImageNote, Kind, Layout, Notes, Segment, Writer};
use kjump_image::{Codec, Error as ImageError, Progress, Target};
use kjump_target::System;

use super::elf_headers::Headers;
use super::guards::Watch;
use super::old::OldMemory;
use super::pages::SavedPages;
use super::request::Request;
use super::save::header;
use super::sink::Sink;
use crate::error::{Error, Result};

/// Frames mapped at a time, as for an image.
const REGION: u64 = 1024;
/// Bytes a write.
const BUFFER: usize = 256 << 10;
/// Segments that a core has at most: tools look at them one by one.
const MOST: usize = 2048;

/// What is saved, and as what.
pub struct SaveElf<'a> {
    /// Old memory.
    pub old: &'a dyn OldMemory,
    /// A's handoff block, and where it is.
    pub handoff: &'a Handoff,
    /// See `handoff`.
    pub handoff_at: u64,
    /// What A asked for; the UUID counts.
    pub request: &'a Request,
    /// What A's module says for tools.
    pub headers: &'a Headers,
    /// For messages: the target as the user names it.
    pub name: &'a str,
    /// What is to be compared before it is resumed; `None`: nothing.
    pub watched: Option<&'a Watch>,
    /// Free pages too.
    pub free: bool,
    /// What an image says of it already, if it is made from one; `request` and `watched` do not
    /// count then.
    pub image: Option<&'a ImageNote>,
}

/// What was written.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Pages of the kernel's; those of the window count twice.
    pub pages: u64,
    /// Segments of memory.
    pub segments: usize,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Called now and then; `Break` stops.
pub type OnProgress<'a> = &'a mut dyn FnMut(&Progress) -> ControlFlow<()>;

impl SaveElf<'_> {
    /// Writes the core to `target`. When this fails there is none: its first block is missing, or,
    /// of a stream, its end.
    ///
    /// # Errors
    ///
    /// [`Error::Save`] and [`Error::Guard`]; swap areas are as they were then.
    pub fn run(&self, target: impl Target, progress: OnProgress) -> Result<Written> {
        let result = self.write(target, progress);
        if let (Err(_), Some(watched)) = (&result, self.watched) {
            if let Err(e) = watched.show_swap(&System::default()) {
                log::warn!("{e}; make the swap area anew with mkswap");
            }
        }
        result
    }

    fn write(&self, target: impl Target, progress: OnProgress) -> Result<Written> {
        let failed = |source| Error::Save {
            target: self.name.into(),
            source,
        };
        let io = |what| move |source| failed(ImageError::Io { what, source });
        let read_at = |at: u64, buf: &mut [u8]| self.old.read_at(at, buf);
        let pages = SavedPages::read_for_core(&read_at, self.handoff, self.free)
            .map_err(|e| Error::io("the page map of the other kernel", e))?;
        let mut segments = segments(&pages, self.headers, self.handoff);
        let system = System::default();
        let guards = || match self.watched {
            Some(watched) => {
                watched.hide_swap(&system)?;
                watched.record(&system)
            }
            None => Ok(Vec::new()),
        };
        let stream = target.size().is_none();
        let above = pages.count_from(self.handoff.window_end / PAGE_SIZE);
        let mut image = match self.image {
            Some(image) => image.clone(),
            None => ImageNote {
                header: header(self.handoff, self.request, above),
                // A stream has its guards before its pages.
                guards: if stream { guards()? } else { Vec::new() },
            },
        };
        let h = &mut image.header;
        (h.codec, h.pages, h.table, h.base) = (Codec::None, above, false, None);
        let kind = Kind::Core(CoreNote {
            version: 1,
            size: size_of::<CoreNote>() as u32,
            jump_back_entry: self.handoff.jump_back_entry,
            handoff: self.handoff_at,
            window_end: self.handoff.window_end,
            fingerprint: self.handoff.fingerprint,
        });
        let notes = |image| Notes {
            prstatus: &self.headers.prstatus,
            vmcoreinfo: &self.headers.vmcoreinfo,
            kind: &kind,
            image: Some(image),
        };
        let layout = Layout::new(&notes(&image), &segments).map_err(io("the core's header"))?;
        if let Some(have) = target.size().filter(|have| *have < layout.size) {
            let need = layout.size;
            return Err(failed(ImageError::NoRoom { need, have }));
        }
        let sink = Sink::new(target, BUFFER).map_err(io("a buffer"))?;
        let writer = Writer::begin(sink, &notes(&image), &mut segments);
        let mut writer = writer.map_err(io("the core's header"))?;
        self.write_memory(&mut writer, &pages, &segments, layout.size, progress)
            .map_err(failed)?;
        let mut sink = writer.finish().map_err(io("the core's memory"))?;
        if let (false, Some(at)) = (stream, layout.image_at) {
            if self.image.is_none() {
                image.guards = guards()?;
            }
            let bytes = image.encode().map_err(failed)?;
            let again = sink.write_again(at, &bytes);
            again.map_err(io("what the core says of filesystems"))?;
        }
        sink.commit().map_err(io("the core's first block"))?;
        Ok(Written {
            pages: pages.count,
            segments: segments.len(),
            bytes: layout.size,
        })
    }

    fn write_memory<T: Target>(
        &self,
        writer: &mut Writer<Sink<T>>,
        pages: &SavedPages,
        segments: &[Segment],
        size: u64,
        progress: OnProgress,
    ) -> std::result::Result<(), ImageError> {
        let io = |what| move |source| ImageError::Io { what, source };
        let total = segments.iter().map(|s| s.memsz / PAGE_SIZE).sum();
        let mut done = Progress {
            pages_total: total,
            image_bytes: size - total * PAGE_SIZE,
            ..Progress::default()
        };
        for segment in segments {
            let (mut frame, end) = (
                segment.paddr / PAGE_SIZE,
                (segment.paddr + segment.memsz) / PAGE_SIZE,
            );
            while frame < end {
                let region = frame / REGION * REGION;
                let stop = end.min(region + REGION);
                let memory = self
                    .old
                    .region(region * PAGE_SIZE, (REGION * PAGE_SIZE) as usize)
                    .map_err(io("mapping the other kernel's memory"))?;
                let before = frame;
                while frame < stop {
                    let at = ((frame - region) * PAGE_SIZE) as usize;
                    let page: &[u8] = match pages.has(frame) {
                        true => memory.bytes(at, PAGE_SIZE as usize),
                        // Between two that are near each other.
                        false => &[0; PAGE_SIZE as usize],
                    };
                    writer.write(page).map_err(io("the core's memory"))?;
                    frame += 1;
                }
                done.pages += frame - before;
                done.memory_bytes = done.pages * PAGE_SIZE;
                done.image_bytes += (frame - before) * PAGE_SIZE;
                if progress(&done).is_break() {
                    return Err(ImageError::Stopped);
                }
            }
        }
        Ok(())
    }
}

/// The pages as segments, at most [`MOST`] of them: where there would be more, those that are near
/// each other are one, and what is between them is zeros. No segment crosses the window's end, the
/// end of some RAM, or a place from where on the kernel sees memory elsewhere.
fn segments(pages: &SavedPages, headers: &Headers, handoff: &Handoff) -> Vec<Segment> {
    let mut gap = 0;
    loop {
        let found = with_gap(pages, headers, handoff, gap);
        if found.len() <= MOST || gap > pages.frames() {
            return found;
        }
        gap = 2 * gap + 1;
    }
}

/// The same, with runs joined that have at most `gap` frames between them; given up after as many
/// as there may be, and one more.
fn with_gap(pages: &SavedPages, headers: &Headers, handoff: &Handoff, gap: u64) -> Vec<Segment> {
    let ram = &handoff.ram[..(handoff.ram_count as usize).min(handoff.ram.len())];
    let limit_of = |at: u64, until: u64| {
        let ends = ram.iter().map(|r| r.end.next_multiple_of(PAGE_SIZE));
        let ends = ends.chain([until, handoff.window_end]);
        ends.filter(|end| *end > at).min().unwrap_or(u64::MAX)
    };
    let mut found: Vec<Segment> = Vec::new();
    let mut at = 0;
    // Up to where the last segment may go on.
    let mut limit = 0;
    while let Some((run, count)) = pages.next_run(at, pages.frames()) {
        at = run + count;
        let (mut start, end) = (run * PAGE_SIZE, at * PAGE_SIZE);
        while start < end {
            let last = found
                .last_mut()
                .filter(|s| start < limit && start - (s.paddr + s.memsz) <= gap * PAGE_SIZE);
            match last {
                Some(last) => last.memsz = end.min(limit) - last.paddr,
                None => {
                    let (vaddr, until) = headers.vaddr(start);
                    limit = limit_of(start, until);
                    found.push(Segment {
                        paddr: start,
                        vaddr,
                        memsz: end.min(limit) - start,
                        ..Segment::default()
                    });
                    if found.len() > MOST {
                        return found;
                    }
                }
            }
            start = end.min(limit);
        }
    }
    for segment in &mut found {
        segment.filesz = segment.memsz;
    }
    found
}

/// A file that was just made, as a target: its size is what is written.
pub struct NewFile(pub std::fs::File);

impl Target for NewFile {
    fn size(&self) -> Option<u64> {
        Some(u64::MAX)
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, offset)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::blank_handoff;
    use crate::hibernation::pages;

    /// Pages by frame, in 512 MiB of RAM with a hole at 640 KiB.
    fn found(frames: &[u64], gap: u64) -> Vec<(u64, u64)> {
        let mut handoff = blank_handoff();
        handoff.window_end = 16 << 20;
        handoff.ram_count = 2;
        (handoff.ram[0].start, handoff.ram[0].end) = (0, 0x9_fc00);
        (handoff.ram[1].start, handoff.ram[1].end) = (1 << 20, 512 << 20);
        let pages = pages::tests::of(frames);
        with_gap(&pages, &Headers::default(), &handoff, gap)
            .iter()
            .inspect(|s| assert!(s.filesz == s.memsz && s.vaddr == u64::MAX))
            .map(|s| (s.paddr / PAGE_SIZE, s.memsz / PAGE_SIZE))
            .collect()
    }

    #[test]
    fn runs_are_segments() {
        assert_eq!(found(&[0, 1, 5], 0), [(0, 2), (5, 1)]);
        // The window ends between the two.
        assert_eq!(found(&[0xfff, 0x1000], 0), [(0xfff, 1), (0x1000, 1)]);
        assert_eq!(
            found(&[0x1000, 0x1002, 0x1006], 1),
            [(0x1000, 3), (0x1006, 1)]
        );
        // What is no RAM is in no gap.
        assert_eq!(found(&[0x9e, 0x9f, 0x100], 500), [(0x9e, 2), (0x100, 1)]);
        assert_eq!(
            found(&[0x9f, 0x100, 0xffe, 0x1001], 9000),
            [(0x9f, 1), (0x100, 0xeff), (0x1001, 1)]
        );
    }

    #[test]
    fn there_are_not_too_many() {
        let frames: Vec<u64> = (0x1000..0x1000 + 6 * MOST as u64)
            .filter(|f| f % 2 == 0)
            .collect();
        let handoff = blank_handoff();
        let pages = pages::tests::of(&frames);
        let segments = segments(&pages, &Headers::default(), &handoff);
        assert!(segments.len() <= MOST);
        let memory: u64 = segments.iter().map(|s| s.memsz / PAGE_SIZE).sum();
        assert!(memory >= frames.len() as u64);
        let covered = |f: &u64| {
            segments
                .iter()
                .any(|s| (s.paddr..s.paddr + s.memsz).contains(&(f * PAGE_SIZE)))
        };
        assert!(frames.iter().all(covered));
    }
}
