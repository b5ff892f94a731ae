// SPDX-License-Identifier: GPL-2.0

//! A guest's serial port as text that grows: reading it, waiting for something in it, and
//! noticing when the kernel that prints to it is in trouble.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, Result};

/// What a healthy kernel does not print. Each is a part of a line.
const SPLATS: &[&str] = &[
    "WARNING:",
    "BUG:",
    "Oops",
    "kernel BUG at",
    "Kernel panic",
    "general protection fault",
    "Unable to handle kernel",
    "INFO: possible",
    "INFO: task ",
    "INFO: rcu",
    "Call Trace",
    "possible circular locking",
    "suspicious RCU usage",
    "pagealloc: ",
    "double fault",
    "irq 9: nobody cared",
    "nobody cared (try booting",
    "EXT4-fs error",
    "I/O error, dev",
    "Out of memory:",
    "clocksource: timekeeping watchdog",
    // What a kernel says that looks for mistakes (qemu-tests/kernels/debug.config).
    "BUG kmalloc",
    "Object corrupt",
    "Redzone overwritten",
    "Poison overwritten",
    "UBSAN: ",
    "ODEBUG: ",
    "list_add corruption",
    "list_del corruption",
    "usercopy: Kernel memory",
    "rust_kernel: panicked",
    "turning off the locking correctness validator",
    "corrupted stack end",
];

/// Lines that look like a splat and are none.
const HARMLESS: &[&str] = &[
    // The kernel announcing its debugging options.
    "enabling page poisoning",
    // Booted without some mitigation: a remark on the emulated CPU.
    "Spectre",
    // The host was busy with something else while the guest read a clock: that check is passed over, or the
    // clock no longer trusted.
    "read-back delay of",
];

/// Warnings of mainline's own, each by a part of its first line: up to their ends they do not count.
const MAINLINES: &[&str] = &[
    // Lockdep's: where a filesystem is frozen, a writer waits for that in sb_start_write, to be frozen as it is
    // (percpu_down_read_freezable), with its file's position locked. Tasks are frozen after filesystems in
    // mainline's own suspend, too.
    "kernel/freezer.c:139 at __set_task_frozen",
];

/// What has been received, and whether there may be more.
#[derive(Default)]
struct State {
    text: String,
    closed: bool,
}

/// A growing text, shared between the thread that receives it and those that wait for it.
#[derive(Clone, Default)]
pub struct Console {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Console {
    /// Starts a thread that reads `source` to its end.
    pub fn read_from(source: impl Read + Send + 'static) -> Self {
        Self::tee(source, |_| ())
    }

