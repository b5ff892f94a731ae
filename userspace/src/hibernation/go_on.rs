//! From C to the normal kernel, when there is nothing to resume: kernel and initrd come from the boot
//! bundle behind the image, straight to where they are to run, as all RAM above the window is free.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use kjump_abi as abi;
use kjump_target::{Opened, Part};

use super::machine;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::loader::bzimage;
use crate::loader::memmap;
use crate::loader::plan::{plan, Kernel, Place, Request};

/// Bytes that go to their place at a time.
const PIECE: usize = 64 << 10;

/// Starts the kernel of the bundle on `target`: does not return if that succeeds. `claimed`: a
/// restore has claimed the RAM above the window before it failed.
///
/// # Errors
///
/// [`Error::NoKernel`] where there is no bundle; a kernel that does not fit; what a rung of the way
/// down reported.
pub fn start(device: &Device, target: &mut Opened, claimed: bool) -> Result<()> {
    let name = target.name().to_string();
    let bundle = target.bundle()?.ok_or(Error::NoKernel { target: name })?;
    let mut head = vec![0; bzimage::HEAD];
    {
        let mut reader = target.part(&bundle.kernel)?;
        let failed = |e| Error::io("the boot bundle's kernel", e);
        reader.read_exact(&mut head).map_err(failed)?;
    }
    let kernel = bzimage::parse(&head, bundle.kernel.length, Path::new("boot bundle"))?;
    let map = memmap::read()?;
    let floor = machine::own_end()?;
    let plan = plan(Request {
        kernel: Kernel::BzImage(kernel),
        initrd_size: bundle.initrd.as_ref().map_or(0, |i| i.length),
        command_line: bundle.command_line.clone(),
        map: &map,
        window_end: None,
        own: None,
        floor,
        below: None,
        own_boot_params: fs::read("/sys/kernel/boot_params/data").ok(),
    })?;
    if !claimed {
        device
            .claim(&machine::ram_above(&map, floor), false)
            .map_err(|e| Error::from_errno("resume", e))?;
    }
    let put = |at: u64, bytes: &[u8]| device.write_at(at, bytes);
    let failed = |e| Error::io("memory for the normal kernel", e);
    for piece in &plan.segments {
        put(piece.mem, &piece.data).map_err(failed)?;
    }
    if let Some((place, start)) = plan.code {
        copy(target, &bundle.kernel, start, place, &put)?;
    }
    if let (Some(part), Some(place)) = (&bundle.initrd, plan.initrd) {
        copy(target, part, 0, place, &put)?;
    }
    let mut enter = abi::Enter {
        entry: plan.entry,
        boot_params: plan.boot_params,
        ..Default::default()
    };
    let errno = device.enter(&mut enter).err();
    Err(super::restore::not_entered("resume", &enter, errno))
}

/// Identity of the build of the bundle's kernel; `None` without a bundle, or where it does not say.
///
/// # Errors
///
/// A bundle that is damaged or cannot be read.
pub fn build(target: &mut Opened) -> Result<Option<[u8; 32]>> {
    let Some(bundle) = target.bundle()? else {
        return Ok(None);
    };
    let mut head = vec![0; bzimage::SETUP.min(bundle.kernel.length as usize)];
    target
        .part(&bundle.kernel)?
        .read_exact(&mut head)
        .map_err(|e| Error::io("the boot bundle's kernel", e))?;
    let version = bzimage::version(&head);
    Ok(version.map(|(release, version)| machine::build_of(&release, &version)))
}

/// Copies a part of the bundle from byte `start` on to its place, and reads it to its end: only
/// then is its checksum known to be right.
fn copy(
    target: &mut Opened,
    part: &Part,
    start: u64,
    place: Place,
    put: &dyn Fn(u64, &[u8]) -> io::Result<()>,
) -> Result<()> {
    let failed = |e| Error::io("the boot bundle", e);
    let mut reader = target.part(part)?;
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    loop {
        let n = reader.read(&mut piece).map_err(failed)?;
        if n == 0 {
            break;
        }
        // What of the piece lies in the place.
        let (from, to) = (start.max(at), (start + place.size).min(at + n as u64));
        if from < to {
            let bytes = &piece[(from - at) as usize..(to - at) as usize];
            put(place.mem + from - start, bytes).map_err(failed)?;
        }
        at += n as u64;
    }
    if at < start + place.size {
        return Err(failed(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(())
}
