// SPDX-License-Identifier: GPL-2.0

//! A file under random operations, of which this program knows every byte: reads, writes, writes
//! and reads through a mapping, truncations, holes, fsync, dropped caches; each is compared with a copy
//! in memory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::thread::sleep;
use std::time::Duration;

use crate::blocks::splitmix64;
use crate::counter::Progress;
use crate::memory::PAGE;
use crate::{arg, failed, number, Outcome};

/// Bytes that the file has at most.
const MAX: usize = 512 << 10;
/// Bytes that an operation touches at most.
const PIECE: usize = 48 << 10;

/// A file, and what must be in it.
struct Checked {
    path: String,
    file: File,
    model: Vec<u8>,
    seed: u64,
    drawn: u64,
}

/// `fsx FILE SEED PROGRESS`: makes FILE and works on it for ever; the number of operations goes to
/// PROGRESS. Ends when a byte is not what it must be, and says where.
pub fn run(args: &[String]) -> Outcome {
    let (path, seed) = (arg(args, 0)?, number(args, 1)?);
    let progress = Progress::create(arg(args, 2)?)?;
    let mut checked = Checked::create(path, seed).map_err(failed(path))?;
    for count in 1.. {
        checked
            .step()
            .map_err(|why| format!("operation {count}, {why}"))?;
        progress.set(count)?;
        sleep(Duration::from_millis(4));
    }
    Ok(())
}

impl Checked {
    fn create(path: &str, seed: u64) -> io::Result<Self> {
        Ok(Self {
            path: path.to_string(),
            file: Self::open(path, true)?,
            model: Vec::new(),
            seed,
            drawn: 0,
        })
    }

