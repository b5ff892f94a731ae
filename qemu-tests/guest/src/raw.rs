// SPDX-License-Identifier: GPL-2.0

//! Ioctls that the command would never make. Each case prints what the module answered:
//! `NAME errno N` (0 if it went well), for the host to compare.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kjump_abi as abi;
use kjump_abi::{Back, Commit, Jump, Prepare, Segment, Status, Unload, ABI_VERSION};

use crate::{arg, failed, Outcome};

/// A window of the default size.
const WINDOW: u64 = abi::DEFAULT_WINDOW_END;

/// An address where nothing is mapped in a process of this binary.
const NOWHERE: usize = 0x10;

/// The module's device.
pub fn open() -> Result<File, String> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(abi::DEVICE)
        .map_err(failed(abi::DEVICE))
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(-1)
}

/// The errno of an ioctl with whatever argument; 0 if it went well.
fn raw(device: &File, request: u32, argument: usize) -> i32 {
    // SAFETY: the module reads and writes at most the size that `request` encodes, at an address
    // that is either that of a live value of that size or one where nothing is mapped.
    let answer = unsafe { libc::ioctl(device.as_raw_fd(), request as _, argument) };
    if answer >= 0 {
        0
    } else {
        errno(&io::Error::last_os_error())
    }
}

/// As [`raw`], with a value of ours.
pub fn call<T>(device: &File, request: u32, value: &mut T) -> i32 {
    raw(device, request, std::ptr::from_mut(value) as usize)
}

fn prepare(device: &File, window_end: u64) -> i32 {
    let mut value = Prepare {
        version: ABI_VERSION,
        window_end,
        ..Default::default()
    };
    call(device, abi::IOC_PREPARE, &mut value)
}

/// A segment of `memsz` bytes at `mem`, with `bufsz` bytes of contents.
fn segment(device: &File, mem: u64, memsz: u64, bufsz: usize) -> i32 {
    let contents = vec![0x90u8; bufsz.min(1 << 20)];
    let buf = contents.as_ptr() as u64;
    let mut value = Segment {
        version: ABI_VERSION,
        flags: 0,
        buf,
        bufsz: bufsz as u64,
        mem,
        memsz,
    };
    call(device, abi::IOC_SEGMENT, &mut value)
}

fn commit(device: &File, entry: u64) -> i32 {
    let mut value = Commit {
        version: ABI_VERSION,
        entry,
        ..Default::default()
    };
    call(device, abi::IOC_COMMIT, &mut value)
}

fn status(device: &File) -> i32 {
    let mut value = Status {
        version: ABI_VERSION,
        ..Default::default()
    };
    call(device, abi::IOC_STATUS, &mut value)
}

fn tell(name: &str, errno: i32) {
    println!("{name} errno {errno}");
}

/// Each ioctl with a version that is not the module's.
fn versions(device: &File) {
    let wrong = ABI_VERSION + 1;
    let mut value = Prepare {
        version: wrong,
        window_end: WINDOW,
        ..Default::default()
    };
    tell("prepare", call(device, abi::IOC_PREPARE, &mut value));
    let mut value = Segment {
        version: wrong,
        memsz: 4096,
        mem: 1 << 20,
        ..Default::default()
    };
    tell("segment", call(device, abi::IOC_SEGMENT, &mut value));
    let mut value = Commit {
        version: wrong,
        ..Default::default()
    };
    tell("commit", call(device, abi::IOC_COMMIT, &mut value));
    tell(
        "jump",
        call(
            device,
            abi::IOC_JUMP,
            &mut Jump {
                version: wrong,
                ..Default::default()
            },
        ),
    );
    tell(
        "back",
        call(
            device,
            abi::IOC_BACK,
            &mut Back {
                version: wrong,
                ..Default::default()
            },
        ),
    );
    let mut value = Unload {
        version: wrong,
        ..Default::default()
    };
    tell("unload", call(device, abi::IOC_UNLOAD, &mut value));
    let mut value = Status {
        version: wrong,
        ..Default::default()
    };
    tell("status", call(device, abi::IOC_STATUS, &mut value));
}

/// Each ioctl with a pointer to nothing, and a segment whose contents are not there.
fn pointers(device: &File) {
    let requests = [
        ("prepare", abi::IOC_PREPARE),
        ("segment", abi::IOC_SEGMENT),
        ("commit", abi::IOC_COMMIT),
        ("jump", abi::IOC_JUMP),
        ("back", abi::IOC_BACK),
        ("unload", abi::IOC_UNLOAD),
        ("status", abi::IOC_STATUS),
        ("handoff", abi::IOC_HANDOFF),
    ];
    for (name, request) in requests {
        tell(name, raw(device, request, NOWHERE));
        // In the kernel's half of the address space: never a user's.
        tell(&format!("{name}-kernel"), raw(device, request, 0xc100_0000));
    }
    if prepare(device, WINDOW) == 0 {
        let mut value = Segment {
            version: ABI_VERSION,
            flags: 0,
            buf: NOWHERE as u64,
            bufsz: 4096,
            mem: 1 << 20,
            memsz: 4096,
        };
        tell("contents", call(device, abi::IOC_SEGMENT, &mut value));
        value.buf = 0xffff_ffff_ffff_f000;
        tell("contents-wrap", call(device, abi::IOC_SEGMENT, &mut value));
    }
}

