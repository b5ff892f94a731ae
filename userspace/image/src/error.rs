//! What can go wrong, each in one line that says what, why and what to do.

use std::collections::TryReserveError;
use std::io;

use thiserror::Error;

/// Why an image could not be written, or a mark not be changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The worst case does not fit, or the target has run out.
    #[error(
        "target too small: {need} bytes are needed, it holds {have}; use a larger one, or free \
         memory first"
    )]
    NoRoom {
        /// Bytes needed.
        need: u64,
        /// Bytes that the target holds.
        have: u64,
    },
    /// The target failed.
    #[error("{what} failed: {source}; the target holds no image")]
    Io {
        /// What was being written.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A mark on an image failed: it may be on the disk, or not.
    #[error(
        "writing {what} failed: {source}; whether the image carries it is not certain: look with \
         `kjump image inspect` when the disk works again"
    )]
    Mark {
        /// Which mark.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The last step failed, and so did taking it back.
    #[error(
        "writing the commit record failed ({source}) and so did taking it back: the target may \
         hold an image of this moment; discard it before the machine goes on"
    )]
    CommitUnknown {
        /// The system's first answer.
        source: io::Error,
    },
    /// No memory for buffers.
    #[error("no memory for buffers; use smaller chunks or a larger window")]
    NoMemory(#[from] TryReserveError),
    /// The caller's header, guards or pages make no image.
    #[error("not an image: {0}")]
    Invalid(&'static str),
    /// A page was given that the header does not cover.
    #[error("not an image: page {pfn:#x} is not RAM above the window, or is out of order")]
    BadPage {
        /// Its number.
        pfn: u64,
    },
    /// Not all pages came, or too many.
    #[error("not an image: {given} pages were given, the header says {expected}")]
    PageCount {
        /// Pages given.
        given: u64,
        /// Pages in the header.
        expected: u64,
    },
    /// The progress callback said so.
    #[error("stopped; the target holds no image")]
    Stopped,
    /// A stream cannot be changed any more.
    #[error("a stream cannot be marked; use a partition or a file")]
    Stream,
}

/// Why an image is not used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is none.
    #[error("no image: {0}")]
    NoImage(&'static str),
    /// Saving did not come to its end.
    #[error(
        "unfinished image: the save that began at {begun} (seconds since 1970) did not reach its \
         end; nothing of it can be used"
    )]
    Unfinished {
        /// Seconds since 1970 UTC.
        begun: u64,
    },
    /// It ends too early.
    #[error("torn image: {what} is cut off or missing; copy or save it again")]
    Torn {
        /// The part.
        what: &'static str,
    },
    /// Something does not match its checksum or contradicts something else.
    #[error("damaged image: {what}; copy or save it again")]
    Damaged {
        /// The part, and what is wrong with it.
        what: &'static str,
    },
    /// A chunk does not match its checksum or contradicts something else.
    #[error("damaged image: chunk {index} at byte {offset}: {what}; copy or save it again")]
    DamagedChunk {
        /// Number of the chunk.
        index: u64,
        /// Where it starts, bytes.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The header contradicts itself.
    #[error("bad header: {0}; save again")]
    BadHeader(&'static str),
    /// Another version, or something that this version does not know.
    #[error(
        "unknown {what} {number}: this kjump knows version 1 of the format; use a newer kjump"
    )]
    BadVersion {
        /// Of what.
        what: &'static str,
        /// The number.
        number: u32,
    },
    /// Of another machine or kernel.
    #[error("foreign image: {what} differs: {image} in the image, {here} here; resume it where it was saved, or discard it")]
    Foreign {
        /// What differs.
        what: &'static str,
        /// In the image.
        image: String,
        /// Here.
        here: String,
    },
    /// A run lies where no page may be written.
    #[error("bad image: chunk {index} has pages {pfn:#x}+{count:#x}, which are not RAM above the window, or are out of order")]
    OutOfBounds {
        /// Number of the chunk.
        index: u64,
        /// First page.
        pfn: u64,
        /// Pages.
        count: u64,
    },
    /// Memory was restored from it before.
    #[error(
        "used image: it was resumed at {time} (seconds since 1970), and power was lost after \
         that or the resume failed; what memory held is gone, the disks are as at the save; \
         discard it"
    )]
    Used {
        /// Seconds since 1970 UTC.
        time: u64,
    },
    /// A restore from it failed in the middle before.
    #[error(
        "refused image: a restore at {time} (seconds since 1970) found it damaged or could not \
         read it, and said why then; try again with --retry, or discard it"
    )]
    RefusedBefore {
        /// Seconds since 1970 UTC.
        time: u64,
    },
    /// Somebody said so.
    #[error("discarded image: it was given up at {time} (seconds since 1970); save again")]
    Discarded {
        /// Seconds since 1970 UTC.
        time: u64,
    },
    /// The key is another one.
    #[error("wrong passphrase or key: the image was encrypted with another")]
    WrongKey,
    /// What is sealed by the key is not what was sealed.
    #[error(
        "altered image: {what} is not what was written with this key: somebody has changed it, or put \
         a part of another image there; do not trust this disk, and discard the image"
    )]
    Altered {
        /// The part.
        what: &'static str,
    },
    /// It is encrypted, and there is no key.
    #[error("encrypted image: it needs its passphrase or key file")]
    Locked,
    /// It is not encrypted, though it should be.
    #[error(
        "plain image, where only an encrypted one is to be used: somebody may have put it there; \
         look at it with `kjump image inspect`, and discard it"
    )]
    Plain,
    /// What it builds on is not there, or is not what it was.
    #[error(
        "incremental image: its base {base} {why}; bring that back, or use an image that needs no \
         base (`kjump image flatten` makes one while the base is there)"
    )]
    Base {
        /// Its UUID, and where it was.
        base: String,
        /// What is wrong.
        why: String,
    },
    /// The source failed.
    #[error("reading {what} failed: {source}")]
    Io {
        /// What was being read.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// No memory for buffers.
    #[error("no memory for buffers; use a larger window")]
    NoMemory(#[from] TryReserveError),
}
