// SPDX-License-Identifier: GPL-2.0

//! Old memory: in A, pages with a pattern whose frames are told; in B, those frames read through
//! `/dev/kjump` by pread and by mmap, and compared.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use kjump_abi as abi;

use crate::memory::{page_words, take_free, Pages, PAGE, WORDS};
use crate::{arg, failed, number, Outcome};

/// Frames below this one lie in the default window.
const WINDOW_FRAMES: u64 = abi::DEFAULT_WINDOW_END / abi::PAGE_SIZE;

/// `plant PERCENT SEED REPORT`: in A. Fills PERCENT of the free memory and writes sixteen frames to
/// REPORT, half of them in the window, as a comma list of `INDEX:FRAME`; then stays.
pub fn plant(args: &[String]) -> Outcome {
    let (percent, seed, report) = (number(args, 0)?, number(args, 1)?, arg(args, 2)?);
    let (taken, _) = take_free(percent, |index, page| {
        page.iter_mut()
            .zip(page_words(seed, index))
            .for_each(|(to, word)| *to = word);
    })?;
    let mut all = Vec::new();
    for pages in &taken {
        all.extend(pages.frames()?);
    }
    let spread = |inside: bool| {
        let of: Vec<_> = (0..)
            .zip(&all)
            .filter(|(_, &f)| (f < WINDOW_FRAMES) == inside)
            .collect();
        let step = (of.len() / 8).max(1);
        of.into_iter()
            .step_by(step)
            .take(8)
            .map(|(i, f)| format!("{i}:{f}"))
            .collect::<Vec<_>>()
    };
    let list = [spread(true), spread(false)].concat();
    if list.len() != 16 {
        return Err(format!("{} frames only", list.len()));
    }
    let draft = format!("{report}.new");
    fs::write(&draft, list.join(",") + "\n").map_err(failed(&draft))?;
    fs::rename(&draft, report).map_err(failed(report))?;
    loop {
        std::thread::park();
        // Keeps the pages alive for ever; nothing wakes this thread.
        if taken.iter().map(Pages::count).sum::<usize>() == 0 {
            return Ok(());
        }
    }
}

/// `old SEED INDEX:FRAME…`: in B. Compares each frame with its pattern, read and mapped; and what
/// must fail fails. Prints `old memory: N pages good, M in the window`.
pub fn old(args: &[String]) -> Outcome {
    let seed = number(args, 0)?;
    let device = File::open(abi::DEVICE).map_err(failed(abi::DEVICE))?;
    let mut inside = 0;
    for pair in &args[1..] {
        let (index, frame) = pair
            .split_once(':')
            .and_then(|(i, f)| Some((i.parse::<u64>().ok()?, f.parse::<u64>().ok()?)))
            .ok_or_else(|| format!("\"{pair}\" is no INDEX:FRAME"))?;
        let wanted: Vec<u8> = page_words(seed, index).flat_map(u32::to_le_bytes).collect();
        let at = frame * PAGE as u64;

        let mut read = vec![0; PAGE];
        device
            .read_exact_at(&mut read, at)
            .map_err(failed("pread"))?;
        if read != wanted {
            return Err(format!("pread of frame {frame:#x} is not page {index}"));
        }
        // A piece that starts and ends anywhere.
        device
            .read_exact_at(&mut read[..1000], at + 123)
            .map_err(failed("pread"))?;
        if read[..1000] != wanted[123..1123] {
            return Err(format!("pread inside frame {frame:#x} is not page {index}"));
        }
        let mapped = map(&device, at, libc::PROT_READ).map_err(failed("mmap"))?;
        if mapped.iter().copied().ne(page_words(seed, index)) {
            return Err(format!("mmap of frame {frame:#x} is not page {index}"));
        }
        inside += u64::from(frame < WINDOW_FRAMES);
    }

    let errno = |e: io::Error| e.raw_os_error().unwrap_or(0);
    let beyond = device.read_at(&mut [0; 16], 0xffff_0000).map_err(errno);
    if beyond != Err(libc::ENXIO) {
        return Err(format!("pread of what is no RAM: {beyond:?}"));
    }
    let far = device.read_at(&mut [0; 16], 1 << 40).map_err(errno);
    if far != Err(libc::ENXIO) {
        return Err(format!("pread beyond 4 GiB: {far:?}"));
    }
    let writable = map(&device, 0x100_0000, libc::PROT_READ | libc::PROT_WRITE).map_err(errno);
    if writable != Err(libc::EACCES) {
        return Err("old memory may be mapped for writing".into());
    }
    println!(
        "old memory: {} pages good, {inside} in the window",
        args.len() - 1
    );
    Ok(())
}

/// A page of the device at byte `at`, mapped for as long as this program runs.
fn map(device: &File, at: u64, protection: i32) -> io::Result<&'static [u32]> {
    // SAFETY: a mapping at an address of the kernel's choice touches no memory that Rust knows of;
    // the page is readable, never written and never unmapped.
    unsafe {
        let start = libc::mmap64(
            std::ptr::null_mut(),
            PAGE,
            protection,
            libc::MAP_SHARED,
            device.as_raw_fd(),
            at as i64,
        );
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(std::slice::from_raw_parts(start.cast(), WORDS))
    }
}

/// `page-map INDEX:FRAME…`: in B. Reads A's page map and prints `page map: N to be saved`; each
/// frame must be among them.
pub fn page_map(args: &[String]) -> Outcome {
    let device = File::open(abi::DEVICE).map_err(failed(abi::DEVICE))?;
    let mut block = Box::new([0u8; PAGE]);
    // SAFETY: the module writes a block's size, which is that of the buffer.
    let answer = unsafe {
        libc::ioctl(
            device.as_raw_fd(),
            abi::IOC_HANDOFF as _,
            block.as_mut_ptr(),
        )
    };
    if answer < 0 {
        return Err(format!("handoff: {}", io::Error::last_os_error()));
    }
    let field = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().expect("8 bytes"));
    let at = field(std::mem::offset_of!(abi::Handoff, page_map));
    let frames = field(std::mem::offset_of!(abi::Handoff, page_map_pages));
    let mut index = vec![0; PAGE];
    device
        .read_exact_at(&mut index, at)
        .map_err(failed("index"))?;
    let mut bits = Vec::new();
    for word in index
        .chunks_exact(4)
        .take((frames as usize).div_ceil(8 * PAGE))
    {
        let at = u32::from_le_bytes(word.try_into().expect("4 bytes"));
        let mut page = vec![0; PAGE];
        device
            .read_exact_at(&mut page, u64::from(at))
            .map_err(failed("bits"))?;
        bits.extend(page);
    }
    for pair in args {
        let frame: usize = pair
            .split_once(':')
            .and_then(|(_, frame)| frame.parse().ok())
            .ok_or_else(|| format!("\"{pair}\" is no INDEX:FRAME"))?;
        if bits
            .get(frame / 8)
            .is_none_or(|byte| byte & (1 << (frame % 8)) == 0)
        {
            return Err(format!("frame {frame:#x} is in use and would not be saved"));
        }
    }
    let saved: u32 = bits.iter().map(|byte| byte.count_ones()).sum();
    println!("page map: {saved} to be saved");
    Ok(())
}
