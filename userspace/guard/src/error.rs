//! What can go wrong, each in one line that says what, why and what to do.

use std::io;

use kjump_image::Guard;
use thiserror::Error;

use crate::found::Kind;

/// Why a device could not be looked at, or a swap area not be changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The device failed.
    #[error("{what} failed: {source}")]
    Io {
        /// What was being read or written.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// No guard can be made of it.
    #[error("{kind} {what}: no guard can watch that; unmount it, or allow unknown filesystems")]
    Unsupported {
        /// What it is.
        kind: Kind,
        /// What about it.
        what: &'static str,
    },
    /// It contradicts itself.
    #[error("{kind} is damaged: {what}; check it with its fsck")]
    Damaged {
        /// What it is.
        kind: Kind,
        /// What is wrong.
        what: &'static str,
    },
    /// It is not there, or not any more.
    #[error("no {kind} on the device: {what}")]
    Absent {
        /// What was looked for.
        kind: Kind,
        /// What is there instead.
        what: &'static str,
    },
}

/// For `map_err`: names what was being done.
pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { what, source }
}

/// Something was written since.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{name}: {what}")]
pub struct Stale {
    /// The guard's label, or what it is where it has none.
    pub name: String,
    /// What differs.
    pub what: String,
}

impl Stale {
    pub(crate) fn new(recorded: &Guard, what: String) -> Self {
        let kind = Kind::from_number(recorded.kind).map_or("device", Kind::name);
        let name = match recorded.label.as_str() {
            "" => kind.into(),
            label => format!("{kind} {label}"),
        };
        Self { name, what }
    }
}
