//! `kjump image`: look at an image, check it, give it up. Needs no module; files need no root.

use std::io;
use std::path::Path;

use clap::{Args, Subcommand};
use kjump_image::{discard, wipe, Image, Refusal, Source, State, StreamSource};
use kjump_target::{Access, Opened, Spec, System};

use super::inspection::{report, sums, word};
use super::say;
use crate::abort::Abort;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::hibernation::chain;
use crate::json::Json;
use crate::progress::Reporter;
use crate::secret::{KeyArgs, Opener};
use crate::snapshots::store::Store;
use crate::swap;

/// Arguments of `image`.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// What to do.
    #[command(subcommand)]
    pub what: What,
}

/// What to do with an image.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Tell what an image is of and what it comes to
    Inspect(One),
    /// Read all of an image and check every checksum
    Verify(Checked),
    /// Give an image up, so that it is never resumed
    Discard(One),
    /// Make one that needs no base of one that builds on others
    Flatten(super::flatten::FlattenArgs),
    /// Write an ELF core of it, for gdb, crash and the like
    ToElf(super::to_elf::ToElfArgs),
}

/// An image.
#[derive(Debug, Args)]
pub struct One {
    /// Where it is: a device, a file, or - for standard input
    #[arg(value_name = "SPEC")]
    pub target: String,
    /// Print JSON, an object a line
    #[arg(long)]
    pub json: bool,
}

/// An image that is read to its end.
#[derive(Debug, Args)]
pub struct Checked {
    /// Which.
    #[command(flatten)]
    pub one: One,
    /// Keys.
    #[command(flatten)]
    pub key: KeyArgs,
}

/// What there is to say, and what speaks against using the image all the same.
#[derive(Debug)]
struct Answer {
    text: String,
    refusal: Option<Refusal>,
}

/// Which swap areas are to be made usable again.
#[derive(Debug, PartialEq, Eq)]
enum Swap {
    /// The image's, by UUID.
    Of(Vec<[u8; 16]>),
    /// Whatever is hidden: the image does not say any more.
    All,
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        let refusal = None;
        Self { text, refusal }
    }
}

/// Does it. A refusal is told as JSON too if that was asked for.
pub fn run(args: &ImageArgs) -> Result<u8> {
    let (one, result) = match &args.what {
        What::Flatten(args) => return told(args.json, flatten(args)),
        What::ToElf(args) => return told(args.json, to_elf(args)),
        What::Inspect(one) => (one, inspect(one)),
        What::Verify(checked) => {
            let one = &checked.one;
            // The verdict alone goes to standard output, unless a program reads along.
            let begin = || {
                let reporter = Reporter::new("checking", one.json, !one.json);
                (reporter, Abort::watch())
            };
            let config = checked.key.load();
            (one, config.and_then(|config| verify(one, &config, begin)))
        }
        What::Discard(one) => (one, discard_and_show(one)),
    };
    let refused = result.and_then(|answer| {
        say(answer.text.trim_end())?;
        match answer.refusal {
            Some(refusal) => Err(one.refused(refusal)),
            None => Ok(0),
        }
    });
    told(one.json, refused)
}

/// Tells an error to a program, if one asked.
fn told(json: bool, result: Result<u8>) -> Result<u8> {
    if let (true, Err(e)) = (json, &result) {
        let object = Json::object([
            ("error", Json::str(e.to_string())),
            ("exit_code", Json::Int(e.exit_code().into())),
        ]);
        say(object.line())?;
    }
    result
}

fn flatten(args: &super::flatten::FlattenArgs) -> Result<u8> {
    let totals = super::flatten::run(args)?.totals;
    let out = args.out.as_ref().unwrap_or(&args.what);
    if args.json {
        say(Json::object([("flat", Json::str(out)), ("totals", sums(&totals))]).line())?;
    } else {
        let (pages, bytes) = (totals.pages(), totals.image_bytes);
        say(format_args!(
            "{out}: {pages} pages in {bytes} bytes, and needs no base"
        ))?;
    }
    Ok(0)
}

fn to_elf(args: &super::to_elf::ToElfArgs) -> Result<u8> {
    let written = super::to_elf::run(args)?;
    let out = args.out.display().to_string();
    if args.json {
        let object = Json::object([
            ("core", Json::str(out)),
            ("pages", Json::Int(written.pages)),
            ("segments", Json::Int(written.segments as u64)),
            ("bytes", Json::Int(written.bytes)),
        ]);
        say(object.line())?;
    } else {
        let (pages, segments) = (written.pages, written.segments);
        let bytes = written.bytes;
        say(format_args!(
            "{out}: {pages} pages as {segments} segments in {bytes} bytes"
        ))?;
    }
    Ok(0)
}

fn inspect(one: &One) -> Result<Answer> {
    let image = Image::inspect_only(one.source()?).map_err(|e| one.refused(e))?;
    let inspection = image.inspect();
    let text = if one.json {
        report(&inspection).line()
    } else {
        inspection.to_string()
    };
    Ok(text.into())
}

