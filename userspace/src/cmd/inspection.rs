//! An image's report as JSON.

use kjump_image::layout::SKIPPED;
use kjump_image::{hex, uuid, Header, Inspection, KeySource, State, Totals};

use crate::json::Json;

/// A state in a word.
pub fn word(state: State) -> &'static str {
    match state {
        State::Stream => "stream",
        State::Committed => "committed",
        State::Withdrawn { .. } => "withdrawn",
        State::Refused { .. } => "refused",
        State::Resuming { .. } => "used",
        State::Discarded { .. } => "discarded",
    }
}

/// The sums of an image.
pub fn sums(t: &Totals) -> Json {
    Json::object([
        ("image_bytes", Json::Int(t.image_bytes)),
        ("chunks", Json::Int(t.chunks)),
        ("runs", Json::Int(t.runs)),
        ("data_pages", Json::Int(t.data_pages)),
        ("zero_pages", Json::Int(t.zero_pages)),
        ("base_pages", Json::Int(t.base_pages)),
        ("stored_bytes", Json::Int(t.stored_bytes)),
        ("raw_chunks", Json::Int(t.raw_chunks)),
    ])
}

/// What an image builds on, if anything.
pub fn base(header: &Header) -> Json {
    header.base.as_ref().map_or(Json::Null, |base| {
        Json::object([
            ("uuid", Json::str(uuid(&base.uuid))),
            ("at", Json::str(&base.at)),
            ("depth", Json::Int(base.depth.into())),
        ])
    })
}

/// What [`Inspection`]'s `Display` says, for programs.
pub fn report(i: &Inspection) -> Json {
    let h = &i.header;
    let time = match i.state {
        State::Stream | State::Committed => Json::Null,
        State::Withdrawn { time }
        | State::Refused { time }
        | State::Resuming { time }
        | State::Discarded { time } => Json::Int(time),
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
    let encrypted = match h.encryption.map(|e| e.source) {
        None => Json::Null,
        Some(KeySource::File) => Json::str("key-file"),
        Some(KeySource::Passphrase { .. }) => Json::str("passphrase"),
    };
    Json::object([
        ("uuid", Json::str(uuid(&h.uuid))),
        ("state", Json::str(word(i.state))),
        ("state_time", time),
        ("created", Json::Int(h.created)),
        ("release", Json::str(&h.release)),
        ("arch", Json::Int(h.arch.into())),
        ("snapshot", Json::Bool(h.snapshot)),
        ("encrypted", encrypted),
        ("build", Json::str(hex(&h.build_id))),
        ("fingerprint", Json::Str(format!("{:#018x}", h.fingerprint))),
        ("window_end", hexadecimal(h.window_end)),
        ("jump_back_entry", hexadecimal(h.jump_back_entry)),
        ("ram", Json::Array(ram.collect())),
        ("pages", Json::Int(h.pages)),
        ("base", base(h)),
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
