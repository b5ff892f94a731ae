//! `kjump doctor`: can this machine jump? A line a check, each with its mend.

use std::fs;
use std::path::Path;

use kjump_abi as abi;
use kjump_abi::{Status, DEFAULT_WINDOW_END, DEVICE};

use super::say;
use crate::device::Device;
use crate::error::Result;
use crate::loader::memmap;
use crate::watchdogs;

/// Memory that a load may need besides the window: lists, tables, the kernel file's buffers.
const SLACK: u64 = 8 << 20;
/// RAM that the default window should have; a PC keeps a little of it for the firmware.
const MIN_WINDOW_RAM: u64 = DEFAULT_WINDOW_END - (2 << 20);

/// A check's outcome.
struct Check {
    what: String,
    /// What to do, if it failed.
    mend: Option<String>,
}

fn check(ok: bool, what: impl Into<String>, mend: impl Into<String>) -> Check {
    Check {
        what: what.into(),
        mend: (!ok).then(|| mend.into()),
    }
}

/// Prints the checks; 1 if something is to mend.
pub fn run() -> Result<u8> {
    let mut checks = vec![
        root(),
        architecture(),
        hibernation(),
        modules(),
        map(),
        memory(),
        watchdogs(),
    ];
    checks.extend(lockdown());
    match Device::open() {
        Err(e) => checks.push(check(false, DEVICE, e.to_string())),
        Ok(device) => match device.status() {
            Err(e) => {
                let why = crate::error::Error::from_errno("status", e).to_string();
                checks.push(check(false, format!("{DEVICE} answers"), why));
            }
            Ok(status) => checks.extend(module(&status)),
        },
    }
    for c in &checks {
        match &c.mend {
            None => say(format!("ok    {}", c.what))?,
            Some(mend) => say(format!("MEND  {}: {mend}", c.what))?,
        }
    }
    Ok(u8::from(checks.iter().any(|c| c.mend.is_some())))
}

fn root() -> Check {
    let ok = rustix::process::geteuid().is_root();
    check(ok, "running as root", "run with sudo or as root")
}

fn architecture() -> Check {
    let uname = rustix::system::uname();
    let machine = uname.machine().to_string_lossy().into_owned();
    let ok = ["i386", "i486", "i586", "i686"].contains(&machine.as_str());
    check(
        ok,
        format!("architecture {machine}"),
        "kjump runs on i386 kernels for now; boot one",
    )
}

fn hibernation() -> Check {
    let mend = "use a kernel with CONFIG_HIBERNATION, whose device callbacks a jump needs";
    check(
        Path::new("/sys/power/disk").exists(),
        "kernel has hibernation",
        mend,
    )
}

fn modules() -> Check {
    let mend = "use a kernel with CONFIG_MODULES, and mount /proc";
    check(
        Path::new("/proc/modules").exists(),
        "kernel loads modules",
        mend,
    )
}

fn map() -> Check {
    match memmap::read() {
        Err(e) => check(false, "memory map", e.to_string()),
        Ok(map) => {
            let ram: u64 = memmap::ram(&memmap::for_window(&map, DEFAULT_WINDOW_END, None))
                .map(|(start, end)| end - start)
                .sum();
            let what = format!("{} KiB of RAM below 16 MiB", ram / 1024);
            check(
                ram >= MIN_WINDOW_RAM,
                what,
                "give a larger --window to `kjump load`",
            )
        }
    }
}

fn watchdogs() -> Check {
    match watchdogs::running(Path::new("/")) {
        None => check(true, "no hardware watchdog is running", ""),
        Some(which) => check(
            false,
            format!("hardware watchdog {which}"),
            "stop it: it would reset the machine while this kernel is away",
        ),
    }
}

fn memory() -> Check {
    let need = DEFAULT_WINDOW_END + SLACK;
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    match meminfo(&text, "MemAvailable") {
        None => check(false, "available memory", "unknown: mount /proc"),
        Some(bytes) => {
            let what = format!("{} MiB of memory available", bytes >> 20);
            check(
                bytes >= need,
                what,
                format!("free memory until {} MiB are", need >> 20),
            )
        }
    }
}

/// A line of /proc/meminfo, in bytes.
pub fn meminfo(text: &str, name: &str) -> Option<u64> {
    let mut fields = text
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?
        .split_whitespace();
    fields.next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Nothing to say where the kernel has no such file: it has no lockdown then, or securityfs is
/// not mounted and the module tells.
fn lockdown() -> Option<Check> {
    let text = fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    let mend = "boot without `lockdown=`: a locked-down kernel refuses to be replaced";
    Some(check(text.contains("[none]"), "lockdown off", mend))
}

fn module(s: &Status) -> Vec<Check> {
    let mut checks = vec![check(
        true,
        format!("{DEVICE} answers, ABI version {}", s.version),
        "",
    )];
    if s.flags & abi::STATUS_FLAG_LOCKDOWN != 0 {
        let mend = "boot without `lockdown=`: a locked-down kernel refuses to be replaced";
        checks.push(check(false, "lockdown off", mend));
    }
    let missing: Vec<&str> = abi::OPTIONAL_SYMBOLS
        .iter()
        .enumerate()
        .filter(|(i, _)| s.symbols & (1 << i) == 0)
        .map(|(_, name)| *name)
        .collect();
    // Each has a fallback, and a kernel without virtual terminals rightly lacks two.
    let what = if missing.is_empty() {
        "optional kernel functions: all found".to_string()
    } else {
        format!(
            "optional kernel functions, missing ones: {}",
            missing.join(", ")
        )
    };
    let mend = "none found: use a kernel with CONFIG_KPROBES and CONFIG_KALLSYMS; docs/symbols.md \
                says what a jump does without them";
    checks.push(check(
        missing.len() < abi::OPTIONAL_SYMBOLS.len(),
        what,
        mend,
    ));
    let state = abi::STATES
        .get(s.state as usize)
        .copied()
        .unwrap_or("unknown");
    let mend = "wait for what is under way, or stop it";
    let idle = ![abi::STATE_AWAY, abi::STATE_PREPARING].contains(&s.state);
    checks.push(check(idle, format!("state: {state}"), mend));
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_lines() {
        let text = "MemTotal:  511000 kB\nMemAvailableX: 1 kB\nMemAvailable:   2048 kB\n";
        assert_eq!(meminfo(text, "MemAvailable"), Some(2 << 20));
        assert_eq!(
            (
                meminfo(text, "MemFree"),
                meminfo("A: x", "A"),
                meminfo("A:", "A")
            ),
            (None, None, None)
        );
    }

    #[test]
    fn a_module_with_everything_is_ok() {
        let all = (1 << abi::OPTIONAL_SYMBOLS.len()) - 1;
        let s = Status {
            version: 1,
            symbols: all,
            ..Default::default()
        };
        assert!(module(&s).iter().all(|c| c.mend.is_none()));
        let mut bad = s;
        assert!(module(&Status {
            symbols: all - 1,
            ..s
        })
        .iter()
        .all(|c| c.mend.is_none()));
        (bad.symbols, bad.state, bad.flags) = (0, abi::STATE_AWAY, abi::STATUS_FLAG_LOCKDOWN);
        let bad = module(&bad);
        assert_eq!(bad.iter().filter(|c| c.mend.is_some()).count(), 3);
        assert!(bad
            .iter()
            .any(|c| c.what.contains("missing ones: freeze_processes")));
    }
}
