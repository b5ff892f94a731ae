//! An image in a file, looked at, damaged and given up.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use kjump_guard::Kind;
use kjump_image::{
    mark_resuming, worst_case, Codec, Encryption, Guard, Header, KeySource, Machine, MasterKey,
    Options, Range, StreamTarget, Writer, PAGE,
};

use super::*;

/// A file that is gone afterwards.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        let name = format!("kjump-image-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
    fn one(&self) -> One {
        One {
            target: self.0.display().to_string(),
            json: false,
        }
    }
    fn device(&self) -> Opened {
        self.one().device(true).unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const START: u64 = 16 << 20;

fn header() -> Header {
    Header {
        uuid: [7; 16],
        release: "7.3.4\x1b[2J".into(),
        build_id: [0xb1; 32],
        jump_back_entry: START,
        pages: 64,
        skipped: [3, 0, 0, 0, 0, 0, 0, 0],
        codec: Codec::Lz4,
        chunk_pages: 8,
        ram: vec![Range {
            start: 0,
            end: START + 64 * PAGE as u64,
        }],
        ..Header::default()
    }
}

/// Saves 64 pages, half of them zeros.
fn save(target: impl kjump_image::Target) {
    let guard = |kind: Kind, label: &str| Guard {
        kind: kind.number(),
        device: [kind.number() as u8; 16],
        label: label.into(),
        data: vec![1; 9],
    };
    let guards = [
        guard(Kind::Ext, "/dev/vda1 \"/\""),
        guard(Kind::Swap, "/dev/vda3"),
    ];
    let mut w = Writer::begin(target, &header(), &guards, Options::default()).unwrap();
    for i in 0..64u64 {
        let byte = if i % 2 == 0 { 0 } else { i as u8 };
        w.write(START / PAGE as u64 + i, &[byte; PAGE]).unwrap();
    }
    w.finish().unwrap();
}

fn saved(name: &str) -> Temporary {
    let file = Temporary::new(name);
    let size = worst_case(64, 8);
    File::create(&file.0).unwrap().set_len(size).unwrap();
    save(file.device());
    file
}

/// The exit code of what became of `one`.
fn code(one: &One, result: Result<Answer>) -> u8 {
    let refused = result.and_then(|a| a.refusal.map_or(Ok(()), |r| Err(one.refused(r))));
    refused.map_or_else(|e| e.exit_code(), |()| 0)
}

fn inspected(file: &Temporary) -> u8 {
    code(&file.one(), inspect(&file.one()))
}

/// Without touching this machine's swap areas.
fn given_up(file: &Temporary) -> u8 {
    code(
        &file.one(),
        give_up(&file.one()).map(|(what, _)| what.to_string().into()),
    )
}

/// Without a word, and without the signals that belong to the whole process.
fn verified(file: &Temporary) -> u8 {
    let quiet = || (Reporter::quiet(), Abort::never());
    let result = verify(&file.one(), &Config::default(), quiet);
    code(&file.one(), result)
}

#[test]
fn a_good_image() {
    let file = saved("good");
    assert_eq!((inspected(&file), verified(&file)), (0, 0));
    let i = Image::inspect_only(file.device()).unwrap().inspect();
    let line = report(&i).line();
    for part in [
        "{\"uuid\": \"07070707-0707-0707-0707-070707070707\", \"state\": \"committed\"",
        "\"state_time\": null",
        "\"release\": \"7.3.4\\u001b[2J\"",
        "\"ram\": [{\"start\": \"0x0\", \"end\": \"0x1040000\"}]",
        "\"pages\": 64, \"base\": null, \"skipped\": {\"free\": 3, \"hole\": 0",
        "\"data_pages\": 32, \"zero_pages\": 32",
        "\"guards\": [{\"kind\": 1, \"label\": \"/dev/vda1 \\\"/\\\"\", \"bytes\": 9}, ",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(i.ratio().is_some_and(|r| r > 1.0));
}

#[test]
fn no_image_at_all() {
    let file = Temporary::new("none");
    assert_eq!(inspected(&file), 56);
    fs::write(&file.0, [1; 70000]).unwrap();
    for run in [inspected, verified, given_up] {
        assert_eq!(run(&file), 50);
    }
    // What is not kjump's is left alone.
    assert_eq!(fs::read(&file.0).unwrap(), [1; 70000]);
}

#[test]
fn damage_is_found_by_verify() {
    let file = saved("damaged");
    let raw = File::options()
        .read(true)
        .write(true)
        .open(&file.0)
        .unwrap();
    let mut byte = [0];
    raw.read_exact_at(&mut byte, 65536 + 100).unwrap();
    raw.write_all_at(&[byte[0] ^ 1], 65536 + 100).unwrap();
    assert_eq!((inspected(&file), verified(&file)), (0, 52));
    raw.set_len(65536 + 200).unwrap();
    assert_eq!(verified(&file), 51);
    // What is left of it can be got rid of.
    assert_eq!(given_up(&file), 0);
    assert_eq!(inspected(&file), 50);
}

#[test]
fn a_check_can_be_stopped() {
    let file = saved("stopped");
    let begin = || {
        let abort = Abort::never();
        abort.request();
        (Reporter::quiet(), abort)
    };
    let stopped = verify(&file.one(), &Config::default(), begin);
    assert_eq!(code(&file.one(), stopped), 57);
}

#[test]
fn an_unfinished_image() {
    let file = saved("unfinished");
    let w = Writer::begin(file.device(), &header(), &[], Options::default()).unwrap();
    drop(w);
    assert_eq!((inspected(&file), verified(&file)), (51, 51));
    assert_eq!(give_up(&file.one()).unwrap().1, Swap::All);
    assert_eq!(inspected(&file), 50);
}

#[test]
fn an_image_is_given_up_for_good() {
    let file = saved("discarded");
    // The swap areas are told every time: the first time may have been cut short.
    let swap = Swap::Of(vec![[Kind::Swap.number() as u8; 16]]);
    assert_eq!(
        give_up(&file.one()).unwrap(),
        ("the image is discarded", swap)
    );
    let (what, swap) = give_up(&file.one()).unwrap();
    assert!(what.contains("before") && swap != Swap::Of(vec![]));
    assert_eq!((inspected(&file), verified(&file)), (0, 53));
    let machine = Machine {
        arch: header().arch,
        ram: header().ram,
        window_end: START,
        ..Machine::default()
    };
    let refused = Image::open(file.device(), &machine).err();
    assert!(matches!(refused, Some(Refusal::Discarded { .. })));
}

#[test]
fn a_used_image_is_right_and_of_no_use() {
    let file = saved("used");
    let proof = Image::inspect_only(file.device())
        .unwrap()
        .verify_all()
        .unwrap();
    mark_resuming(&mut file.device(), &proof).unwrap();
    assert_eq!((inspected(&file), verified(&file)), (0, 53));
    let i = Image::inspect_only(file.device()).unwrap().inspect();
    assert!(report(&i)
        .line()
        .contains("\"state\": \"used\", \"state_time\": 1"));
    assert_eq!(given_up(&file), 0);
}

/// It is refused at once: nothing was made, and nothing changed.
#[test]
fn an_encrypted_image_becomes_nothing_else() {
    let file = saved("encrypted");
    let (key, source) = (MasterKey::of_file(&[1; 32]), KeySource::File);
    let header = Header {
        encryption: Some(Encryption {
            source,
            nonce: [1; 32],
        }),
        pages: 0,
        ..header()
    };
    let options = Options {
        key: Some(&key),
        ..Options::default()
    };
    let writer = Writer::begin(file.device(), &header, &[], options).unwrap();
    writer.finish().unwrap();
    let before = fs::read(&file.0).unwrap();
    let [config, out] = ["encrypted-config", "encrypted-out"].map(Temporary::new);
    fs::write(&config.0, "").unwrap();

    let what = file.one().target;
    let flat = |out: Option<String>| {
        crate::cmd::flatten::run(&crate::cmd::flatten::FlattenArgs {
            what: what.clone(),
            out,
            config: Some(config.0.clone()),
            force: true,
            json: false,
        })
        .map(drop)
    };
    let elf = crate::cmd::to_elf::run(&crate::cmd::to_elf::ToElfArgs {
        what: what.clone(),
        out: out.0.clone(),
        config: Some(config.0.clone()),
        json: false,
    });
    let to_file = flat(Some(out.one().target));
    for (result, word) in [
        (flat(None), "flat"),
        (to_file, "copy it"),
        (elf.map(drop), "ELF"),
    ] {
        let e = result.unwrap_err();
        assert_eq!(e.exit_code(), 73, "{e}");
        let line = e.to_string();
        assert!(line.starts_with(&what) && line.contains("encrypted image") && line.contains(word));
    }
    assert!(!out.0.exists() && fs::read(&file.0).unwrap() == before);
}

#[test]
fn a_stream_in_a_file() {
    let file = Temporary::new("stream");
    save(StreamTarget::new(File::create(&file.0).unwrap()));
    assert_eq!((inspected(&file), verified(&file)), (0, 0));
    let i = Image::inspect_only(file.device()).unwrap().inspect();
    let line = report(&i).line();
    assert!(line.contains("\"totals\": null") && line.contains("\"ratio\": null"));
    let pipe = One {
        target: "-".into(),
        json: false,
    };
    assert_eq!(give_up(&pipe).unwrap_err().exit_code(), 56);
    assert!(pipe
        .refused(Refusal::NoImage("x"))
        .to_string()
        .starts_with("standard input: "));
}