/// Checks it; what shows how far that is, and how it is stopped, comes from `begin`.
fn verify(one: &One, config: &Config, begin: impl FnOnce() -> (Reporter, Abort)) -> Result<Answer> {
    let mut image = Image::inspect_only(one.source()?).map_err(|e| one.refused(e))?;
    let opener = Opener {
        demand: false,
        ..Opener::new(config, "image verify")
    };
    opener.unlock(&mut image, &one.target)?;
    // Not before: it takes the keys of the terminal on which a passphrase is typed, and the signals that
    // end a question; and the time that somebody types is not the check's.
    let (mut reporter, mut abort) = begin();
    let mut links = match one.target.as_str() {
        // Nothing is looked for beside a stream.
        "-" => Vec::new(),
        _ => chain::links(&image).map_err(|e| one.refused(e))?,
    };
    let chunks = image.chunks_over(&mut links);
    let mut chunks = chunks.map_err(|e| one.refused(e))?;
    while chunks.next_chunk().map_err(|e| one.refused(e))?.is_some() {
        reporter.update(&chunks.progress());
        if abort.requested() {
            let verb = "image verify";
            return Err(Error::Aborted { verb });
        }
    }
    reporter.finish(&chunks.progress());
    let verified = chunks.finish().map_err(|e| one.refused(e))?;
    let (totals, state) = (verified.totals(), image.state());
    let text = if one.json {
        Json::object([
            ("verified", Json::Bool(true)),
            ("state", Json::str(word(state))),
            ("totals", sums(&totals)),
        ])
        .line()
    } else {
        let (pages, chunks) = (image.header().pages, totals.chunks);
        let bytes = totals.image_bytes;
        format!("every checksum is right: {pages} pages in {chunks} chunks, {bytes} bytes")
    };
    // Right as it is, it will not be resumed.
    let refusal = match state {
        State::Resuming { time } => Some(Refusal::Used { time }),
        State::Discarded { time } => Some(Refusal::Discarded { time }),
        State::Refused { time } => Some(Refusal::RefusedBefore { time }),
        State::Stream | State::Committed | State::Withdrawn { .. } => None,
    };
    Ok(Answer { text, refusal })
}

/// Gives the image up, then the swap areas back: in this order, as using them makes it stale.
fn discard_and_show(one: &One) -> Result<Answer> {
    let (what, swap) = give_up(one)?;
    let shown = match &swap {
        Swap::Of(none) if none.is_empty() => Vec::new(),
        Swap::Of(uuids) => swap::show_areas(uuids),
        Swap::All => swap::show(|_| true),
    };
    let mut devices = Vec::new();
    for (device, shown) in shown {
        match shown {
            Ok(()) => devices.push(device),
            Err(e) => log::warn!("{e}; this swap area stays as it is: make it anew with mkswap"),
        }
    }
    let text = if one.json {
        let devices = devices.into_iter().map(Json::Str).collect();
        Json::object([
            ("discarded", Json::Bool(true)),
            ("what", Json::str(what)),
            ("swap", Json::Array(devices)),
        ])
        .line()
    } else {
        let lines = devices
            .iter()
            .map(|device| format!("\n{device}: this swap area can be used again"));
        format!("{}: {what}", one.target) + &lines.collect::<String>()
    };
    Ok(text.into())
}

/// Gives up the image at `target`, and its swap areas back.
pub fn give_up_by_name(target: &str) -> Result<()> {
    let one = One {
        target: target.into(),
        json: false,
    };
    discard_and_show(&one).map(drop)
}

/// Gives the image up; says what that came to.
fn give_up(one: &One) -> Result<(&'static str, Swap)> {
    let failed = |source| Error::Save {
        target: one.target.clone(),
        source,
    };
    if one.target == "-" {
        return Err(failed(kjump_image::Error::Stream));
    }
    match Image::inspect_only(one.device(true)?) {
        Ok(image) => {
            let swap = Swap::Of(swap::areas(image.guards()));
            if matches!(image.state(), State::Discarded { .. }) {
                return Ok(("the image was discarded before", swap));
            }
            if let Some(store) = Store::around(Path::new(&one.target)) {
                store.check_unneeded(&one.target, &image.header().uuid)?;
            }
            let seal = *image.seal();
            discard(&mut image.into_source(), &seal).map_err(failed)?;
            Ok(("the image is discarded", swap))
        }
        // Not kjump's, or not readable: nothing to be written over.
        Err(e @ (Refusal::NoImage(_) | Refusal::Io { .. } | Refusal::NoMemory(_))) => {
            Err(one.refused(e))
        }
        // Begun by kjump, and of no use: then there is nothing to keep a mark for.
        Err(_) => {
            wipe(&mut one.device(true)?).map_err(failed)?;
            Ok(("what was left of an image is wiped out", Swap::All))
        }
    }
}

impl One {
    fn refused(&self, source: Refusal) -> Error {
        let target = match self.target.as_str() {
            "-" => "standard input".into(),
            target => target.into(),
        };
        Error::Refused { target, source }
    }

    fn source(&self) -> Result<Box<dyn Source>> {
        if self.target == "-" {
            return Ok(Box::new(StreamSource::new(io::stdin().lock())));
        }
        Ok(Box::new(self.device(false)?))
    }

    fn device(&self, write: bool) -> Result<Opened> {
        let access = if write { Access::Write } else { Access::Read };
        let spec = Spec::parse(&self.target)?;
        Ok(System::default().open(&spec, access)?)
    }
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
