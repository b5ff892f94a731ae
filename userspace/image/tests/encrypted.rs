//! An encrypted image gives nothing away, and nothing in it can be changed, even by somebody who puts
//! every checksum right.
#![allow(missing_docs)]

mod common;

use common::*;
use kjump_image::layout::{ChunkHead, GuardsHead, Mark, BLOCK};
use kjump_image::*;
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

const HEAD: usize = 65536;

fn key(n: u8) -> MasterKey {
    MasterKey::of_file(&[n; 32])
}

fn encrypted(uuid: u8, codec: Codec, memory: &Memory) -> Header {
    let source = KeySource::Passphrase {
        salt: [uuid; 16],
        memory: 65536,
        passes: 3,
        lanes: 1,
    };
    Header {
        encryption: Some(Encryption {
            source,
            nonce: [uuid ^ 0x5a; 32],
        }),
        ..header(uuid, codec, memory)
    }
}

fn write(target: impl Target, header: &Header, memory: &Memory, key: &MasterKey) -> Summary {
    let options = Options {
        buffer: 16384,
        key: Some(key),
        ..Options::default()
    };
    let stream = target.size().is_none();
    let first = if stream { guards() } else { Vec::new() };
    let mut w = Writer::begin(target, header, &first, options).unwrap();
    w.add_pages(memory.iter().map(|(pfn, page)| (*pfn, page.as_slice())))
        .unwrap();
    if !stream {
        w.set_guards(&guards()).unwrap();
    }
    w.finish().unwrap()
}

/// A disk cut to its image, or the same image as a stream.
fn image(uuid: u8, codec: Codec, memory: &Memory, key: &MasterKey, stream: bool) -> Disk {
    let header = encrypted(uuid, codec, memory);
    if stream {
        let mut bytes = Vec::new();
        write(StreamTarget::new(&mut bytes), &header, memory, key);
        return Disk(bytes);
    }
    let size = worst_case(header.pages, header.chunk_pages);
    let mut disk = Disk::new(size as usize);
    let summary = write(&mut disk, &header, memory, key);
    disk.0.truncate(summary.totals.image_bytes as usize);
    disk
}

fn open(source: impl Source, key: &MasterKey) -> Result<(Memory, Verified), Refusal> {
    let mut image = Image::open(source, &machine())?;
    image.unlock(key)?;
    assert_eq!(image.guards(), guards());
    let mut memory = Memory::new();
    let mut chunks = image.chunks()?;
    while let Some(chunk) = chunks.next_chunk()? {
        for (pfn, page) in chunk.pages() {
            memory.insert(pfn, page.map_or_else(|| vec![0; PAGE], |p| p.to_vec()));
        }
    }
    Ok((memory, chunks.finish()?))
}

/// Pages of several sorts: text, zeros, noise.
fn mixed() -> Memory {
    let mut memory = some_memory();
    memory.insert(FIRST + 100, vec![0; PAGE]);
    memory.insert(FIRST + 101, b"the secret of A ".repeat(PAGE / 16));
    memory
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_encrypted_comes_back(memory in memory(40), codec in codec(), stream: bool) {
        let disk = image(1, codec, &memory, &key(7), stream);
        let (back, verified) = open(disk.clone(), &key(7)).unwrap();
        prop_assert_eq!(back, memory.clone());
        prop_assert_eq!(verified.totals().data_pages + verified.totals().zero_pages, memory.len() as u64);
        prop_assert!(disk.0.len() as u64 <= worst_case(memory.len() as u64, 4));
        prop_assert!(matches!(open(disk, &key(8)), Err(Refusal::WrongKey)));
    }
}

#[test]
fn nothing_of_memory_shows() {
    let memory = mixed();
    let needle = b"the secret of A the secret of A ";
    let shows = |disk: &Disk, what: &[u8]| disk.0.windows(what.len()).any(|w| w == what);
    let plain = saved(&header(1, Codec::None, &memory), &memory);
    assert!(shows(&plain, needle));
    let noise = &memory[&FIRST][100..132];
    let run = layout::Run {
        pfn: (FIRST + 100).into(),
        count: 1.into(),
        kind: layout::RUN_ZERO.into(),
    };
    assert!(shows(&plain, noise) && shows(&plain, run.as_bytes()));
    for codec in Codec::ALL {
        let disk = image(1, codec, &memory, &key(1), false);
        assert!(!shows(&disk, needle) && !shows(&disk, noise) && !shows(&disk, run.as_bytes()));
        // A checksum of what is encrypted would tell whether a guess is right.
        let head = ChunkHead::read_from_prefix(&disk.0[HEAD..]).unwrap().0;
        assert_eq!(head.raw_sum.get(), 0);
    }
}

