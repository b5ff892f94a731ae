// SPDX-License-Identifier: GPL-2.0

//! Everything but ioctls: reads, writes, seeks and mappings, of the device and of `/proc/kimgcore`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;

use super::bad::Memory;
use super::chance::Chance;
use super::{Place, Tally};

/// Where something may be that is worth reading, bytes.
fn position(chance: &mut Chance, place: Place) -> i64 {
    let (start, end) = match place {
        Place::Kernel(start, end) if start < end => (start, end),
        _ => (0, 256 << 20),
    };
    (match chance.below(5) {
        0 => chance.edge(),
        1 => start.wrapping_sub(chance.below(8192)),
        2 => end.wrapping_sub(chance.below(8192)),
        3 => chance.below(16 << 20),
        _ => start + chance.below(end - start),
    }) as i64
}

fn length(chance: &mut Chance) -> usize {
    match chance.below(8) {
        0 => (chance.edge() as usize).max(1),
        1 => 1 + chance.below(1 << 20) as usize,
        _ => 1 + chance.below(16384) as usize,
    }
}

fn errno(answer: i64) -> i32 {
    match answer {
        0.. => 0,
        _ => io::Error::last_os_error().raw_os_error().unwrap_or(-1),
    }
}

/// One of them, at random.
pub fn any(chance: &mut Chance, file: &File, memory: &Memory, place: Place, tally: &mut Tally) {
    let (at, length) = (position(chance, place), length(chance));
    let fd = file.as_raw_fd();
    let buffer = memory.address(chance);
    match chance.below(8) {
        0..=2 => {
            // Only as much as there is behind the buffer: the kernel would write over this program.
            let length = length.min(8 * 4096);
            let buffer = memory.good(chance);
            // SAFETY: there are eight pages of nobody else's behind a good address.
            let answer = unsafe { libc::pread(fd, buffer as _, length, at) };
            tally.add("pread", errno(answer as i64));
        }
        3 => {
            let good = chance.once_in(2);
            let buffer = if good { memory.good(chance) } else { buffer };
            // SAFETY: the kernel reads this process's memory, whatever is there.
            let answer = unsafe { libc::pwrite(fd, buffer as _, length, at) };
            tally.add("pwrite", errno(answer as i64));
        }
        4 => {
            let whence = chance.below(6) as i32;
            // SAFETY: touches no memory.
            tally.add("lseek", errno(unsafe { libc::lseek(fd, at, whence) }));
        }
        _ => map(chance, fd, at, tally),
    }
}

/// Maps, has the kernel read and write what was mapped (a page that is not there is an errno then, not
/// a signal), and unmaps.
fn map(chance: &mut Chance, fd: i32, at: i64, tally: &mut Tally) {
    let prot = chance.below(8) as i32;
    let flags = chance.of(&[
        libc::MAP_SHARED,
        libc::MAP_PRIVATE,
        libc::MAP_SHARED | libc::MAP_POPULATE,
    ]);
    let size = 1 + chance.below(1 << 18) as usize;
    let at = if chance.once_in(4) { at } else { at & !0xfff };
    // SAFETY: a new mapping at an address of the kernel's choice.
    let start = unsafe { libc::mmap(null_mut(), size, prot, flags, fd, at) };
    if start == libc::MAP_FAILED {
        tally.add("mmap", errno(-1));
        return;
    }
    tally.add("mmap", 0);
    let mut pipe = [0; 2];
    // SAFETY: the array has room for two, all addresses and sizes given to the kernel are those of the
    // mapping above, which nothing in this program refers to, and which is gone at the end.
    unsafe {
        if libc::pipe(pipe.as_mut_ptr()) == 0 {
            let inside = start as usize + chance.below(size as u64) as usize;
            let most = 2048.min(start as usize + size - inside);
            let wrote = libc::write(pipe[1], inside as _, most);
            tally.add("mapped-read", errno(wrote as i64));
            if wrote > 0 {
                let read = libc::read(pipe[0], inside as _, wrote as usize);
                tally.add("mapped-write", errno(read as i64));
            }
            libc::close(pipe[0]);
            libc::close(pipe[1]);
        }
        if chance.once_in(3) {
            let done = libc::mprotect(start, size, chance.below(8) as i32);
            tally.add("mprotect", errno(done.into()));
        }
        if chance.once_in(4) {
            let done = libc::madvise(
                start,
                size,
                chance.of(&[libc::MADV_DONTNEED, libc::MADV_WILLNEED, libc::MADV_DOFORK]),
            );
            tally.add("madvise", errno(done.into()));
        }
        libc::munmap(start, size);
    }
}
