//! What can go wrong, each in one line that says what, why and what to do.

use std::collections::TryReserveError;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a target is not to be had, or not to be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The text names no place.
    #[error(
        "`{text}` is no place for an image: {why}; write /dev/NAME, UUID=, LABEL=, PARTUUID=, \
         MAJ:MIN, one of those with :OFFSET, a file, or -"
    )]
    BadSpec {
        /// As given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is not there, or not yet.
    #[error("{what}: not there; check the name, and that the disk's driver is loaded")]
    Missing {
        /// The device or file.
        what: String,
    },
    /// Two devices answer to it.
    #[error("{what} is on both {first} and {second}; name the device, or change one of them")]
    Ambiguous {
        /// The UUID or label.
        what: String,
        /// One device.
        first: String,
        /// Another.
        second: String,
    },
    /// Neither a block device nor a file.
    #[error("{what}: neither a block device nor a regular file; give one of those")]
    NotATarget {
        /// The path.
        what: String,
    },
    /// Writes would fail.
    #[error("{name}: read-only; make it writable (`blockdev --setrw`), or use another target")]
    ReadOnly {
        /// The device.
        name: String,
    },
    /// A filesystem on it is mounted.
    #[error("{name}: mounted at {at}; unmount it, or use a file on it as target")]
    Mounted {
        /// The device.
        name: String,
        /// Where.
        at: String,
    },
    /// It is an active swap area.
    #[error("{name}: active swap area; `swapoff` it, or use another target")]
    Swap {
        /// The device.
        name: String,
    },
    /// Somebody else has it.
    #[error("{name}: in use by something else; stop that, or use another target")]
    Busy {
        /// The device.
        name: String,
    },
    /// A kind of device that B and C could not reach or write.
    #[error("{name}: {what}; that does not work as a target, use a partition of a disk")]
    Unsupported {
        /// The device.
        name: String,
        /// What it is.
        what: String,
    },
    /// Something would be overwritten.
    #[error("{name}: holds {what}; use another target, or --force if that may be overwritten")]
    Occupied {
        /// The device.
        name: String,
        /// What is there.
        what: String,
    },
    /// A file that cannot be a target.
    #[error("{}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why it cannot, and what to do.
        what: String,
    },
    /// No block map where one should be.
    #[error("{place}: no block map there; take the offset that `kjump target show FILE` prints")]
    NoMap {
        /// Device and offset.
        place: String,
    },
    /// A block map that cannot be right.
    #[error(
        "{place}: the block map is damaged: {what}; make the file again (kjump target create)"
    )]
    BadMap {
        /// Device and offset.
        place: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A bundle that cannot be right.
    #[error("boot bundle: {0}; install it again (kjump target bundle)")]
    BadBundle(&'static str),
    /// Something does not fit.
    #[error("{what}: {need} bytes are needed, there are {have}; use a larger target")]
    TooSmall {
        /// What does not fit.
        what: String,
        /// Bytes needed.
        need: u64,
        /// Bytes there.
        have: u64,
    },
    /// A mount whose device cannot be told.
    #[error(
        "{mount_point}: mounted from {source_name}, which is no device here; unmount it first"
    )]
    UnknownDevice {
        /// Where it is mounted.
        mount_point: String,
        /// What the kernel says it is mounted from.
        source_name: String,
    },
    /// No image with that UUID.
    #[error(
        "no disk here has the target {uuid}: {what}; check that this kernel has the disk's driver"
    )]
    NotFound {
        /// The image's.
        uuid: String,
        /// What was looked at.
        what: String,
    },
    /// A stream has no place.
    #[error("-: a stream has no place; give a device or a file")]
    Stream,
    /// A mark could not be written.
    #[error("{0}")]
    Image(#[from] kjump_image::Error),
    /// No memory for buffers.
    #[error("no memory for a block map; use a larger window, or a file in fewer pieces")]
    NoMemory(#[from] TryReserveError),
    /// A plain failure of the system.
    #[error("{what}: {}", plain(source))]
    Io {
        /// What was being done, and to what.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    /// Whether it may appear a little later: disks are found while the system runs already.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::NotFound { .. })
    }

    /// Whether a disk or the system failed, rather than the target being refused.
    pub fn is_io(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Image(_) | Self::NoMemory(_))
    }
}

/// For `map_err`: names what was being done.
pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io {
        what: what.into(),
        source,
    }
}

/// The system's text for an error, without the number that Rust puts behind it.
fn plain(e: &io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_string()
}
