//! Whatever is on a disk: an answer or an error, never a panic.

mod common;

use common::{have, Image};
use kjump_guard::{probe, record};

/// Each byte of the range in turn, and each aligned group of two, four and eight, with values at
/// the edges.
fn shake(image: &Image, start: u64, len: usize) {
    let original = image.read(start, len);
    for width in [1, 2, 4, 8] {
        for at in (0..len).step_by(width) {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                image.write(start + at as u64, &vec![value; width]);
                if let Ok(Some(found)) = probe(&image.file) {
                    let _ = record(&image.file, &found);
                }
            }
            image.write(start + at as u64, &original[at..at + width]);
        }
    }
    assert_eq!(image.read(start, len), original);
}

#[test]
fn any_superblock() {
    if !have(&["mkfs.ext4", "mkfs.vfat", "mkfs.xfs", "mkfs.btrfs", "mkswap"]) {
        return;
    }
    // Tool, options, size in MiB, where to change what.
    type Case<'a> = (&'a str, &'a [&'a str], u64, &'a [(u64, usize)]);
    let cases: [Case; 7] = [
        (
            "mkfs.ext4",
            &["-q", "-F", "-b", "4096"],
            32,
            &[(1024, 288), (4096, 64)],
        ),
        (
            "mkfs.ext4",
            &["-q", "-F", "-O", "meta_bg,^resize_inode"],
            32,
            &[(1024, 288)],
        ),
        ("mkfs.vfat", &["-F", "12"], 2, &[(0, 96)]),
        ("mkfs.vfat", &["-F", "32", "-s", "1"], 34, &[(0, 96)]),
        ("mkfs.xfs", &["-q"], 300, &[(0, 128)]),
        ("mkfs.btrfs", &["-q"], 110, &[(65536, 320)]),
        ("mkswap", &[], 1, &[(1024, 64), (4080, 16)]),
    ];
    for (i, (tool, options, size, ranges)) in cases.into_iter().enumerate() {
        let image = Image::new(&format!("hostile-{i}"), size << 20);
        image.run(tool, options);
        for (start, len) in ranges {
            shake(&image, *start, *len);
        }
    }
}
