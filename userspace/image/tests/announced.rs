//! An announced image is found, and is none.
#![allow(missing_docs)]

mod common;

use common::*;
use kjump_image::*;

#[test]
fn an_announced_image_replaces_an_older_one() {
    let memory = some_memory();
    let mut disk = saved(&header(1, Codec::Lz4, &memory), &memory);
    assert_eq!(announced(&mut disk).unwrap(), Some([1; 16]));
    announce(&mut disk, [7; 16]).unwrap();
    assert_eq!(announced(&mut disk).unwrap(), Some([7; 16]));
    let refusal = Image::open(disk.clone(), &machine()).err();
    assert!(matches!(refusal, Some(Refusal::Unfinished { .. })));
    save(&mut disk, &header(7, Codec::Lz4, &memory), &memory).unwrap();
    assert_eq!(announced(&mut disk).unwrap(), Some([7; 16]));
    wipe(&mut disk).unwrap();
    assert_eq!(announced(&mut disk).unwrap(), None);
}

#[test]
fn what_cannot_be_announced() {
    let mut disk = saved(&header(1, Codec::None, &some_memory()), &some_memory());
    assert!(matches!(
        announce(&mut disk, [0; 16]),
        Err(Error::Invalid(_))
    ));
    assert_eq!(announced(&mut disk).unwrap(), Some([1; 16]));
    let mut stream = StreamTarget::new(Vec::new());
    assert!(matches!(announce(&mut stream, [7; 16]), Err(Error::Stream)));
    let mut empty = StreamSource::new(&b""[..]);
    assert_eq!(announced(&mut empty).unwrap(), None);
}
