//! Bringing A back from the normal kernel itself: its module takes the image's pages into whatever
//! memory is free, and once all of them are there and right, the stub puts each to its place and
//! enters A. No peer has to boot, and up to the jump nothing is lost, whatever is wrong with the
//! image. But memory must hold the image beside this kernel.

use std::fs;

use kjump_abi::{self as abi, Handoff, PAGE_SIZE};
use kjump_image::{Header, Image, Link, MasterKey, Piece, Refusal, Source, Target, Verified, PAGE};
use rustix::io::Errno;
use std::mem::offset_of;
use zeroize::Zeroizing;

use super::restore::{marked, tries, Checked, NO_CONTROL_PAGE};
use super::word::{self, Word};
use crate::abort::hold_signals;
use crate::cli::Way;
use crate::cmd::{jump, meminfo};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::progress::Reporter;

/// For messages.
const VERB: &str = "resume";

/// Bytes that are wanted beside the image's pages: the module's lists of them, a page in 512, are in
/// it for all the memory that it can have; and what drivers take on the way down.
const SPARE: u64 = 8 << 20;

/// Why A was not entered. Nothing has changed then.
pub enum Stayed {
    /// Memory does not hold it: a peer can do it, with the image's key if there is one.
    NoRoom(Option<MasterKey>),
    /// Something is wrong.
    Failed(Error),
}

/// Whether memory holds so many pages beside this kernel, by /proc/meminfo.
fn room(pages: u64, text: &str) -> bool {
    let available = meminfo(text, "MemAvailable").unwrap_or(0);
    // Where there is high memory: the module takes low memory only.
    let low = meminfo(text, "LowFree").unwrap_or(u64::MAX);
    let needed = pages.saturating_mul(PAGE_SIZE).saturating_add(SPARE);
    needed <= available.min(low)
}

/// Restores the image, which was checked as far as that goes without reading all of it; `open` opens it
/// to be marked, when all of it is there and right. Returns only if that did not succeed.
///
/// Up to the mark a signal ends this program as any other: closing the device gives all back.
pub fn restore<S: Source, T: Target>(
    device: &Device,
    checked: Checked<S>,
    name: &str,
    way: &Way,
    reporter: &mut Reporter,
    open: impl FnOnce() -> Result<T>,
) -> Stayed {
    let Checked {
        mut image,
        mut links,
        swap,
        key,
    } = checked;
    let header = image.header().clone();
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    if !room(header.pages, &text) {
        return Stayed::NoRoom(key);
    }
    let loaded = load(device, &mut image, &mut links, &header, name, reporter);
    // What opened it is not to stay in pages that are free in the kernel that is entered.
    drop(image);
    let error = match loaded {
        Err(
            Error::NoMemory { .. }
            | Error::Refused {
                source: Refusal::NoMemory(_),
                ..
            },
        ) => {
            unload(device);
            return Stayed::NoRoom(key);
        }
        Err(e) => e,
        Ok(verified) => {
            drop(key);
            match open() {
                Ok(mut target) => {
                    hold_signals();
                    marked(&mut target, &verified, &swap, name, || go(device, way))
                }
                Err(e) => e,
            }
        }
    };
    unload(device);
    Stayed::Failed(error)
}

fn unload(device: &Device) {
    if let Err(e) = device.unload().or_else(|e| match e {
        Errno::NODATA => Ok(()),
        e => Err(e),
    }) {
        log::warn!("what was loaded of the image stays in memory: {e}");
    }
}

