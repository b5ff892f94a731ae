//! The memory of a kernel that does not run: in a peer that of the one it was entered from, elsewhere
//! what an image has of it, laid out in a file.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use kjump_abi::{Handoff, PAGE_SIZE};
use kjump_image::Piece;

use super::pages::each_shadow;
use crate::device::{Device, Memory};

/// Memory by physical address, bytes.
pub trait OldMemory {
    /// Fills `buf`.
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()>;
    /// A region, to be looked at as it is.
    fn region(&self, at: u64, len: usize) -> io::Result<Region>;
}

/// A region of such memory.
pub enum Region {
    /// Mapped.
    Mapped(Memory),
    /// Read.
    Copied(Vec<u8>),
}

impl Region {
    /// `len` bytes from byte `at` of it.
    pub fn bytes(&self, at: usize, len: usize) -> &[u8] {
        match self {
            Self::Mapped(memory) => memory.bytes(at, len),
            Self::Copied(bytes) => &bytes[at..at + len],
        }
    }
}

impl OldMemory for Device {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        Device::read_at(self, at, buf)
    }
    fn region(&self, at: u64, len: usize) -> io::Result<Region> {
        self.map(at, len, false).map(Region::Mapped)
    }
}

/// A file without a name, as long as all of RAM, with holes where an image has no pages or zeros.
pub struct Spool(File);

impl Spool {
    /// Makes one in the directory that `path` is in, for RAM that ends at `end`.
    ///
    /// # Errors
    ///
    /// Those of making a file there.
    pub fn beside(path: &Path, end: u64) -> io::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".pages");
        let name = PathBuf::from(name);
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            // Before it has lost its name others could open it.
            .mode(0o600)
            .open(&name)?;
        fs::remove_file(&name)?;
        file.set_len(end)?;
        Ok(Self(file))
    }

    /// Puts pages to their places.
    pub fn put(&self, piece: &Piece) -> io::Result<()> {
        match piece {
            Piece::Data { pfn, bytes } => self.0.write_all_at(bytes, pfn * PAGE_SIZE),
            // A hole is that already.
            Piece::Zero { .. } => Ok(()),
        }
    }

    /// Puts the window's pages to where they belong: an image has them in the shadow only.
    ///
    /// # Errors
    ///
    /// Those of the file; `InvalidData` for an exchange list that makes no sense.
    pub fn put_window(&self, handoff: &Handoff) -> io::Result<()> {
        let mut list = vec![0; PAGE_SIZE as usize];
        let mut page = list.clone();
        let read_at = |at: u64, buf: &mut [u8]| OldMemory::read_at(self, at, buf);
        each_shadow(&read_at, handoff, &mut list, |window, shadow| {
            if window >= handoff.window_end {
                return Err(ErrorKind::InvalidData.into());
            }
            read_at(shadow, &mut page)?;
            self.0.write_all_at(&page, window)
        })
    }
}

impl OldMemory for Spool {
    fn read_at(&self, mut at: u64, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match self.0.read_at(buf, at) {
                // Behind the end there is no RAM.
                Ok(0) => {
                    buf.fill(0);
                    break;
                }
                Ok(n) => {
                    at += n as u64;
                    buf = &mut buf[n..];
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
    fn region(&self, at: u64, len: usize) -> io::Result<Region> {
        let mut bytes = vec![0; len];
        self.read_at(at, &mut bytes)?;
        Ok(Region::Copied(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_lie_where_they_were() {
        let path = std::env::temp_dir().join(format!("kjump-spool-{}", std::process::id()));
        let spool = Spool::beside(&path, 16 * PAGE_SIZE).unwrap();
        let bytes = [7; 2 * PAGE_SIZE as usize];
        spool
            .put(&Piece::Data {
                pfn: 3,
                bytes: &bytes,
            })
            .unwrap();
        spool.put(&Piece::Zero { pfn: 5, count: 1 }).unwrap();
        let region = spool
            .region(2 * PAGE_SIZE, 20 * PAGE_SIZE as usize)
            .unwrap();
        let byte = |page: usize| region.bytes(page * PAGE_SIZE as usize + 9, 1)[0];
        assert_eq!([0, 1, 2, 3, 19].map(byte), [0, 7, 7, 0, 0]);
        let mut word = [1; 4];
        spool.read_at(5 * PAGE_SIZE - 2, &mut word).unwrap();
        assert_eq!(word, [7, 7, 0, 0]);
        assert!(!path.with_extension("pages").exists());
    }

    #[test]
    fn nobody_else_opens_it() {
        use std::os::unix::fs::MetadataExt;
        let path = std::env::temp_dir().join(format!("kjump-spool-mode-{}", std::process::id()));
        let spool = Spool::beside(&path, PAGE_SIZE).unwrap();
        assert_eq!(spool.0.metadata().unwrap().mode() & 0o7777, 0o600);
    }
}
