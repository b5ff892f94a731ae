//! XFS as mkfs makes it, its log changed as mounts and records would.

mod common;

use common::{have, run, Image, UUID};
use kjump_guard::{record, Error, Kind};
use kjump_image::Guard;

const BLOCK: u64 = 512;
const MIB: u64 = 1 << 20;

fn make(name: &str, options: &[&str]) -> Image {
    let image = Image::new(name, 400 << 20);
    let uuid = format!("uuid={UUID}");
    let crc = !options.contains(&"crc=0");
    let mut all = vec!["-q", "-L", "data"];
    all.extend(if crc { vec!["-m", &uuid] } else { vec![] });
    image.run("mkfs.xfs", &[&all, options].concat());
    if !crc {
        image.run("xfs_admin", &["-U", UUID]);
    }
    image
}

/// The log's start and size, bytes, from xfs_db.
fn log(image: &Image) -> (u64, u64) {
    let path = image.path.to_str().unwrap();
    let number = |commands: &[&str]| -> u64 {
        let mut args = vec!["-r"];
        commands.iter().for_each(|c| args.extend(["-c", c]));
        args.push(path);
        let out = run("xfs_db", &args, None);
        let number = out.trim().rsplit([' ', '(']).next().unwrap();
        number.trim_end_matches(')').parse().unwrap()
    };
    let start = number(&["sb 0", "p logstart"]);
    let start = number(&[&format!("convert fsblock {start} daddr")]) * BLOCK;
    let size = number(&["sb 0", "p logblocks"]) * number(&["sb 0", "p blocksize"]);
    (start, size)
}

/// Blocks of the log from `block` on, with that cycle; every fourth is a record's head, and `salt`
/// is what is in them.
fn fill(image: &Image, start: u64, (block, blocks): (u64, u64), cycle: u32, salt: u8) {
    let mut bytes = vec![salt; (blocks * BLOCK) as usize];
    for (i, bytes) in (block..).zip(bytes.chunks_exact_mut(BLOCK as usize)) {
        let place = if i % 4 == 0 { 4 } else { 0 };
        bytes[..4].copy_from_slice(&0xfeed_babe_u32.to_be_bytes());
        bytes[place..place + 4].copy_from_slice(&cycle.to_be_bytes());
    }
    image.write(start + block * BLOCK, &bytes);
}

#[test]
fn a_record_shows_wherever_the_head_is() {
    if !have(&["mkfs.xfs", "xfs_db"]) {
        return;
    }
    let image = make("xfs-heads", &["-b", "size=4096"]);
    // mkfs makes none as small.
    image.write(96, &4096_u32.to_be_bytes());
    let place = log(&image);
    assert_eq!(place.1, 16 * MIB);
    let blocks = place.1 / BLOCK;
    let fill = |block, blocks, cycle, salt| fill(&image, place.0, (block, blocks), cycle, salt);
    for head in [
        1,
        2,
        100,
        4096,
        blocks / 2 + 1,
        blocks - 4096,
        blocks - 1,
        blocks,
    ] {
        fill(0, head, 8, 1);
        fill(head, blocks - head, 7, 1);
        let then = image.record();
        image.same(&then);
        // A record at the head, also one around the end.
        let first = 5.min(blocks - head);
        let restore = |then: &Guard| {
            fill(0, head, 8, 1);
            fill(head, blocks - head, 7, 1);
            image.same(then);
        };
        fill(head, first, 8, 2);
        fill(0, 5 - first, 9, 2);
        image.differs(&then, "its log was written");
        restore(&then);
        // A mount that clears 2 MiB behind the head, with empty records of the cycle before.
        let first = 4096.min(blocks - head);
        fill(head, first, 7, 3);
        fill(0, 4096 - first, 8, 3);
        image.differs(&then, "at the head");
        restore(&then);
        // As many records as the log is long: the head is where it was.
        fill(0, head, 9, 4);
        fill(head, blocks - head, 8, 4);
        image.differs(&then, "its log was written");
    }
}

#[test]
fn all_sorts_are_found() {
    if !have(&["mkfs.xfs", "xfs_db", "xfs_admin"]) {
        return;
    }
    let kinds: [&[&str]; 9] = [
        &[],
        &["-b", "size=1024"],
        &["-b", "size=65536"],
        &["-s", "size=4096"],
        &["-l", "su=256k"],
        &["-d", "agcount=5"],
        &["-l", "agnum=2", "-d", "agcount=3"],
        &["-m", "crc=0"],
        &["-m", "crc=0", "-l", "version=1"],
    ];
    for (i, options) in kinds.into_iter().enumerate() {
        println!("{options:?}");
        let image = make(&format!("xfs-{i}"), options);
        image.is(Kind::Xfs, UUID, "data");
        let then = image.record();
        image.same(&then);
        let path = image.path.to_str().unwrap();
        run("xfs_repair", &["-n", path], None);
        image.same(&then);
        // The first block that mkfs left empty; the log that it made is of cycle 1.
        let (start, size) = log(&image);
        let used = image.read(start, size as usize);
        let block = used.chunks(512).rposition(|b| b[..8] != [0; 8]).unwrap() as u64 + 1;
        assert!(block < size / BLOCK);
        fill(&image, start, (block, 2), 1, 9);
        image.differs(&then, "log");
        image.write(start + block * BLOCK, &[0; 1024]);
        image.same(&then);
        image.run("xfs_admin", &["-L", "other"]);
        image.differs(&then, "superblock");
    }
}

#[test]
fn what_cannot_be_watched_is_refused() {
    if !have(&["mkfs.xfs"]) {
        return;
    }
    let image = make("xfs-refused", &[]);
    let found = image.found();
    let log_start = image.read(48, 8);
    image.write(48, &[0; 8]);
    let error = record(&image.file, &found).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    image.write(48, &[0xff; 8]);
    let error = record(&image.file, &found).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    image.write(48, &log_start);
    image.write(96, &[0xff; 4]);
    let error = record(&image.file, &found).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}
