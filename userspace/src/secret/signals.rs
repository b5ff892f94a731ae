//! Signals while a terminal shows nothing of what is typed: one that ended the program there would leave
//! the terminal so. All `unsafe` of secrets but that of tests is here.
//!
//! They are blocked, and not caught: what catches a signal once stays there, and would swallow those that
//! come after the question.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use libc::{sigset_t, SIGHUP, SIGINT, SIGQUIT, SIGTERM};

/// What a user, a shell or a system that goes down ends a program with.
const ENDING: [libc::c_int; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// Signals that wait, until this is dropped.
pub struct Held {
    held: sigset_t,
    before: sigset_t,
}

impl Held {
    /// Holds back, in this thread, what would end the program: where questions are asked there is no
    /// other. As PID 1 nothing does end it.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn new() -> io::Result<Self> {
        let mut held = empty();
        if std::process::id() != 1 {
            for signal in ENDING.into_iter().filter(|s| !is_ignored(*s)) {
                // SAFETY: the set is one, and the number is a signal's.
                unsafe { libc::sigaddset(&mut held, signal) };
            }
        }
        let mut before = empty();
        // SAFETY: both sets are valid, one is read, the other written.
        match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &held, &mut before) } {
            0 => Ok(Self { held, before }),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Whether one has come. It is over with that: the caller is who ends now.
    pub fn came(&self) -> bool {
        let at_once = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: set and time are valid and only read; nothing is to be known of the signal.
        unsafe { libc::sigtimedwait(&self.held, ptr::null_mut(), &at_once) > 0 }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the set is valid, and only read. What was blocked before stays so.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}

fn empty() -> sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: this initialises the set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// Whether somebody said that it does not matter, as `nohup` does: when blocked it would come all the same.
fn is_ignored(signal: libc::c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: what is done about the signal is only written to `action`, for which zeros are right, too.
    unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr());
        action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::low_level::raise;

    /// Which signals this thread does not get, as the kernel writes it.
    fn blocked() -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("SigBlk"));
        line.unwrap().to_string()
    }

    #[test]
    fn they_wait() {
        let before = blocked();
        let held = Held::new().unwrap();
        assert!(!held.came());
        for signal in ENDING {
            // To this thread, which would end with all others.
            raise(signal).unwrap();
            assert!(held.came() && !held.came());
        }
        // One within another.
        drop(Held::new().unwrap());
        raise(SIGTERM).unwrap();
        assert!(held.came() && blocked() != before);
        // The next one does what it did before.
        drop(held);
        assert_eq!(blocked(), before);
    }

    #[test]
    fn what_is_ignored_does_not_count() {
        assert!(!is_ignored(libc::SIGWINCH) && is_ignored(libc::SIGPIPE));
    }
}
