// SPDX-License-Identifier: GPL-2.0

//! A peer that writes where it must not, and the page in A that it does it to.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use crate::memory::{Pages, PAGE};
use crate::{arg, failed, Outcome};

/// Page frames below 64 MiB may be in some window.
const ABOVE: u64 = (64 << 20) / PAGE as u64;
const WORD: u32 = 0x1065_e600;

/// `lodger FILE`: keeps a page of memory outside every window, writes its physical address to FILE
/// as hex digits, and stays.
pub fn lodger(args: &[String]) -> Outcome {
    let mut pages = Pages::take(256).ok_or("no memory")?;
    for at in 0..pages.count() {
        pages.page(at).fill(WORD);
    }
    let frames = pages.frames()?;
    let frame = frames.iter().find(|frame| **frame >= ABOVE);
    let address = frame.ok_or("all of the memory is low")? * PAGE as u64;
    let path = arg(args, 0)?;
    fs::write(path, format!("{address:x}\n")).map_err(failed(path))?;
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// `trespass ADDRESS`: in a peer, changes a word of physical memory that is not the peer's, at so
/// many hex digits. It is put back when it is done a second time.
pub fn trespass(args: &[String]) -> Outcome {
    let text = arg(args, 0)?;
    let address = u64::from_str_radix(text, 16).map_err(|_| format!("\"{text}\" is no hex"))?;
    let memory = OpenOptions::new().read(true).write(true).open("/dev/mem");
    let memory = memory.map_err(failed("/dev/mem"))?;
    // SAFETY: a mapping at an address of the kernel's choice touches no memory that Rust knows of.
    let page = unsafe {
        libc::mmap64(
            std::ptr::null_mut(),
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            memory.as_raw_fd(),
            (address & !(PAGE as u64 - 1)) as libc::off64_t,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(failed("mapping /dev/mem")(io::Error::last_os_error()));
    }
    let at = (address as usize % PAGE) & !3;
    // SAFETY: inside the mapping, aligned; the kernel whose memory it is does not run.
    unsafe {
        let word = page.cast::<u8>().add(at).cast::<u32>();
        word.write_volatile(word.read_volatile() ^ 1);
    }
    println!("trespassed at {address:x}");
    Ok(())
}
