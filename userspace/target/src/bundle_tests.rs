//! Bundles come back whole, and never in an image's place.

use std::fs;
use std::os::unix::fs::FileExt;

use kjump_image::{Codec, Header, Options, Range, Target, Writer};

use super::*;
use crate::disk::Access;
use crate::fake::{noise, Fake};
use crate::spec::Spec;
use crate::system::System;

const SIZE: u64 = 4 << 20;

fn target() -> Fake {
    let fake = Fake::new();
    fake.put("target", vec![0; SIZE as usize]);
    fake
}

fn open(fake: &Fake) -> Opened {
    let spec = Spec::File(fake.path("target"));
    System::default().open(&spec, Access::Write).unwrap()
}

fn install(opened: &mut Opened, kernel: &[u8], initrd: &[u8], line: &str) -> Result<Bundle> {
    let input = |reader, length: &[u8]| Input {
        reader,
        length: length.len() as u64,
    };
    let (mut k, mut i) = (kernel, initrd);
    let initrd = (!initrd.is_empty()).then(|| input(&mut i, initrd));
    opened.install_bundle(input(&mut k, kernel), initrd, line)
}

fn read(opened: &mut Opened, part: &Part) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    opened
        .part(part)
        .unwrap()
        .read_to_end(&mut bytes)
        .map(|_| bytes)
}

#[test]
fn what_is_installed_is_read() {
    let fake = target();
    for (kernel, initrd, line) in [
        (noise(1, 300_001), noise(2, 65536), "root=/dev/sda1 ro"),
        (noise(3, 1), Vec::new(), ""),
        (noise(4, 65536), noise(5, 65537), "ü"),
    ] {
        let installed = install(&mut open(&fake), &kernel, &initrd, line).unwrap();
        let mut opened = open(&fake);
        let bundle = opened.bundle().unwrap().unwrap();
        assert_eq!((&bundle, bundle.command_line.as_str()), (&installed, line));
        assert_eq!(read(&mut opened, &bundle.kernel).unwrap(), kernel);
        let back = bundle.initrd.map(|i| read(&mut opened, &i).unwrap());
        assert_eq!(back.unwrap_or_default(), initrd);
        let blocks = |b: &[u8]| (b.len() as u64).next_multiple_of(4096);
        let room = SIZE - 4096 - blocks(&kernel) - blocks(&initrd);
        assert_eq!(Target::size(&opened), Some(room));
        let over = opened.write_at(room, &Block::ZERO.0);
        assert_eq!(over.unwrap_err().kind(), ErrorKind::StorageFull);
        opened.write_at(room - 4096, &Block::ZERO.0).unwrap();
    }
    open(&fake).remove_bundle().unwrap();
    assert_eq!(open(&fake).bundle().unwrap(), None);
    assert_eq!(Target::size(&open(&fake)), Some(SIZE));
}

#[test]
fn damage_shows() {
    let fake = target();
    let kernel = noise(1, 200_000);
    install(&mut open(&fake), &kernel, &noise(2, 5000), "x").unwrap();
    let good = fs::read(fake.path("target")).unwrap();
    let file = fs::File::options().write(true).open(fake.path("target"));
    let file = file.unwrap();
    let flip = |at: usize| {
        let byte = [good[at] ^ 4];
        file.write_all_at(&byte, at as u64).unwrap();
    };
    let mend = |at: usize| file.write_all_at(&good[at..=at], at as u64).unwrap();
    // In the kernel: its last read says so, and what came before was not all.
    let start = SIZE as usize - 4096 - 8192 - 200_704;
    flip(start + 150_000);
    let mut opened = open(&fake);
    let bundle = opened.bundle().unwrap().unwrap();
    let mut bytes = Vec::new();
    let failed = opened.part(&bundle.kernel).unwrap().read_to_end(&mut bytes);
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::InvalidData);
    assert!(bytes.len() < kernel.len());
    assert!(read(&mut opened, &bundle.initrd.unwrap()).is_ok());
    // In the footer: no bundle, so no room is kept for one. Without the magic there is none.
    for at in (0..200).chain(2000..4096).step_by(7) {
        flip(SIZE as usize - 4096 + at);
        let found = open(&fake).bundle();
        mend(SIZE as usize - 4096 + at);
        match at {
            0..8 => assert!(matches!(found, Ok(None))),
            _ => assert!(matches!(found, Err(Error::BadBundle(_))), "{at}"),
        }
    }
    flip(SIZE as usize - 1);
    assert_eq!(Target::size(&open(&fake)), Some(SIZE));
    fake.put("target", &good[4096..]);
    assert!(matches!(open(&fake).bundle(), Err(Error::BadBundle(_))));
}

