//! Images that build on others.
#![allow(missing_docs)]

mod common;

use common::*;
use kjump_image::*;
use proptest::prelude::*;

/// A snapshot's header, which can be built on.
fn header_of(uuid: u8, memory: &Memory, base: Option<Base>) -> Header {
    Header {
        snapshot: true,
        table: true,
        base,
        ..header(uuid, Codec::Lz4, memory)
    }
}

/// Saves `memory`, with what is the same in `base` left there.
fn save_on(uuid: u8, memory: &Memory, base: Option<&Disk>) -> Disk {
    let link = base.map(|disk| {
        let at = Image::inspect_only(disk.clone())
            .unwrap()
            .as_base("/dev/vdb:4096")
            .unwrap();
        let link = Image::open_link(Box::new(disk.clone()), &at).unwrap();
        (at, link.into_table().unwrap())
    });
    let (base, table) = link.unzip();
    let header = header_of(uuid, memory, base);
    let size = worst_case(header.pages, header.chunk_pages) + header.table_size();
    let mut disk = Disk::new(size as usize);
    let options = Options {
        buffer: 16384,
        base: table,
        ..Options::default()
    };
    let mut w = Writer::begin(&mut disk, &header, &guards(), options).unwrap();
    w.add_pages(memory.iter().map(|(n, p)| (*n, p.as_slice())))
        .unwrap();
    w.finish().unwrap();
    disk
}

/// The images below, each where its UUID says.
fn links(image: &Image<Disk>, below: &[&Disk]) -> Result<Vec<Link>, Refusal> {
    image.links(|base| {
        let disk = below
            .iter()
            .find(|d| announced(&mut (**d).clone()).unwrap() == Some(base.uuid));
        let disk = disk.ok_or_else(|| base.refusal("is missing"))?;
        Ok(Box::new((*disk).clone()))
    })
}

fn load_over(disk: &Disk, below: &[&Disk]) -> Result<(Memory, Verified), Refusal> {
    let mut image = Image::open(disk.clone(), &machine())?;
    let mut links = links(&image, below)?;
    let mut memory = Memory::new();
    let mut chunks = image.chunks_over(&mut links)?;
    while let Some(chunk) = chunks.next_chunk()? {
        for (pfn, page) in chunk.pages() {
            let page = page.map_or_else(|| vec![0; PAGE], |p| p.to_vec());
            assert!(memory.last_key_value().is_none_or(|(last, _)| *last < pfn));
            memory.insert(pfn, page);
        }
    }
    Ok((memory, chunks.finish()?))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_chain_of_three_comes_back(
        first in memory(60),
        second in memory(30),
        third in memory(30),
        gone in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut second: Memory = first.clone().into_iter().chain(second).collect();
        for at in &gone {
            if second.len() > 1 {
                let key = *second.keys().nth(at.index(second.len())).unwrap();
                second.remove(&key);
            }
        }
        let third: Memory = second.clone().into_iter().chain(third).collect();
        let a = save_on(1, &first, None);
        let b = save_on(2, &second, Some(&a));
        let c = save_on(3, &third, Some(&b));
        for (disk, memory, base) in [(&a, &first, None), (&b, &second, Some(&first)), (&c, &third, Some(&second))] {
            let (back, verified) = load_over(disk, &[&a, &b]).unwrap();
            prop_assert!(back == *memory);
            let totals = Image::inspect_only(disk.clone()).unwrap().totals().unwrap();
            prop_assert_eq!(totals.pages(), memory.len() as u64);
            let empty = |p: &Vec<u8>| p.iter().all(|b| *b == 0);
            let same = memory.iter().filter(|(n, p)| !empty(p) && base.is_some_and(|b| b.get(n) == Some(p)));
            prop_assert_eq!(totals.base_pages, same.count() as u64);
            prop_assert_eq!(verified.totals().data_pages, totals.data_pages);
        }
        // Alone it is not whole.
        let alone = Image::open(b.clone(), &machine()).unwrap().verify_all();
        prop_assert!(matches!(alone, Err(Refusal::Base { .. })), "{:?}", alone);
    }
}

/// Many pages: more than a block of the table has, and than a chunk holds.
fn large(change: u64) -> Memory {
    let page = |i: u64| noise(if i % 50 == 7 { i + change } else { i });
    (0..900).map(|i| (FIRST + i + i / 300, page(i))).collect()
}

#[test]
fn what_did_not_change_takes_no_room() {
    let a = save_on(1, &large(0), None);
    let b = save_on(2, &large(1000), Some(&a));
    let totals = |d: &Disk| Image::inspect_only(d.clone()).unwrap().totals().unwrap();
    assert_eq!((totals(&a).data_pages, totals(&a).base_pages), (900, 0));
    assert_eq!((totals(&b).data_pages, totals(&b).base_pages), (18, 882));
    assert!(totals(&b).image_bytes < totals(&a).image_bytes / 10);
    assert!(load_over(&b, &[&a]).unwrap().0 == large(1000));
    let text = Image::inspect_only(b).unwrap().inspect().to_string();
    assert!(
        text.contains("in the base  882 pages") && text.contains("/dev/vdb:4096"),
        "{text}"
    );
}

fn why(result: Result<(Memory, Verified), Refusal>) -> String {
    match result {
        Err(e) => e.to_string(),
        Ok(_) => "it was not refused".into(),
    }
}

