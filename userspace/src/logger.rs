//! What `-v` shows, on stderr.

use std::io::{self, Write};

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }
    fn log(&self, record: &Record) {
        let _ = writeln!(io::stderr(), "kjump: {}", record.args());
    }
    fn flush(&self) {}
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