#[test]
fn footers_that_lie_are_refused() {
    let fake = target();
    let bundle = install(&mut open(&fake), &noise(1, 5000), &noise(2, 50), "x").unwrap();
    type Change = fn(&mut BundleFooter);
    let changes: [Change; 9] = [
        |f| f.version.set(2),
        |f| f.container += 4096,
        |f| f.kernel.offset += 4096,
        |f| f.kernel.length.set(0),
        |f| f.kernel.length.set(u64::MAX),
        |f| f.initrd.offset -= 4096,
        |f| f.initrd.length.set(0),
        |f| f.command_line_len.set(2049),
        |f| f.command_line[0] = 0xff,
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut footer = bundle.footer(SIZE);
        change(&mut footer);
        footer.crc.set(0);
        footer.crc.set(checksum(&footer));
        let found = Bundle::parse(&Block::of(&footer), SIZE);
        assert!(matches!(found, Err(Error::BadBundle(_))), "{i}: {found:?}");
    }
}

#[test]
fn what_does_not_fit_is_not_begun() {
    let fake = target();
    install(&mut open(&fake), b"kernel", b"", "old").unwrap();
    let large = vec![1; SIZE as usize - 65536];
    let error = install(&mut open(&fake), &large, b"", "").unwrap_err();
    assert!(matches!(error, Error::TooSmall { .. }));
    let long = "x".repeat(2049);
    assert!(install(&mut open(&fake), b"k", b"", &long).is_err());
    assert!(install(&mut open(&fake), b"", b"", "").is_err());
    assert_eq!(open(&fake).bundle().unwrap().unwrap().command_line, "old");
    // A file that is shorter than it was said leaves no bundle rather than half of one.
    let short = Input {
        reader: &mut &b"abc"[..],
        length: 4,
    };
    assert!(open(&fake).install_bundle(short, None, "").is_err());
    assert_eq!(open(&fake).bundle().unwrap(), None);
}

/// Saves 500 pages that cannot be compressed: 2 MiB.
fn save(opened: &mut Opened) -> kjump_image::Summary {
    let header = Header {
        uuid: [1; 16],
        pages: 500,
        codec: Codec::None,
        chunk_pages: 16,
        jump_back_entry: 17 << 20,
        ram: vec![Range {
            start: 0,
            end: 32 << 20,
        }],
        ..Header::default()
    };
    let mut writer = Writer::begin(opened, &header, &[], Options::default()).unwrap();
    writer.write(4096, &noise(8, 500 * 4096)).unwrap();
    writer.finish().unwrap()
}

#[test]
fn an_image_that_can_be_resumed_is_not_overwritten() {
    let fake = target();
    let seal = save(&mut open(&fake)).seal;
    let large = noise(1, 2 << 20);
    let error = install(&mut open(&fake), &large, b"", "").unwrap_err();
    assert!(matches!(error, Error::Occupied { .. }), "{error}");
    install(&mut open(&fake), &noise(1, 1 << 20), b"", "").unwrap();
    let verified = Image::inspect_only(open(&fake)).unwrap().verify_all();
    assert!(verified.is_ok());
    kjump_image::discard(&mut open(&fake), &seal).unwrap();
    install(&mut open(&fake), &large, b"", "").unwrap();
}