#[test]
fn a_base_that_is_not_what_it_was_is_refused() {
    let (memory, later) = (large(0), large(1000));
    let a = save_on(1, &memory, None);
    let b = save_on(2, &later, Some(&a));
    assert!(why(load_over(&b, &[])).contains("is missing"));
    // Another one with that UUID.
    let again = save_on(1, &later, None);
    assert!(why(load_over(&b, &[&again])).contains("was altered"));
    // Given up, unfinished.
    let mut gone = a.clone();
    let seal = *Image::inspect_only(&mut gone).unwrap().seal();
    discard(&mut gone, &seal).unwrap();
    assert!(why(load_over(&b, &[&gone])).contains("was given up"));
    let mut begun = a.clone();
    announce(&mut begun, [1; 16]).unwrap();
    assert!(why(load_over(&b, &[&begun])).contains("cannot be used"));
    // Where it was is something else.
    let image = Image::inspect_only(b.clone()).unwrap();
    let other = save_on(9, &memory, None);
    let replaced = image.links(|_| Ok(Box::new(other.clone()))).err().unwrap();
    assert!(replaced.to_string().contains("was replaced"), "{replaced}");
    // With another image's pages in its place, its own table tells.
    let mut image = Image::open(b.clone(), &machine()).unwrap();
    let at = Image::inspect_only(other.clone())
        .unwrap()
        .as_base("x")
        .unwrap();
    let fine = Image::open_link(Box::new(other), &at).unwrap();
    image.verify_over(&mut [fine]).unwrap();
    let changed: Memory = memory
        .iter()
        .map(|(n, p)| (*n, p.iter().map(|b| b ^ 1).collect()))
        .collect();
    let other = save_on(9, &changed, None);
    let at = Image::inspect_only(other.clone())
        .unwrap()
        .as_base("x")
        .unwrap();
    let wrong = Image::open_link(Box::new(other), &at).unwrap();
    let refusal = image.verify_over(&mut [wrong]).unwrap_err().to_string();
    assert!(refusal.contains("not what it was"), "{refusal}");
}

#[test]
fn no_damaged_byte_of_a_base_goes_unnoticed() {
    let (memory, later) = (large(0), large(1000));
    let a = save_on(1, &memory, None);
    let b = save_on(2, &later, Some(&a));
    let end = |d: &Disk| {
        Image::inspect_only(d.clone())
            .unwrap()
            .totals()
            .unwrap()
            .image_bytes
    };
    let (ends, step) = ((end(&a), end(&b)), 4093);
    for at in (16384..ends.0).step_by(step * 37) {
        let mut bad = a.clone();
        bad.0[at as usize] ^= 4;
        assert!(load_over(&b, &[&bad]).is_err(), "byte {at} of the base");
    }
    for at in (16384..ends.1).step_by(step) {
        let mut bad = b.clone();
        bad.0[at as usize] ^= 4;
        assert!(load_over(&bad, &[&a]).is_err(), "byte {at}");
    }
}

#[test]
fn a_damaged_table_stops_the_next_one() {
    let a = save_on(1, &large(0), None);
    let at = Image::inspect_only(a.clone())
        .unwrap()
        .as_base("x")
        .unwrap();
    let mut bad = a;
    bad.0[65536 + 4096 + 100] ^= 1;
    let link = Image::open_link(Box::new(bad), &at).unwrap();
    let header = header_of(2, &large(5), Some(at));
    let options = Options {
        base: Some(link.into_table().unwrap()),
        ..Options::default()
    };
    let mut disk = Disk::new(8 << 20);
    let mut w = Writer::begin(&mut disk, &header, &[], options).unwrap();
    let memory = large(5);
    let e = w
        .add_pages(memory.iter().map(|(n, p)| (*n, p.as_slice())))
        .unwrap_err();
    assert!(e.to_string().contains("table of pages"), "{e}");
}

#[test]
fn chains_have_an_end() {
    let memory = some_memory();
    let mut disks = vec![save_on(1, &memory, None)];
    for uuid in 2..=5 {
        let next = save_on(uuid, &memory, disks.last());
        disks.push(next);
    }
    let (last, below) = disks.split_last().unwrap();
    let below: Vec<&Disk> = below.iter().collect();
    assert!(load_over(last, &below).unwrap().0 == memory);
    let e = Image::inspect_only(last.clone())
        .unwrap()
        .as_base("x")
        .unwrap_err();
    assert!(e.to_string().contains("5 images"), "{e}");
    // Nothing can be built on what has no table.
    let plain = saved(&header(1, Codec::Lz4, &memory), &memory);
    let e = Image::inspect_only(plain)
        .unwrap()
        .as_base("x")
        .unwrap_err();
    assert!(e.to_string().contains("no table"), "{e}");
}

#[test]
fn streams() {
    let memory = some_memory();
    // The table comes before what it is made from.
    let header = header_of(1, &memory, None);
    let target = StreamTarget::new(Vec::new());
    assert!(matches!(
        Writer::begin(target, &header, &[], Options::default()),
        Err(Error::Stream)
    ));
    // One that was saved to a disk can be sent.
    let a = save_on(1, &memory, None);
    assert!(load(StreamSource::new(a.0.as_slice())).unwrap().0 == memory);
    // One with a base cannot be read alone.
    let b = save_on(2, &memory, Some(&a));
    let refusal = Image::open(StreamSource::new(b.0.as_slice()), &machine())
        .unwrap()
        .verify_all();
    assert!(refusal.unwrap_err().to_string().contains("stream"));
}
