use super::*;
use kjump_abi::{self as abi, Handoff};
use std::mem::offset_of;

/// A window of 16 MiB, a control page and a handoff block above it.
const ENTRY: u64 = 0x200_0453;
const HANDOFF: u64 = 0x200_2000;
const WINDOW: u64 = 16 << 20;

fn ram() -> [Range; 2] {
    [
        Range {
            start: 0,
            end: 0x9_fc00,
        },
        Range {
            start: 1 << 20,
            end: 64 << 20,
        },
    ]
}

/// Three pages from the control page on: it, one of fives, the handoff block.
fn pages() -> Vec<u8> {
    let mut bytes = vec![5; 3 * PAGE];
    bytes[..8].copy_from_slice(&abi::CONTROL_MAGIC);
    bytes[8..16].copy_from_slice(&HANDOFF.to_le_bytes());
    bytes[2 * PAGE..].fill(0);
    bytes
}

fn survey(zeros: u64) -> Survey {
    let mut survey = Survey::new(ENTRY);
    let bytes = pages();
    survey.add(&Piece::Zero {
        pfn: 0x1000,
        count: zeros,
    });
    survey.add(&Piece::Data {
        pfn: 0x2000,
        bytes: &bytes,
    });
    survey
}

fn words(bytes: &[u8]) -> Vec<u32> {
    let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    bytes.chunks(4).map(word).collect()
}

#[test]
fn a_stream_is_what_the_kernel_reads() {
    let stream = Stream::new(survey(7), &ram(), WINDOW, "/dev/vda").unwrap();
    assert_eq!(stream.memory(), 11 * PAGE_SIZE);
    let mut out = Vec::new();
    let kernel = Kernel {
        e820: 0xabcd,
        frames: 99,
    };
    stream.write_head(kernel, &mut out).unwrap();
    let bytes = pages();
    let piece = Piece::Data {
        pfn: 0x2000,
        bytes: &bytes,
    };
    stream.write(&piece, &mut out).unwrap();
    // Header, list, trampoline, three pages.
    assert_eq!(out.len(), 6 * PAGE);

    let header = words(&out[..PAGE]);
    let jump = 0xfff << 12;
    assert_eq!(header[..5], [jump, jump, 0, RESTORE_MAGIC, 0xabcd]);
    assert_eq!(header[99], 99);
    assert_eq!(header[101..104], [4, 6, 6 * PAGE as u32]);

    let mut list = vec![0xfff];
    list.extend((0x1000..0x1007).map(|frame| frame | ZERO));
    list.extend([0x2000, 0x2001, 0x2002]);
    list.resize(LISTED, END);
    assert_eq!(words(&out[PAGE..2 * PAGE]), list);

    let code = &out[2 * PAGE..3 * PAGE];
    assert!(code.windows(4).any(|w| w == (ENTRY as u32).to_le_bytes()));
    let stack = (jump + 0xffc).to_le_bytes();
    assert!(code.windows(4).any(|w| w == stack));
    assert_eq!(code[PAGE - 4..], [0; 4]);

    let mut wanted = pages();
    let mailbox = 2 * PAGE + offset_of!(Handoff, mailbox);
    wanted[mailbox + 4..][..4].copy_from_slice(&abi::STATUS_RESUMED.to_le_bytes());
    let reason = b"restored from /dev/vda, by /dev/snapshot";
    wanted[mailbox + 16..][..reason.len()].copy_from_slice(reason);
    assert_eq!(out[3 * PAGE..], wanted);
}

#[test]
fn a_list_that_fills_its_pages_has_no_end() {
    let zeros = (2 * LISTED - 4) as u64;
    let stream = Stream::new(survey(zeros), &ram(), WINDOW, "x").unwrap();
    let mut out = Vec::new();
    let kernel = Kernel { e820: 0, frames: 0 };
    stream.write_head(kernel, &mut out).unwrap();
    assert_eq!(out.len(), 4 * PAGE);
    let list = words(&out[PAGE..3 * PAGE]);
    assert_eq!(list.last(), Some(&0x2002));
    assert!(!list.contains(&END));
}

#[test]
fn the_trampoline_lies_in_the_window() {
    let place = |ram: &[Range], window| survey(1).trampoline(ram, window);
    assert_eq!(place(&ram(), WINDOW), Some(0xfff));
    // A window that ends below 1 MiB, and RAM that ends inside of a page.
    assert_eq!(place(&ram(), 1 << 20), Some(0x9e));
    assert_eq!(place(&[], WINDOW), None);
    assert_eq!(place(&ram()[1..], 1 << 20), None);
}

#[test]
fn an_image_without_a_control_page_is_refused() {
    let mut without = Survey::new(ENTRY);
    without.add(&Piece::Data {
        pfn: 0x2000,
        bytes: &[0; PAGE],
    });
    assert!(Stream::new(without, &ram(), WINDOW, "x").is_err());
    assert!(Stream::new(Survey::new(ENTRY), &ram(), WINDOW, "x").is_err());
}
