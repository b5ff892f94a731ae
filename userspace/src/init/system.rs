//! What PID 1 does to its system: mounts, console, module, children, the end.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::fs::FsWord;
use rustix::io::Errno;
use rustix::mount::{mount, MountFlags};
use rustix::process::{wait, WaitOptions, WaitStatus};
use rustix::system::RebootCommand;

use super::say;
use crate::error::{Error, Result};

/// What is mounted where. The last column says whether its absence is worth a line.
const MOUNTS: &[(&str, &str, bool)] = &[
    ("proc", "/proc", true),
    ("sysfs", "/sys", true),
    ("devtmpfs", "/dev", true),
    ("tmpfs", "/tmp", true),
    ("tmpfs", "/run", true),
    ("devpts", "/dev/pts", false),
];

/// Mounts all of the above; what is mounted already stays.
pub fn mount_all() {
    for (kind, target, needed) in MOUNTS {
        let _ = fs::create_dir_all(target);
        match mount(*kind, *target, *kind, MountFlags::empty(), None) {
            Ok(()) | Err(Errno::BUSY) => {}
            Err(e) if *needed => say(format_args!("mount {target}: {e}")),
            Err(_) => {}
        }
    }
}

/// Gives this process the console for input and output.
pub fn console() {
    let Ok(console) = File::options().read(true).write(true).open("/dev/console") else {
        return;
    };
    let _ = rustix::stdio::dup2_stdin(&console);
    let _ = rustix::stdio::dup2_stdout(&console);
    let _ = rustix::stdio::dup2_stderr(&console);
}

/// How often a module is tried while its file is not closed.
const UNPACK_TRIES: u32 = 250;

/// Loads the module, unless it is there.
pub fn load_module(release: &str, parameters: &str) -> Result<()> {
    let paths = [
        format!("/lib/modules/{release}/kjump.ko"),
        "/lib/modules/kjump.ko".to_string(),
    ];
    let Some(path) = paths.iter().find(|p| Path::new(p).exists()) else {
        return Err(Error::io(&paths[1], io::Error::from(Errno::NOENT)));
    };
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let arguments = std::ffi::CString::new(parameters).unwrap_or_default();
    let mut tries = 0;
    let loaded = loop {
        match rustix::system::finit_module(&file, &arguments, 0) {
            // The kernel may still be closing, in the background, what it has just unpacked.
            Err(Errno::TXTBSY) if tries < UNPACK_TRIES => tries += 1,
            other => break other,
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    match loaded {
        Ok(()) => say(format_args!("module: {path} {parameters}")),
        Err(Errno::EXIST) => say("module: loaded already"),
        Err(e) => return Err(Error::io(format!("{path} {parameters}"), e)),
    }
    Ok(())
}

/// Gives up the modules for other kernels, which an initramfs for several has: they take a peer's memory, of which
/// a window has little. Only where the root is such a one, as a disk's would be lost.
pub fn forget_other_modules(release: &str) {
    const RAMFS: FsWord = 0x8584_58f6_u32 as FsWord;
    const TMPFS: FsWord = 0x0102_1994;
    if !rustix::fs::statfs("/").is_ok_and(|s| [RAMFS, TMPFS].contains(&s.f_type)) {
        return;
    }
    for entry in fs::read_dir("/lib/modules").into_iter().flatten().flatten() {
        if entry.file_name() != release {
            // A link has no such file in it.
            let _ = fs::remove_file(entry.path().join("kjump.ko"));
        }
    }
}

/// Runs a program to its end and reaps whatever else ends meanwhile. Gives its exit code, or 128
/// and its signal's number.
pub fn run(program: &str, arguments: &[String]) -> Result<u32> {
    let failed = |e: io::Error| Error::io(program, e);
    let child = Command::new(program)
        .args(arguments)
        .spawn()
        .map_err(failed)?;
    // Not `child.wait()`: PID 1 has to wait for everybody.
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() as u32 == child.id() => {
                return Ok(exit_code(status));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(failed(e.into())),
        }
    }
}

fn exit_code(status: WaitStatus) -> u32 {
    let signal = status.terminating_signal().map(|n| n.saturating_add(128));
    status
        .exit_status()
        .or(signal)
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or(255)
}

/// What this kernel needed of its memory, in words: for users who wonder how small a window may be.
pub fn peak_memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |text: &str, name: &str| crate::cmd::meminfo(text, name).unwrap_or(0) >> 10;
    format!(
        "{} of {} KiB of memory left here, {} KiB at most used by this program",
        field(&text, "MemAvailable"),
        field(&text, "MemTotal"),
        field(&own, "VmHWM")
    )
}

/// A moment's rest, so that a step that fails at once does not flood the console.
pub fn nap() {
    std::thread::sleep(Duration::from_secs(1));
}

/// The memory that this kernel sees, between two marker lines.
pub fn print_iomem() -> Result<()> {
    let read = |path: &str| fs::read_to_string(path).map_err(|e| Error::io(path, e));
    let (iomem, meminfo) = (read("/proc/iomem")?, read("/proc/meminfo")?);
    say("iomem begin");
    let total = meminfo.lines().filter(|l| l.starts_with("MemTotal:"));
    for line in iomem.lines().chain(total) {
        let _ = io::Write::write_all(&mut io::stdout(), format!("{line}\n").as_bytes());
    }
    say("iomem end");
    Ok(())
}

/// Panics the kernel: by sysrq, or where there is none by ending PID 1.
pub fn panic() -> ! {
    let _ = fs::write("/proc/sysrq-trigger", "c");
    std::process::exit(1)
}

/// Ends the machine's run. Gives up only if the kernel refuses.
pub fn end(power_off: bool) -> Result<()> {
    rustix::fs::sync();
    let how = if power_off {
        RebootCommand::PowerOff
    } else {
        RebootCommand::Restart
    };
    rustix::system::reboot(how).map_err(|e| Error::io("reboot", e))
}
