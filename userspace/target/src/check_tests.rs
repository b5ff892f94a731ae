//! What must not be a target is none, and says why.

use super::*;
use crate::fake::Fake;

fn machine() -> Fake {
    let fake = Fake::new();
    fake.device("sda", "8:0", 4 << 20);
    fake.device("sda1", "8:1", 2 << 20);
    fake.put("sys/class/block/sda1/partition", "1\n");
    fake
}

fn open(fake: &Fake, text: &str, force: bool) -> Result<Opened> {
    fake.system().open_in_a(&Spec::parse(text).unwrap(), force)
}

fn refused(fake: &Fake, force: bool) -> Error {
    open(fake, "/dev/sda1", force).unwrap_err()
}

#[test]
fn an_empty_partition_will_do() {
    let fake = machine();
    for text in ["/dev/sda1", "8:1"] {
        let opened = open(&fake, text, false).unwrap();
        assert_eq!(opened.container(), 2 << 20);
        assert_eq!(opened.device().unwrap().numbers(), "8:1");
    }
    assert!(matches!(
        open(&fake, "/dev/sdb", false),
        Err(Error::Missing { .. })
    ));
    assert!(matches!(open(&fake, "-", false), Err(Error::Stream)));
    assert!(matches!(
        open(&fake, "8:1:4096", false),
        Err(Error::BadSpec { .. })
    ));
}

#[test]
fn what_is_in_use_is_refused_even_by_force() {
    for force in [false, true] {
        let fake = machine();
        fake.put(
            "proc/self/mountinfo",
            "1 1 8:1 / /home rw - ext4 /dev/sda1 rw\n",
        );
        assert!(matches!(refused(&fake, force), Error::Mounted { at, .. } if at == "/home"));
        fake.put("proc/self/mountinfo", "");
        fake.put("proc/swaps", "Filename\n/dev/sda1 partition 1 0 -2\n");
        assert!(matches!(refused(&fake, force), Error::Swap { .. }));
        fake.put("proc/swaps", "Filename\n");
        fake.put("sys/class/block/sda1/ro", "1\n");
        assert!(matches!(refused(&fake, force), Error::ReadOnly { .. }));
        fake.put("sys/class/block/sda1/ro", "0\n");
        fake.put("sys/class/block/sda1/holders/dm-0", "");
        fake.device("dm-0", "253:0", 1 << 20);
        fake.put("sys/class/block/dm-0/dm/name", "crypt");
        fake.put("sys/class/block/dm-0/dm/uuid", "CRYPT-LUKS2-x");
        let message = refused(&fake, force).to_string();
        assert!(
            message.contains("part of encrypted device") && message.contains("crypt"),
            "{message}"
        );
        let message = open(&fake, "/dev/dm-0", force).unwrap_err().to_string();
        assert!(message.starts_with("dm-0: encrypted device"), "{message}");
    }
}

#[test]
fn kinds_that_do_not_work_are_named() {
    let fake = machine();
    for (name, numbers, word) in [
        ("md127", "9:127", "RAID"),
        ("loop0", "7:0", "loop device"),
        ("zram0", "252:0", "memory"),
        ("nbd0", "43:0", "another machine"),
        ("sr0", "11:0", "CD"),
    ] {
        fake.device(name, numbers, 1 << 20);
        let message = open(&fake, &format!("/dev/{name}"), true)
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with(name) && message.contains(word),
            "{message}"
        );
    }
}

#[test]
fn what_would_be_overwritten_is_named() {
    let size = 2 << 20;
    for (at, bytes, _) in SIGNATURES {
        let mut disk = vec![0; size];
        disk[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        let fake = machine();
        fake.put("dev/sda1", disk);
        assert!(
            matches!(refused(&fake, false), Error::Occupied { .. }),
            "{at:#x}"
        );
        assert!(open(&fake, "/dev/sda1", true).is_ok());
    }
    for at in [size - 65536, size - 8192] {
        let mut disk = vec![0; size];
        disk[at..at + 4].copy_from_slice(MD);
        let fake = machine();
        fake.put("dev/sda1", disk);
        assert!(refused(&fake, false).to_string().contains("RAID"));
    }
    let mut swap = vec![0; size];
    swap[1024] = 1;
    swap[1028..1032].copy_from_slice(&255u32.to_le_bytes());
    swap[1052..1056].copy_from_slice(b"mine");
    swap[4086..4096].copy_from_slice(b"SWAPSPACE2");
    let fake = machine();
    fake.put("dev/sda1", &swap);
    let message = refused(&fake, false).to_string();
    assert!(message.contains("sda1: holds swap \"mine\""), "{message}");
    // Where an image is, or is to be, nothing else is.
    open(&fake, "/dev/sda1", true)
        .unwrap()
        .prepare([3; 16])
        .unwrap();
    assert!(open(&fake, "/dev/sda1", false).is_ok());
}

#[test]
fn a_disk_with_partitions_is_occupied() {
    let fake = machine();
    fake.put("sys/class/block/sda/sda1/partition", "1\n");
    let message = open(&fake, "/dev/sda", false).unwrap_err().to_string();
    assert!(message.contains("the partitions sda1"), "{message}");
    assert!(open(&fake, "/dev/sda", true).is_ok());
}

#[test]
fn nodes_that_are_no_devices_are_refused_on_a_real_machine() {
    let fake = machine();
    let device = fake.system().block_device("sda1").unwrap();
    let real = System::default().open_device(&device, Access::Read);
    assert!(!real.is_ok_and(|f| f.size() == 2 << 20));
}
