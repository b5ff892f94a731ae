//! What A asks of a peer: the text in the handoff block, lines of `key=value`. docs/protocol.md lists
//! the keys. Unknown keys are passed over, so that an older peer understands a newer A.

use kjump_abi::REQUEST_SIZE;
use kjump_guard::Kind;
use kjump_image::{hex, Base, Codec, Encryption, KeySource, MasterKey};
use zeroize::Zeroizing;

use crate::config::{parse_codec, parse_mode, Mode};
use crate::error::{Error, Result};
use crate::parse;

/// A filesystem that A has mounted, or a swap area that it swaps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// What it is.
    pub kind: Kind,
    /// Its UUID, by which the peer finds it.
    pub uuid: [u8; 16],
    /// For people: the device's name in A and where it is mounted.
    pub name: String,
}

/// A request, as it is written and read. What a peer is not told is left at its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// UUID of the image, which a mark on the target carries too. Zeros: none.
    pub image: [u8; 16],
    /// Where the image is to be or is, as A calls it.
    pub target: String,
    /// How pages are compressed.
    pub codec: Codec,
    /// How the machine ends.
    pub mode: Mode,
    /// Begin although the worst case does not fit.
    pub optimistic: bool,
    /// A filesystem that nobody can watch is no reason to stop.
    pub allow_unknown: bool,
    /// Try an image again that was refused in the middle of a restore.
    pub retry: bool,
    /// Do not compare filesystems with what the image says of them.
    pub unguarded: bool,
    /// What is saved may be restored more than once, and the asking kernel goes on; what is restored
    /// must be such a one.
    pub snapshot: bool,
    /// What has not changed since that image is left there.
    pub base: Option<Base>,
    /// Identity of the asking kernel's build.
    pub build: Option<[u8; 32]>,
    /// Identity of the machine, as only a kernel that sees the firmware's memory map can tell it.
    pub fingerprint: Option<u64>,
    /// Pages that firmware keeps for itself.
    pub firmware_pages: u64,
    /// What must not be written while the machine is off. `None`: the peer was not told.
    pub watched: Option<Vec<Watched>>,
    /// The image is to be encrypted, or must be.
    pub encrypted: bool,
    /// Its key; to be sent once, and wiped.
    pub key: Option<MasterKey>,
    /// Of an image that is to be written: where the key comes from.
    pub encryption: Option<Encryption>,
}

/// Before the codec of an image that is encrypted: an older peer, which would write a plain one, finds no
/// such codec and so no request.
const ENCRYPTED: &str = "encrypted:";

const HEX: [char; 16] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
];

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    unhex_into(text, &mut bytes)?;
    Some(bytes)
}

fn unhex_into(text: &str, bytes: &mut [u8]) -> Option<()> {
    if text.len() != 2 * bytes.len() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(())
}

fn encryption_text(encryption: &Encryption) -> String {
    let nonce = hex(&encryption.nonce);
    match encryption.source {
        KeySource::File => format!("key-file:{nonce}"),
        KeySource::Passphrase {
            salt,
            memory,
            passes,
            lanes,
        } => format!(
            "passphrase:{nonce}:{}:{memory}:{passes}:{lanes}",
            hex(&salt)
        ),
    }
}

fn parse_encryption(text: &str) -> Option<Encryption> {
    let mut parts = text.split(':');
    let kind = parts.next()?;
    let nonce = unhex(parts.next()?)?;
    let number = |text: Option<&str>| u32::try_from(parse::number(text?).ok()?).ok();
    let source = match kind {
        "key-file" => KeySource::File,
        "passphrase" => KeySource::Passphrase {
            salt: unhex(parts.next()?)?,
            memory: number(parts.next())?,
            passes: number(parts.next())?,
            lanes: number(parts.next())?,
        },
        _ => return None,
    };
    Some(Encryption { source, nonce })
}

/// Names for people may hold anything; a line holds no line ends, and is not too long.
fn clean(name: &str) -> String {
    let clean = |c: char| if c.is_control() { '?' } else { c };
    name.chars().map(clean).take(60).collect()
}