/// Windows that cannot be.
fn windows(device: &File) {
    tell("zero", prepare(device, 0));
    tell("unaligned", prepare(device, WINDOW + 1));
    tell("huge", prepare(device, 0xffff_f000));
    tell("beyond-4g", prepare(device, 1 << 40));
    tell("all-ones", prepare(device, u64::MAX));
    let mut value = Prepare {
        version: ABI_VERSION,
        flags: !0,
        window_end: WINDOW,
        ..Default::default()
    };
    tell("flags", call(device, abi::IOC_PREPARE, &mut value));
}

/// Segments that cannot be, and a good one that must still go in after them.
fn segments(device: &File) {
    const MIB: u64 = 1 << 20;
    tell("before-prepare", segment(device, MIB, 4096, 16));
    tell("prepare", prepare(device, WINDOW));
    tell("outside", segment(device, WINDOW, 4096, 16));
    tell("across-end", segment(device, WINDOW - 4096, 8192, 16));
    tell("hole", segment(device, 0xa0000, 4096, 16));
    tell("page-zero", segment(device, 0, 4096, 16));
    tell("wrap", segment(device, 0xffff_f000, 8192, 16));
    tell("wrap-64", segment(device, u64::MAX - 4095, 8192, 16));
    tell("memsz-huge", segment(device, MIB, u64::MAX - 10, 16));
    tell("empty", segment(device, MIB, 0, 0));
    tell("unaligned", segment(device, MIB + 1, 4096, 16));
    tell("bufsz-beyond", segment(device, MIB, 4096, 8192));
    tell("good", segment(device, 2 * MIB, 8192, 16));
    tell("overlap", segment(device, 2 * MIB + 4096, 4096, 16));
    tell("overlap-around", segment(device, 2 * MIB - 4096, 16384, 16));
    // A commit that fails drops what was sent.
    tell("entry-outside", commit(device, 3 * MIB));
    tell("entry-again", commit(device, 2 * MIB));
    tell("prepare-again", prepare(device, WINDOW));
    tell("good-again", segment(device, 2 * MIB, 8192, 16));
    tell("commit", commit(device, 2 * MIB));
    tell("segment-late", segment(device, MIB, 4096, 16));
    tell("prepare-late", prepare(device, WINDOW));
    tell("unload", call(device, abi::IOC_UNLOAD, &mut unload()));
}

fn unload() -> Unload {
    Unload {
        version: ABI_VERSION,
        ..Default::default()
    }
}

/// Things out of turn, with nothing loaded.
fn order(device: &File) {
    tell("commit", commit(device, 1 << 20));
    let jump = Jump {
        version: ABI_VERSION,
        ..Default::default()
    };
    tell("jump", call(device, abi::IOC_JUMP, &mut { jump }));
    tell(
        "jump-flags",
        call(device, abi::IOC_JUMP, &mut Jump { flags: !0, ..jump }),
    );
    let back = Back {
        version: ABI_VERSION,
        ..Default::default()
    };
    tell("back", call(device, abi::IOC_BACK, &mut { back }));
    tell("unload", call(device, abi::IOC_UNLOAD, &mut unload()));
    let mut handoff = vec![0u8; 4096];
    tell(
        "handoff",
        raw(device, abi::IOC_HANDOFF, handoff.as_mut_ptr() as usize),
    );
    tell("unknown", raw(device, abi::IOC_STATUS + 0x1f, NOWHERE));
    tell(
        "other-size",
        raw(device, abi::IOC_STATUS ^ (1 << 16), NOWHERE),
    );
}

/// A second file that wants to load while the first does.
fn two() -> Outcome {
    let (first, second) = (open()?, open());
    tell("first", prepare(&first, WINDOW));
    match second {
        Ok(second) => {
            tell("second", prepare(&second, WINDOW));
            tell("second-segment", segment(&second, 1 << 20, 4096, 16));
            tell(
                "second-unload",
                call(&second, abi::IOC_UNLOAD, &mut unload()),
            );
            tell("second-status", status(&second));
        }
        Err(why) => return Err(why),
    }
    drop(first);
    let third = open()?;
    tell("after-close", prepare(&third, WINDOW));
    Ok(())
}

/// Whatever brings another kernel to life, under lockdown.
fn locked(device: &File) {
    tell("prepare", prepare(device, WINDOW));
    let mut jump = Jump {
        version: ABI_VERSION,
        ..Default::default()
    };
    tell("jump", call(device, abi::IOC_JUMP, &mut jump));
    let mut claim = abi::Claim {
        version: ABI_VERSION,
        ..Default::default()
    };
    tell("claim", call(device, abi::IOC_CLAIM, &mut claim));
    let mut enter = abi::Enter {
        version: ABI_VERSION,
        ..Default::default()
    };
    tell("enter", call(device, abi::IOC_ENTER, &mut enter));
    let mut back = Back {
        version: ABI_VERSION,
        entry: 1 << 20,
        ..Default::default()
    };
    tell("back-to", call(device, abi::IOC_BACK, &mut back));
}