#[test]
fn another_key_and_none() {
    let memory = mixed();
    let disk = image(1, Codec::Lz4, &memory, &key(1), false);
    let mut image = Image::open(disk.clone(), &machine()).unwrap();
    assert!(image.encryption().is_some());
    assert!(matches!(image.chunks(), Err(Refusal::Locked)));
    assert!(matches!(image.unlock(&key(2)), Err(Refusal::WrongKey)));
    assert!(matches!(image.verify_all(), Err(Refusal::Locked)));
    image.unlock(&key(1)).unwrap();
    image.verify_all().unwrap();
    assert!(format!("{}", image.inspect()).contains("Argon2id, 65536 KiB, 3 passes"));
    // Without a key nothing is begun, and a key is not left unused.
    let mut target = disk.clone();
    let begin = |target: &mut Disk, header: &Header, key| {
        let options = Options {
            key,
            optimistic: true,
            ..Options::default()
        };
        Writer::begin(target, header, &[], options).err()
    };
    let header_of = |on| match on {
        true => encrypted(2, Codec::Lz4, &memory),
        false => header(2, Codec::Lz4, &memory),
    };
    let unused = key(1);
    for (on, with) in [(true, None), (false, Some(&unused))] {
        let e = begin(&mut target, &header_of(on), with);
        assert!(matches!(e, Some(Error::Invalid(_))), "{e:?}");
    }
    assert!(target == disk);
    // No digests of pages are laid beside what is encrypted.
    let with_table = Header {
        table: true,
        ..encrypted(2, Codec::Lz4, &memory)
    };
    let e = begin(&mut target, &with_table, Some(&unused));
    assert!(matches!(e, Some(Error::Invalid(what)) if what.contains("table of pages")));
    assert!(target == disk);
}

/// Every byte of a small image, and every cut.
#[test]
fn every_byte_and_every_cut() {
    let memory = Memory::from([
        (FIRST, vec![0; PAGE]),
        (FIRST + 1, b"kjump".repeat(PAGE)[..PAGE].to_vec()),
        (FIRST + 9, vec![7; PAGE]),
    ]);
    for stream in [false, true] {
        let good = image(1, Codec::Lz4, &memory, &key(1), stream);
        let mut disk = good.clone();
        let len = disk.0.len();
        let spare = |at: usize| {
            at.is_multiple_of(61)
                || (at % 4096 < 600 && at < 24576)
                || (16384 + 1300..20480).contains(&at)
        };
        for at in (0..len).filter(|at| spare(*at) || *at >= HEAD) {
            disk.0[at] ^= 1 << (at % 8);
            assert!(open(&mut disk, &key(1)).is_err(), "byte {at}");
            // And by somebody who knows where the checksums are.
            let mut forged = disk.clone();
            put_checksums_right(&mut forged);
            let opened = open(&mut forged, &key(1));
            assert_eq!(
                opened.is_ok(),
                harmless(at, len, stream),
                "byte {at} of {len}, checksums right"
            );
            if let Ok((back, verified)) = opened {
                assert!(back == memory, "byte {at}, checksums right");
                assert_eq!(verified.totals().image_bytes, len as u64);
            }
            disk.0[at] ^= 1 << (at % 8);
        }
        assert!(disk == good);
        for at in (0..len).filter(|at| at % 509 == 0 || *at >= len - 9) {
            let cut = Disk(disk.0[..at].to_vec());
            assert!(open(cut, &key(1)).is_err(), "cut at {at}");
        }
    }
}

