//! Devices and targets are found, by whatever name they go.

use kjump_image::{Source, Target};
use zerocopy::IntoBytes;

use super::*;
use crate::block::{Block, BLOCK64};
use crate::fake::{noise, Fake};
use crate::map::encode;
use kjump_image::Extent;

/// A swap area, as mkswap makes it.
fn swap(uuid: u8, label: &str) -> Vec<u8> {
    let mut disk = vec![0; 1 << 20];
    disk[1024..1028].copy_from_slice(&1u32.to_le_bytes());
    disk[1028..1032].copy_from_slice(&255u32.to_le_bytes());
    disk[1036..1052].fill(uuid);
    disk[1052..1052 + label.len()].copy_from_slice(label.as_bytes());
    disk[4086..4096].copy_from_slice(b"SWAPSPACE2");
    disk
}

fn machine() -> Fake {
    let fake = Fake::new();
    fake.device("sda", "8:0", 4 << 20);
    fake.device("sda1", "8:1", 2 << 20);
    fake.disk("sda2", "8:2", &swap(0xab, "my swap"));
    fake.put("sys/class/block/sda2/partition", "2\n");
    fake.put(
        "sys/class/block/sda2/uevent",
        "DEVNAME=sda2\nPARTN=2\nPARTUUID=0b5e7c1a-02\n",
    );
    fake
}

fn find(fake: &Fake, text: &str) -> Result<String> {
    match Spec::parse(text).unwrap() {
        Spec::Device { device, .. } => fake.system().find(&device).map(|d| d.name),
        other => panic!("{other:?}"),
    }
}

#[test]
fn devices_by_every_name() {
    let fake = machine();
    for text in [
        "/dev/sda2",
        "8:2",
        "PARTUUID=0B5E7C1A-02",
        "LABEL=my swap",
        "UUID=abababab-abab-abab-abab-abababababab",
        "UUID=ABABABABABABABABABABABABABABABAB",
        "/dev/disk/by-label/my swap",
        "/dev/disk/by-uuid/abababab-abab-abab-abab-abababababab",
        "/dev/disk/by-partuuid/0b5e7c1a-02",
    ] {
        assert_eq!(find(&fake, text).unwrap(), "sda2", "{text}");
    }
    for text in [
        "/dev/sdb",
        "8:3",
        "LABEL=swap",
        "UUID=00",
        "PARTUUID=1",
        "/dev/disk/by-id/x",
    ] {
        let missing = find(&fake, text).unwrap_err();
        assert!(missing.is_missing(), "{text}: {missing}");
        assert!(missing.to_string().starts_with(text), "{missing}");
    }
}

#[test]
fn lasting_names_lead_back() {
    let fake = machine();
    fake.disk("sdb", "8:16", &swap(0xcd, ""));
    let system = fake.system();
    for (name, lasting) in [
        ("sda2", "PARTUUID=0b5e7c1a-02"),
        ("sdb", "UUID=cdcdcdcd-cdcd-cdcd-cdcd-cdcdcdcdcdcd"),
        ("sda1", "/dev/sda1"),
    ] {
        let spec = system.lasting_name(&system.block_device(name).unwrap());
        assert_eq!(spec.to_string(), lasting);
        assert_eq!(system.find(&spec).unwrap().name, name);
    }
}

#[test]
fn two_of_a_name_are_none() {
    let fake = machine();
    fake.disk("sdb1", "8:17", &swap(0xab, "my swap"));
    let both = find(&fake, "LABEL=my swap").unwrap_err().to_string();
    assert!(both.contains("sda2") && both.contains("sdb1"), "{both}");
    // A part of something larger is not meant.
    fake.put("sys/class/block/sdb1/holders/dm-0", "");
    assert_eq!(find(&fake, "LABEL=my swap").unwrap(), "sda2");
}

