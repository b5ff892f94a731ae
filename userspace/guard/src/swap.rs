//! Swap areas.
//!
//! Switching one on writes nothing, and using it writes everywhere but to its header: so the header
//! cannot tell. Instead the signature is changed for as long as there is an image, so that no other
//! system can switch it on (`read_swap_header` in mm/swapfile.c), and an image is only good while
//! it is still changed. The saved kernel has the area in use and reads no header again.
//!
//! Pages of 4096 bytes: an area made for larger ones has its signature elsewhere, and no kernel
//! that kjump saves can use it.

use zerocopy::IntoBytes;

use crate::bytes::{digest, text};
use crate::disk::{Disk, DiskWrite};
use crate::error::{io, Error};
use crate::found::{Found, Kind};
use crate::layout::{self, parse, VERSION};

const PAGE: usize = 4096;
/// Where the signature is.
const SIGNATURE: usize = PAGE - 10;
/// As mkswap writes it.
const SHOWN: &[u8; 10] = b"SWAPSPACE2";
/// While there is an image.
const HIDDEN: &[u8; 10] = b"KJUMPSWAP2";
/// With an image of the kernel's own hibernation in it.
const SUSPENDED: &[u8; 10] = b"S1SUSPEND\0";
/// Where number of the last page, UUID and label are.
const LAST_PAGE: usize = 1028;
const UUID: usize = 1036;
const LABEL: usize = 1052;

/// A swap area's first page.
struct Header([u8; PAGE]);

/// The first page, with a signature that is known.
fn read(disk: &dyn Disk) -> Result<Option<Header>, Error> {
    if disk.size() < 2 * PAGE as u64 {
        return Ok(None);
    }
    let mut page = [0; PAGE];
    disk.read_at(0, &mut page)
        .map_err(io("reading the swap area's header"))?;
    let known = [SHOWN, HIDDEN, SUSPENDED].map(|s| s.as_slice());
    Ok(known.contains(&&page[SIGNATURE..]).then_some(Header(page)))
}

/// The first page of an area that can be in use.
fn usable(disk: &dyn Disk) -> Result<Header, Error> {
    let absent = |what| Error::Absent {
        kind: Kind::Swap,
        what,
    };
    let header = read(disk)?.ok_or_else(|| absent("it has no signature of one"))?;
    if header.signature() == SUSPENDED {
        return Err(absent("the kernel's own hibernation has its image there"));
    }
    Ok(header)
}

impl Header {
    fn signature(&self) -> &[u8] {
        &self.0[SIGNATURE..]
    }
    fn sign(&mut self, signature: &[u8; 10]) {
        self.0[SIGNATURE..].copy_from_slice(signature);
    }
}

pub fn probe(disk: &dyn Disk) -> Result<Option<Found>, Error> {
    Ok(read(disk)?.map(|Header(page)| Found {
        kind: Kind::Swap,
        uuid: *page[UUID..].first_chunk().expect("inside the page"),
        label: text(&page[LABEL..LABEL + 16]),
    }))
}

pub fn record(disk: &dyn Disk) -> Result<Vec<u8>, Error> {
    let mut header = usable(disk)?;
    let hidden = header.signature() == HIDDEN;
    header.sign(HIDDEN);
    let last_page = *header.0[LAST_PAGE..]
        .first_chunk()
        .expect("inside the page");
    let data = layout::Swap {
        version: VERSION.into(),
        hidden: u32::from(hidden).into(),
        header: digest(&header.0),
        last_page: last_page.into(),
        reserved: 0.into(),
    };
    Ok(data.as_bytes().to_vec())
}

pub fn difference(then: &[u8], now: &[u8]) -> Option<String> {
    let (Some(then), Some(now)) = (parse::<layout::Swap>(then), parse::<layout::Swap>(now)) else {
        return Some(layout::UNREADABLE.into());
    };
    if then.header != now.header {
        return Some("its header was written since".into());
    }
    if now.hidden != 1 {
        return Some("its signature was put back, so it may have been used since".into());
    }
    None
}

/// Changes the signature of a swap area, so that nothing swaps there, and flushes. Says whether
/// that was needed.
pub fn hide(disk: &dyn DiskWrite) -> Result<bool, Error> {
    change(disk, HIDDEN)
}

/// Puts the signature back, and flushes. Says whether that was needed.
pub fn show(disk: &dyn DiskWrite) -> Result<bool, Error> {
    change(disk, SHOWN)
}

/// Only the page's last sector changes: a power cut leaves one signature or the other.
fn change(disk: &dyn DiskWrite, signature: &[u8; 10]) -> Result<bool, Error> {
    let mut header = usable(&disk)?;
    let needed = header.signature() != signature;
    if needed {
        header.sign(signature);
        disk.write_block(0, &header.0)
            .map_err(io("writing the swap area's signature"))?;
    }
    // Also when it was so already: a write before may not be on the disk yet.
    disk.flush()
        .map_err(io("flushing the swap area's signature"))?;
    Ok(needed)
}