/// Reads, checks and loads all of the image.
fn load<S: Source>(
    device: &Device,
    image: &mut Image<S>,
    links: &mut [Link],
    header: &Header,
    name: &str,
    reporter: &mut Reporter,
) -> Result<Verified> {
    let refused = |source| Error::Refused {
        target: name.into(),
        source,
    };
    let not_loaded = |errno| Error::from_errno(VERB, errno);
    let prepared = device.prepare(abi::PREPARE_ONE_WAY, 0);
    prepared.map_err(not_loaded)?;
    let mut pages = Pages {
        put: |pfn: u64, bytes: &[u8], count: u64| {
            device.segment(bytes, pfn * PAGE_SIZE, count * PAGE_SIZE)
        },
        entry: header.jump_back_entry,
        handoff: None,
        held: Vec::new(),
    };
    let mut chunks = image.chunks_over(links).map_err(refused)?;
    while let Some(chunk) = chunks.next_chunk().map_err(refused)? {
        for piece in chunk.pieces() {
            pages.add(&piece).map_err(not_loaded)?;
        }
        reporter.update(&chunks.progress());
    }
    reporter.finish(&chunks.progress());
    let verified = chunks.finish().map_err(refused)?;
    if !pages.end(name).map_err(not_loaded)? {
        return Err(refused(Refusal::BadHeader(NO_CONTROL_PAGE)));
    }
    let committed = device.commit_for_now(header.jump_back_entry);
    committed.map_err(not_loaded)?;
    Ok(verified)
}

/// Down, and in; a device may refuse once. Returns only if it failed.
fn go(device: &Device, way: &Way) -> Error {
    let mut jump = abi::Jump {
        flags: way.flags(),
        fail_at: way.fail_at.unwrap_or(0),
        ..Default::default()
    };
    let mut errno = Errno::IO;
    tries(|| {
        errno = device.jump(&mut jump).err().unwrap_or(Errno::IO);
        jump.failed_rung != 0
    });
    jump::error(VERB, way, errno, jump.failed_rung)
}

/// Pages on their way into a load. They come ascending, and A's handoff block, which is to say
/// that A was restored, may come before the control page that tells where it is: pages that could be it
/// are held back until then.
struct Pages<F> {
    /// Loads pages: the first one's number, contents, how many; behind the contents there are zeros.
    put: F,
    /// A's jump-back entry.
    entry: u64,
    /// Where the control page says that the handoff block is, bytes.
    handoff: Option<u64>,
    /// Pages that could be it.
    held: Vec<(u64, Zeroizing<Vec<u8>>)>,
}

impl<F: FnMut(u64, &[u8], u64) -> std::result::Result<(), Errno>> Pages<F> {
    fn add(&mut self, piece: &Piece<'_>) -> std::result::Result<(), Errno> {
        let (first, bytes) = match *piece {
            Piece::Zero { pfn, count } => return (self.put)(pfn, &[], count),
            Piece::Data { pfn, bytes } => (pfn, bytes.as_chunks::<PAGE>().0),
        };
        let mut from = 0;
        for (at, page) in bytes.iter().enumerate() {
            let pfn = first + at as u64;
            if pfn == self.entry / PAGE_SIZE {
                self.handoff = word::handoff(page);
            }
            if self.could_be_handoff(page) {
                self.put_all(first + from as u64, &bytes[from..at])?;
                self.held.push((pfn, Zeroizing::new(page.to_vec())));
                from = at + 1;
            }
        }
        self.put_all(first + from as u64, &bytes[from..])
    }

    fn put_all(&mut self, pfn: u64, pages: &[[u8; PAGE]]) -> std::result::Result<(), Errno> {
        match pages.len() {
            0 => Ok(()),
            count => (self.put)(pfn, pages.as_flattened(), count as u64),
        }
    }

    /// Whether a page looks like the handoff block that belongs to the entry. Programs may have copies.
    fn could_be_handoff(&self, page: &[u8; PAGE]) -> bool {
        page.starts_with(&abi::HANDOFF_MAGIC)
            && page[offset_of!(Handoff, jump_back_entry)..].starts_with(&self.entry.to_le_bytes())
    }

