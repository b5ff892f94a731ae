// SPDX-License-Identifier: GPL-2.0

//! The `kjump` command as the stories use it, in A.

use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;

use crate::agent::Output;
use crate::vm::Vm;

/// How long a jump, a boot of the peer included, may take on a busy machine.
pub const JUMP: Duration = Duration::from_secs(180);

/// What B does by itself: shows its memory map and comes back, each time it is entered.
pub const COME_BACK: &str = "kjump.do=iomem,back";

/// Exit codes of the command that the stories wait for, as `kjump --help` lists them.
pub mod exit {
    /// Something to mend, by `doctor`; a failure without a code of its own.
    pub const FAILURE: i32 = 1;
    /// Wrong usage.
    pub const USAGE: i32 = 2;
    /// Not root.
    pub const NOT_ROOT: i32 = 3;
    /// Module missing.
    pub const NO_MODULE: i32 = 4;
    /// Lockdown or missing capability.
    pub const NOT_PERMITTED: i32 = 5;
    /// Nothing is loaded.
    pub const NOTHING_LOADED: i32 = 6;
    /// Something is loaded already.
    pub const ALREADY_LOADED: i32 = 7;
    /// Not enough memory.
    pub const NO_MEMORY: i32 = 12;
    /// Not a kernel.
    pub const NOT_KERNEL: i32 = 13;
    /// Truncated kernel.
    pub const TRUNCATED: i32 = 14;
    /// The kernel does not fit.
    pub const KERNEL_DOES_NOT_FIT: i32 = 16;
    /// The initrd does not fit.
    pub const INITRD_DOES_NOT_FIT: i32 = 17;
    /// Window of zero size.
    pub const WINDOW_ZERO: i32 = 20;
    /// Window not page-aligned.
    pub const WINDOW_UNALIGNED: i32 = 21;
    /// Window larger than low memory.
    pub const WINDOW_TOO_LARGE: i32 = 22;
    /// A segment outside the window.
    pub const SEGMENT_OUTSIDE: i32 = 23;
    /// Overlapping segments.
    pub const SEGMENT_OVERLAP: i32 = 24;
    /// A segment that wraps around 4 GiB.
    pub const SEGMENT_WRAPS: i32 = 25;
    /// The peer cannot be entered again.
    pub const NOT_REENTERABLE: i32 = 27;
    /// This kernel is no peer.
    pub const NOT_PEER: i32 = 28;
    /// A rung of the way down failed.
    pub const RUNG: i32 = 29;
    /// The peer answered with something else than 0.
    pub const PEER_STATUS: i32 = 40;
    /// The peer panicked.
    pub const PEER_PANIC: i32 = 41;
    /// A program that was called did not return.
    pub const CALL_TIMED_OUT: i32 = 43;
    /// A program that was called faulted.
    pub const CALL_FAULTED: i32 = 44;
    /// The peer changed what it was not given.
    pub const TOUCHED: i32 = 46;
    /// A hardware watchdog is running.
    pub const WATCHDOG: i32 = 47;
    /// There is no image.
    pub const NO_IMAGE: i32 = 50;
    /// The image was not written to its end, or is cut off.
    pub const TORN: i32 = 51;
    /// The image is damaged.
    pub const DAMAGED: i32 = 52;
    /// The image was resumed or given up before.
    pub const USED: i32 = 53;
    /// The image is of another machine or kernel.
    pub const FOREIGN: i32 = 54;
    /// A filesystem was written since the image was saved.
    pub const STALE: i32 = 55;
    /// The target is missing, in use, or cannot hold an image.
    pub const TARGET: i32 = 56;
    /// The user has stopped it.
    pub const ABORTED: i32 = 57;
    /// The target failed at a read or a write.
    pub const TARGET_FAILED: i32 = 58;
    /// Disks were rolled back, and memory was not.
    pub const DISKS_GONE: i32 = 62;
    /// There is no key.
    pub const NO_KEY: i32 = 71;
    /// It is not encrypted, and only what is encrypted is taken.
    pub const PLAIN: i32 = 72;
}

/// Loads the module. `options` are its parameters.
pub fn insmod(vm: &mut Vm, options: &str) -> Result<()> {
    vm.sh(&format!("insmod /lib/kjump.ko {options}")).map(drop)
}

/// Loads `lean` with B's initramfs; `what` is more of its command line.
pub fn load_lean(vm: &mut Vm, what: &str) -> Result<()> {
    load_plain(vm, &format!("panic=-1 {what}"))
}

/// The same with the test programs in B's initramfs, for which there is just enough memory.
pub fn load_lean_with_programs(vm: &mut Vm, what: &str) -> Result<()> {
    let append = format!("console=ttyS0 panic=-1 {what}");
    let line = format!("kjump load /boot/lean --initrd /boot/peer.cpio.gz --append \"{append}\"");
    vm.sh(&line).map(drop)
}

