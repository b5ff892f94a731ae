//! Power is lost at any moment of a save, and what was not flushed got to the disk in part and in
//! any order: there is the new image, whole, or there is none.
#![allow(missing_docs)]

mod common;

use std::io;

use common::*;
use kjump_image::*;
use proptest::prelude::*;

/// What the writer asked for, in order.
#[derive(Clone)]
enum Op {
    Write(u64, Vec<u8>),
    Flush,
}

/// Records, and can begin to fail.
struct Recorder {
    size: u64,
    ops: Vec<Op>,
    fail_from: usize,
}

impl Recorder {
    fn note(&mut self, op: Op) -> io::Result<()> {
        if self.ops.len() >= self.fail_from {
            return Err(io::Error::other("the disk is gone"));
        }
        self.ops.push(op);
        Ok(())
    }
}

impl Target for Recorder {
    fn size(&self) -> Option<u64> {
        Some(self.size)
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.note(Op::Write(offset, bytes.to_vec()))
    }
    fn flush(&mut self) -> io::Result<()> {
        self.note(Op::Flush)
    }
}

/// The disk after `ops[..cut]`: everything up to the last flush is there; of the rest each
/// sector that `keep` says, and of several writes to one sector the one it says.
fn after(disk: &Disk, ops: &[Op], mut keep: impl FnMut() -> bool) -> Disk {
    let mut disk = disk.clone();
    let flushed = ops.iter().rposition(|op| matches!(op, Op::Flush));
    for (i, op) in ops.iter().enumerate() {
        let Op::Write(offset, bytes) = op else {
            continue;
        };
        let sure = flushed.is_some_and(|f| i < f);
        for (sector, at) in bytes.chunks(512).zip((*offset as usize..).step_by(512)) {
            if sure || keep() {
                disk.0[at..at + 512].copy_from_slice(sector);
            }
        }
    }
    disk
}

/// A disk with an image that was used, and the writes of a save over it.
fn over_a_used_image(memory: &Memory, codec: Codec) -> (Disk, Vec<Op>) {
    let old: Memory = memory.keys().map(|n| (*n, noise(*n))).collect();
    let mut disk = saved(&header(7, codec, &old), &old);
    let verified = verify(&mut disk).unwrap();
    mark_resuming(&mut disk, &verified).unwrap();
    let mut recorder = Recorder {
        size: disk.0.len() as u64,
        ops: Vec::new(),
        fail_from: usize::MAX,
    };
    save(&mut recorder, &header(8, codec, memory), memory).unwrap();
    (disk, recorder.ops)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn never_half_an_image(
        memory in memory(30),
        codec in codec(),
        seed in any::<u64>(),
        density in 0u64..5,
    ) {
        let (disk, ops) = over_a_used_image(&memory, codec);
        let mut random = seed | 1;
        for cut in 0..=ops.len() {
            let now = after(&disk, &ops[..cut], || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % 4 < density
            });
            match load(now) {
                Ok((back, verified)) => {
                    // Never the used one, and only once all but the last step was flushed.
                    prop_assert_eq!(verified.seal.uuid, [8; 16]);
                    prop_assert!(cut >= ops.len() - 1);
                    prop_assert!(back == memory);
                }
                Err(_) => prop_assert!(cut < ops.len()),
            }
        }
    }
}

#[test]
fn the_order_is_as_specified() {
    let memory: Memory = (0..9).map(|i| (FIRST + i, noise(i))).collect();
    let (_, ops) = over_a_used_image(&memory, Codec::Lz4);
    let shape = |op: &Op| match op {
        Op::Write(0, b) => format!("state {}", b[16]),
        Op::Write(..) => "body".into(),
        Op::Flush => "flush".into(),
    };
    let mut shapes: Vec<String> = ops.iter().map(shape).collect();
    shapes.dedup();
    assert_eq!(
        shapes,
        ["state 1", "flush", "body", "flush", "state 3", "flush"]
    );
}

/// A disk that fails at any step leaves no image, or an error that says that it may have.
#[test]
fn a_disk_that_fails() {
    let memory: Memory = (0..9).map(|i| (FIRST + i, noise(i))).collect();
    let (disk, ops) = over_a_used_image(&memory, Codec::Lz4);
    for fail_from in 0..ops.len() {
        let mut recorder = Recorder {
            size: disk.0.len() as u64,
            ops: Vec::new(),
            fail_from,
        };
        let e = save(&mut recorder, &header(8, Codec::Lz4, &memory), &memory).unwrap_err();
        let now = after(&disk, &recorder.ops, || true);
        let unknown = matches!(e, Error::CommitUnknown { .. });
        assert_eq!(unknown, fail_from >= ops.len() - 2, "{fail_from}: {e}");
        assert!(unknown || verify(now).is_err(), "{fail_from}: {e}");
    }
}

/// One failed write or flush at the end, then the disk works again: the commit is taken back.
#[test]
fn a_failed_commit_is_taken_back() {
    struct Once(Disk, usize, usize);
    impl Once {
        fn turn(&mut self) -> io::Result<()> {
            self.1 += 1;
            match self.1 == self.2 {
                true => Err(io::Error::other("once")),
                false => Ok(()),
            }
        }
    }
    impl Target for Once {
        fn size(&self) -> Option<u64> {
            Target::size(&self.0)
        }
        fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            // Written, and reported as failed.
            self.0.write_at(offset, bytes)?;
            self.turn()
        }
        fn flush(&mut self) -> io::Result<()> {
            self.turn()
        }
    }
    let memory: Memory = (0..9).map(|i| (FIRST + i, noise(i))).collect();
    let (disk, ops) = over_a_used_image(&memory, Codec::Lz4);
    for fail in 1..=ops.len() {
        let mut target = Once(disk.clone(), 0, fail);
        let e = save(&mut target, &header(8, Codec::Lz4, &memory), &memory).unwrap_err();
        assert!(matches!(e, Error::Io { .. }), "{fail}: {e}");
        assert!(verify(target.0).is_err(), "{fail}");
    }
}
