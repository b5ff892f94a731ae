//! Bringing A back by the normal kernel's own means: its `/dev/snapshot` takes the image, page by
//! page, into whatever memory is free, freezes, copies what has to be copied, and enters A. Needs
//! neither module nor peer; but memory must hold the image and this kernel at the same time.
//! docs/snapshot-device.md says why that works, and when.

mod kernel;
mod stream;

use std::fs;
use std::io;

use kjump_image::{Refusal, Source, Target};

use self::stream::{Stream, Survey};
use super::restore::{marked, Checked};
use crate::abort::hold_signals;
use crate::cmd::meminfo;
use crate::device::SnapshotDevice;
use crate::error::{Error, Result};
use crate::progress::Reporter;

/// Bytes that the kernel wants beside the image's pages: lists of them, and what its drivers take on
/// the way down.
const SPARE: u64 = 6 << 20;

/// Restores the image, which was checked as far as that goes without reading all of it. Returns only
/// with an error: then nothing is changed, and the boot can go on.
pub fn restore<S: Source + Target>(
    mut checked: Checked<S>,
    name: &str,
    reporter: &mut Reporter,
) -> Error {
    // What opened it is not to stay in pages that are free in the kernel that is entered.
    checked.key = None;
    hold_signals();
    let verified = match load(&mut checked, name, reporter) {
        Ok(loaded) => loaded,
        Err(e) => return e,
    };
    let (device, verified) = verified;
    let (mut target, swap) = (checked.image.into_source(), checked.swap);
    marked(&mut target, &verified, &swap, name, || {
        failed("it does not enter the saved kernel", device.enter())
    })
}

fn failed(what: &'static str, source: io::Error) -> Error {
    Error::Snapshot { what, source }
}

/// Whether free memory holds that many bytes: the kernel takes them without giving up caches for
/// them, so these go first, and it complains loudly where there is too little.
fn room(needed: u64) -> Result<()> {
    let path = "/proc/sys/vm/drop_caches";
    if let Err(e) = fs::write(path, "3") {
        log::warn!("{path}: {e}");
    }
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = meminfo(&text, "MemFree").unwrap_or(0);
    if needed + SPARE <= free {
        return Ok(());
    }
    let why = format!(
        "it takes {} MiB, and {} are free beside this kernel",
        (needed + SPARE) >> 20,
        free >> 20
    );
    Err(failed(
        "there is no room for the image",
        io::Error::other(why),
    ))
}

/// Reads the image twice: to check all of it and learn what it holds, and into the kernel.
fn load<S: Source>(
    Checked { image, links, .. }: &mut Checked<S>,
    name: &str,
    reporter: &mut Reporter,
) -> Result<(SnapshotDevice, kjump_image::Verified)> {
    let refused = |source| Error::Refused {
        target: name.into(),
        source,
    };
    let header = image.header().clone();
    let mut survey = Survey::new(header.jump_back_entry);
    let mut chunks = image.chunks_over(links).map_err(refused)?;
    while let Some(chunk) = chunks.next_chunk().map_err(refused)? {
        chunk.pieces().for_each(|piece| survey.add(&piece));
    }
    chunks.finish().map_err(refused)?;
    let stream = Stream::new(survey, &header.ram, header.window_end, name)
        .map_err(|why| refused(Refusal::BadHeader(why)))?;
    log::info!("{name}: {} MiB for /dev/snapshot", stream.memory() >> 20);
    room(stream.memory())?;

    let here = kernel::here()?;
    let mut device = SnapshotDevice::open().map_err(|e| failed("it cannot be opened", e))?;
    stream
        .write_head(here, &mut device)
        .map_err(|e| failed("it does not take the image's head", e))?;
    let mut chunks = image.chunks_over(links).map_err(refused)?;
    while let Some(chunk) = chunks.next_chunk().map_err(refused)? {
        for piece in chunk.pieces() {
            stream
                .write(&piece, &mut device)
                .map_err(|e| failed("it does not take the image's pages", e))?;
        }
        reporter.update(&chunks.progress());
    }
    reporter.finish(&chunks.progress());
    Ok((device, chunks.finish().map_err(refused)?))
}
