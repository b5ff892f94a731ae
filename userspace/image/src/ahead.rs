//! A target that is written by a thread of its own, so that the next piece is compressed while a disk
//! takes the last one.

use std::io;
use std::thread::{Builder, Scope};

use crate::buffer::Aligned;
use crate::desk::{desk, Giver};
use crate::layout::BLOCK;
use crate::target::Target;

/// Bytes of the thread's stack: system calls on a disk or a file need little.
const STACK: usize = 64 << 10;

/// What the thread is told to do; it gives the buffer back.
enum Job {
    Write {
        offset: u64,
        buffer: Aligned,
        len: usize,
    },
    Flush,
}

/// What became of it.
type Done = (io::Result<()>, Option<Aligned>);

/// A [`Target`] in front of another one. One write is under way at most; that it failed is told, once, by the
/// next call, which then has done nothing. [`Target::flush`] waits.
pub struct Ahead {
    size: Option<u64>,
    desk: Giver<Job, Done>,
    /// A job's end has not been heard of.
    busy: bool,
    /// For the next write; `None` while the thread has it.
    spare: Option<Aligned>,
}

impl Ahead {
    /// Starts the thread. `buffer` bytes, as [`crate::Options::buffer`]; as much memory is taken once more.
    ///
    /// # Errors
    ///
    /// Those of the system: no memory, no thread.
    pub fn start<'scope, T: Target + Send + 'scope>(
        scope: &'scope Scope<'scope, '_>,
        mut target: T,
        buffer: usize,
    ) -> io::Result<Self> {
        let size = target.size();
        let (desk, worker) = desk();
        let work = move || {
            while let Some(job) = worker.job() {
                let done = match job {
                    Job::Write {
                        offset,
                        buffer,
                        len,
                    } => {
                        let bytes = &buffer.bytes()[..len];
                        (target.write_at(offset, bytes), Some(buffer))
                    }
                    Job::Flush => (target.flush(), None),
                };
                worker.done(done);
            }
        };
        let spare = Aligned::new(buffer.next_multiple_of(BLOCK))
            .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        Builder::new().stack_size(STACK).spawn_scoped(scope, work)?;
        Ok(Self {
            size,
            desk,
            busy: false,
            spare: Some(spare),
        })
    }

    /// Waits for what is under way.
    fn settle(&mut self) -> io::Result<()> {
        if self.busy {
            self.busy = false;
            let done = self.desk.take();
            let gone = || io::Error::other("the thread that writes has ended");
            let (result, buffer) = done.ok_or_else(gone)?;
            self.spare = self.spare.take().or(buffer);
            result?;
        }
        Ok(())
    }

    /// After [`settle`](Self::settle).
    fn send(&mut self, job: Job) {
        self.desk.give(job);
        self.busy = true;
    }

    fn spare(&mut self) -> io::Result<Aligned> {
        let lost = || io::Error::other("the buffer was lost");
        self.spare.take().ok_or_else(lost)
    }
}

impl Target for Ahead {
    fn size(&self) -> Option<u64> {
        self.size
    }