impl Request {
    /// As text, which has the key in it.
    pub fn text(&self) -> Zeroizing<String> {
        // Large enough, so that no copy is left behind as it grows.
        let mut text = Zeroizing::new(String::with_capacity(4 * REQUEST_SIZE));
        if let Some(key) = &self.key {
            *text += "key=";
            for byte in key.bytes() {
                text.push(HEX[usize::from(byte >> 4)]);
                text.push(HEX[usize::from(byte & 15)]);
            }
            text.push('\n');
        }
        let mut line = |key: &str, value: String| {
            for part in [key, "=", &value, "\n"] {
                *text += part;
            }
        };
        line("image", hex(&self.image));
        line("target", self.target.clone());
        let encrypted = if self.encrypted { ENCRYPTED } else { "" };
        line("codec", format!("{encrypted}{}", self.codec));
        line("mode", self.mode.name().into());
        if let Some(encryption) = &self.encryption {
            line("encryption", encryption_text(encryption));
        }
        if self.optimistic {
            line("optimistic", "1".into());
        }
        if self.allow_unknown {
            line("allow-unknown", "1".into());
        }
        if self.retry {
            line("retry", "1".into());
        }
        if self.unguarded {
            line("no-guards", "1".into());
        }
        if self.snapshot {
            line("snapshot", "1".into());
        }
        if let Some(base) = &self.base {
            let (uuid, digest) = (hex(&base.uuid), hex(&base.digest));
            line(
                "base",
                format!("{uuid}:{digest}:{}:{}", base.depth, base.at),
            );
        }
        if let Some(build) = &self.build {
            line("build", hex(build));
        }
        if let Some(fingerprint) = self.fingerprint {
            line("fingerprint", format!("{fingerprint:#x}"));
        }
        line("firmware-pages", self.firmware_pages.to_string());
        if let Some(watched) = &self.watched {
            line("guards", watched.len().to_string());
            for w in watched {
                let (kind, uuid) = (w.kind.name(), hex(&w.uuid));
                line("guard", format!("{kind}:{uuid}:{}", clean(&w.name)));
            }
        }
        text
    }

    /// What a kernel has left: its text, or what holds where it left none.
    ///
    /// # Errors
    ///
    /// [`Error::NoRequest`] for one that makes no sense: it may say that nothing is to be written as it is.
    pub fn left(text: &[u8], verb: &'static str) -> Result<Self> {
        match text.first() {
            None | Some(0) => Ok(Self::default()),
            Some(_) => Self::parse(text).ok_or(Error::NoRequest { verb }),
        }
    }

    /// Reads a block's text up to its NUL; `None` if there is none, or a line of it makes no sense.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = text.split(|b| *b == 0).next()?;
        let text = std::str::from_utf8(text).ok().filter(|t| !t.is_empty())?;
        let mut r = Self::default();
        let mut guards = None;
        for line in text.split_terminator('\n') {
            let (key, value) = line.split_once('=')?;
            match key {
                "image" => r.image = unhex(value)?,
                "target" => r.target = value.into(),
                "codec" => {
                    let plain = value.strip_prefix(ENCRYPTED);
                    r.encrypted = plain.is_some();
                    r.codec = parse_codec(plain.unwrap_or(value)).ok()?;
                }
                "key" => {
                    let mut key = MasterKey::blank();
                    unhex_into(value, key.bytes_mut())?;
                    r.key = Some(key);
                }
                "encryption" => r.encryption = Some(parse_encryption(value)?),
                "mode" => r.mode = parse_mode(value).ok()?,
                "optimistic" => r.optimistic = value == "1",
                "allow-unknown" => r.allow_unknown = value == "1",
                "retry" => r.retry = value == "1",
                "no-guards" => r.unguarded = value == "1",
                "snapshot" => r.snapshot = value == "1",
                "base" => r.base = Some(parse_base(value)?),
                "build" => r.build = Some(unhex(value)?),
                "fingerprint" => r.fingerprint = Some(parse::number(value).ok()?),
                "firmware-pages" => r.firmware_pages = parse::number(value).ok()?,
                "guards" => {
                    guards = Some(parse::number(value).ok()?);
                    r.watched = Some(Vec::new());
                }
                "guard" => r.watched.as_mut()?.push(Watched::parse(value)?),
                _ => {}
            }
        }
        // A list that was cut off would be a guard that is missing.
        let listed = r.watched.as_ref().map(|w| w.len() as u64);
        (listed == guards).then_some(r)
    }
}

