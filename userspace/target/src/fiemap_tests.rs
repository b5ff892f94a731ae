//! What filesystems say about files, and what follows.

use super::*;

fn raw(logical: u64, physical: u64, length: u64, flags: u32) -> RawExtent {
    RawExtent {
        logical: logical * 4096,
        physical: physical * 4096,
        length: length * 4096,
        flags,
        ..RawExtent::default()
    }
}

fn ask(list: &[RawExtent], blocks: u64) -> Result<Vec<Extent>> {
    let next = |start: u64| {
        let behind = |e: &&RawExtent| e.logical + e.length > start;
        // A few at once, as the kernel would.
        Ok(list.iter().filter(behind).take(2).copied().collect())
    };
    collect(next, Path::new("/x"), blocks * 4096)
}

fn extent(offset: u64, length: u64) -> Extent {
    Extent {
        offset: offset * 4096,
        length: length * 4096,
    }
}

#[test]
fn pieces_are_put_together() {
    let list = [
        raw(0, 100, 10, 0),
        raw(10, 110, 5, 0),
        raw(15, 50, 5, 0x1000),
        raw(20, 200, 40, 1),
    ];
    let expected = [extent(100, 15), extent(50, 5), extent(200, 10)];
    assert_eq!(ask(&list, 30).unwrap(), expected);
}

#[test]
#[cfg_attr(miri, ignore = "20 thousand pieces")]
fn files_that_are_not_all_on_the_disk_are_refused() {
    let message = |list: &[RawExtent]| ask(list, 8).unwrap_err().to_string();
    let whole = |flags| message(&[raw(0, 9, 8, flags)]);
    assert!(whole(0x800).contains("never written"));
    assert!(whole(0x4 | 0x2).contains("not on the disk yet"));
    assert!(whole(0x200 | 0x100).contains("/x: a piece of it"));
    assert!(whole(0x8 | 0x80).contains("encrypted"));
    assert!(whole(0x2000).contains("reflink"));
    assert!(message(&[]).contains("holes"));
    assert!(message(&[raw(0, 9, 3, 1)]).contains("holes"));
    assert!(message(&[raw(1, 9, 7, 1)]).contains("holes"));
    assert!(message(&[raw(0, 9, 3, 0), raw(4, 20, 4, 1)]).contains("holes"));
    let mut small = raw(0, 9, 8, 1);
    small.physical += 1024;
    assert!(message(&[small]).contains("less than 4096"));
    let many: Vec<_> = (0..20000).map(|i| raw(i, 3 * i + 7, 1, 0)).collect();
    assert!(ask(&many, 20000)
        .unwrap_err()
        .to_string()
        .contains("pieces"));
}