/// What no key seals, and all of it: when a mark was written, reserved fields of marks; and checksums,
/// which were put right again, so that the byte is as it was. `len` is the image's.
fn harmless(at: usize, len: usize, stream: bool) -> bool {
    let in_mark = at % BLOCK;
    let mark = at < BLOCK || at >= len - BLOCK;
    let checksum = (12..16).contains(&in_mark);
    let rest = (20..32).contains(&in_mark) || (264..512).contains(&in_mark);
    let header = (16384 + 16..16384 + 20).contains(&at);
    let guards = (20480 + 16..20480 + 20).contains(&at);
    // A committed image that is called a stream is read as one, up to its end mark.
    let state = at == 16 && !stream;
    // The first mark of a stream knows no totals, nothing in it is looked at behind the header's digest.
    let unknown = stream && (144..264).contains(&at);
    // What a seal is of is computed from what it is about: digests of header, guards and chunks, and
    // the one of those.
    let digests = (48..144).contains(&in_mark) || (200..232).contains(&in_mark);
    // Of a chunk only what is computed from the rest: the head's checksum, the image's tag, the
    // payload's checksum.
    let chunk = (HEAD + 4..HEAD + 16).contains(&at) || (HEAD + 40..HEAD + 44).contains(&at);
    (mark && (checksum || rest || digests)) || state || unknown || header || guards || chunk
}

