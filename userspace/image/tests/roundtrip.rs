//! What is saved comes back: on a disk, in a block list, through a pipe.
#![allow(missing_docs)]

mod common;

use std::io::pipe;
use std::thread;

use common::*;
use kjump_image::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn on_a_disk(memory in memory(60), codec in codec(), chunk_pages in 1u32..20) {
        let header = Header { chunk_pages, ..header(1, codec, &memory) };
        let disk = saved(&header, &memory);
        let image = Image::open(disk.clone(), &machine()).unwrap();
        prop_assert_eq!(image.header(), &header);
        let totals = image.totals().unwrap();
        let zero = memory.values().filter(|p| p.iter().all(|b| *b == 0)).count();
        prop_assert_eq!(totals.zero_pages, zero as u64);
        prop_assert_eq!(totals.zero_pages + totals.data_pages, memory.len() as u64);
        prop_assert!(totals.image_bytes <= worst_case(header.pages, chunk_pages));
        let (back, verified) = load(disk).unwrap();
        prop_assert_eq!(verified.totals(), totals);
        prop_assert!(back == memory);
    }

    #[test]
    fn in_a_block_list(memory in memory(40), cuts in prop::collection::vec(1u64..9, 1..40)) {
        let header = header(2, Codec::Lz4, &memory);
        let need = worst_case(header.pages, header.chunk_pages);
        // Extents from the disk's end to its start, with a gap after each.
        let mut list = Vec::new();
        let (mut at, mut size) = (4 * need + (1 << 20), 0);
        for blocks in cuts.iter().cycle() {
            let length = blocks * 4096;
            at -= length + 4096;
            list.push(Extent { offset: at, length });
            size += length;
            if size >= need {
                break;
            }
        }
        let mut disk = Disk::new((4 * need + (1 << 20)) as usize);
        let len = disk.0.len() as u64;
        save(Extents::new(&mut disk, Some(len), &list).unwrap(), &header, &memory).unwrap();
        let (back, _) = load(Extents::new(&mut disk, None, &list).unwrap()).unwrap();
        prop_assert!(back == memory);
        // Nothing between the extents was touched.
        for e in &list {
            let gap = (e.offset + e.length) as usize;
            prop_assert!(disk.0[gap..gap + 4096].iter().all(|b| *b == 0xa5));
        }
    }

    #[test]
    fn through_a_pipe(memory in memory(60), codec in codec()) {
        let header = header(3, codec, &memory);
        let (reader, writer) = pipe().unwrap();
        let given = memory.clone();
        let saving = thread::spawn(move || {
            let summary = save(StreamTarget::new(writer), &header, &given).unwrap();
            summary.totals
        });
        let (back, verified) = load(StreamSource::new(reader)).unwrap();
        prop_assert_eq!(verified.totals(), saving.join().unwrap());
        prop_assert!(back == memory);
    }
}

#[test]
fn a_stream_can_be_kept_and_a_disk_can_be_sent() {
    let memory = some_memory();
    let mut stream = Vec::new();
    save(
        StreamTarget::new(&mut stream),
        &header(1, Codec::Lz4, &memory),
        &memory,
    )
    .unwrap();
    // On a disk, a stream is a stream; it can be marked there.
    let mut disk = Disk(stream);
    let (back, verified) = load(disk.clone()).unwrap();
    assert!(back == memory);
    mark_resuming(&mut disk, &verified).unwrap();
    assert!(matches!(verify(disk), Err(Refusal::Used { .. })));
    // Through a pipe, a disk's image is one.
    let disk = saved(&header(1, Codec::Lz4, &memory), &memory);
    assert!(load(StreamSource::new(disk.0.as_slice())).unwrap().0 == memory);
}

#[test]
fn on_a_file() {
    let path = std::env::temp_dir().join(format!("kjump-image-{}", std::process::id()));
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    let memory = some_memory();
    let header = header(4, Codec::Zstd, &memory);
    file.set_len(worst_case(header.pages, header.chunk_pages))
        .unwrap();
    let mut device = Device::new(file).unwrap();
    save(&mut device, &header, &memory).unwrap();
    assert!(load(&mut device).unwrap().0 == memory);
}

#[test]
fn states_follow_each_other() {
    let memory = some_memory();
    let mut disk = saved(&header(1, Codec::Lz4, &memory), &memory);
    let verified = verify(&mut disk).unwrap();
    mark_resuming(&mut disk, &verified).unwrap();
    assert!(matches!(verify(&mut disk), Err(Refusal::Used { .. })));
    withdraw(&mut disk, &verified).unwrap();
    let image = Image::open(disk.clone(), &machine()).unwrap();
    assert!(matches!(image.state(), State::Withdrawn { .. }));
    let seal = *image.seal();
    discard(&mut disk, &seal).unwrap();
    assert!(matches!(verify(&mut disk), Err(Refusal::Discarded { .. })));
    let text = Image::inspect_only(disk.clone())
        .unwrap()
        .inspect()
        .to_string();
    assert!(
        text.contains("discarded at") && text.contains("7.3.4-kjump"),
        "{text}"
    );
    assert!(
        text.contains("01010101-0101-0101-0101-010101010101"),
        "{text}"
    );
    wipe(&mut disk).unwrap();
    assert!(matches!(verify(&mut disk), Err(Refusal::NoImage(_))));
    // A new image has no memory of the old one's marks.
    save(&mut disk, &header(1, Codec::Lz4, &memory), &memory).unwrap();
    verify(&mut disk).unwrap();
}

#[test]
fn a_snapshot_is_not_used_up() {
    let memory = some_memory();
    let header = Header {
        snapshot: true,
        ..header(1, Codec::Lz4, &memory)
    };
    let mut disk = saved(&header, &memory);
    for _ in 0..2 {
        let verified = verify(&mut disk).unwrap();
        mark_resuming(&mut disk, &verified).unwrap();
    }
}

#[test]
fn guards_can_come_late() {
    let memory = some_memory();
    let header = header(1, Codec::None, &memory);
    let late = vec![Guard {
        kind: 9,
        label: "late".into(),
        ..Guard::default()
    }];
    let size = worst_case(header.pages, header.chunk_pages) as usize;
    for early in [true, false] {
        let mut disk = Disk::new(size);
        let mut w = Writer::begin(&mut disk, &header, &guards(), Options::default()).unwrap();
        if early {
            w.set_guards(&late).unwrap();
        }
        w.add_pages(memory.iter().map(|(n, p)| (*n, p.as_slice())))
            .unwrap();
        if !early {
            w.set_guards(&late).unwrap();
        }
        w.finish().unwrap();
        let mut image = Image::open(disk, &machine()).unwrap();
        assert_eq!(image.guards(), late);
        image.verify_all().unwrap();
    }
    let mut w = Writer::begin(
        StreamTarget::new(Vec::new()),
        &header,
        &[],
        Options::default(),
    )
    .unwrap();
    assert!(matches!(w.set_guards(&late), Err(Error::Stream)));
}

#[test]
fn runs_are_split_where_a_chunk_is_full() {
    // More runs than a chunk holds, without any contents; and one long run of zeros.
    let mut memory: Memory = (0..300).map(|i| (FIRST + 2 * i, vec![0; PAGE])).collect();
    memory.extend((0..600).map(|i| (FIRST + 2 * HALF + i, vec![0; PAGE])));
    let disk = saved(&header(1, Codec::Lz4, &memory), &memory);
    let (back, verified) = load(disk).unwrap();
    assert!(back == memory);
    let totals = verified.totals();
    assert_eq!(
        (totals.chunks, totals.runs, totals.stored_bytes),
        (2, 301, 0)
    );
}