    /// As [`Console::read_from`]; each piece received also goes to `also`.
    pub fn tee(
        mut source: impl Read + Send + 'static,
        mut also: impl FnMut(&str) + Send + 'static,
    ) -> Self {
        let console = Self::default();
        let theirs = console.clone();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = source.read(&mut piece) {
                let text: String = piece[..count]
                    .iter()
                    .filter(|&&byte| byte != b'\r' && byte != 0)
                    .map(|&byte| if byte.is_ascii() { byte as char } else { '?' })
                    .collect();
                also(&text);
                theirs.push(&text);
            }
            theirs.state().closed = true;
            theirs.shared.1.notify_all();
        });
        console
    }

    /// Adds to the text.
    pub fn push(&self, text: &str) {
        self.state().text.push_str(text);
        self.shared.1.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the text ends now: what comes later is "from" here.
    pub fn mark(&self) -> usize {
        self.state().text.len()
    }

    /// The text from a mark on.
    pub fn since(&self, mark: usize) -> String {
        self.state().text[mark..].to_string()
    }

    /// Whether the other side has closed the port: QEMU is gone.
    #[cfg(test)]
    pub fn closed(&self) -> bool {
        self.state().closed
    }

    /// Waits until `needle` has come in after `mark`, and gives the text from the mark to the end
    /// of the line with the needle. An error if time runs out or the port is closed.
    pub fn wait_for(&self, mark: usize, needle: &str, timeout: Duration) -> Result<String> {
        match self.poll_for(mark, needle, timeout) {
            Wait::Found(text) => Ok(text),
            Wait::Closed => bail!("the machine went off while we waited for \"{needle}\""),
            Wait::Nothing => bail!("no \"{needle}\" within {} s", timeout.as_secs()),
        }
    }

    /// Waits until `needle` has come in after `mark`, whether or not its line has an end.
    pub fn wait_text(&self, mark: usize, needle: &str, timeout: Duration) -> Result<()> {
        let end = Instant::now() + timeout;
        loop {
            let state = self.state();
            let (found, closed) = (state.text[mark..].contains(needle), state.closed);
            if found {
                return Ok(());
            }
            if closed {
                bail!("the machine went off while we waited for \"{needle}\"");
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no \"{needle}\" within {} s", timeout.as_secs());
            }
            // The guard goes into the wait and, with it, away.
            drop(self.shared.1.wait_timeout(state, left));
        }
    }

    /// As [`Console::wait_for`], for callers that look at something else in between. When time runs out a
    /// line without an end counts: a prompt has none.
    pub fn poll_for(&self, mark: usize, needle: &str, timeout: Duration) -> Wait {
        self.poll(mark, needle, timeout, false)
    }

    /// As [`Console::poll_for`]; but a line without an end is still to come, as what matters is behind the needle.
    pub fn poll_line(&self, mark: usize, needle: &str, timeout: Duration) -> Wait {
        self.poll(mark, needle, timeout, true)
    }

    fn poll(&self, mark: usize, needle: &str, timeout: Duration, whole: bool) -> Wait {
        let end = Instant::now() + timeout;
        let mut state = self.state();
        loop {
            let text = &state.text[mark..];
            if let Some(at) = text.find(needle) {
                if let Some(length) = text[at..].find('\n') {
                    return Wait::Found(text[..at + length].to_string());
                }
                // The rest of the line is still to come; a prompt has no rest.
                if state.closed {
                    return Wait::Found(text.to_string());
                }
            }
            if state.closed {
                return Wait::Closed;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return match text.find(needle) {
                    Some(_) if !whole => Wait::Found(text.to_string()),
                    _ => Wait::Nothing,
                };
            }
            state = self
                .shared
                .1
                .wait_timeout(state, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
    }

    /// The first line that a healthy kernel would not have printed, outside the `forgiven` parts.
    pub fn splat(&self, forgiven: &[(usize, usize)]) -> Option<String> {
        let state = self.state();
        let mut from = 0;
        for &(start, end) in forgiven {
            let found = splat_in(&state.text[from..start.max(from)]);
            if found.is_some() {
                return found;
            }
            from = end.min(state.text.len()).max(from);
        }
        splat_in(&state.text[from..])
    }
}

/// Outcome of [`Console::poll_for`].
#[derive(Debug, PartialEq)]
pub enum Wait {
    /// It came: the text up to the end of its line.
    Found(String),
    /// The port was closed first.
    Closed,
    /// Time ran out first.
    Nothing,
}

/// The first line of `text` that a healthy kernel would not have printed.
pub fn splat_in(text: &str) -> Option<String> {
    let is_in = |line: &str, list: &[&str]| list.iter().any(|part| line.contains(part));
    let mut mainlines = false;
    text.lines()
        .find(|line| {
            mainlines |= is_in(line, MAINLINES);
            let counts = !mainlines && is_in(line, SPLATS) && !is_in(line, HARMLESS);
            mainlines &= !line.contains("---[ end trace");
            counts
        })
        .map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(10);

    #[test]
    fn waits_for_whole_lines_after_the_mark() {
        let console = Console::default();
        console.push("ready\n");
        let mark = console.mark();
        console.push("::rc 1 ");
        let theirs = console.clone();
        let later = thread::spawn(move || {
            thread::sleep(SHORT);
            theirs.push("0\nnext");
        });
        let found = console
            .wait_for(mark, "::rc 1", Duration::from_secs(5))
            .expect("it came");
        assert_eq!(found, "::rc 1 0");
        later.join().expect("no panic");
        assert_eq!(console.poll_for(mark, "ready", SHORT), Wait::Nothing);
    }

    #[test]
    fn a_line_counts_when_it_has_an_end() {
        let console = Console::default();
        console.push("::rc 7 ");
        assert_eq!(console.poll_line(0, "::rc 7 ", SHORT), Wait::Nothing);
        assert!(matches!(
            console.poll_for(0, "::rc 7 ", SHORT),
            Wait::Found(_)
        ));
        console.push("13\n");
        let whole = Wait::Found("::rc 7 13".into());
        assert_eq!(console.poll_line(0, "::rc 7 ", SHORT), whole);
    }

    #[test]
    fn a_warning_of_mainlines_ends_somewhere() {
        let warning =
            "WARNING: kernel/freezer.c:139 at __set_task_frozen+0x65/0x7d, CPU#1: kjump/118\n\
                       Call Trace:\n---[ end trace 0000000000000000 ]---\n";
        assert_eq!(splat_in(warning), None);
        let more = format!("{warning}BUG: sleeping function called\n");
        assert!(splat_in(&more).is_some_and(|line| line.contains("sleeping")));
    }

    #[test]
    fn end_of_file_ends_a_wait() {
        let console = Console::read_from(&b"one\r\ntwo"[..]);
        assert!(console
            .wait_for(0, "three", Duration::from_secs(5))
            .is_err());
        assert_eq!(console.since(0), "one\ntwo");
        assert!(console.closed());
    }

    #[test]
    fn forgiven_parts_do_not_count() {
        let console = Console::default();
        console.push("fine\nOops\n");
        assert!(console.splat(&[]).is_some());
        assert!(console.splat(&[(5, 10)]).is_none() && console.splat(&[(5, usize::MAX)]).is_none());
        console.push("BUG: again\n");
        assert!(console.splat(&[(5, 10)]).is_some());
    }

    #[test]
    fn splats_are_seen_and_other_lines_are_not() {
        for bad in [
            "[    1.0] WARNING: CPU: 0 PID: 1 at kernel/x.c:1",
            "[    1.0] BUG: unable to handle page fault for address: 00000000",
            "[    1.0] kernel BUG at mm/page_alloc.c:1!",
            "[    1.0] pagealloc: memory corruption",
            "[    1.0] INFO: task init:1 blocked for more than 120 seconds.",
            "[    1.0] BUG kmalloc-64 (Tainted: G           O       ): Right Redzone overwritten",
            "[    1.0] UBSAN: shift-out-of-bounds in kernel/x.c:7:3",
            "[    1.0] rust_kernel: panicked at kmod/x.rs:1:2:",
        ] {
            assert!(splat_in(&format!("fine\n{bad}\nfine")).is_some(), "{bad}");
        }
        for fine in [
            "[    0.0] DEBUG: x",
            "[    0.0] Freeing unused kernel image",
            "[   68.5] clocksource: timekeeping watchdog on CPU1: hpet wd-wd read-back delay of 144240ns",
            "[    9.2] clocksource: timekeeping watchdog on CPU1: hpet read-back delay of 4040380ns, attempt 2, marking unstable",
            "",
        ] {
            assert!(splat_in(fine).is_none() || fine.contains("BUG:"), "{fine}");
        }
    }
}