fn parse_base(text: &str) -> Option<Base> {
    let mut parts = text.splitn(4, ':');
    Some(Base {
        uuid: unhex(parts.next()?)?,
        digest: unhex(parts.next()?)?,
        depth: parts.next()?.parse().ok()?,
        at: parts.next()?.into(),
    })
}

impl Watched {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        Some(Self {
            kind: Kind::from_name(parts.next()?)?,
            uuid: unhex(parts.next()?)?,
            name: parts.next()?.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request() -> Request {
        let watched = |kind, name: &str| Watched {
            kind,
            uuid: [kind as u8 + 1; 16],
            name: name.into(),
        };
        Request {
            image: [7; 16],
            target: "/dev/vdb:40960".into(),
            codec: Codec::Zstd,
            mode: Mode::S4,
            optimistic: true,
            allow_unknown: true,
            retry: true,
            unguarded: true,
            snapshot: true,
            base: Some(Base {
                uuid: [3; 16],
                digest: [4; 32],
                depth: 2,
                at: "/dev/vdc:40960".into(),
            }),
            build: Some([9; 32]),
            fingerprint: Some(u64::MAX),
            firmware_pages: 77,
            encrypted: true,
            key: Some(MasterKey::of_file(&[3; 40])),
            encryption: Some(Encryption {
                source: KeySource::Passphrase {
                    salt: [5; 16],
                    memory: 65536,
                    passes: 3,
                    lanes: 1,
                },
                nonce: [6; 32],
            }),
            watched: Some(vec![
                watched(Kind::Ext, "/dev/vda (/mnt:a)"),
                watched(Kind::Swap, "/dev/vdc"),
            ]),
        }
    }

    /// A peer that cannot read all of it must not do half of it.
    #[test]
    fn nothing_left_is_not_what_makes_no_sense() {
        assert_eq!(Request::left(&[0; 16], "save").unwrap(), Request::default());
        for text in ["codec=rot13:lz4\n\0", "x\0"] {
            let code = Request::left(text.as_bytes(), "save").unwrap_err();
            assert_eq!(
                code.exit_code(),
                Error::NoRequest { verb: "save" }.exit_code()
            );
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut block = request().text().as_bytes().to_vec();
        block.resize(kjump_abi::REQUEST_SIZE, 0);
        assert_eq!(Request::parse(&block), Some(request()));
        let plain = Request::default();
        assert_eq!(Request::parse(plain.text().as_bytes()), Some(plain));
        let by_file = Request {
            encryption: Some(Encryption {
                source: KeySource::File,
                nonce: [1; 32],
            }),
            ..request()
        };
        assert_eq!(Request::parse(by_file.text().as_bytes()), Some(by_file));
        // No room is to be made anew while it grows: that would leave a copy.
        let capacity = Request::default().text().capacity();
        assert_eq!(request().text().capacity(), capacity);
    }

    /// A peer that cannot encrypt must not take such a request for one of its own.
    #[test]
    fn an_older_peer_finds_no_codec() {
        let text = request().text();
        let codec = text.lines().find_map(|l| l.strip_prefix("codec="));
        assert!(parse_codec(codec.unwrap()).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_no_request() {
        for text in [
            "",
            "x",
            "image=12",
            "mode=never",
            "guard=ext:00:x",
            "guards=1",
            "key=12",
            "encryption=passphrase:00",
            "encryption=rot13:00",
        ] {
            assert_eq!(Request::parse(text.as_bytes()), None, "{text}");
        }
        let text = request().text();
        let cut = &text[..text.len() - text.lines().last().unwrap().len() - 1];
        assert_eq!(Request::parse(cut.as_bytes()), None);
        assert!(Request::parse(b"novelty=1").is_some());
        // A line ends at its line feed: what is before that is the value's, at the text's end too.
        let odd = Request::parse(b"target=/dev/vdb\r").unwrap();
        assert_eq!(Request::parse(odd.text().as_bytes()), Some(odd));
    }

    #[test]
    fn names_are_one_line() {
        let mut r = request();
        r.watched.as_mut().unwrap()[0].name = "a\nmode=none\n".into();
        assert_eq!(Request::parse(r.text().as_bytes()).unwrap().mode, Mode::S4);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(t in "[a-z=:\n0-9]{0,80}", b in prop::collection::vec(any::<u8>(), 0..60)) {
            Request::parse(t.as_bytes());
            Request::parse(&b);
        }
    }
}