    fn open(path: &str, new: bool) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(new).open(path)
    }

    /// A number below `bound`; 0 if that is 0.
    fn below(&mut self, bound: usize) -> usize {
        self.drawn += 1;
        let number = splitmix64(self.seed ^ splitmix64(self.drawn));
        (number % bound.max(1) as u64) as usize
    }

    /// A piece of the file as it is: offset and length.
    fn inside(&mut self) -> (usize, usize) {
        let at = self.below(self.model.len());
        let most = (self.model.len() - at).min(PIECE);
        (at, self.below(most + 1))
    }

    /// Bytes that nobody has written before.
    fn fresh(&mut self, length: usize) -> Vec<u8> {
        let start = self.below(usize::MAX) as u64;
        let words = (0..length.div_ceil(8) as u64).map(|i| splitmix64(start << 20 ^ i));
        let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        bytes.truncate(length);
        bytes
    }

    /// One operation, and what it shows.
    fn step(&mut self) -> Outcome {
        let draw = self.below(100);
        let (name, result) = match draw {
            0..=21 => ("read", self.read()),
            22..=46 => ("write", self.write()),
            47..=54 => ("truncate", self.truncate()),
            55..=67 => ("read through a mapping", self.read_mapped()),
            68..=81 => ("write through a mapping", self.write_mapped()),
            82..=87 => ("punch a hole", self.punch()),
            88..=92 => ("fsync", self.file.sync_all()),
            93..=95 => ("reopen", self.reopen()),
            _ => ("read all", self.read_all()),
        };
        result.map_err(|error| format!("{name}: {}: {error}", self.path))
    }

    fn read(&mut self) -> io::Result<()> {
        let (at, length) = self.inside();
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at as u64)?;
        same(&bytes, &self.model[at..at + length], at)
    }

    fn read_all(&mut self) -> io::Result<()> {
        let mut bytes = vec![0; MAX + PIECE];
        let mut length = 0;
        loop {
            match self.file.read_at(&mut bytes[length..], length as u64)? {
                0 => break,
                count => length += count,
            }
        }
        same(&bytes[..length], &self.model, 0)
    }

    /// Anywhere, also beyond the end: what is between is zeros.
    fn write(&mut self) -> io::Result<()> {
        let at = self.below(MAX);
        let length = 1 + self.below(PIECE.min(MAX - at));
        let bytes = self.fresh(length);
        self.file.write_all_at(&bytes, at as u64)?;
        let end = self.model.len().max(at + length);
        self.model.resize(end, 0);
        self.model[at..at + length].copy_from_slice(&bytes);
        Ok(())
    }

    fn truncate(&mut self) -> io::Result<()> {
        let length = self.below(MAX);
        self.file.set_len(length as u64)?;
        self.model.resize(length, 0);
        Ok(())
    }

    fn read_mapped(&mut self) -> io::Result<()> {
        let (at, length) = self.inside();
        if length == 0 {
            return Ok(());
        }
        let first = at / PAGE * PAGE;
        let mapping = Mapping::new(&self.file, first, at + length - first)?;
        same(
            &mapping.bytes()[at - first..],
            &self.model[at..at + length],
            at,
        )
    }

    fn write_mapped(&mut self) -> io::Result<()> {
        let (at, length) = self.inside();
        if length == 0 {
            return Ok(());
        }
        let bytes = self.fresh(length);
        let flush = self.below(3) == 0;
        let first = at / PAGE * PAGE;
        let mut mapping = Mapping::new(&self.file, first, at + length - first)?;
        mapping.bytes_mut()[at - first..].copy_from_slice(&bytes);
        self.model[at..at + length].copy_from_slice(&bytes);
        if flush {
            mapping.flush()?;
        }
        Ok(())
    }

    fn punch(&mut self) -> io::Result<()> {
        let (at, length) = self.inside();
        if length == 0 {
            return Ok(());
        }
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: the descriptor is the file's own; no memory is passed.
        let result = unsafe {
            libc::fallocate(
                self.file.as_raw_fd(),
                mode,
                at as libc::off_t,
                length as libc::off_t,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        self.model[at..at + length].fill(0);
        Ok(())
    }

    /// The next reads come from the disk.
    fn reopen(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        // SAFETY: the descriptor is the file's own; no memory is passed.
        unsafe {
            libc::posix_fadvise(self.file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED);
        }
        self.file = Self::open(&self.path, false)?;
        self.read_all()
    }
}

/// An error that says where, if the bytes read at `at` are not those.
fn same(found: &[u8], wanted: &[u8], at: usize) -> io::Result<()> {
    if found == wanted {
        return Ok(());
    }
    let first = found.iter().zip(wanted).position(|(f, w)| f != w);
    let why = match first {
        Some(i) => format!(
            "byte {} is {:#04x} and must be {:#04x}",
            at + i,
            found[i],
            wanted[i]
        ),
        None => format!("{} bytes at {at}, must be {}", found.len(), wanted.len()),
    };
    Err(io::Error::new(io::ErrorKind::InvalidData, why))
}

/// A piece of a file in memory, shared: what is written there is in the file.
struct Mapping {
    start: *mut libc::c_void,
    length: usize,
}

impl Mapping {
    /// `at` is a multiple of the page size, and the file has `length` bytes there.
    fn new(file: &File, at: usize, length: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that Rust
        // knows of.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                at as libc::off_t,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start, length })
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is `length` bytes long and readable; only this process writes to the
        // file, and not while the slice is borrowed.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.length) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; writable, and borrowed through `self` only.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.length) }
    }

    fn flush(&self) -> io::Result<()> {
        // SAFETY: the mapping is this value's own.
        match unsafe { libc::msync(self.start, self.length, libc::MS_SYNC) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nothing borrows it any more.
        unsafe { libc::munmap(self.start, self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_known_and_a_wrong_one_is_found() {
        let path = std::env::temp_dir().join(format!("kjump-fsx-{}", std::process::id()));
        let path = path.display().to_string();
        let mut checked = Checked::create(&path, 7).unwrap();
        for _ in 0..3000 {
            checked.step().unwrap();
        }
        assert!(checked.model.len() > 1000);
        let other = Checked::open(&path, false).unwrap();
        other.write_all_at(&[checked.model[999] ^ 1], 999).unwrap();
        let why = checked.read_all().unwrap_err().to_string();
        assert!(why.contains("byte 999"), "{why}");
        other.write_all_at(&[checked.model[999]], 999).unwrap();
        other.set_len(checked.model.len() as u64 - 1).unwrap();
        let why = checked.read_all().unwrap_err().to_string();
        assert!(why.contains("must be"), "{why}");
        std::fs::remove_file(&path).unwrap();
    }
}
