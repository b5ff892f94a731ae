//! Writing A's memory as an image, in the peer.

use std::io;

use kjump_abi::{Handoff, PAGE_SIZE};
use kjump_image::{
    discard, now, Ahead, Encryption, Error as ImageError, Header, Options, Summary, Target, Writer,
};
use kjump_target::System;

use super::guards::Watch;
use super::pages::{frames_of, SavedPages};
use super::request::Request;
use super::workers::workers;
use super::{chain, machine};
use crate::abort::Abort;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::parse;
use crate::progress::{watch, Reporter};
use crate::secret;

/// Frames mapped at a time: as many as a page table covers without PAE.
const REGION: u64 = 1024;

/// Bytes a write: large for a disk, and small enough for a window that has a MiB or two to spare; it is taken
/// twice.
const BUFFER: usize = 256 << 10;

/// What is saved, and as what.
pub struct Save<'a> {
    /// The module's device: old memory.
    pub device: &'a Device,
    /// A's handoff block.
    pub handoff: &'a Handoff,
    /// What A asked for.
    pub request: &'a Request,
    /// For messages: the target as the user names it.
    pub name: &'a str,
    /// Record what filesystems look like.
    pub guard: bool,
}

impl Save<'_> {
    /// Writes the image to `target` and commits it. When this fails there is none.
    ///
    /// # Errors
    ///
    /// [`Error::OwnWindow`]; [`Error::Save`] and [`Error::Guard`]; swap areas are as they were then.
    pub fn run(
        &self,
        mut target: impl Target + Send,
        reporter: &mut Reporter,
        abort: &mut Abort,
    ) -> Result<Summary> {
        if self.handoff.own.end != 0 {
            return Err(Error::OwnWindow { verb: "save" });
        }
        let read_at = |at: u64, buf: &mut [u8]| self.device.read_at(at, buf);
        let pages = SavedPages::read(&read_at, self.handoff)
            .map_err(|e| Error::io("the page map of the other kernel", e))?;
        let mut header = header(self.handoff, self.request, pages.count);
        header.encryption = self.encryption()?;
        // A digest of each page would tell whether a guess is right.
        header.table &= header.encryption.is_none();
        let system = System::default();
        let watched = if self.guard {
            let list = self.request.watched.as_deref();
            Some(Watch::find(&system, list, self.request.allow_unknown)?)
        } else {
            None
        };
        let result = self.write(
            &mut target,
            &header,
            &pages,
            watched.as_ref(),
            reporter,
            abort,
        );
        if let (Err(_), Some(watched)) = (&result, &watched) {
            // It may not have come to hiding them; then this changes nothing.
            if let Err(e) = watched.show_swap(&system) {
                log::warn!("{e}; make the swap area anew with mkswap");
            }
        }
        result
    }

    /// How the image is to be encrypted, if it is.
    fn encryption(&self) -> Result<Option<Encryption>> {
        match (self.request.encryption, &self.request.key) {
            (Some(mut encryption), Some(_)) => {
                secret::freshen(&mut encryption, self.handoff, &self.request.image)?;
                Ok(Some(encryption))
            }
            _ if self.request.encrypted => Err(Error::MustEncrypt { verb: "save" }),
            _ => Ok(None),
        }
    }

    fn write(
        &self,
        target: &mut (impl Target + Send),
        header: &Header,
        pages: &SavedPages,
        watched: Option<&Watch>,
        reporter: &mut Reporter,
        abort: &mut Abort,
    ) -> Result<Summary> {
        let failed = |source| Error::Save {
            target: self.name.into(),
            source,
        };
        let system = System::default();
        let guards = || match watched {
            Some(watched) => {
                // The kernel that is saved goes on, and with it its swap areas.
                if !self.request.snapshot {
                    watched.hide_swap(&system)?;
                }
                watched.record(&system)
            }
            None => Ok(Vec::new()),
        };
        let stream = target.size().is_none();
        // A stream has its guards before its pages.
        let first = if stream { guards()? } else { Vec::new() };
        // Before an older image goes.
        let base = self.request.base.as_ref().map(chain::table).transpose();
        let base = base.map_err(|source| Error::Refused {
            target: self.name.into(),
            source,
        })?;
        let options = Options {
            buffer: BUFFER,
            optimistic: self.request.optimistic,
            on_progress: Some(watch(reporter, abort)),
            base,
            workers: workers(header.codec, header.chunk_pages),
            key: self
                .request
                .key
                .as_ref()
                .filter(|_| header.encryption.is_some()),
        };
        std::thread::scope(|scope| {
            let target = Ahead::start(scope, target, BUFFER).map_err(|source| {
                let what = "starting the thread that writes";
                failed(ImageError::Io { what, source })
            })?;
            let mut writer = Writer::begin(target, header, &first, options).map_err(failed)?;
            let mut region = 0;
            while region < pages.frames() {
                self.write_region(&mut writer, pages, region)
                    .map_err(failed)?;
                region += REGION;
            }
            if !stream {
                writer.set_guards(&guards()?).map_err(failed)?;
            }
            writer.finish().map_err(failed)
        })
    }

    /// Writes what there is to save of a region, from where it lies.
    fn write_region<T: Target>(
        &self,
        writer: &mut Writer<T>,
        pages: &SavedPages,
        region: u64,
    ) -> std::result::Result<(), ImageError> {
        let end = region + REGION;
        let Some(mut run) = pages.next_run(region, end) else {
            return Ok(());
        };
        let memory = self
            .device
            .map(region * PAGE_SIZE, (REGION * PAGE_SIZE) as usize, false)
            .map_err(|source| ImageError::Io {
                what: "mapping the other kernel's memory",
                source,
            })?;
        loop {
            let (start, count) = run;
            let at = ((start - region) * PAGE_SIZE) as usize;
            writer.write(start, memory.bytes(at, (count * PAGE_SIZE) as usize))?;
            match pages.next_run(start + count, end) {
                Some(next) => run = next,
                None => return Ok(()),
            }
        }
    }
}