fn crc_at(bytes: &mut [u8], at: usize) {
    bytes[at..at + 4].fill(0);
    let crc = crc32fast::hash(bytes);
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// All checksums and digests that need no key.
fn put_checksums_right(disk: &mut Disk) {
    let chunks = put_chunks_right(disk);
    put_marks_right(disk, chunks);
}

/// Those of header, guards and chunks; gives the digest of the latter.
fn put_chunks_right(disk: &mut Disk) -> [u8; 32] {
    let bytes = &mut disk.0;
    let len = bytes.len();
    crc_at(&mut bytes[16384..20480], 16);
    crc_at(&mut bytes[20480..HEAD], 16);
    let header = digest(&bytes[16384..20480]);
    let mut chunks = blake3::Hasher::new();
    let mut at = HEAD;
    while let Ok((mut head, _)) = ChunkHead::read_from_prefix(&bytes[at..]) {
        let runs = at + 64;
        let payload = runs + head.run_count.get() as usize * 16 + 16;
        let end = payload + head.stored_len.get() as usize;
        if head.magic != layout::CHUNK_MAGIC || end + 16 > len - BLOCK {
            break;
        }
        head.tag
            .set(u64::from_le_bytes(header[..8].try_into().unwrap()));
        head.stored_sum
            .set(xxhash_rust::xxh32::xxh32(&bytes[payload..end], 0));
        head.crc.set(0);
        let sum = crc32fast::hash(&[head.as_bytes(), &bytes[runs..payload - 16]].concat());
        head.crc.set(sum);
        bytes[at..runs].copy_from_slice(head.as_bytes());
        chunks.update(&bytes[at..payload]);
        chunks.update(&bytes[end..end + 16]);
        at = (end + 16).next_multiple_of(8);
    }
    *chunks.finalize().as_bytes()
}

fn put_marks_right(disk: &mut Disk, chunks: [u8; 32]) {
    let bytes = &mut disk.0;
    let len = bytes.len();
    let (header, guards) = (digest(&bytes[16384..20480]), digest(&bytes[20480..HEAD]));
    for (at, whole) in [(0, false), (len - BLOCK, true)] {
        let Ok((mut mark, _)) = Mark::read_from_prefix(&bytes[at..]) else {
            return;
        };
        mark.seal.header_digest = header;
        if whole || mark.state == layout::STATE_COMMITTED {
            mark.seal.guards_digest = guards;
            mark.seal.chunks_digest = chunks;
            mark.image_digest = digest(mark.seal.as_bytes());
        }
        bytes[at..at + 512].copy_from_slice(mark.as_bytes());
        crc_at(&mut bytes[at..at + 512], 12);
    }
}

#[test]
fn checksums_put_right_are_right() {
    let good = image(1, Codec::Lz4, &mixed(), &key(1), false);
    let mut same = good.clone();
    put_checksums_right(&mut same);
    assert!(same == good);
}

#[test]
fn header_and_guards_are_sealed() {
    let memory = mixed();
    let good = image(1, Codec::Lz4, &memory, &key(1), false);
    let runs = [160, good.0.len() - BLOCK + 160];
    let altered = |at: usize, value: u8| {
        let mut disk = good.clone();
        assert_ne!(disk.0[at], value);
        // A total stands in two places.
        for at in [&[at][..], &runs[..]][usize::from(at == runs[0])] {
            disk.0[*at] = value;
        }
        put_checksums_right(&mut disk);
        open(disk, &key(1)).unwrap_err()
    };
    // Time of the save, the kernel's build, a reserved byte; a guard's data; a total.
    for at in [16384 + 48, 16384 + 130, 16384 + 4000, 20480 + 64 + 130] {
        let e = altered(at, 0x77);
        assert!(matches!(e, Refusal::Altered { .. }), "{at}: {e}");
    }
    let e = altered(runs[0], 0x77);
    assert!(
        matches!(
            e,
            Refusal::Altered {
                what: "the commit record"
            }
        ),
        "{e}"
    );
    // Salt, nonce and the check itself: another key.
    for at in [16384 + 1424, 16384 + 1456] {
        assert!(matches!(altered(at, 0x77), Refusal::WrongKey), "{at}");
    }
    // A derivation that would take all memory.
    for at in [1376 + 7, 1376 + 11, 1376 + 15] {
        let e = altered(16384 + at, 0x77);
        assert!(matches!(e, Refusal::BadHeader(_)), "{at}: {e}");
    }
    // Guards left out.
    let mut disk = good.clone();
    let mut head = GuardsHead::read_from_prefix(&disk.0[20480..]).unwrap().0;
    head.count.set(0);
    disk.0[20480..20480 + 64].copy_from_slice(head.as_bytes());
    disk.0[20480 + 64..HEAD].fill(0);
    put_checksums_right(&mut disk);
    assert!(matches!(
        Image::open(disk, &machine()).unwrap().unlock(&key(1)),
        Err(Refusal::Altered { what: "the guards" })
    ));
}

/// Where each chunk lies.
fn chunks(disk: &Disk) -> Vec<std::ops::Range<usize>> {
    let (mut at, mut found) = (HEAD, Vec::new());
    while let Ok((head, _)) = ChunkHead::read_from_prefix(&disk.0[at..]) {
        if head.magic != layout::CHUNK_MAGIC {
            break;
        }
        let (runs, stored) = (
            head.run_count.get() as usize,
            head.stored_len.get() as usize,
        );
        let end = (at + 64 + 16 * runs + 16 + stored + 16).next_multiple_of(8);
        found.push(at..end);
        at = end;
    }
    found
}

#[test]
fn chunks_have_their_place() {
    // Chunks of one size, of pages that do not compress.
    let memory: Memory = (0..16).map(|i| (FIRST + i, noise(i))).collect();
    let good = image(1, Codec::None, &memory, &key(1), false);
    let places = chunks(&good);
    assert_eq!(places.len(), 4);
    let refused = |mut disk: Disk| {
        put_checksums_right(&mut disk);
        let e = open(disk, &key(1)).unwrap_err();
        let seen = matches!(e, Refusal::Altered { .. } | Refusal::Damaged { .. });
        assert!(seen, "{e}");
        e
    };
    // The chunk itself shows it, whatever the marks say.
    let chunk_refused = |mut disk: Disk, index| {
        put_chunks_right(&mut disk);
        match open(disk.clone(), &key(1)).unwrap_err() {
            Refusal::DamagedChunk { index: at, .. } => assert_eq!(at, index),
            e => panic!("{e}"),
        }
        refused(disk);
    };
    // As they are, and with the numbers in their heads put right.
    let number = |disk: &mut Disk, at: usize, index: u64| {
        let mut head = ChunkHead::read_from_prefix(&disk.0[at..]).unwrap().0;
        head.index.set(index);
        head.first_page.set(4 * index);
        disk.0[at..at + 64].copy_from_slice(head.as_bytes());
    };
    for right in [false, true] {
        let mut swapped = good.clone();
        let (a, b) = (places[1].clone(), places[2].clone());
        let one = swapped.0[a.clone()].to_vec();
        swapped.0.copy_within(b.clone(), a.start);
        swapped.0[b.clone()].copy_from_slice(&one);
        if right {
            number(&mut swapped, a.start, 1);
            number(&mut swapped, b.start, 2);
        }
        chunk_refused(swapped, 1);
    }
    // One is left out, and the head says so.
    let mut short = good.clone();
    short.0.drain(places[3].clone());
    let over = short.0.len() % BLOCK;
    let end = short.0.len() - BLOCK;
    short.0.splice(end..end, vec![0; BLOCK - over]);
    let end = short.0.len() - BLOCK;
    short.0[16384 + 240] = 12;
    for mark in [0, end] {
        // Bytes, chunks, pages with contents.
        short.0[mark + 144..][..8].copy_from_slice(&((end + BLOCK) as u64).to_le_bytes());
        short.0[mark + 152] = 3;
        short.0[mark + 168] = 12;
    }
    let e = refused(short);
    assert!(matches!(e, Refusal::Altered { what: "the header" }), "{e}");
    // The same key, another image: of the same memory, and of the same UUID.
    for uuid in [1, 2] {
        let other = match uuid {
            2 => image(2, Codec::None, &memory, &key(1), false),
            _ => {
                let mut header = encrypted(1, Codec::None, &memory);
                if let Some(e) = &mut header.encryption {
                    e.nonce = [9; 32];
                }
                let mut disk = Disk::new(worst_case(16, 4) as usize);
                write(&mut disk, &header, &memory, &key(1));
                disk
            }
        };
        for (n, place) in places.iter().enumerate() {
            let mut mixed = good.clone();
            mixed.0[place.clone()].copy_from_slice(&other.0[place.clone()]);
            chunk_refused(mixed, n as u64);
        }
        let mut head = good.clone();
        head.0[..HEAD].copy_from_slice(&other.0[..HEAD]);
        refused(head);
    }
}

/// Memory and passes that are each in order can come to hours. Neither written nor read.
#[test]
fn a_derivation_comes_to_an_end() {
    let memory = mixed();
    let good = image(1, Codec::Lz4, &memory, &key(1), false);
    for (kib, passes, right) in [
        (65536, 256, true),
        (65536, 257, false),
        (1 << 20, 16, true),
        (1 << 20, 17, false),
        (16 << 10, 1000, true),
        (1 << 20, 1000, false),
    ] {
        let mut forged = good.clone();
        forged.0[16384 + 1380..][..4].copy_from_slice(&u32::to_le_bytes(kib));
        forged.0[16384 + 1384..][..4].copy_from_slice(&u32::to_le_bytes(passes));
        put_checksums_right(&mut forged);
        // What is in order is read up to the seal.
        match Image::open(forged, &machine()).map(|mut i| i.unlock(&key(1))) {
            Ok(Err(Refusal::Altered { what: "the header" })) if right => {}
            Err(Refusal::BadHeader(_)) if !right => {}
            other => panic!("{kib} KiB, {passes} passes: {:?}", other.err()),
        }
        let mut header = encrypted(1, Codec::Lz4, &memory);
        if let Some(Encryption { source, .. }) = &mut header.encryption {
            *source = KeySource::Passphrase {
                salt: [1; 16],
                memory: kib,
                passes,
                lanes: 1,
            };
        }
        let mut disk = Disk::new(worst_case(header.pages, header.chunk_pages) as usize);
        let key = key(1);
        let options = Options {
            key: Some(&key),
            ..Options::default()
        };
        let begun = Writer::begin(&mut disk, &header, &[], options).map(drop);
        assert_eq!(
            begun.is_ok(),
            right,
            "{kib} KiB, {passes} passes: {begun:?}"
        );
    }
}

/// A plain image in the place of an encrypted one, and a header that says so over encrypted chunks.
#[test]
fn no_way_down_to_a_plain_one() {
    let memory = mixed();
    let good = image(1, Codec::Lz4, &memory, &key(1), false);
    let plain = saved(&header(1, Codec::Lz4, &memory), &memory);
    let mut image = Image::open(plain.clone(), &machine()).unwrap();
    assert!(matches!(image.unlock(&key(1)), Err(Refusal::Plain)));

    let mut head = good.clone();
    head.0[16384..20480].copy_from_slice(&plain.0[16384..20480]);
    put_checksums_right(&mut head);
    let mut image = Image::open(head, &machine()).unwrap();
    assert!(matches!(image.unlock(&key(1)), Err(Refusal::Plain)));
    assert!(image.verify_all().is_err());
}

/// A reader that knows nothing of encryption refuses: the flag is not one of its own.
#[test]
fn the_flag_is_one_that_older_readers_refuse() {
    let disk = image(1, Codec::Lz4, &mixed(), &key(1), false);
    let header = layout::Header::read_from_bytes(&disk.0[16384..20480]).unwrap();
    assert_eq!(header.version.get(), layout::VERSION);
    assert_eq!(
        header.flags.get() & !layout::FLAG_SNAPSHOT,
        layout::FLAG_ENCRYPTED
    );
}

#[test]
fn a_key_is_not_shown() {
    assert_eq!(format!("{:?}", key(1)), "MasterKey");
    assert!(key(1) == key(1) && key(1) != key(2));
    // As documented: BLAKE3's key derivation.
    let context = "kjump image 2026-11-26 key file";
    assert_eq!(*key(1).bytes(), blake3::derive_key(context, &[1; 32]));
}