/// As nobody, opening the device, and using it through a descriptor that root had opened.
fn nobody() -> Outcome {
    let device = open()?;
    // SAFETY: these change this process's ids and nothing in its memory.
    if unsafe { libc::setgid(65534) } != 0 || unsafe { libc::setuid(65534) } != 0 {
        return Err(failed("setuid")(io::Error::last_os_error()));
    }
    let error = OpenOptions::new().read(true).write(true).open(abi::DEVICE);
    tell("open", error.err().map_or(0, |error| errno(&error)));
    tell("prepare", prepare(&device, WINDOW));
    let mut jump = Jump {
        version: ABI_VERSION,
        ..Default::default()
    };
    tell("jump", call(&device, abi::IOC_JUMP, &mut jump));
    // As large as any argument; who may not is told so before it is looked at.
    let mut any = [0u8; 4096];
    any[..4].copy_from_slice(&ABI_VERSION.to_le_bytes());
    for (name, request) in [
        ("segment", abi::IOC_SEGMENT),
        ("commit", abi::IOC_COMMIT),
        ("back", abi::IOC_BACK),
        ("unload", abi::IOC_UNLOAD),
        ("status", abi::IOC_STATUS),
        ("handoff", abi::IOC_HANDOFF),
        ("request", abi::IOC_REQUEST),
        ("label", abi::IOC_LABEL),
        ("select", abi::IOC_SELECT),
        ("list", abi::IOC_LIST),
        ("claim", abi::IOC_CLAIM),
        ("enter", abi::IOC_ENTER),
    ] {
        tell(name, call(&device, request, &mut any));
    }
    let error = |result: io::Result<usize>| result.err().map_or(0, |e| errno(&e));
    tell("read", error(device.read_at(&mut any, 1 << 20)));
    tell("write", error(device.write_at(&any, 1 << 20)));
    // SAFETY: a mapping at an address of the kernel's choice, which is not touched.
    let mapped = unsafe {
        let (access, shared) = (libc::PROT_READ, libc::MAP_SHARED);
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            access,
            shared,
            device.as_raw_fd(),
            0,
        )
    };
    let failed = mapped == libc::MAP_FAILED;
    tell(
        "mmap",
        if failed {
            errno(&io::Error::last_os_error())
        } else {
            0
        },
    );
    let kimgcore = File::open("/proc/kimgcore");
    tell("kimgcore", kimgcore.err().map_or(0, |e| errno(&e)));
    Ok(())
}

/// Jumps without the freezer, so that a second thread of this process is there to try an unload,
/// a load and another jump while the first is under way. Needs something loaded.
fn away() -> Outcome {
    static DONE: AtomicBool = AtomicBool::new(false);
    let (jumper, other) = (open()?, open()?);
    let meddler = thread::spawn(move || {
        let mut seen = [0; 3];
        while !DONE.load(Ordering::Relaxed) {
            let mut value = Status {
                version: ABI_VERSION,
                ..Default::default()
            };
            call(&other, abi::IOC_STATUS, &mut value);
            if value.state == abi::STATE_AWAY && seen[0] == 0 {
                seen[0] = call(&other, abi::IOC_UNLOAD, &mut unload());
                seen[1] = prepare(&other, WINDOW);
                let mut jump = Jump {
                    version: ABI_VERSION,
                    ..Default::default()
                };
                seen[2] = call(&other, abi::IOC_JUMP, &mut jump);
            }
        }
        seen
    });
    let mut jump = Jump {
        version: ABI_VERSION,
        flags: abi::JUMP_NO_FREEZER,
        ..Default::default()
    };
    let outcome = call(&jumper, abi::IOC_JUMP, &mut jump);
    DONE.store(true, Ordering::Relaxed);
    let seen = meddler
        .join()
        .map_err(|_| "the second thread died".to_string())?;
    tell("jump", outcome);
    for (name, errno) in ["unload", "prepare", "jump-again"].iter().zip(seen) {
        tell(name, errno);
    }
    Ok(())
}

/// `nobody PROGRAM ARGS…`: becomes nobody, then the program.
pub fn become_nobody(args: &[String]) -> Outcome {
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new(arg(args, 0)?);
    let error = command.args(&args[1..]).gid(65534).uid(65534).exec();
    Err(failed("exec")(error))
}

/// `ioctl CASE`.
pub fn run(args: &[String]) -> Outcome {
    match arg(args, 0)? {
        "versions" => versions(&open()?),
        "pointers" => pointers(&open()?),
        "windows" => windows(&open()?),
        "segments" => segments(&open()?),
        "order" => order(&open()?),
        "two" => return two(),
        "nobody" => return nobody(),
        "locked" => locked(&open()?),
        "away" => return away(),
        case => return Err(format!("no case \"{case}\"")),
    }
    Ok(())
}