#[test]
fn an_image_is_found_by_its_uuid_whatever_the_disks_are_called() {
    let fake = machine();
    let system = fake.system();
    let spec = |text| Spec::parse(text).unwrap();
    let uuid = *b"0123456789abcdef";
    let missing = system.find_by_image_uuid(uuid, &spec("/dev/sda1"));
    let missing = missing.unwrap_err();
    assert!(
        missing.is_missing() && missing.to_string().contains("sda, sda1, sda2"),
        "{missing}"
    );

    let mut opened = system.open(&spec("/dev/sda1"), Access::Write).unwrap();
    opened.prepare(uuid).unwrap();
    // The right hint, another disk's name, one that is not there, one that means nothing.
    for hint in [
        "/dev/sda1",
        "/dev/sda2",
        "/dev/vdx1",
        "LABEL=gone",
        "/home/x",
    ] {
        let mut found = system.find_by_image_uuid(uuid, &spec(hint)).unwrap();
        assert_eq!(found.device().unwrap().name, "sda1", "{hint}");
        assert_eq!(found.uuid().unwrap(), Some(uuid));
    }
    assert_eq!(
        find(&fake, "UUID=30313233-3435-3637-3839-616263646566").unwrap(),
        "sda1"
    );
    // With an offset, a map is looked for, and nothing else.
    assert!(system
        .find_by_image_uuid(uuid, &spec("/dev/sda1:4096"))
        .is_err());
    assert!(system
        .find_by_image_uuid([1; 16], &spec("/dev/sda1"))
        .is_err());
}

/// Puts a file in pieces on a device, as create() would have made it.
fn with_map(fake: &Fake, name: &str) -> Vec<Extent> {
    let piece = |at: u64, length: u64| Extent {
        offset: at * BLOCK64,
        length: length * BLOCK64,
    };
    let list = vec![piece(200, 1), piece(20, 90), piece(130, 40)];
    let blocks = encode(&list, [5; 16]).unwrap().unwrap();
    assert_eq!(blocks.len(), 1);
    let path = fake.path(&format!("dev/{name}"));
    let mut disk = fs::read(&path).unwrap();
    disk[200 * 4096..201 * 4096].copy_from_slice(blocks.as_bytes());
    fs::write(path, disk).unwrap();
    list
}

#[test]
fn a_file_is_found_and_used_through_its_map() {
    let fake = machine();
    let system = fake.system();
    let uuid = [0x77; 16];
    with_map(&fake, "sda1");
    let place = Spec::parse(&format!("8:1:{}", 200 * BLOCK64)).unwrap();
    let mut opened = system.open(&place, Access::Write).unwrap();
    assert_eq!(Target::size(&opened), Some(130 * BLOCK64));
    assert!(opened.has_map() && opened.offset() == place.offset());
    opened.prepare(uuid).unwrap();
    let mut data = crate::block::blocks(2).unwrap();
    data.as_mut_bytes().copy_from_slice(&noise(3, 8192));
    opened.write_at(89 * BLOCK64, data.as_bytes()).unwrap();
    opened.flush().unwrap();
    let past = opened.write_at(129 * BLOCK64, data.as_bytes()).unwrap_err();
    assert_eq!(past.kind(), std::io::ErrorKind::StorageFull);
    drop(opened);

    // Its two blocks went to two pieces, the mark to the first.
    let disk = fs::read(fake.path("dev/sda1")).unwrap();
    let block = |n: usize| &disk[n * 4096..(n + 1) * 4096];
    assert_eq!(block(109), &noise(3, 8192)[..4096]);
    assert_eq!(block(130), &noise(3, 8192)[4096..]);
    assert!(block(20).starts_with(b"KJUMPMRK"));
    assert!(disk[131 * 4096..].starts_with(&[0; 4096 * 69]));

    // The disk has another name now, and another one comes before it.
    fs::rename(fake.path("dev/sda1"), fake.path("dev/vdb1")).unwrap();
    let moved = fs::read(fake.path("dev/vdb1")).unwrap();
    fake.disk("vdb1", "254:17", &moved);
    fs::remove_dir_all(fake.path("sys/class/block/sda1")).unwrap();
    let hint = Spec::parse(&format!("/dev/sda1:{}", 200 * BLOCK64)).unwrap();
    let mut found = system.find_by_image_uuid(uuid, &hint).unwrap();
    assert_eq!(found.device().unwrap().name, "vdb1");
    let mut back = Block::ZERO;
    assert_eq!(found.read_at(90 * BLOCK64, &mut back.0).unwrap(), 4096);
    assert_eq!(back.0, block(130));
    // At the end reads are short, behind it empty.
    let mut long = crate::block::blocks(4).unwrap();
    assert_eq!(
        found.read_at(128 * BLOCK64, long.as_mut_bytes()).unwrap(),
        8192
    );
    assert_eq!(
        found.read_at(130 * BLOCK64, long.as_mut_bytes()).unwrap(),
        0
    );
    // Without the offset, or with another, it is not found.
    let wrong = [
        hint.clone().with_offset(4096).unwrap(),
        Spec::parse("/dev/sda1").unwrap(),
    ];
    for hint in wrong {
        assert!(system.find_by_image_uuid(uuid, &hint).is_err());
    }
}
