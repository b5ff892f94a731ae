//! A file in the making that is written from front to back, in large aligned pieces, and has its
//! first block only when all the rest is on the disk.

use std::io::{self, Write};

use kjump_image::{Aligned, Target, PAGE};

/// Any target, as a `Write`.
pub struct Sink<T> {
    target: T,
    buffer: Aligned,
    /// Where the buffer goes, bytes.
    at: u64,
    /// Bytes in it.
    fill: usize,
    /// What belongs into the first block, which has zeros until [`Sink::commit`]. A stream cannot
    /// wait.
    first: Option<Box<[u8]>>,
}

impl<T: Target> Sink<T> {
    /// `size` in bytes, a multiple of 4096: what is written at a time.
    pub fn new(target: T, size: usize) -> io::Result<Self> {
        let buffer = Aligned::new(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            target,
            buffer,
            at: 0,
            fill: 0,
            first: None,
        })
    }

    fn write_out(&mut self) -> io::Result<()> {
        let buffer = self.buffer.bytes_mut();
        let bytes = self.fill.next_multiple_of(PAGE);
        buffer[self.fill..bytes].fill(0);
        if self.at == 0 && bytes > 0 && self.target.size().is_some() {
            self.first = Some(buffer[..PAGE].into());
            buffer[..PAGE].fill(0);
        }
        self.target.write_at(self.at, &buffer[..bytes])?;
        self.at += bytes as u64;
        self.fill = 0;
        Ok(())
    }

    /// Writes `bytes`, whole blocks, over what is at `at`, a multiple of 4096 behind the first
    /// block.
    ///
    /// # Errors
    ///
    /// Those of the target.
    pub fn write_again(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_out()?;
        let step = self.buffer.bytes().len();
        for (n, piece) in bytes.chunks(step).enumerate() {
            let buffer = &mut self.buffer.bytes_mut()[..piece.len()];
            buffer.copy_from_slice(piece);
            self.target.write_at(at + (n * step) as u64, buffer)?;
        }
        Ok(())
    }

    /// Makes a file of it: all is flushed, then comes the first block.
    ///
    /// # Errors
    ///
    /// Those of the target.
    pub fn commit(mut self) -> io::Result<T> {
        self.write_out()?;
        self.target.flush()?;
        if let Some(first) = self.first.take() {
            let block = &mut self.buffer.bytes_mut()[..PAGE];
            block.copy_from_slice(&first);
            self.target.write_at(0, block)?;
            self.target.flush()?;
        }
        Ok(self.target)
    }
}

impl<T: Target> Write for Sink<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let free = &mut self.buffer.bytes_mut()[self.fill..];
        let n = bytes.len().min(free.len());
        free[..n].copy_from_slice(&bytes[..n]);
        self.fill += n;
        if self.fill == self.buffer.bytes().len() {
            self.write_out()?;
        }
        Ok(n)
    }

    /// Nothing: what is in the buffer waits for more.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every write, in order.
    #[derive(Default)]
    struct Log(Vec<(u64, Vec<u8>)>, bool, u32);

    impl Target for &mut Log {
        fn size(&self) -> Option<u64> {
            self.1.then_some(1 << 20)
        }
        fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            assert!(bytes.as_ptr().addr().is_multiple_of(PAGE));
            assert!(bytes.len().is_multiple_of(PAGE));
            self.0.push((offset, bytes.to_vec()));
            Ok(())
        }
        fn flush(&mut self) -> io::Result<()> {
            self.2 += 1;
            Ok(())
        }
    }

    fn written(sized: bool) -> Log {
        let mut log = Log(Vec::new(), sized, 0);
        let mut sink = Sink::new(&mut log, 2 * PAGE).unwrap();
        sink.write_all(&[1; 3 * PAGE]).unwrap();
        sink.write_all(&[2; PAGE]).unwrap();
        if sized {
            sink.write_again(PAGE as u64, &[3; PAGE]).unwrap();
        }
        sink.commit().unwrap();
        log
    }

    #[test]
    fn the_first_block_comes_last() {
        let log = written(true);
        assert_eq!(log.2, 2);
        let last = log.0.last().unwrap();
        assert_eq!(*last, (0, vec![1; PAGE]));
        assert!(log.0[0].1[..PAGE].iter().all(|b| *b == 0));
        let mut file = vec![0; 4 * PAGE];
        for (at, bytes) in &log.0 {
            file[*at as usize..*at as usize + bytes.len()].copy_from_slice(bytes);
        }
        let block = |n: usize| file[n * PAGE];
        assert_eq!([0, 1, 2, 3].map(block), [1, 3, 1, 2]);
    }

    #[test]
    fn a_stream_goes_forward() {
        let log = written(false);
        let at: Vec<u64> = log.0.iter().map(|(at, _)| *at).collect();
        assert_eq!(at, [0, 2 * PAGE as u64, 4 * PAGE as u64]);
        assert!(log.0[0].1.iter().all(|b| *b == 1) && log.0[2].1.is_empty());
    }
}
