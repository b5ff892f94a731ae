//! FAT with 12, 16 or 32 bits, long names or not.
//!
//! A mount that can write sets a flag in the boot sector (`fat_set_state`), and unmounting takes it
//! away; where it is set already, as on a filesystem that the saved kernel has mounted, neither
//! writes anything. There is no counter either. So everything is looked at that a change to any
//! file must change: the reserved sectors (boot sector, FSInfo with its count of free clusters),
//! all allocation tables, and all directories, as writing over a file's contents changes only its
//! entry: the time of the change, in steps of two seconds.

mod tree;

use blake3::Hasher;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::bytes::{structure, text, Window};
use crate::disk::Disk;
use crate::error::Error;
use crate::found::{Found, Kind};
use crate::layout::{self, parse, VERSION};

/// `MAX_FAT12`: with more clusters an entry has 16 bits.
const MAX_FAT12: u64 = 0xff4;
const DIRTY: u8 = 1;
/// Bytes of a directory entry.
const ENTRY: u64 = 32;

/// `struct fat_boot_sector`, without what only some have.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
struct Boot {
    _jump: [u8; 11],
    sector_size: U16,
    cluster_sectors: u8,
    reserved: U16,
    tables: u8,
    root_entries: U16,
    sectors16: U16,
    media: u8,
    table_sectors16: U16,
    _geometry: [u8; 8],
    sectors32: U32,
    /// Of 12 and 16 bits: the first of two places for [`Extension`].
    small: [u8; 28],
    large: Extension,
    _code: [u8; 420],
    signature: U16,
}

/// What 32 bits have between the common fields and the extension, which overlaps the others'.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
struct Large {
    table_sectors: U32,
    _flags: [u8; 4],
    root_cluster: U32,
    _sectors: [u8; 16],
}

/// What both have, in different places.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
struct Extension {
    _drive: u8,
    state: u8,
    signature: u8,
    number: [u8; 4],
    label: [u8; 11],
    _name: [u8; 8],
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<Boot>() == 512 && offset_of!(Boot, small) == 36);
    assert!(offset_of!(Boot, large) == 64 && size_of::<Large>() == 28);
    assert!(size_of::<Extension>() == 26);
};

/// Where everything is, bytes.
struct Shape {
    extension: Extension,
    /// Bits of an entry of the tables: 12, 16 or 32.
    bits: u32,
    /// The first table, which is behind the reserved sectors.
    table: u64,
    /// Bytes of all tables.
    tables: u64,
    /// The root directory, with 12 and 16 bits.
    root: u64,
    /// Bytes of that.
    root_size: u64,
    /// The root directory's first cluster, with 32 bits.
    root_cluster: u32,
    /// The first cluster; it has number 2.
    data: u64,
    /// Bytes of a cluster.
    cluster: u64,
    /// One more than the last cluster's number.
    end: u32,
}

/// As `fat_read_bpb` and `fat_fill_super` have it, but with the signature that mkfs and Windows
/// write, so that not every second boot sector passes.
fn shape(disk: &dyn Disk) -> Result<Option<Shape>, Error> {
    let boot = structure::<Boot>(disk, 0, "reading the boot sector")?;
    Ok(boot.and_then(|boot| Shape::parse(&boot, disk.size())))
}

