//! The boot bundle: kernel, initrd and command line of the system that is booted when there is no
//! image, at the end of a target. Who looks for an image there has no filesystem to read them from.

use std::io::{self, ErrorKind, Read};

use kjump_image::{worst_case, Image, State};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::block::{blocks, Block, BLOCK64};
use crate::error::{io as failed, Error};
use crate::layout::{BundleFooter, BundlePart, BUNDLE_MAGIC, COMMAND_LINE, VERSION};
use crate::opened::Opened;
use crate::Result;

/// Blocks read or written at once.
const PIECE: usize = 16;

/// What is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The kernel.
    pub kernel: Part,
    /// Its initrd.
    pub initrd: Option<Part>,
    /// Its command line.
    pub command_line: String,
}

/// A file in a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Bytes.
    pub length: u64,
    /// BLAKE3.
    pub digest: [u8; 32],
    /// From the start of the room.
    offset: u64,
}

/// A file that is to be installed.
pub struct Input<'a> {
    /// Its contents.
    pub reader: &'a mut dyn Read,
    /// Its length in bytes, not 0.
    pub length: u64,
}

/// A part, read from front to back. The last read fails if the part is not what was installed.
pub struct PartReader<'a> {
    opened: &'a mut Opened,
    part: Part,
    buffer: Vec<Block>,
    /// Bytes of the part that were taken.
    taken: u64,
    hash: blake3::Hasher,
}

impl Opened {
    /// The bundle that is here.
    pub fn bundle(&mut self) -> Result<Option<Bundle>> {
        let Some(at) = self.container().checked_sub(BLOCK64) else {
            return Ok(None);
        };
        let mut block = Block::ZERO;
        self.read_container(at, &mut block.0)?;
        Bundle::parse(&block, self.container())
    }

    /// Puts a bundle at the end, in place of an older one; flushed when this returns. Cut off in
    /// the middle, it leaves none. Refused where an image that can be resumed reaches that far.
    pub fn install_bundle(
        &mut self,
        kernel: Input<'_>,
        initrd: Option<Input<'_>>,
        command_line: &str,
    ) -> Result<Bundle> {
        if command_line.len() > COMMAND_LINE || command_line.contains('\0') {
            let what = "its command line is longer than 2048 bytes, or has a NUL in it";
            return Err(Error::BadBundle(what));
        }
        let lengths = [kernel.length, initrd.as_ref().map_or(0, |i| i.length)];
        if kernel.length == 0 || initrd.as_ref().is_some_and(|i| i.length == 0) {
            return Err(Error::BadBundle("an empty file"));
        }
        let need = lengths.iter().try_fold(BLOCK64, |sum, n| {
            sum.checked_add(n.checked_next_multiple_of(BLOCK64)?)
        });
        let have = self.container().saturating_sub(worst_case(1, 1));
        let Some(need) = need.filter(|need| *need <= have) else {
            let (what, need) = ("a boot bundle".into(), need.unwrap_or(u64::MAX));
            return Err(Error::TooSmall { what, need, have });
        };
        let start = self.container() - need;
        self.check_image(start)?;
        self.remove_bundle()?;
        let kernel = self.write_part(start, kernel)?;
        let behind = start + kernel.length.next_multiple_of(BLOCK64);
        let initrd = initrd.map(|i| self.write_part(behind, i)).transpose()?;
        self.flush_container()?;
        let bundle = Bundle {
            kernel,
            initrd,
            command_line: command_line.into(),
        };
        let footer = bundle.footer(self.container());
        self.write_container(self.container() - BLOCK64, &Block::of(&footer).0)?;
        self.flush_container()?;
        self.room = start;
        Ok(bundle)
    }

    /// Removes the bundle, if there is one: an image may have its room. Flushed.
    pub fn remove_bundle(&mut self) -> Result<()> {
        if let Some(at) = self.container().checked_sub(BLOCK64) {
            self.write_container(at, &Block::ZERO.0)?;
            self.flush_container()?;
        }
        self.room = self.container();
        Ok(())
    }

    /// Reads a part of this target's bundle.
    pub fn part(&mut self, part: &Part) -> Result<PartReader<'_>> {
        Ok(PartReader {
            opened: self,
            part: part.clone(),
            buffer: blocks(PIECE)?,
            taken: 0,
            hash: blake3::Hasher::new(),
        })
    }

    /// Leaves the room of the bundle alone. One that is damaged has none: an image matters more.
    pub(crate) fn leave_room(&mut self) {
        if let Ok(Some(bundle)) = self.bundle() {
            self.room = bundle.kernel.offset;
        }
    }

    fn check_image(&mut self, room: u64) -> Result<()> {
        // What is damaged or unfinished is of no use to anybody.
        let Ok(image) = Image::inspect_only(&mut *self) else {
            return Ok(());
        };
        let over = matches!(
            image.state(),
            State::Resuming { .. } | State::Discarded { .. }
        );
        let end = image.totals().map_or(u64::MAX, |t| t.image_bytes);
        if over || end <= room {
            return Ok(());
        }
        let what = "an image that can be resumed and needs that room (kjump image discard)".into();
        let name = self.name().into();
        Err(Error::Occupied { name, what })
    }

    fn write_part(&mut self, offset: u64, input: Input<'_>) -> Result<Part> {
        let mut buffer = blocks(PIECE)?;
        let (mut hash, mut done) = (blake3::Hasher::new(), 0);
        while done < input.length {
            let bytes = buffer.as_mut_bytes();
            let left = usize::try_from(input.length - done).unwrap_or(usize::MAX);
            let now = left.min(bytes.len());
            let read = input.reader.read_exact(&mut bytes[..now]);
            read.map_err(failed("reading what goes into the boot bundle"))?;
            hash.update(&bytes[..now]);
            let end = now.next_multiple_of(BLOCK64 as usize);
            bytes[now..end].fill(0);
            self.write_container(offset + done, &buffer.as_bytes()[..end])?;
            done += now as u64;
        }
        Ok(Part {
            length: input.length,
            digest: *hash.finalize().as_bytes(),
            offset,
        })
    }
}

