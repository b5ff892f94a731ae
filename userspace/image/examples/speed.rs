//! How fast images are written and read, how small they get and how much memory it takes.
//!
//! `cargo run --release -p kjump-image --example speed [FILE [CODEC PAGES]]`: saves 256 MiB of
//! noise, then of FILE's contents over and over, to a sink, and reads them back from memory; with
//! one codec and chunk size, the peak is theirs.

use std::io::{self, Read, Write};
use std::time::Instant;
use std::{env, fs};

use kjump_image::{
    Codec, Error, Header, Image, Machine, Options, Range, StreamSource, StreamTarget, Writer,
};

const PIECE: usize = 1 << 20;
const PIECES: u64 = 256;

fn header(codec: Codec, chunk_pages: u32) -> Header {
    Header {
        uuid: [1; 16],
        jump_back_entry: 16 << 20,
        pages: PIECES * (PIECE / 4096) as u64,
        codec,
        chunk_pages,
        ram: vec![ram()],
        ..Header::default()
    }
}

fn ram() -> Range {
    Range {
        start: 0,
        end: 1 << 30,
    }
}

fn save(sink: impl Write, header: &Header, data: &[u8]) -> Result<u64, Error> {
    let target = StreamTarget::new(sink);
    let mut writer = Writer::begin(target, header, &[], Options::default())?;
    let mut at = 0;
    for i in 0..PIECES {
        writer.write(0x1000 + i * 256, &data[at..at + PIECE])?;
        at = (at + PIECE) % (data.len() - PIECE + 4096);
        at -= at % 4096;
    }
    Ok(writer.finish()?.totals.image_bytes)
}

/// Megabytes a second since then.
fn rate(since: Instant) -> f64 {
    PIECES as f64 * PIECE as f64 / 1e6 / since.elapsed().as_secs_f64()
}

/// Largest memory of this process so far, KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let number = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

fn noise(bytes: &mut [u8]) {
    let mut s = 1u64;
    for word in bytes.chunks_exact_mut(8) {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        word.copy_from_slice(&s.to_le_bytes());
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut data = vec![0; 4 * PIECE];
    noise(&mut data);
    let mut args = env::args().skip(1);
    let (file, only) = (args.next(), args.next().and_then(|c| Codec::from_name(&c)));
    let only_pages: Option<u32> = args.next().and_then(|n| n.parse().ok());
    for what in ["noise", "file"] {
        if what == "file" {
            let Some(path) = &file else { break };
            let mut from = fs::File::open(path)?.take(64 << 20);
            data.clear();
            from.read_to_end(&mut data)?;
            data.resize(data.len().next_multiple_of(4096).max(2 * PIECE), 1);
        }
        let wanted = |c: &Codec| only.is_none_or(|only| only == *c);
        for codec in Codec::ALL.into_iter().filter(wanted) {
            let sizes = [16, 32, 64];
            let wanted = |n: &u32| only_pages.is_none_or(|only| only == *n);
            for chunk_pages in sizes.into_iter().filter(wanted) {
                let header = header(codec, chunk_pages);
                let before = peak();
                let start = Instant::now();
                let bytes = save(io::sink(), &header, &data)?;
                let written = rate(start);
                let grown = peak() - before;

                let mut image = Vec::new();
                save(&mut image, &header, &data)?;
                let machine = Machine {
                    arch: header.arch,
                    ram: vec![ram()],
                    ..Machine::default()
                };
                let start = Instant::now();
                Image::open(StreamSource::new(image.as_slice()), &machine)?.verify_all()?;
                println!(
                    "{what:5} {codec:4} {chunk_pages:2} pages: write {written:5.0} MB/s, read \
                     {:5.0} MB/s, {:3.0} % of memory, {grown} KiB more at the peak",
                    rate(start),
                    bytes as f64 / PIECES as f64 / PIECE as f64 * 100.0,
                );
            }
        }
    }
    Ok(())
}
