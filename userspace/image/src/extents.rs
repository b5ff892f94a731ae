//! A file as the list of its blocks on a device: nobody mounts anything to write or read it.

use std::io::{self, ErrorKind};

use thiserror::Error;

use crate::target::{Source, Target};

/// A piece of the file, bytes on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it starts on the device.
    pub offset: u64,
    /// Its length.
    pub length: u64,
}

/// What is wrong with a block list.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ExtentsError {
    /// Not made of whole 4 KiB blocks.
    #[error(
        "block list: extent {offset:#x}+{length:#x} is not made of whole 4096-byte blocks; use a \
         partition, or a file on a filesystem with blocks of 4 KiB or more"
    )]
    Unaligned {
        /// Where it starts on the device.
        offset: u64,
        /// Its length.
        length: u64,
    },
    /// Outside the device.
    #[error(
        "block list: extent {offset:#x}+{length:#x} ends behind the device; the list is of \
         another disk, or of another time: make it again"
    )]
    Outside {
        /// Where it starts on the device.
        offset: u64,
        /// Its length.
        length: u64,
    },
    /// Two extents share blocks.
    #[error("block list: two extents overlap at {at:#x}; make the list again")]
    Overlap {
        /// The first byte that is in both.
        at: u64,
    },
}

/// The blocks of a file as one range from 0, over the device `D` that they are on.
#[derive(Debug)]
pub struct Extents<D> {
    device: D,
    /// Start in the file, and the extent; ascending, without gaps.
    map: Vec<(u64, Extent)>,
    size: u64,
}

impl<D> Extents<D> {
    /// `list` in the order of the file. `device_size` in bytes, if it is known.
    pub fn new(device: D, device_size: Option<u64>, list: &[Extent]) -> Result<Self, ExtentsError> {
        let mut map = Vec::with_capacity(list.len());
        let mut size = 0u64;
        for &extent in list.iter().filter(|e| e.length > 0) {
            let Extent { offset, length } = extent;
            if offset % 4096 != 0 || length % 4096 != 0 {
                return Err(ExtentsError::Unaligned { offset, length });
            }
            let end = offset.checked_add(length);
            if end.is_none_or(|end| device_size.is_some_and(|size| end > size)) {
                return Err(ExtentsError::Outside { offset, length });
            }
            map.push((size, extent));
            size = size.saturating_add(length);
        }
        let mut sorted: Vec<Extent> = map.iter().map(|m| m.1).collect();
        sorted.sort_unstable_by_key(|e| e.offset);
        let overlap = sorted
            .windows(2)
            .find(|w| w[0].offset + w[0].length > w[1].offset);
        if let Some(w) = overlap {
            return Err(ExtentsError::Overlap { at: w[1].offset });
        }
        Ok(Self { device, map, size })
    }

    /// Gives the device back.
    pub fn into_inner(self) -> D {
        self.device
    }

    /// Where byte `at` of the file is on the device, and how many follow there.
    fn find(&self, at: u64) -> Option<(u64, u64)> {
        let i = self.map.partition_point(|(start, _)| *start <= at);
        let (start, extent) = self.map.get(i.checked_sub(1)?)?;
        let inside = at - start;
        (inside < extent.length).then(|| (extent.offset + inside, extent.length - inside))
    }
}

/// The smaller of a length in memory and one on disk.
fn shorter(len: usize, left: u64) -> usize {
    usize::try_from(left).map_or(len, |left| left.min(len))
}

impl<D: Target> Target for Extents<D> {
    fn size(&self) -> Option<u64> {
        Some(self.size)
    }
    fn write_at(&mut self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let Some((at, left)) = self.find(offset) else {
                let what = "behind the end of the block list";
                return Err(io::Error::new(ErrorKind::StorageFull, what));
            };
            let (now, rest) = bytes.split_at(shorter(bytes.len(), left));
            self.device.write_at(at, now)?;
            offset += now.len() as u64;
            bytes = rest;
        }
        Ok(())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.device.flush()
    }
}

impl<D: Source> Source for Extents<D> {
    fn size(&self) -> Option<u64> {
        Some(self.size)
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            let Some((at, left)) = self.find(offset + done as u64) else {
                break;
            };
            let want = shorter(buf.len() - done, left);
            let n = self.device.read_at(at, &mut buf[done..done + want])?;
            done += n;
            if n < want {
                break;
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn extent(offset: u64, length: u64) -> Extent {
        Extent { offset, length }
    }

    #[test]
    fn a_list_is_checked() {
        let new = |list: &[Extent]| Extents::new((), Some(1 << 20), list).map(|e| e.size);
        assert_eq!(new(&[extent(8192, 4096), extent(0, 8192)]), Ok(12288));
        assert!(matches!(
            new(&[extent(512, 4096)]),
            Err(ExtentsError::Unaligned { .. })
        ));
        assert!(matches!(
            new(&[extent(1 << 20, 4096)]),
            Err(ExtentsError::Outside { .. })
        ));
        assert!(matches!(
            new(&[extent(u64::MAX - 4095, 4096)]),
            Err(ExtentsError::Outside { .. })
        ));
        assert_eq!(
            new(&[extent(4096, 8192), extent(0, 8192)]),
            Err(ExtentsError::Overlap { at: 4096 })
        );
    }

    #[test]
    fn places_are_found() {
        let e = Extents::new((), None, &[extent(8192, 4096), extent(0, 8192)]);
        let e = e.unwrap();
        assert_eq!(e.find(0), Some((8192, 4096)));
        assert_eq!(e.find(4095), Some((12287, 1)));
        assert_eq!(e.find(4096), Some((0, 8192)));
        assert_eq!(e.find(12287), Some((8191, 1)));
        assert_eq!(e.find(12288), None);
    }
}
