//! Chunks that other threads compress: the same image, and as good an end when something fails.
#![allow(missing_docs)]

mod common;

use std::io;

use common::*;
use kjump_image::layout::CHUNKS_OFFSET;
use kjump_image::*;
use proptest::prelude::*;

fn written(
    target: impl Target,
    header: &Header,
    memory: &Memory,
    key: Option<&MasterKey>,
    workers: usize,
) -> Result<Summary, Error> {
    let options = Options {
        buffer: 8192,
        key,
        workers,
        ..Options::default()
    };
    let mut writer = Writer::begin(target, header, &guards(), options)?;
    writer.add_pages(memory.iter().map(|(pfn, page)| (*pfn, page.as_slice())))?;
    writer.finish()
}

fn room(header: &Header) -> usize {
    worst_case(header.pages, header.chunk_pages) as usize
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_number_of_them_write_the_same(memory in memory(200), codec in codec(), seal in any::<bool>()) {
        let mut header = header(1, codec, &memory);
        let key = MasterKey::of_file(b"key");
        let key = seal.then_some(&key);
        header.encryption = key.map(|_| Encryption {
            source: KeySource::File,
            nonce: [7; 32],
        });
        // But for the marks, which say when.
        let write = |workers| {
            let mut disk = Disk::new(room(&header));
            let summary = written(&mut disk, &header, &memory, key, workers).unwrap();
            let end = summary.totals.image_bytes as usize - PAGE;
            let chunks = disk.0[CHUNKS_OFFSET as usize..end].to_vec();
            assert_eq!(summary.workers, workers);
            (summary.seal.chunks_digest, chunks, disk)
        };
        let (digest, chunks, _) = write(0);
        for workers in [1, 2, 5] {
            let (other, same, disk) = write(workers);
            prop_assert_eq!(other, digest);
            prop_assert!(same == chunks, "{workers} write other bytes");
            if !seal {
                prop_assert!(load(disk).unwrap().0 == memory);
            }
        }
    }
}

/// Takes so many writes.
struct Fails<'a>(&'a mut Disk, usize);

impl Target for Fails<'_> {
    fn size(&self) -> Option<u64> {
        Target::size(self.0)
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.1 = self.1.checked_sub(1).ok_or(io::ErrorKind::NotConnected)?;
        self.0.write_at(offset, bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_write_that_fails_ends_it() {
    let memory = some_memory();
    let header = header(1, Codec::Lz4, &memory);
    for workers in [0, 1, 3] {
        let mut tried = 0;
        for writes in 0.. {
            let mut disk = Disk::new(room(&header));
            let ended = written(Fails(&mut disk, writes), &header, &memory, None, workers);
            match ended {
                Ok(_) => break,
                Err(e) => assert!(
                    matches!(e, Error::Io { .. } | Error::CommitUnknown { .. }),
                    "{e}"
                ),
            }
            tried += 1;
        }
        assert!(tried > 10, "only {tried} writes");
    }
}
