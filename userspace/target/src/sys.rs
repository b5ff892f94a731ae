//! The one ioctl that nobody wraps. All `unsafe` of this crate is in this file.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::{offset_of, size_of};

use rustix::ioctl::{ioctl, opcode, Opcode, Updater};

/// Extents asked for at once.
const COUNT: usize = 64;
/// Ask for what is not on the disk yet to be written first.
const SYNC: u32 = 0x1;

/// `struct fiemap_extent`: a piece of a file, bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawExtent {
    /// Where it starts in the file.
    pub logical: u64,
    /// Where it starts on the device.
    pub physical: u64,
    /// Its length.
    pub length: u64,
    /// 0.
    pub reserved64: [u64; 2],
    /// `FIEMAP_EXTENT_*`.
    pub flags: u32,
    /// 0.
    pub reserved: [u32; 3],
}

/// `struct fiemap`, with room behind it.
#[repr(C)]
struct Query {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [RawExtent; COUNT],
}

const _: () = {
    assert!(size_of::<RawExtent>() == 56 && offset_of!(RawExtent, flags) == 40);
    assert!(offset_of!(Query, mapped) == 20 && offset_of!(Query, extents) == 32);
};

/// `FS_IOC_FIEMAP`; its number has the size without extents.
const FIEMAP: Opcode = opcode::read_write::<[u64; 4]>(b'f', 11);

/// The next extents of a file from byte `start` on; none at its end.
pub fn fiemap(file: &File, start: u64) -> io::Result<Vec<RawExtent>> {
    let mut query = Query {
        start,
        length: u64::MAX - start,
        flags: SYNC,
        mapped: 0,
        // CAST: 64.
        count: COUNT as u32,
        reserved: 0,
        extents: [RawExtent::default(); COUNT],
    };
    // SAFETY: the kernel takes a `struct fiemap` with `count` extents behind it for this number,
    // which is what `Query` is (asserted above), and writes nothing but integers to it.
    unsafe { ioctl(file, Updater::<FIEMAP, _>::new(&mut query))? };
    let mapped = usize::try_from(query.mapped).unwrap_or(COUNT).min(COUNT);
    Ok(query.extents[..mapped].to_vec())
}