    /// Waits for this write too: it comes from elsewhere.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            self.settle()?;
            let mut buffer = self.spare()?;
            let len = buffer.bytes().len().min(bytes.len() - done);
            buffer.bytes_mut()[..len].copy_from_slice(&bytes[done..done + len]);
            let offset = offset + done as u64;
            self.send(Job::Write {
                offset,
                buffer,
                len,
            });
            done += len;
        }
        self.settle()
    }

    fn write_buffer(&mut self, offset: u64, from: &mut Aligned, len: usize) -> io::Result<()> {
        self.settle()?;
        let spare = self.spare()?;
        if spare.bytes().len() != from.bytes().len() {
            self.spare = Some(spare);
            return self.write_at(offset, &from.bytes()[..len]);
        }
        let buffer = std::mem::replace(from, spare);
        self.send(Job::Write {
            offset,
            buffer,
            len,
        });
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.settle()?;
        self.send(Job::Flush);
        self.settle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::scope;

    /// Keeps what it is given; fails at the write of that number.
    #[derive(Default)]
    struct Log {
        bytes: Vec<u8>,
        writes: usize,
        flushes: usize,
        fail: Option<usize>,
    }

    impl Target for Log {
        fn size(&self) -> Option<u64> {
            Some(1 << 20)
        }
        fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            if self.fail == Some(self.writes) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.writes += 1;
            let end = offset as usize + bytes.len();
            self.bytes.resize(self.bytes.len().max(end), 0);
            self.bytes[offset as usize..end].copy_from_slice(bytes);
            Ok(())
        }
        fn flush(&mut self) -> io::Result<()> {
            self.flushes += 1;
            Ok(())
        }
    }

    fn piece(byte: u8) -> Aligned {
        let mut piece = Aligned::new(2 * BLOCK).unwrap();
        piece.bytes_mut().fill(byte);
        piece
    }

    #[test]
    fn all_is_written_in_order() {
        let mut log = Log::default();
        scope(|s| {
            let mut ahead = Ahead::start(s, &mut log, 2 * BLOCK).unwrap();
            assert_eq!(ahead.size(), Some(1 << 20));
            let mut buffer = piece(0);
            for n in 0..20u8 {
                buffer.bytes_mut().fill(n);
                let at = u64::from(n) * BLOCK as u64;
                // The second half of each is overwritten by the next.
                ahead.write_buffer(at, &mut buffer, 2 * BLOCK).unwrap();
            }
            // From elsewhere, and larger than a buffer; and from a buffer of another size.
            ahead.write_at(0, &[0xee; 5 * BLOCK]).unwrap();
            let mut other = Aligned::new(BLOCK).unwrap();
            other.bytes_mut().fill(0xdd);
            ahead.write_buffer(0, &mut other, BLOCK).unwrap();
            ahead.flush().unwrap();
        });
        assert_eq!((log.bytes.len(), log.flushes), (21 * BLOCK, 1));
        for (n, block) in log.bytes.chunks(BLOCK).enumerate() {
            let byte = [0xdd, 0xee, 0xee, 0xee, 0xee]
                .get(n)
                .copied()
                .unwrap_or(n.min(19) as u8);
            assert!(
                block.iter().all(|b| *b == byte),
                "block {n}: {:x}",
                block[0]
            );
        }
    }

    /// Once, and before anything else is done; what is tried then is tried, as a commit that failed is taken back.
    #[test]
    fn a_write_that_failed_is_told() {
        for flush in [false, true] {
            let mut log = Log {
                fail: Some(2),
                ..Log::default()
            };
            // What becomes of the commit record, whoever writes it.
            let mut other = Log {
                fail: Some(0),
                ..Log::default()
            };
            scope(|s| {
                let mut ahead = Ahead::start(s, &mut other, 2 * BLOCK).unwrap();
                let told = ahead.write_at(0, &[0; BLOCK]).unwrap_err();
                assert_eq!(told.kind(), io::ErrorKind::StorageFull);
                ahead.flush().unwrap();
            });
            assert_eq!((other.writes, other.flushes), (0, 1));
            scope(|s| {
                let mut ahead = Ahead::start(s, &mut log, 2 * BLOCK).unwrap();
                let mut buffer = piece(1);
                for n in 0..3 {
                    ahead.write_buffer(n << 13, &mut buffer, 2 * BLOCK).unwrap();
                }
                let told = match flush {
                    true => ahead.flush(),
                    false => ahead.write_buffer(3 << 13, &mut buffer, 2 * BLOCK),
                };
                assert_eq!(told.unwrap_err().kind(), io::ErrorKind::StorageFull);
                assert_eq!(ahead.size(), Some(1 << 20));
            });
            assert_eq!((log.writes, log.flushes), (2, 0));
        }
    }
}
