//! An image in words.

use std::fmt;

use crate::crypt::KeySource;
use crate::header::Header;
use crate::image::{hex, Image};
use crate::layout::SKIPPED;
use crate::mark::Totals;
use crate::state::State;
use crate::target::Source;

/// What `kjump image inspect` tells; its `Display` is the report, a line a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The header.
    pub header: Header,
    /// The state.
    pub state: State,
    /// The sums; not of a stream, which has them at its end.
    pub totals: Option<Totals>,
    /// The guards: kind, label and bytes of data.
    pub guards: Vec<(u32, String, usize)>,
}

impl Inspection {
    pub(crate) fn new<S: Source>(image: &Image<S>) -> Self {
        let guards = image.guards().iter();
        Self {
            header: image.header().clone(),
            state: image.state(),
            totals: image.totals(),
            guards: guards
                .map(|g| (g.kind, g.label.clone(), g.data.len()))
                .collect(),
        }
    }

    /// Bytes of memory for each byte of the image; `None` where the sums are not known.
    pub fn ratio(&self) -> Option<f64> {
        let totals = self.totals?;
        let memory = totals.pages() * 4096;
        Some(memory as f64 / totals.image_bytes.max(1) as f64)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Stream => f.write_str("a stream: its end says whether it is complete"),
            Self::Committed => f.write_str("committed"),
            Self::Withdrawn { time } => {
                write!(f, "committed; a restore at {time} was taken back")
            }
            Self::Refused { time } => write!(f, "committed; a restore at {time} failed"),
            Self::Resuming { time } => write!(f, "used: resumed at {time}"),
            Self::Discarded { time } => write!(f, "discarded at {time}"),
        }
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let h = &self.header;
        writeln!(f, "UUID         {}", uuid(&h.uuid))?;
        writeln!(f, "state        {}", self.state)?;
        writeln!(f, "created      {} (seconds since 1970)", h.created)?;
        let snapshot = if h.snapshot { ", a snapshot" } else { "" };
        writeln!(
            f,
            "kernel       {} (architecture {}){snapshot}",
            Quoted(&h.release),
            h.arch
        )?;
        writeln!(f, "build        {}", hex(&h.build_id))?;
        writeln!(f, "machine      {:#018x}", h.fingerprint)?;
        writeln!(f, "window       0-{:#x}", h.window_end)?;
        writeln!(f, "entry        {:#x}", h.jump_back_entry)?;
        match h.encryption.map(|e| e.source) {
            None => {}
            Some(KeySource::File) => writeln!(f, "encrypted    by a key file")?,
            Some(KeySource::Passphrase { memory, passes, .. }) => {
                let kib = memory;
                let passes = format_args!("{kib} KiB, {passes} passes");
                writeln!(f, "encrypted    by a passphrase (Argon2id, {passes})")?;
            }
        }
        for range in &h.ram {
            writeln!(f, "RAM          {:#x}-{:#x}", range.start, range.end)?;
        }
        writeln!(f, "pages        {}", h.pages)?;
        for (name, count) in SKIPPED.iter().zip(h.skipped).filter(|s| s.1 > 0) {
            writeln!(f, "not saved    {count} {name}")?;
        }
        let (codec, chunk) = (h.codec, h.chunk_pages);
        writeln!(f, "compression  {codec}, {chunk} pages a chunk")?;
        if let Some(t) = &self.totals {
            writeln!(f, "with data    {} pages", t.data_pages)?;
            writeln!(f, "zero         {} pages", t.zero_pages)?;
            if let Some(base) = &h.base {
                writeln!(f, "in the base  {} pages", t.base_pages)?;
                writeln!(f, "base         {}", base.name())?;
            }
            let raw = t.raw_chunks;
            writeln!(
                f,
                "chunks       {} ({raw} not compressed), {} runs",
                t.chunks, t.runs
            )?;
            writeln!(f, "stored       {} bytes of pages", t.stored_bytes)?;
            writeln!(f, "image        {} bytes", t.image_bytes)?;
        }
        if let Some(ratio) = self.ratio() {
            writeln!(f, "ratio        {ratio:.2}")?;
        }
        for (kind, label, len) in &self.guards {
            writeln!(
                f,
                "guard        {} (kind {kind}, {len} bytes)",
                Quoted(label)
            )?;
        }
        Ok(())
    }
}

/// Text from an image, without what a terminal would act on.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut chars = self.0.chars();
        chars.try_for_each(|c| write!(f, "{}", if c.is_control() { '?' } else { c }))
    }
}

/// A UUID as people write it.
pub fn uuid(bytes: &[u8; 16]) -> String {
    let [a, b, c, d, e] = [0..4, 4..6, 6..8, 8..10, 10..16].map(|r| hex(&bytes[r]));
    format!("{a}-{b}-{c}-{d}-{e}")
}