    /// All have come: loads what was held back, the handoff block with the word that A was restored
    /// `from` there. Whether there was one. What A had asked its peer, which A forgets when it goes on, may
    /// have had a key in it: it goes no further.
    fn end(mut self, from: &str) -> std::result::Result<bool, Errno> {
        let mut found = false;
        for (pfn, mut page) in std::mem::take(&mut self.held) {
            if self.handoff == Some(pfn * PAGE_SIZE) {
                page[offset_of!(Handoff, request)..][..abi::REQUEST_SIZE].fill(0);
                Word::new(from).put(&mut page);
                found = true;
            }
            (self.put)(pfn, &page, 1)?;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kjump_abi::{ControlSlot, Mailbox};

    const ENTRY: u64 = 0x200_3453;

    fn block() -> [u8; PAGE] {
        let mut page = [7; PAGE];
        page[..8].copy_from_slice(&abi::HANDOFF_MAGIC);
        page[offset_of!(Handoff, jump_back_entry)..][..8].copy_from_slice(&ENTRY.to_le_bytes());
        page
    }

    /// The pages that are loaded of these, which begin at frame 0x2000, by their numbers.
    fn load(pages: &[[u8; PAGE]]) -> (bool, std::collections::BTreeMap<u64, Vec<u8>>) {
        let mut loaded = std::collections::BTreeMap::new();
        let mut to = Pages {
            put: |pfn: u64, bytes: &[u8], count: u64| {
                let pages = bytes.chunks(PAGE).map(<[u8]>::to_vec);
                let all = pages.chain(std::iter::repeat(vec![0; PAGE]));
                for (at, page) in (pfn..pfn + count).zip(all) {
                    assert!(loaded.insert(at, page).is_none(), "page {at:#x} came twice");
                }
                Ok(())
            },
            entry: ENTRY,
            handoff: None,
            held: Vec::new(),
        };
        to.add(&Piece::Zero {
            pfn: 0x1ff0,
            count: 3,
        })
        .unwrap();
        to.add(&Piece::Data {
            pfn: 0x2000,
            bytes: pages.as_flattened(),
        })
        .unwrap();
        let found = to.end("/dev/vda").unwrap();
        (found, loaded)
    }

    /// A copy of the block, the block, something else, the control page, another copy.
    fn pages() -> [[u8; PAGE]; 5] {
        let mut control = [9; PAGE];
        control[..8].copy_from_slice(&abi::CONTROL_MAGIC);
        control[offset_of!(ControlSlot, handoff)..][..8]
            .copy_from_slice(&0x200_1000u64.to_le_bytes());
        [block(), block(), [5; PAGE], control, block()]
    }

    #[test]
    fn the_handoff_block_and_no_copy_of_it_has_the_word() {
        let (found, loaded) = load(&pages());
        assert!(found);
        assert_eq!(loaded.len(), 3 + 5);
        for (at, page) in pages().iter().enumerate() {
            let now = &loaded[&(0x2000 + at as u64)];
            if at != 1 {
                assert_eq!(now, page);
                continue;
            }
            let mailbox = offset_of!(Handoff, mailbox);
            let status = &now[mailbox + offset_of!(Mailbox, status)..][..4];
            assert_eq!(status, abi::STATUS_RESUMED.to_le_bytes());
            let reason = &now[mailbox + offset_of!(Mailbox, reason)..];
            assert!(reason.starts_with(b"restored from /dev/vda\0"));
            let request = &now[offset_of!(Handoff, request)..][..abi::REQUEST_SIZE];
            assert!(request.iter().all(|b| *b == 0));
        }
    }

    #[test]
    fn without_control_page_or_block_it_is_not_entered() {
        let mut none = pages();
        none[3][0] = 0;
        assert!(!load(&none).0);
        let mut none = pages();
        none[1] = [0; PAGE];
        assert!(!load(&none).0);
    }

    #[test]
    fn memory_has_to_hold_it() {
        let low = "MemAvailable: 100000 kB\nLowFree: 50000 kB\n";
        let all = "MemAvailable: 100000 kB\n";
        assert!(room(20_000, all) && !room(20_000, low) && room(10_000, low));
        assert!(!room(25_000, all) && !room(u64::MAX, all) && !room(1, ""));
    }
}