/// As [`load_lean`], with a window of its own.
pub fn load_lean_own(vm: &mut Vm, what: &str) -> Result<()> {
    let append = format!("console=ttyS0 panic=-1 {what}");
    let files = "/boot/lean --own-window --initrd /boot/peer.cpio.gz";
    vm.sh(&format!("kjump load {files} --append \"{append}\""))
        .map(drop)
}

/// The same as `kjump hibernate` does it: a panic is not the end of it.
pub fn load_plain(vm: &mut Vm, what: &str) -> Result<()> {
    let append = format!("console=ttyS0 {what}");
    let append = append.trim();
    let line = format!("kjump load /boot/lean --initrd /boot/plain.cpio.gz --append \"{append}\"");
    vm.sh(&line).map(drop)
}

/// Loads `full`, which needs a wider window, as [`load_lean`] loads `lean`.
pub fn load_full(vm: &mut Vm, what: &str) -> Result<()> {
    let append = format!("console=ttyS0 panic=-1 {what}");
    let files = "/boot/full --initrd /boot/peer.cpio.gz --window 64M";
    vm.sh(&format!("kjump load {files} --append \"{append}\""))
        .map(drop)
}

/// Loads the peer of [`crate::peer`].
pub fn load_spin(vm: &mut Vm) -> Result<()> {
    vm.sh("kjump load /boot/spin").map(drop)
}

/// Jumps with these options, and waits.
pub fn jump(vm: &mut Vm, options: &str) -> Result<Output> {
    vm.run_for(&format!("kjump jump {options}"), JUMP)
}

/// Jumps; the peer must come back saying that all went well.
pub fn jump_and_return(vm: &mut Vm, options: &str) -> Result<String> {
    let output = jump(vm, options)?;
    ensure!(
        output.rc == 0,
        "kjump jump ended with {}: {}",
        output.rc,
        output.text
    );
    Ok(output.text)
}

/// What `kjump status --json` says.
pub fn status(vm: &mut Vm) -> Result<Value> {
    let text = vm.sh("kjump status --json")?;
    serde_json::from_str(&text).with_context(|| format!("status: {text}"))
}

/// What `kjump status NAME --json` says.
pub fn status_of(vm: &mut Vm, name: &str) -> Result<Value> {
    let text = vm.sh(&format!("kjump status {name} --json"))?;
    serde_json::from_str(&text).with_context(|| format!("status: {text}"))
}

/// A whole number of the status.
pub fn number(status: &Value, field: &str) -> Result<u64> {
    status[field]
        .as_u64()
        .with_context(|| format!("status has no number \"{field}\": {status}"))
}

/// An address of the status.
pub fn address(status: &Value, field: &str) -> Result<u64> {
    let text = status[field]
        .as_str()
        .with_context(|| format!("status has no \"{field}\""))?;
    Ok(u64::from_str_radix(text.trim_start_matches("0x"), 16)?)
}

/// Milliseconds that a part of the last jump took; `None` if it was not measured.
pub fn part(status: &Value, name: &str) -> Option<f64> {
    status["times_ms"][name].as_f64()
}

/// The command must refuse with that exit code and one line on stderr that contains `words`.
pub fn refuses(vm: &mut Vm, command: &str, code: i32, words: &str) -> Result<()> {
    let output = vm.run_for(command, JUMP)?;
    let lines = output.text.lines().count();
    if output.rc != code || !output.text.contains(words) || lines != 1 {
        bail!(
            "{command}: wanted exit code {code} and one line with \"{words}\", got {} and:\n{}",
            output.rc,
            output.text
        );
    }
    Ok(())
}

/// Bytes of the image that is at a target.
pub fn image_bytes(vm: &mut Vm, target: &str) -> Result<u64> {
    let said = vm.sh(&format!("kjump image inspect --json {target}"))?;
    let inspected: Value = serde_json::from_str(&said)?;
    let bytes = inspected["totals"]["image_bytes"].as_u64();
    bytes.with_context(|| format!("no sums: {said}"))
}

/// The power button, pressed from outside, arrives at A's input layer.
pub fn power_button(vm: &mut Vm) -> Result<()> {
    let find = "grep -l 'Power Button' /sys/class/input/event*/device/name | head -1 | cut -d/ -f5";
    let event = vm.sh(find)?;
    ensure!(!event.is_empty(), "A has no power button");
    vm.sh(&format!(
        "rm -f /run/button; (timeout 20 head -c 16 /dev/input/{event} | wc -c >/run/button) & sleep 1"
    ))?;
    vm.press_power()?;
    let wait =
        "for i in $(seq 40); do test -s /run/button && break; sleep 0.5; done; cat /run/button";
    let bytes = vm.sh(wait)?;
    ensure!(
        bytes.trim() == "16",
        "the power button does not reach A: {bytes} bytes"
    );
    Ok(())
}
