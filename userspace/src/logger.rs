//! What `-v` shows, on stderr; and warnings. Held back while stderr may lie on a filesystem that
//! stands still.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

/// Lines that wait, while they have to.
static HELD: Mutex<Option<String>> = Mutex::new(None);

impl Log for Stderr {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }
    fn log(&self, record: &Record) {
        line(record.args());
    }
    fn flush(&self) {}
}

/// Prints a line to stderr, or keeps it until [`release`].
pub fn line(text: impl std::fmt::Display) {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *held {
        Some(lines) => *lines += &format!("kjump: {text}\n"),
        None => {
            let _ = writeln!(io::stderr(), "kjump: {text}");
        }
    }
}

/// From now on nothing is printed: a write could wait for ever.
pub fn hold() {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    held.get_or_insert_default();
}

/// Prints what was held back, and goes on as ever.
pub fn release() {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(lines) = held {
        let _ = io::stderr().write_all(lines.as_bytes());
    }
}

/// Lets everything through if `verbose`, else warnings only.
pub fn install(verbose: bool) {
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(if verbose {
            LevelFilter::Debug
        } else {
            LevelFilter::Warn
        });
    }
}