impl Shape {
    fn parse(boot: &Boot, size: u64) -> Option<Self> {
        let sector = u64::from(boot.sector_size.get());
        let cluster_sectors = u64::from(boot.cluster_sectors);
        let right = boot.signature == 0xaa55
            && (512..=4096).contains(&sector)
            && sector.is_power_of_two()
            && cluster_sectors.is_power_of_two()
            && (boot.media >= 0xf8 || boot.media == 0xf0)
            && boot.reserved != 0
            && boot.tables != 0;
        right.then_some(())?;
        let large = Large::read_from_bytes(&boot.small).ok()?;
        let is_large = boot.table_sectors16 == 0;
        let table_sectors = match is_large {
            true => u64::from(large.table_sectors.get()),
            false => u64::from(boot.table_sectors16.get()),
        };
        let sectors = match boot.sectors16.get() {
            0 => u64::from(boot.sectors32.get()),
            n => u64::from(n),
        };
        let root_size = u64::from(boot.root_entries.get()) * ENTRY;
        let table = u64::from(boot.reserved.get()) * sector;
        let tables = u64::from(boot.tables) * table_sectors * sector;
        let (root, data) = (table + tables, table + tables + root_size);
        let cluster = cluster_sectors * sector;
        let clusters = (sectors * sector).checked_sub(data)? / cluster;
        let bits = match (is_large, clusters > MAX_FAT12) {
            (true, _) => 32,
            (false, true) => 16,
            (false, false) => 12,
        };
        let entries = table_sectors * sector * 8 / u64::from(bits);
        let end = entries.min(clusters + 2).min(0x0fff_fff7);
        let fits = root_size.is_multiple_of(sector) && end > 2 && data <= size;
        fits.then_some(())?;
        Some(Self {
            extension: match is_large {
                true => boot.large,
                false => Extension::read_from_prefix(&boot.small).ok()?.0,
            },
            bits,
            table,
            tables,
            root,
            root_size,
            root_cluster: large.root_cluster.get(),
            data,
            cluster,
            end: u32::try_from(end).ok()?,
        })
    }
}

pub fn probe(disk: &dyn Disk) -> Result<Option<Found>, Error> {
    Ok(shape(disk)?.map(|shape| {
        let (mut uuid, mut label) = ([0; 16], String::new());
        let extension = shape.extension;
        if [0x28, 0x29].contains(&extension.signature) {
            uuid[..4].copy_from_slice(&extension.number);
            uuid[..4].reverse();
        }
        if extension.signature == 0x29 && extension.label != *b"NO NAME    " {
            label = text(&extension.label);
        }
        let kind = Kind::Vfat;
        Found { kind, uuid, label }
    }))
}

pub fn record(disk: &dyn Disk) -> Result<Vec<u8>, Error> {
    let kind = Kind::Vfat;
    let Some(shape) = shape(disk)? else {
        let what = "its boot sector has gone";
        return Err(Error::Damaged { kind, what });
    };
    let mut window = Window::new(disk, "reading the directories");
    let (mut reserved, mut tables, mut directories) = (Hasher::new(), Hasher::new(), Hasher::new());
    window.hash(0, shape.table, &mut reserved)?;
    window.hash(shape.table, shape.tables, &mut tables)?;
    let directory_bytes = tree::walk(disk, &shape, window, &mut directories)?;
    let data = layout::Vfat {
        version: VERSION.into(),
        dirty: u32::from(shape.extension.state & DIRTY).into(),
        reserved_sectors: reserved.finalize().into(),
        tables: tables.finalize().into(),
        directories: directories.finalize().into(),
        directory_bytes: directory_bytes.into(),
    };
    Ok(data.as_bytes().to_vec())
}

pub fn difference(then: &[u8], now: &[u8]) -> Option<String> {
    let (Some(then), Some(now)) = (parse::<layout::Vfat>(then), parse::<layout::Vfat>(now)) else {
        return Some(layout::UNREADABLE.into());
    };
    let what = if then.tables != now.tables {
        "files were written since: its allocation table differs"
    } else if (then.directories, then.directory_bytes) != (now.directories, now.directory_bytes) {
        "files were written since: a directory differs"
    } else if then.dirty != now.dirty {
        match now.dirty.get() {
            0 => "unmounted or checked since",
            _ => "mounted since, and not unmounted",
        }
    } else if then.reserved_sectors != now.reserved_sectors {
        "its boot sector or FSInfo was written since"
    } else {
        return None;
    };
    Some(what.into())
}
