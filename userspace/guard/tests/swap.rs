//! Swap areas as mkswap makes them.

mod common;

use common::{have, Image, UUID};
use kjump_guard::{probe, probe_kind, record, swap_hide, swap_show, Error, Kind};

fn make(name: &str, options: &[&str]) -> Image {
    let image = Image::new(name, 4 << 20);
    image.run("mkswap", &[&["-U", UUID, "-L", "swap1"], options].concat());
    image
}

#[test]
fn hiding_and_showing() {
    if !have(&["mkswap"]) {
        return;
    }
    let image = make("swap-hide", &[]);
    image.is(Kind::Swap, UUID, "swap1");
    let shown = image.read(0, 8192);
    let before = image.record();
    assert!(swap_hide(&image.file).unwrap());
    assert!(!swap_hide(&image.file).unwrap());
    image.is(Kind::Swap, UUID, "swap1");
    assert_ne!(image.read(4086, 10), b"SWAPSPACE2");
    assert_eq!(image.read(0, 4086), shown[..4086]);
    let hidden = image.record();
    image.same(&hidden);
    // Recorded before it was hidden or after: no difference, as long as it is hidden now.
    image.same(&before);
    // Contents of the area are the saved kernel's.
    image.flip(8192);
    image.same(&hidden);
    image.flip(1030);
    image.differs(&hidden, "header");
    image.flip(1030);
    assert!(swap_show(&image.file).unwrap());
    assert!(!swap_show(&image.file).unwrap());
    image.differs(&hidden, "signature");
    assert_eq!(image.read(0, 8192)[..4096], shown[..4096]);
}

#[test]
fn a_new_area_shows() {
    if !have(&["mkswap"]) {
        return;
    }
    let image = make("swap-new", &[]);
    swap_hide(&image.file).unwrap();
    let then = image.record();
    image.run("mkswap", &["-f", "-L", "swap1"]);
    image.differs(&then, "UUID");
    image.run("mkswap", &["-f", "-L", "other", "-U", UUID]);
    swap_hide(&image.file).unwrap();
    image.differs(&then, "header");
}

#[test]
fn what_is_no_swap_is_left_alone() {
    if !have(&["mkswap"]) {
        return;
    }
    let image = make("swap-not", &[]);
    let found = image.found();
    image.write(4086, b"S1SUSPEND\0");
    image.is(Kind::Swap, UUID, "swap1");
    for error in [
        swap_hide(&image.file).unwrap_err(),
        swap_show(&image.file).unwrap_err(),
        record(&image.file, &found).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Absent { .. }), "{error}");
    }
    assert_eq!(image.read(4086, 10), b"S1SUSPEND\0");
    image.write(4086, b"SWAPSPACE1");
    assert!(swap_hide(&image.file).is_err());
    assert_eq!(probe_kind(&image.file, Kind::Swap).unwrap(), None);
    image.file.set_len(4096).unwrap();
    assert_eq!(probe(&image.file).unwrap(), None);
}
