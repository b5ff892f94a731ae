//! Reading structures and hashing ranges.

use zerocopy::{FromBytes, IntoBytes};

use crate::disk::Disk;
use crate::error::{io, Error};

/// BLAKE3.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    blake3::hash(bytes).into()
}

/// A structure at `offset`, or `None` where the device ends before.
pub fn structure<T: FromBytes + IntoBytes>(
    disk: &dyn Disk,
    offset: u64,
    what: &'static str,
) -> Result<Option<T>, Error> {
    let mut value = T::new_zeroed();
    let bytes = value.as_mut_bytes();
    let end = offset.checked_add(bytes.len() as u64);
    if end.is_none_or(|end| end > disk.size()) {
        return Ok(None);
    }
    disk.read_at(offset, bytes).map_err(io(what))?;
    Ok(Some(value))
}

/// Text up to the first NUL, without spaces at the end.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim_end().into()
}
