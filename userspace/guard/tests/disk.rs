//! Reads of any offset and length, from files opened with O_DIRECT and without.

mod common;

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;

use common::{have, Image};
use kjump_guard::{probe, record, swap_hide, Disk, DiskWrite};

/// As on x86.
const O_DIRECT: i32 = 0o40000;

/// The image once more, past the page cache; `None` where its filesystem cannot.
fn direct(image: &Image) -> Option<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(O_DIRECT);
    let file = options.open(&image.path).ok();
    if file.is_none() {
        eprintln!("skipped: no O_DIRECT in {}", image.path.display());
    }
    file
}

#[test]
fn any_offset_and_length() {
    // Ends in the middle of a block, as a partition may.
    let image = Image::new("disk-any", 300_000 * 512);
    let bytes: Vec<u8> = (0..200_000u32).map(|i| (i / 3) as u8).collect();
    image.write(0, &bytes);
    image.file.set_len(bytes.len() as u64 / 512 * 512).unwrap();
    image.file.sync_all().unwrap();
    let size = image.file.metadata().unwrap().len();
    for file in [Some(image.file.try_clone().unwrap()), direct(&image)]
        .into_iter()
        .flatten()
    {
        assert_eq!(file.size(), size);
        for (offset, len) in [
            (0, 1),
            (1, 4095),
            (4095, 2),
            (4096, 4096),
            (5, 190_000),
            (65_536, 65_536),
            (61_441, 65_537),
            (size - 1, 1),
            (size - 5000, 5000),
            (size, 0),
        ] {
            let mut buf = vec![0; len];
            file.read_at(offset, &mut buf).unwrap();
            assert_eq!(buf, bytes[offset as usize..][..len], "{offset} {len}");
        }
        for (offset, len) in [(size, 1), (size - 1, 2), (size - 4096, 8192), (1 << 40, 1)] {
            let error = file.read_at(offset, &mut vec![0; len]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        }
        file.write_block(8192, &[7; 4096]).unwrap();
        file.flush().unwrap();
        assert_eq!(image.read(8191, 4098)[1..4097], [7; 4096]);
        image.write(8192, &bytes[8192..12288]);
        image.file.sync_all().unwrap();
    }
}

#[test]
fn a_record_is_the_same_past_the_cache() {
    if !have(&["mkfs.ext4", "mkfs.vfat", "mkfs.xfs", "mkfs.btrfs", "mkswap"]) {
        return;
    }
    for (i, (tool, options)) in [
        ("mkfs.ext4", ["-q", "-F"].as_slice()),
        ("mkfs.vfat", &["-F", "32"]),
        ("mkfs.xfs", &["-q"]),
        ("mkfs.btrfs", &["-q"]),
        ("mkswap", &[]),
    ]
    .into_iter()
    .enumerate()
    {
        // Not a multiple of 4096.
        let image = Image::new(&format!("disk-{i}"), (400 << 20) + 512);
        image.run(tool, options);
        image.file.sync_all().unwrap();
        let Some(file) = direct(&image) else { return };
        if tool == "mkswap" {
            assert!(swap_hide(&file).unwrap());
        }
        let found = probe(&file).unwrap().unwrap();
        assert_eq!(found, image.found());
        assert_eq!(record(&file, &found).unwrap(), image.record());
    }
}

#[test]
fn nothing_is_known_of_other_disks() {
    for size in [0, 1, 511, 512, 4096, 65_536, 1 << 20] {
        let image = Image::new(&format!("disk-none-{size}"), size);
        assert_eq!(probe(&image.file).unwrap(), None);
        image.write(0, &vec![0x5a; size as usize]);
        assert_eq!(probe(&image.file).unwrap(), None);
    }
}
