//! `kjump image`: look at an image, check it, give it up. Needs no module; files need no root.

use std::fs::File;
use std::io;

use clap::{Args, Subcommand};
use kjump_image::layout::SKIPPED;
use kjump_image::{
    discard, hex, uuid, wipe, Device, Image, Inspection, Refusal, Source, State, StreamSource,
    Totals,
};

use super::say;
use crate::abort::Abort;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::progress::Reporter;

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
    Verify(One),
    /// Give an image up, so that it is never resumed
    Discard(One),
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

/// What there is to say, and what speaks against using the image all the same.
#[derive(Debug)]
struct Answer {
    text: String,
    refusal: Option<Refusal>,
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
        What::Inspect(one) => (one, inspect(one)),
        What::Verify(one) => {
            // The verdict alone goes to standard output, unless a program reads along.
            let mut reporter = Reporter::new("checking", one.json, !one.json);
            (one, verify(one, &mut reporter, &mut Abort::watch()))
        }
        What::Discard(one) => (one, give_up(one)),
    };
    let refused = result.and_then(|answer| {
        say(answer.text.trim_end())?;
        match answer.refusal {
            Some(refusal) => Err(one.refused(refusal)),
            None => Ok(0),
        }
    });
    if let (true, Err(e)) = (one.json, &refused) {
        let object = Json::object([
            ("error", Json::str(e.to_string())),
            ("exit_code", Json::Int(e.exit_code().into())),
        ]);
        say(object.line())?;
    }
    refused
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

fn verify(one: &One, reporter: &mut Reporter, abort: &mut Abort) -> Result<Answer> {
    let mut image = Image::inspect_only(one.source()?).map_err(|e| one.refused(e))?;
    let mut chunks = image.chunks().map_err(|e| one.refused(e))?;
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
        let (pages, chunks) = (totals.data_pages + totals.zero_pages, totals.chunks);
        let bytes = totals.image_bytes;
        format!("every checksum is right: {pages} pages in {chunks} chunks, {bytes} bytes")
    };
    // Right as it is, it will not be resumed.
    let refusal = match state {
        State::Resuming { time } => Some(Refusal::Used { time }),
        State::Discarded { time } => Some(Refusal::Discarded { time }),
        State::Stream | State::Committed | State::Withdrawn { .. } => None,
    };
    Ok(Answer { text, refusal })
}

fn give_up(one: &One) -> Result<Answer> {
    let failed = |source| Error::Save {
        target: one.target.clone(),
        source,
    };
    if one.target == "-" {
        return Err(failed(kjump_image::Error::Stream));
    }
    let what = match Image::inspect_only(one.device(true)?) {
        Ok(image) if matches!(image.state(), State::Discarded { .. }) => {
            "the image was discarded before"
        }
        Ok(image) => {
            let seal = *image.seal();
            discard(&mut image.into_source(), &seal).map_err(failed)?;
            "the image is discarded"
        }
        // Not kjump's, or not readable: nothing to be written over.
        Err(e @ (Refusal::NoImage(_) | Refusal::Io { .. } | Refusal::NoMemory(_))) => {
            return Err(one.refused(e));
        }
        // Begun by kjump, and of no use: then there is nothing to keep a mark for.
        Err(_) => {
            wipe(&mut one.device(true)?).map_err(failed)?;
            "what was left of an image is wiped out"
        }
    };
    let text = if one.json {
        Json::object([("discarded", Json::Bool(true)), ("what", Json::str(what))]).line()
    } else {
        format!("{}: {what}", one.target)
    };
    Ok(text.into())
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

    fn device(&self, write: bool) -> Result<Device> {
        let file = File::options().read(true).write(write).open(&self.target);
        file.and_then(Device::new).map_err(|source| Error::Open {
            target: self.target.clone(),
            source,
        })
    }
}

/// A state in a word.
fn word(state: State) -> &'static str {
    match state {
        State::Stream => "stream",
        State::Committed => "committed",
        State::Withdrawn { .. } => "withdrawn",
        State::Resuming { .. } => "used",
        State::Discarded { .. } => "discarded",
    }
}

fn sums(t: &Totals) -> Json {
    Json::object([
        ("image_bytes", Json::Int(t.image_bytes)),
        ("chunks", Json::Int(t.chunks)),
        ("runs", Json::Int(t.runs)),
        ("data_pages", Json::Int(t.data_pages)),
        ("zero_pages", Json::Int(t.zero_pages)),
        ("stored_bytes", Json::Int(t.stored_bytes)),
        ("raw_chunks", Json::Int(t.raw_chunks)),
    ])
}

/// What [`Inspection`]'s `Display` says, for programs.
fn report(i: &Inspection) -> Json {
    let h = &i.header;
    let time = match i.state {
        State::Stream | State::Committed => Json::Null,
        State::Withdrawn { time } | State::Resuming { time } | State::Discarded { time } => {
            Json::Int(time)
        }
    };
    let hexadecimal = |n: u64| Json::Str(format!("{n:#x}"));
    let ram = h
        .ram
        .iter()
        .map(|r| Json::object([("start", hexadecimal(r.start)), ("end", hexadecimal(r.end))]));
    let skipped = SKIPPED.iter().zip(h.skipped);
    let guards = i.guards.iter().map(|(kind, label, len)| {
        Json::object([
            ("kind", Json::Int((*kind).into())),
            ("label", Json::str(label)),
            ("bytes", Json::Int(*len as u64)),
        ])
    });
    Json::object([
        ("uuid", Json::str(uuid(&h.uuid))),
        ("state", Json::str(word(i.state))),
        ("state_time", time),
        ("created", Json::Int(h.created)),
        ("release", Json::str(&h.release)),
        ("arch", Json::Int(h.arch.into())),
        ("snapshot", Json::Bool(h.snapshot)),
        ("build", Json::str(hex(&h.build_id))),
        ("fingerprint", Json::Str(format!("{:#018x}", h.fingerprint))),
        ("window_end", hexadecimal(h.window_end)),
        ("jump_back_entry", hexadecimal(h.jump_back_entry)),
        ("ram", Json::Array(ram.collect())),
        ("pages", Json::Int(h.pages)),
        (
            "skipped",
            Json::Object(
                skipped
                    .map(|(name, n)| (name.to_string(), Json::Int(n)))
                    .collect(),
            ),
        ),
        ("compression", Json::str(h.codec.name())),
        ("chunk_pages", Json::Int(h.chunk_pages.into())),
        ("totals", i.totals.as_ref().map_or(Json::Null, sums)),
        ("ratio", i.ratio().map_or(Json::Null, Json::Float)),
        ("guards", Json::Array(guards.collect())),
    ])
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
