//! A save that cannot be, or is stopped, leaves no image and says why.
#![allow(missing_docs)]

mod common;

use std::io::Write;
use std::ops::ControlFlow;

use common::*;
use kjump_image::*;

#[test]
fn what_is_no_image_is_not_begun() {
    let memory = some_memory();
    let good = header(1, Codec::Lz4, &memory);
    let begin = |header: Header, size: usize, optimistic| {
        let mut disk = Disk::new(size);
        let options = Options {
            optimistic,
            ..Options::default()
        };
        let e = Writer::begin(&mut disk, &header, &[], options).err();
        let untouched = disk == Disk::new(size);
        assert!(e.is_none() || untouched, "nothing is written on a refusal");
        e
    };
    let size = worst_case(good.pages, good.chunk_pages) as usize;
    assert!(begin(good.clone(), size, false).is_none());
    let e = begin(good.clone(), size - 4096, false).unwrap();
    assert!(matches!(e, Error::NoRoom { .. }), "{e}");
    assert!(begin(good.clone(), size - 4096, true).is_none());
    let mut bad = vec![good.clone(); 7];
    bad[0].uuid = [0; 16];
    bad[1].release = "x".repeat(64);
    bad[2].window_end += 1;
    bad[3].chunk_pages = 257;
    bad[4].ram.reverse();
    bad[5].pages = 2 * HALF + 1;
    bad[6].jump_back_entry = 0x1000;
    for header in bad {
        let e = begin(header, 1 << 24, false).unwrap();
        assert!(matches!(e, Error::Invalid(_)), "{e}");
    }
}

#[test]
fn what_does_not_belong_is_refused() {
    let memory = some_memory();
    let header = header(1, Codec::Lz4, &memory);
    let mut w = Writer::begin(Disk::new(1 << 20), &header, &[], Options::default()).unwrap();
    let page = noise(1);
    w.write(FIRST + 10, &page).unwrap();
    for pfn in [FIRST + 10, 0, FIRST - 1, FIRST + HALF, u64::MAX] {
        assert!(matches!(w.write(pfn, &page), Err(Error::BadPage { .. })));
    }
    assert!(w.write(FIRST + 11, &page[1..]).is_err());
    let many = noise(1).repeat(30);
    let e = w.write(FIRST + 11, &many);
    assert!(matches!(e, Err(Error::PageCount { given: 31, .. })));
    assert!(matches!(w.finish(), Err(Error::PageCount { given: 1, .. })));
}

#[test]
fn a_save_can_be_stopped_and_runs_out_of_room() {
    let memory = some_memory();
    let header = header(1, Codec::Lz4, &memory);
    let run = |disk: &mut Disk, stop_at| {
        let mut last = 0;
        let options = Options {
            buffer: 4096,
            optimistic: true,
            base: None,
            on_progress: Some(Box::new(move |p| {
                assert!(p.pages >= last && p.pages_total == 30);
                last = p.pages;
                match p.pages >= stop_at {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })),
            ..Options::default()
        };
        let mut w = Writer::begin(disk, &header, &[], options)?;
        w.add_pages(memory.iter().map(|(n, p)| (*n, p.as_slice())))?;
        w.finish()
    };
    let mut disk = saved(&header, &memory);
    assert!(matches!(run(&mut disk, 12), Err(Error::Stopped)));
    assert!(matches!(verify(&mut disk), Err(Refusal::Unfinished { .. })));
    let mut small = Disk::new(32 * 4096);
    let e = run(&mut small, 1000).err();
    assert!(matches!(e, Some(Error::NoRoom { .. })), "{e:?}");
    assert!(matches!(
        verify(&mut small),
        Err(Refusal::Unfinished { .. })
    ));
}

#[test]
fn a_pipe_that_breaks_is_an_error() {
    struct Breaks(usize);
    impl Write for Breaks {
        fn write(&mut self, b: &[u8]) -> std::io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(1)
                .ok_or(std::io::ErrorKind::BrokenPipe)?;
            Ok(b.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let memory = some_memory();
    let header = header(1, Codec::None, &memory);
    let mut unknown = 0;
    for writes in 0.. {
        match save(StreamTarget::new(Breaks(writes)), &header, &memory) {
            Ok(_) => break,
            // The last write has the end mark, and nobody knows whether it arrived.
            Err(Error::CommitUnknown { .. }) => unknown += 1,
            Err(e) => assert!(matches!(e, Error::Io { .. }) && unknown == 0, "{e}"),
        }
    }
    assert_eq!(unknown, 1);
}
