//! Where an image lives: a partition, the blocks of a file, or a file as it is.
//!
//! The kernel that is saved sees a device or a path; the one that saves, the one that restores, and
//! the one that is booted to look for an image each see the machine's disks under names of their
//! own, and mount nothing. So a target is a [`Spec`] in words, found by [`System::open`]; the one
//! that was agreed on is found for certain by the UUID in its first block
//! ([`System::find_by_image_uuid`]); and a file carries its list of blocks in front
//! ([`System::create`]), so that its device and one offset lead to all of it.
//!
//! [`System::open_in_a`] is for the kernel that is to be saved: it refuses what is in use or holds
//! something else. At the end of a target may be a [`Bundle`]: what to boot when there is no image.
//! A file that others made is [`Listed`], and read by a [`Reader`].
//!
//! Needs /proc, /sys and a /dev that has nodes, no more; devtmpfs will do. Sizes and offsets are in
//! bytes. Memory: a block map takes up to 1 MiB while it is read, everything else less than 256 KiB,
//! however large disks are. docs/image-format.md has the formats.
#![deny(unsafe_code)]

mod block;
mod blocks;
mod bundle;
mod check;
mod disk;
mod error;
#[cfg(test)]
mod fake;
mod fiemap;
mod file;
mod layout;
mod listed;
mod lookup;
mod map;
mod mounts;
mod opened;
mod pin;
mod spec;
mod sys;
mod system;

pub use block::Block;
pub use blocks::{BlockDevice, Kind};
pub use bundle::{Bundle, Input, Part, PartReader};
pub use disk::Access;
pub use error::Error;
pub use file::FilePlace;
pub use kjump_image::{Extent, Source, Target};
pub use listed::{Listed, Piece, Reader};
pub use map::{Map, MAX_EXTENTS};
pub use mounts::{InUse, Place};
pub use opened::Opened;
pub use spec::{DeviceSpec, Spec};
pub use system::System;

/// Result of anything in this crate.
pub type Result<T> = std::result::Result<T, Error>;