impl Bundle {
    fn footer(&self, container: u64) -> BundleFooter {
        let part = |part: &Part| BundlePart {
            offset: part.offset.into(),
            length: part.length.into(),
            digest: part.digest,
        };
        let mut footer = BundleFooter::new_zeroed();
        footer.magic = BUNDLE_MAGIC;
        footer.version.set(VERSION);
        footer.container.set(container);
        footer.kernel = part(&self.kernel);
        if let Some(initrd) = &self.initrd {
            footer.initrd = part(initrd);
        }
        // CAST: at most COMMAND_LINE.
        footer.command_line_len.set(self.command_line.len() as u32);
        footer.command_line[..self.command_line.len()]
            .copy_from_slice(self.command_line.as_bytes());
        footer.crc.set(checksum(&footer));
        footer
    }

    /// Reads the last block of a target of `container` bytes; `None` if there is no bundle.
    pub fn parse(block: &Block, container: u64) -> Result<Option<Self>> {
        let footer = BundleFooter::read_from_bytes(&block.0);
        let Some(footer) = footer.ok().filter(|f| f.magic == BUNDLE_MAGIC) else {
            return Ok(None);
        };
        let bad = |what| Err(Error::BadBundle(what));
        if footer.crc.get() != checksum(&footer) {
            return bad("its last block does not match its checksum");
        }
        if footer.version != VERSION {
            return bad("it is of another version of kjump");
        }
        if footer.container != container {
            return bad("it is of a target of another size");
        }
        let part = |part: &BundlePart| Part {
            length: part.length.get(),
            digest: part.digest,
            offset: part.offset.get(),
        };
        let (kernel, initrd) = (part(&footer.kernel), part(&footer.initrd));
        let initrd = (initrd.length > 0).then_some(initrd);
        // Kernel, initrd and this block follow each other without gaps.
        let mut at = Some(kernel.offset).filter(|o| o.is_multiple_of(BLOCK64));
        for part in [Some(&kernel), initrd.as_ref()].into_iter().flatten() {
            let length = part.length.checked_next_multiple_of(BLOCK64);
            let here = at.filter(|at| *at == part.offset && part.length > 0);
            at = here.and_then(|at| at.checked_add(length?));
        }
        if at.and_then(|at| at.checked_add(BLOCK64)) != Some(container) {
            return bad("its parts do not lie one after the other at the end");
        }
        let length = footer.command_line_len.get() as usize;
        let text = footer
            .command_line
            .get(..length)
            .filter(|t| !t.contains(&0));
        let Some(text) = text.and_then(|t| std::str::from_utf8(t).ok()) else {
            return bad("its command line is no text");
        };
        Ok(Some(Self {
            kernel,
            initrd,
            command_line: text.into(),
        }))
    }
}

fn checksum(footer: &BundleFooter) -> u32 {
    let mut copy = *footer;
    copy.crc.set(0);
    crc32fast::hash(copy.as_bytes())
}

impl Read for PartReader<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if to.is_empty() || self.taken == self.part.length {
            return Ok(0);
        }
        let size = (PIECE as u64) * BLOCK64;
        let inside = (self.taken % size) as usize;
        let start = self.taken - inside as u64;
        // CAST: at most `size`.
        let len = (self.part.length - start).min(size) as usize;
        if inside == 0 {
            let whole = len.next_multiple_of(BLOCK64 as usize);
            let bytes = &mut self.buffer.as_mut_bytes()[..whole];
            let read = self.opened.read_container(self.part.offset + start, bytes);
            read.map_err(io::Error::other)?;
            self.hash.update(&self.buffer.as_bytes()[..len]);
            let digest = *self.hash.finalize().as_bytes();
            if start + len as u64 == self.part.length && digest != self.part.digest {
                let what = "the boot bundle does not match its checksum; install it again";
                return Err(io::Error::new(ErrorKind::InvalidData, what));
            }
        }
        let from = &self.buffer.as_bytes()[inside..len];
        let now = from.len().min(to.len());
        to[..now].copy_from_slice(&from[..now]);
        self.taken += now as u64;
        Ok(now)
    }
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
