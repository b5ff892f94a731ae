//! Pages that an image has of the one below it.

use crate::chunks::Chunks;
use crate::error::Refusal;
use crate::image::{Image, Link};
use crate::layout::{Run, BLOCK, RUN_DATA, RUN_ZERO};
use crate::table::{hash, Cursor};
use crate::target::Source;

/// Pages that are taken at once.
pub const TAKEN: u32 = 8;

/// Reads them, along with the image's own table, which says what they must be.
pub struct Below<'i> {
    pub chunks: Box<Chunks<'i, Box<dyn Source>>>,
    table: Cursor,
    /// What was taken last.
    pub runs: Vec<Run>,
    pub raw: Vec<u8>,
}

impl<'i> Below<'i> {
    /// `None` for an image without a base. `links` are the images below, the next one first.
    pub fn new<S: Source>(
        image: &mut Image<S>,
        links: &'i mut [Link],
    ) -> Result<Option<Self>, Refusal> {
        let Some(base) = &image.header.base else {
            return Ok(None);
        };
        if image.input.source().size().is_none() {
            return Err(base.refusal("is not looked for beside a stream; read it from where it is"));
        }
        let Some((link, links)) = links.split_first_mut() else {
            return Err(base.refusal("was not opened"));
        };
        let mut chunks = Box::new(link.chunks_over(links)?);
        chunks.lean = true;
        Ok(Some(Self {
            chunks,
            table: Cursor::new(&image.header, &image.header_digest)?,
            runs: Vec::new(),
            raw: Vec::new(),
        }))
    }

    /// Takes `count` pages from `pfn` on into `runs` and `raw`. `source` is that of the image above.
    pub fn take(&mut self, source: &mut impl Source, pfn: u64, count: u32) -> Result<(), Refusal> {
        self.runs.clear();
        self.raw.clear();
        self.raw.try_reserve_exact(count as usize * BLOCK)?;
        let mut page = [0; BLOCK];
        for pfn in pfn..pfn + u64::from(count) {
            let kind = match self.chunks.page(pfn, &mut page)? {
                true => RUN_DATA,
                false => RUN_ZERO,
            };
            let found = if kind == RUN_ZERO {
                [0; 16]
            } else {
                hash(&page)
            };
            if self.table.find(source, pfn)? != Some(found) {
                let what = "a page of its base is not what it was";
                return Err(Refusal::Damaged { what });
            }
            if kind == RUN_DATA {
                self.raw.extend_from_slice(&page);
            }
            match self.runs.last_mut() {
                Some(run) if run.kind == kind => run.count += 1,
                _ => self.runs.push(Run {
                    pfn: pfn.into(),
                    count: 1.into(),
                    kind: kind.into(),
                }),
            }
        }
        Ok(())
    }
}
