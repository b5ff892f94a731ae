//! Files as they are, without a device.

use kjump_image::{Source, Target};

use super::*;
use crate::fake::{noise, Fake};

fn open(fake: &Fake, name: &str) -> Result<Opened> {
    System::default().open(&Spec::File(fake.path(name)), Access::Read)
}

#[test]
fn a_plain_file_is_all_room() {
    let fake = Fake::new();
    let bytes = noise(1, 5 * 4096 + 100);
    fake.put("image", &bytes);
    let mut opened = open(&fake, "image").unwrap();
    assert_eq!(Source::size(&opened), Some(5 * 4096));
    let mut back = crate::block::blocks(8).unwrap();
    use zerocopy::IntoBytes;
    assert_eq!(opened.read_at(4096, back.as_mut_bytes()).unwrap(), 4 * 4096);
    assert_eq!(back.as_bytes()[..4 * 4096], bytes[4096..5 * 4096]);
    assert!(!opened.has_map() && opened.device().is_none());
    assert_eq!(opened.uuid().unwrap(), None);
    fake.put("short", b"x");
    assert_eq!(Source::size(&open(&fake, "short").unwrap()), Some(0));
}

#[test]
fn an_image_in_a_plain_file_is_marked_in_place() {
    let fake = Fake::new();
    fake.put("image", vec![0; 1 << 17]);
    let spec = Spec::File(fake.path("image"));
    let mut opened = System::default().open(&spec, Access::Write).unwrap();
    opened.prepare([9; 16]).unwrap();
    assert_eq!(open(&fake, "image").unwrap().uuid().unwrap(), Some([9; 16]));
    assert_eq!(Target::size(&opened), Some(1 << 17));
}

#[test]
fn a_file_shorter_than_its_map_is_refused() {
    let fake = Fake::new();
    let piece = |at: u64| Extent {
        offset: at * 8192,
        length: 4096,
    };
    let list: Vec<_> = (1..600).map(piece).collect();
    let map = crate::map::encode(&list, [1; 16]).unwrap().unwrap();
    fake.put("cut", map[0].0);
    assert!(matches!(open(&fake, "cut"), Err(Error::BadMap { .. })));
    let mut damaged = map[0].clone();
    damaged.0[100] ^= 1;
    fake.put("damaged", damaged.0);
    assert!(matches!(open(&fake, "damaged"), Err(Error::BadMap { .. })));
}

#[test]
fn what_is_no_file_is_refused() {
    let fake = Fake::new();
    let error = |path: &str| {
        let spec = Spec::File(path.into());
        System::default().open(&spec, Access::Read).unwrap_err()
    };
    assert!(matches!(error("/dev/../proc"), Error::NotATarget { .. }));
    assert!(matches!(
        error("/dev/../dev/null"),
        Error::NotATarget { .. }
    ));
    let missing = fake.path("nothing");
    assert!(matches!(
        error(missing.to_str().unwrap()),
        Error::Missing { .. }
    ));
}
