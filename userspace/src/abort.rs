//! The user's wish to stop: a signal, or a key on the terminal or console.
//!
//! As PID 1 of a peer the keys are all there is: the console is nobody's controlling terminal
//! then, so Ctrl-C arrives as a byte or not at all, and a signal's default action would be a panic.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::process::getpgrp;
use rustix::termios::{
    tcgetattr, tcgetpgrp, tcsetattr, LocalModes, OptionalActions, SpecialCodeIndex, Termios,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// Between two looks at the keyboard.
const KEYS_EVERY: Duration = Duration::from_millis(100);

/// From now on no signal that a user sends ends this program: what it has begun must be ended or
/// taken back. What cannot be caught is left out. The answer tells whether there was one.
pub fn hold_signals() -> Arc<AtomicBool> {
    let held = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        let _ = flag::register(signal, Arc::clone(&held));
    }
    held
}

/// Watches for the user's wish to stop, until it is dropped. Ctrl-C, Esc and q on the terminal;
/// SIGINT and SIGTERM, of which a second one ends the program at once: what it waits for may never
/// come.
pub struct Abort {
    wish: Arc<AtomicBool>,
    keys: Option<Keys>,
    looked: Instant,
}

impl Abort {
    /// Starts watching. Where there is no terminal, or no signal can be caught, that part is left
    /// out: a save is possible without.
    pub fn watch() -> Self {
        // What catches a signal once stays there, so there is one for all.
        static SIGNALS: OnceLock<Arc<AtomicBool>> = OnceLock::new();
        let wish = SIGNALS.get_or_init(|| {
            let wish = Arc::new(AtomicBool::new(false));
            if std::process::id() != 1 {
                for signal in [SIGINT, SIGTERM] {
                    // In this order: the first signal finds no wish yet, and leaves one.
                    let _ = flag::register_conditional_default(signal, Arc::clone(&wish));
                    let _ = flag::register(signal, Arc::clone(&wish));
                }
            }
            wish
        });
        wish.store(false, Ordering::Relaxed);
        Self {
            wish: Arc::clone(wish),
            keys: Keys::take(),
            looked: Instant::now(),
        }
    }

    /// Watches nothing; only [`Abort::request`] stops.
    #[cfg(test)]
    pub fn never() -> Self {
        Self {
            wish: Arc::default(),
            keys: None,
            looked: Instant::now(),
        }
    }

    /// Stops from here on.
    pub fn request(&self) {
        self.wish.store(true, Ordering::Relaxed);
    }

    /// Does the user want to stop? To be asked as often as one likes; the keyboard is looked at
    /// ten times a second.
    pub fn requested(&mut self) -> bool {
        if let Some(keys) = &self.keys {
            if self.looked.elapsed() >= KEYS_EVERY {
                self.looked = Instant::now();
                if keys.pressed() {
                    self.request();
                }
            }
        }
        self.wish.load(Ordering::Relaxed)
    }
}

impl Drop for Abort {
    /// From here on the signals do again what they do by default.
    fn drop(&mut self) {
        self.request();
    }
}

/// The terminal on standard input, giving keys one by one and without echo until this is dropped.
struct Keys {
    before: Termios,
}

impl Keys {
    fn take() -> Option<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() || !is_ours() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        if std::process::id() == 1 {
            // Else the terminal swallows Ctrl-C: there is no process group to send a signal to.
            raw.local_modes -= LocalModes::ISIG;
        }
        // Never wait for a key.
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        // What was typed before is not about this, and may be noise on a serial line.
        tcsetattr(&stdin, OptionalActions::Flush, &raw).ok()?;
        Some(Self { before })
    }

    fn pressed(&self) -> bool {
        let stdin = io::stdin();
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        let at_once = Timespec::default();
        if !is_ours() || !matches!(poll(&mut fds, Some(&at_once)), Ok(1)) {
            return false;
        }
        let mut bytes = [0; 64];
        let n = rustix::io::read(&stdin, &mut bytes).unwrap_or(0);
        is_wish(&bytes[..n])
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // If the terminal is gone nobody misses its settings.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// May the terminal on standard input be touched? Not from the background: that would suspend
/// this program. A console without job control belongs to whoever has it.
fn is_ours() -> bool {
    tcgetpgrp(io::stdin()).map_or(true, |group| group == getpgrp())
}

/// Do these bytes from a terminal say stop? Arrow keys and the like begin with Esc, too.
fn is_wish(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().any(|(i, byte)| match byte {
        0x03 | b'q' | b'Q' => true,
        0x1b => !matches!(bytes.get(i + 1), Some(b'[' | b'O')),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::low_level::raise;

    #[test]
    fn keys() {
        for wish in [
            &b"\x03"[..],
            b"q",
            b"Q",
            b"\x1b",
            b"ab\x1b",
            b"\x1b\x1b[A",
            b"\x1b[Aq",
        ] {
            assert!(is_wish(wish), "{wish:?}");
        }
        for other in [&b""[..], b"x\r\n y", b"\x1b[A\x1bOP", "ü".as_bytes()] {
            assert!(!is_wish(other), "{other:?}");
        }
    }

    #[test]
    fn a_signal_is_a_wish() {
        // Standard input of a test is whoever started it: only the signals are of interest.
        let mut abort = Abort::watch();
        assert!(!abort.requested());
        raise(SIGTERM).unwrap();
        assert!(abort.requested());
        drop(abort);
        // The next one begins anew.
        let mut next = Abort::watch();
        assert!(!next.requested());
        raise(SIGINT).unwrap();
        assert!(next.requested());
    }

    #[test]
    fn nothing_comes_from_nobody() {
        let mut abort = Abort::never();
        assert!(!abort.requested());
        abort.request();
        assert!(abort.requested());
    }
}
