//! A block device, or a file of fixed size, as target and source.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use crate::target::{Source, Target};

/// An open block device or file. Whether it was opened with O_DIRECT is its opener's business.
#[derive(Debug)]
pub struct Device {
    file: File,
    size: u64,
}

impl Device {
    /// Takes over an open file and asks for its size; it will not grow.
    pub fn new(mut file: File) -> io::Result<Self> {
        let size = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, size })
    }

    /// Bytes.
    pub fn length(&self) -> u64 {
        self.size
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Target for Device {
    fn size(&self) -> Option<u64> {
        Some(self.size)
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }
    fn flush(&mut self) -> io::Result<()> {
        // On a block device this also empties the drive's own cache.
        self.file.sync_data()
    }
}

impl Source for Device {
    fn size(&self) -> Option<u64> {
        Some(self.size)
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        // Lengths stay whole blocks up to the end of a file that is not made of such: O_DIRECT.
        while done < buf.len() && offset + (done as u64) < self.size {
            match self.file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }
}
