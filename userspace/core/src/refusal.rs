//! Why a core is not used, each in one line that says what and why.

use std::collections::TryReserveError;
use std::io;

use thiserror::Error;

/// Why a file is not used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No ELF at all.
    #[error("not an ELF file: its first four bytes are not those of one")]
    NotElf,
    /// A kernel, a program, an object.
    #[error("an ELF file of type {kind}, but no core (type 4)")]
    NotCore {
        /// `e_type`.
        kind: u16,
    },
    /// It ends too early.
    #[error("truncated: {what} ends at byte {end}, the file has {size}; copy it again")]
    Truncated {
        /// The part.
        what: &'static str,
        /// Where it should end.
        end: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// A core, but none whose kernel can be entered.
    #[error("not resumable: {0}")]
    NotResumable(&'static str),
    /// Of another machine or kernel.
    #[error("foreign: {what} is {file} in the file, {here} here; use it where it was made")]
    Foreign {
        /// What differs.
        what: &'static str,
        /// In the file.
        file: String,
        /// Here.
        here: String,
    },
    /// It contradicts itself.
    #[error("damaged: {0}; copy or save it again")]
    Bad(&'static str),
    /// A note of another version.
    #[error("unknown version {number} of {what}: this kjump knows version 1; use a newer kjump")]
    BadVersion {
        /// Of what.
        what: &'static str,
        /// The number.
        number: u32,
    },
    /// The kernel went on after it was saved.
    #[error("given up: the kernel went on after this was saved, so it can only be looked at")]
    GivenUp,
    /// Its kernel has gone on from it once.
    #[error("used: its kernel was resumed from this before, so it can only be looked at")]
    Used,
    /// A note with what an image says beside its pages, which does not decode.
    #[error("its note of an image: {0}")]
    Image(#[from] kjump_image::Refusal),
    /// Memory that the file does not have.
    #[error("it does not have the memory at {at:#x}, where {what} should be")]
    Missing {
        /// What was looked for.
        what: &'static str,
        /// Physical address.
        at: u64,
    },
    /// The source failed.
    #[error("reading {what} failed: {source}")]
    Io {
        /// What was being read.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// No memory for its tables.
    #[error("no memory for its table of segments; use a larger window")]
    NoMemory(#[from] TryReserveError),
}
