use proptest::prelude::*;

use super::*;
use crate::fake::{noise, Fake};

fn raw(logical: u64, physical: u64, length: u64, flags: u32) -> RawExtent {
    RawExtent {
        logical,
        physical,
        length,
        flags,
        ..RawExtent::default()
    }
}

fn piece(at: u64, offset: u64, length: u64) -> Piece {
    Piece { at, offset, length }
}

/// What a filesystem with these extents makes, two at a time.
fn collected(extents: &[RawExtent], size: u64) -> Result<Vec<Piece>> {
    let next = |start| {
        let rest = extents.iter().filter(|e| e.logical + e.length > start);
        Ok(rest.take(2).copied().collect())
    };
    collect(next, Path::new("/dump"), size)
}

#[test]
fn pieces_are_as_the_filesystem_says() {
    let extents = [
        raw(0, 0x10_000, 0x1000, 0),
        raw(0x1000, 0x11_000, 0x400, 0),
        // An indirect block between, then a hole, then what was never written.
        raw(0x1400, 0x11_800, 0x400, 0),
        raw(0x4000, 0x20_000, 0x1000, UNWRITTEN),
        raw(0x5000, 0x30_000, 0x400, 1),
    ];
    let list = collected(&extents, 0x5123).unwrap();
    let expected = [
        piece(0, 0x10_000, 0x1400),
        piece(0x1400, 0x11_800, 0x400),
        piece(0x5000, 0x30_000, 0x400),
    ];
    assert_eq!(list, expected);
    assert_eq!(collected(&[], 100).unwrap(), []);
    for (flag, word) in [(0x4, "not on the disk"), (0x8, "compressed")] {
        let e = collected(&[raw(0, 0, 4096, flag)], 4096).unwrap_err();
        assert!(e.to_string().contains(word), "{e}");
    }
}

#[test]
fn a_list_of_another_device_is_refused() {
    let fake = Fake::new();
    fake.disk("vda", "254:0", &noise(3, 16384));
    let system = fake.system();
    let device = system.block_device("vda").unwrap();
    let open = |pieces: &[Piece]| {
        let listed = Listed {
            device: device.clone(),
            size: 8192,
            pieces: pieces.to_vec(),
        };
        system.open_listed(&listed, Access::Read)
    };
    assert!(open(&[piece(0, 8192, 8192)]).is_ok());
    for bad in [
        &[piece(0, 12288, 8192)][..],
        &[piece(0, 100, 8192)],
        &[piece(0, 0, 0)],
        &[piece(0, 0, 4096), piece(512, 4096, 4096)],
        &[piece(u64::MAX - 511, 0, 4096)],
    ] {
        assert!(matches!(open(bad), Err(Error::BadMap { .. })), "{bad:?}");
    }
}

#[test]
fn a_file_by_its_path() {
    let fake = Fake::new();
    let bytes = noise(5, BUFFER + 777);
    fake.put("dump", &bytes);
    let mut reader = Reader::open(&fake.path("dump")).unwrap();
    let mut all = vec![0; bytes.len() + 10];
    assert_eq!(reader.read_at(0, &mut all).unwrap(), bytes.len());
    assert!(all[..bytes.len()] == bytes);
    let missing = Reader::open(&fake.path("nothing")).unwrap_err();
    assert!(missing.is_missing());
    assert!(Reader::open(&fake.path("proc")).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn what_is_read_is_what_the_pieces_hold(
        lengths in prop::collection::vec((1..40u64, 0..4u64), 1..8),
        reads in prop::collection::vec((0..600_000u64, 0..300_000usize), 1..8),
    ) {
        let fake = Fake::new();
        let disk = noise(9, 400 * 1024);
        fake.disk("vda", "254:0", &disk);
        let (mut pieces, mut file, mut offset) = (Vec::new(), Vec::new(), 300 * 1024u64);
        for (sectors, hole) in &lengths {
            let length = sectors * 1024;
            file.resize(file.len() + *hole as usize * 4096, 0);
            offset -= length;
            pieces.push(piece(file.len() as u64, offset, length));
            file.extend_from_slice(&disk[offset as usize..(offset + length) as usize]);
        }
        file.resize(file.len() + 5000, 0);
        let size = file.len() as u64;
        let system = fake.system();
        let device = system.block_device("vda").unwrap();
        let mut reader = system.open_listed(&Listed { device, size, pieces }, Access::Read).unwrap();
        for (at, len) in reads {
            let mut buf = vec![1; len];
            let n = reader.read_at(at, &mut buf).unwrap();
            let expected = file.get(at as usize..).unwrap_or(&[]);
            let expected = &expected[..expected.len().min(len)];
            prop_assert!(buf[..n] == *expected);
        }
    }
}

#[test]
fn what_is_written_goes_to_its_pieces() {
    let fake = Fake::new();
    fake.disk("vda", "254:0", &noise(5, 65536));
    let system = fake.system();
    let device = system.block_device("vda").unwrap();
    // The second block is in two places; between the second and the fourth there is a hole.
    let pieces = vec![
        piece(0, 16384, 6144),
        piece(6144, 8192, 2048),
        piece(12288, 32768, 4096),
    ];
    let listed = Listed {
        device: device.clone(),
        size: 16384,
        pieces,
    };
    let mut file = system.open_listed(&listed, Access::Write).unwrap();
    let mut block = [0; 4096];
    assert_eq!(file.read_at(4096, &mut block).unwrap(), 4096);
    let new: Vec<u8> = noise(6, 4096);
    let mut aligned = kjump_image::Aligned::new(4096).unwrap();
    aligned.bytes_mut().copy_from_slice(&new);
    file.write_at(4096, aligned.bytes()).unwrap();
    file.flush().unwrap();
    assert_eq!(file.read_at(4096, &mut block).unwrap(), 4096);
    assert!(block[..] == new[..]);
    let whole = vec![piece(0, 0, 65536)];
    let listed = Listed {
        device,
        size: 65536,
        pieces: whole,
    };
    let (mut disk, mut now) = (
        system.open_listed(&listed, Access::Read).unwrap(),
        vec![0; 65536],
    );
    disk.read_at(0, &mut now).unwrap();
    let mut expected = noise(5, 65536);
    expected[20480..22528].copy_from_slice(&new[..2048]);
    expected[8192..10240].copy_from_slice(&new[2048..]);
    assert!(now == expected);
    assert!(file.write_at(8192, aligned.bytes()).is_err());
}
