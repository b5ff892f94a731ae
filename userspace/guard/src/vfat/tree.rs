//! All directories of a FAT filesystem, in memory that does not grow with them.

use blake3::Hasher;

use super::{Shape, ENTRY};
use crate::bytes::{Window, WINDOW};
use crate::disk::Disk;
use crate::error::Error;
use crate::found::Kind;

/// Directories within directories; eight bytes each.
const MAX_DEPTH: usize = 512;
/// Bytes of directories, 32 for a short name. More, or a damaged filesystem where a directory
/// contains itself, would take too long.
const MAX_BYTES: u64 = 1 << 30;

/// What a directory entry's bits mean.
const ATTRIBUTES: usize = 11;
const VOLUME: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
const FREE: u8 = 0xe5;
const END: u8 = 0;

/// How far the walk has come in a directory.
#[derive(Clone, Copy)]
struct Place {
    /// 0 for the root directory that is outside the clusters.
    cluster: u32,
    /// Bytes from the cluster's start.
    offset: u32,
}

/// Hashes each directory as it is met, up to its end mark; a directory within is hashed where its
/// entry is. Returns the bytes hashed.
///
/// A cluster number that makes no sense ends a directory: the kernel could not go on there either.
pub fn walk(
    disk: &dyn Disk,
    shape: &Shape,
    mut window: Window,
    hasher: &mut Hasher,
) -> Result<u64, Error> {
    let mut tables = Window::new(disk, "reading the allocation table");
    let mut hashed = 0;
    let root = if shape.bits == 32 {
        shape.root_cluster
    } else {
        0
    };
    let mut places = vec![Place {
        cluster: root,
        offset: 0,
    }];
    while let Some(place) = places.last_mut() {
        let Some((start, size)) = shape.place(place.cluster) else {
            places.pop();
            continue;
        };
        let offset = u64::from(place.offset);
        if offset >= size {
            *place = Place {
                cluster: shape.next(&mut tables, place.cluster)?,
                offset: 0,
            };
            continue;
        }
        // Up to the end of what is read at once; that is hashed when the walk gets there first.
        let left = (WINDOW as u64 - offset % WINDOW as u64).min(size - offset);
        if offset.is_multiple_of(WINDOW as u64) {
            window.hash(start + offset, left, hasher)?;
            hashed += left;
            if hashed > MAX_BYTES {
                return unsupported("with more than 1 GiB of directories, or ones without an end");
            }
        }
        let bytes = window.at(start + offset, left)?;
        let step = step(bytes, shape.bits);
        place.offset += step.bytes;
        match step.found {
            Entry::End => {
                places.pop();
            }
            Entry::Directory(_) if places.len() == MAX_DEPTH => {
                return unsupported("with directories more than 512 deep");
            }
            Entry::Directory(cluster) => places.push(Place { cluster, offset: 0 }),
            Entry::None => {}
        }
    }
    Ok(hashed)
}

fn unsupported<T>(what: &'static str) -> Result<T, Error> {
    let kind = Kind::Vfat;
    Err(Error::Unsupported { kind, what })
}

/// What comes next in a directory.
enum Entry {
    /// A directory, and its first cluster.
    Directory(u32),
    /// The end mark.
    End,
    /// Neither in these bytes.
    None,
}

struct Step {
    /// Bytes that were looked at.
    bytes: u32,
    found: Entry,
}

/// Looks for the first entry of interest.
fn step(bytes: &[u8], bits: u32) -> Step {
    let mut done = 0;
    for entry in bytes.as_chunks::<{ ENTRY as usize }>().0 {
        done += ENTRY as u32;
        let (name, attributes) = (entry[0], entry[ATTRIBUTES]);
        if name == END {
            let found = Entry::End;
            return Step { bytes: done, found };
        }
        // Pieces of a long name have the volume's bit, too.
        let directory = attributes & (DIRECTORY | VOLUME) == DIRECTORY;
        if directory && name != FREE && name != b'.' {
            let half = |at: usize| u32::from(u16::from_le_bytes([entry[at], entry[at + 1]]));
            let high = if bits == 32 { half(20) << 16 } else { 0 };
            // 0 would be the root directory once more.
            let cluster = (high | half(26)).max(1);
            let found = Entry::Directory(cluster);
            return Step { bytes: done, found };
        }
    }
    // What is left is less than an entry.
    Step {
        bytes: bytes.len() as u32,
        found: Entry::None,
    }
}

impl Shape {
    /// Where a directory's part is, and its bytes.
    fn place(&self, cluster: u32) -> Option<(u64, u64)> {
        match cluster {
            0 if self.bits != 32 => Some((self.root, self.root_size)),
            2.. if cluster < self.end => {
                let start = self.data + u64::from(cluster - 2) * self.cluster;
                Some((start, self.cluster))
            }
            _ => None,
        }
    }

    /// The cluster after this one; 1 where there is none.
    fn next(&self, tables: &mut Window, cluster: u32) -> Result<u32, Error> {
        if cluster == 0 {
            return Ok(1);
        }
        let bits = u64::from(cluster) * u64::from(self.bits);
        let (at, mut value) = (self.table + bits / 8, 0);
        for i in (0..self.bits.div_ceil(8)).rev() {
            value = value << 8 | u32::from(tables.at(at + u64::from(i), 1)?[0]);
        }
        let value = match self.bits {
            12 => value >> (bits % 8) & 0xfff,
            32 => value & 0x0fff_ffff,
            _ => value,
        };
        // End marks and bad clusters are no cluster's number.
        Ok(if value == 0 { 1 } else { value })
    }
}
