// SPDX-License-Identifier: GPL-2.0

//! The threads that make the calls, and the open files that they share.

use std::fs::{File, OpenOptions};
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::Mutex;
use std::thread;

use kjump_abi as abi;

use super::bad::Memory;
use super::calls::{self, Opened};
use super::{files, opens_nothing, Chance, Place, Tally};
use crate::failed;

/// Files of the device that are open at a time; the last one is for loads that go one way.
const FILES: usize = 5;

/// What the threads share.
pub struct Shared {
    files: Vec<Mutex<std::sync::Arc<Opened>>>,
    /// Jumps that may still go far.
    pub jumps: AtomicU64,
    pub place: Place,
}

fn open(one_way: bool) -> Result<Opened, String> {
    let file = OpenOptions::new().read(true).write(true).open(abi::DEVICE);
    let opened = Opened {
        file: file.map_err(failed(abi::DEVICE))?,
        one_way,
    };
    if one_way {
        calls::select_one_way(&opened)?;
    }
    Ok(opened)
}

/// Makes all calls.
pub fn all(seed: u64, calls: u64, count: u64, jumps: u64, place: Place) -> Result<Tally, String> {
    let files: Result<Vec<_>, String> = (0..FILES)
        .map(|n| Ok(Mutex::new(open(n == FILES - 1)?.into())))
        .collect();
    let shared = Shared {
        files: files?,
        jumps: AtomicU64::new(jumps),
        place,
    };
    let kimgcore = File::open("/proc/kimgcore").ok();
    let mut tally = Tally::default();
    if place == Place::Nobody {
        // SAFETY: these change this process's ids and nothing in its memory.
        if unsafe {
            libc::setgroups(0, std::ptr::null()) | libc::setgid(65534) | libc::setuid(65534)
        } != 0
        {
            return Err(failed("setuid")(io::Error::last_os_error()));
        }
        opens_nothing(&mut tally);
    }
    let shared = &shared;
    let kimgcore = &kimgcore;
    let results: Vec<Result<Tally, String>> = thread::scope(|scope| {
        let start = |n| {
            scope.spawn(move || one(Chance::new(seed ^ n << 40), calls / count, shared, kimgcore))
        };
        let all: Vec<_> = (0..count).map(start).collect();
        let join = |t: thread::ScopedJoinHandle<_>| t.join().unwrap_or(Err("a thread died".into()));
        all.into_iter().map(join).collect()
    });
    for result in results {
        tally.merge(result?);
    }
    Ok(tally)
}

/// Frees what files that are closed now have left.
pub fn finish() -> Result<u32, String> {
    calls::finish(&open(false)?)
}

fn one(
    mut chance: Chance,
    calls: u64,
    shared: &Shared,
    kimgcore: &Option<File>,
) -> Result<Tally, String> {
    let memory = Memory::new()?;
    let mut tally = Tally::default();
    while tally.calls() < calls {
        let at = chance.below(FILES as u64) as usize;
        let lock = |at: usize| {
            shared.files[at]
                .lock()
                .map_err(|_| "a thread died".to_string())
        };
        let opened = lock(at)?.clone();
        let nobody = shared.place == Place::Nobody;
        match chance.below(40) {
            // Nobody could open it again.
            0 if !nobody => {
                let new = open(at == FILES - 1)?;
                *lock(at)? = new.into();
                tally.add("reopen", 0);
            }
            1 if chance.once_in(8) => {
                // Nothing is loaded then, unless another thread has: what `CLAIM` needs.
                for at in 0..FILES {
                    calls::clear(&lock(at)?.clone(), &mut tally);
                }
                let claim = calls::claim(&mut chance, &opened, &memory, shared.place);
                tally.add("claim", claim);
                for _ in 0..if claim == 0 { 8 } else { 0 } {
                    files::any(&mut chance, &opened.file, &memory, shared.place, &mut tally);
                }
            }
            1..=3 => files::any(&mut chance, &opened.file, &memory, shared.place, &mut tally),
            4 => read_kimgcore(&mut chance, kimgcore, &memory, nobody, &mut tally),
            _ => calls::any(&mut chance, &opened, &memory, shared, &mut tally),
        }
    }
    Ok(tally)
}

/// The file that was open from the start, and what there is now.
fn read_kimgcore(
    chance: &mut Chance,
    old: &Option<File>,
    memory: &Memory,
    nobody: bool,
    tally: &mut Tally,
) {
    let new = (!nobody).then(|| File::open("/proc/kimgcore"));
    let new = match new {
        Some(Ok(file)) => Some(file),
        Some(Err(e)) => {
            tally.add("kimgcore", e.raw_os_error().unwrap_or(-1));
            None
        }
        None => None,
    };
    use std::os::fd::AsRawFd;
    for file in new.iter().chain(old) {
        let at = if chance.once_in(2) {
            chance.edge()
        } else {
            chance.below(4 << 20)
        };
        let (buffer, length) = (memory.good(chance), 1 + chance.below(32767) as usize);
        // SAFETY: there are eight pages of nobody else's behind a good address.
        let done = unsafe { libc::pread(file.as_raw_fd(), buffer as _, length, (at >> 1) as i64) };
        let errno = if done < 0 {
            io::Error::last_os_error().raw_os_error()
        } else {
            None
        };
        tally.add("kimgcore", errno.unwrap_or(0));
    }
}