/// What an image says of the machine; `count` pages above the window are in it.
pub fn header(h: &Handoff, request: &Request, count: u64) -> Header {
    let ram = h
        .ram
        .iter()
        .take(h.ram_count as usize)
        .copied()
        .collect::<Vec<_>>();
    let above = frames_of(&ram, h.window_end);
    let all = frames_of(&ram, 0);
    let top = ram.last().map_or(0, |r| r.end / PAGE_SIZE);
    let firmware = request.firmware_pages.min(top.saturating_sub(all));
    let mut skipped = [0; kjump_image::layout::SKIPPED_KINDS];
    // As in `layout::SKIPPED`: free, hole, firmware, nosave, window.
    skipped[0] = above.saturating_sub(count);
    skipped[1] = top.saturating_sub(all + firmware);
    skipped[2] = firmware;
    skipped[4] = all - above;
    Header {
        uuid: request.image,
        created: now(),
        arch: h.arch,
        snapshot: request.snapshot,
        fingerprint: request.fingerprint.unwrap_or(h.fingerprint),
        release: parse::text(&h.release).chars().take(63).collect(),
        build_id: request.build.unwrap_or_default(),
        cpu_features: machine::cpu_features(),
        window_end: h.window_end,
        jump_back_entry: h.jump_back_entry,
        pages: count,
        skipped,
        codec: request.codec,
        ram,
        // Another snapshot may build on it.
        table: request.snapshot,
        base: request.base.clone(),
        ..Header::default()
    }
}

/// Gives up the image that was just written: A goes on, so it must never be resumed.
pub fn give_up(target: &mut impl Target, summary: &Summary, name: &str) -> Result<()> {
    discard(target, &summary.seal).map_err(|source| Error::Save {
        target: name.into(),
        source,
    })
}

/// A UUID for an image, version 4.
pub fn new_uuid() -> io::Result<[u8; 16]> {
    let mut uuid = [0; 16];
    secret::random(&mut uuid)?;
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(uuid)
}
