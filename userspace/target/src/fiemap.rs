//! Where a file's blocks are, from the filesystem, and whether others may write there.

use std::fs::File;
use std::io;
use std::path::Path;

use kjump_image::Extent;

use crate::block::BLOCK64;
use crate::error::{io as failed, Error};
use crate::map::{push, MAX_EXTENTS};
use crate::sys::{fiemap, RawExtent};
use crate::Result;

/// What an extent must not be, `FIEMAP_EXTENT_*`, and what that means.
const REFUSED: [(u32, &str); 8] = [
    (0x2, "is not on the disk yet"),
    (0x4, "is not on the disk yet"),
    (0x8, "is compressed or encrypted"),
    (0x80, "is encrypted"),
    (0x100, "is not made of whole blocks"),
    (0x200, "lies among metadata"),
    (0x400, "shares a block with another file's"),
    (0x800, "was never written"),
];
/// `FIEMAP_EXTENT_SHARED`.
const SHARED: u32 = 0x2000;

/// All of a file, of `size` bytes, in its order; adjacent extents are one.
pub fn extents(file: &File, path: &Path, size: u64) -> Result<Vec<Extent>> {
    collect(|start| fiemap(file, start), path, size)
}

fn collect(
    mut next: impl FnMut(u64) -> io::Result<Vec<RawExtent>>,
    path: &Path,
    size: u64,
) -> Result<Vec<Extent>> {
    let bad = |what: String| {
        let path = path.into();
        Err(Error::File { path, what })
    };
    let (mut list, mut at) = (Vec::new(), 0);
    while at < size {
        let raw = next(at).map_err(failed(format!("{}: FIEMAP", path.display())))?;
        let begin = at;
        for extent in raw {
            if let Some((_, what)) = REFUSED.iter().find(|(flag, _)| extent.flags & flag != 0) {
                return bad(format!(
                    "a piece of it {what}; make it again (kjump target create)"
                ));
            }
            if extent.flags & SHARED != 0 {
                return bad(
                    "it shares blocks with a copy (reflink); remove both, and make it again".into(),
                );
            }
            // An extent may begin before what was asked for, and end behind the file.
            let skip = at.saturating_sub(extent.logical);
            if extent.logical > at || skip >= extent.length || at >= size {
                break;
            }
            let length = (extent.length - skip).min(size - at);
            let offset = extent.physical.saturating_add(skip);
            if !offset.is_multiple_of(BLOCK64) || !length.is_multiple_of(BLOCK64) {
                let what = "its filesystem has blocks of less than 4096 bytes; use another, or a partition";
                return bad(what.into());
            }
            push(&mut list, offset, length)?;
            if list.len() > MAX_EXTENTS {
                return bad(format!("it is in more than {MAX_EXTENTS} pieces; make it again where there is more free space"));
            }
            at += length;
        }
        if at == begin {
            return bad("it has holes; make it again (kjump target create)".into());
        }
    }
    Ok(list)
}

#[cfg(test)]
#[path = "fiemap_tests.rs"]
mod tests;
