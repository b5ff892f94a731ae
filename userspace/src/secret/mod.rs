//! Keys of encrypted images: where they come from, and what is done with them. docs/security.md says
//! how they travel and when they are wiped.

mod core_dump;
mod kdf;
mod keyfile;
mod prompt;
mod signals;

use std::cell::Cell;
use std::path::PathBuf;

use kjump_abi::{Handoff, Range};
use kjump_image::{Encryption, Image, KeySource, MasterKey, Refusal, Source};
use zeroize::Zeroizing;

pub use kdf::{random, Scratch};

use crate::config::{Config, Overrides};
use crate::device::Device;
use crate::error::{Error, Result};

/// How images are encrypted, and are to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encrypt {
    /// Not at all.
    #[default]
    None,
    /// By a passphrase.
    Passphrase,
    /// By a key file.
    KeyFile,
}

impl Encrypt {
    /// All of them.
    const ALL: [Self; 3] = [Self::None, Self::Passphrase, Self::KeyFile];

    /// Its name, as users write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Passphrase => "passphrase",
            Self::KeyFile => "key-file",
        }
    }

    /// By its name.
    ///
    /// # Errors
    ///
    /// Which names there are.
    pub fn parse(name: &str) -> std::result::Result<Self, String> {
        let found = Self::ALL.into_iter().find(|e| e.name() == name);
        found.ok_or_else(|| format!("`{name}` is no kind of key; use passphrase, key-file or none"))
    }
}

/// Options about keys.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct KeyArgs {
    /// Encrypt images, and take none that is not: passphrase, key-file or none
    #[arg(long, value_name = "HOW", value_parser = Encrypt::parse)]
    pub encrypt: Option<Encrypt>,
    /// The key: a file of 32 bytes or more, or a device, of which the first 4096 count
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_fd")]
    pub key_file: Option<PathBuf>,
    /// Read the passphrase from this file descriptor, up to the end of a line, instead of asking
    #[arg(long, value_name = "N")]
    pub passphrase_fd: Option<i32>,
}

impl KeyArgs {
    /// The configuration with these options in it: a key is to be used.
    pub fn apply(&self, file: Config) -> Config {
        let implied = match (&self.key_file, self.passphrase_fd) {
            (Some(_), _) => Some(Encrypt::KeyFile),
            (_, Some(_)) => Some(Encrypt::Passphrase),
            _ => None,
        };
        Config {
            encrypt: self.encrypt.or(implied).unwrap_or(file.encrypt),
            key_file: self.key_file.clone().or(file.key_file),
            passphrase_fd: self.passphrase_fd,
            ..file
        }
    }

    /// `/etc/kjump.toml` with these options in it.
    ///
    /// # Errors
    ///
    /// [`Error::Config`].
    pub fn load(&self) -> Result<Config> {
        let key = self.clone();
        Overrides {
            key,
            ..Overrides::default()
        }
        .load()
    }
}

/// What a kernel's command line says of keys: `kjump.encrypt=` and `kjump.key_file=` go before the
/// configuration, unless an option was given.
///
/// # Errors
///
/// [`Error::Usage`].
pub fn on_command_line(line: &str, config: Config) -> Result<Config> {
    let value = |key: &str| {
        let mut words = line.split_whitespace();
        words.find_map(|w| w.strip_prefix(key).map(str::to_string))
    };
    let mut args = KeyArgs::default();
    if let Some(name) = value("kjump.encrypt=") {
        args.encrypt = Some(Encrypt::parse(&name).map_err(Error::Usage)?);
    }
    args.key_file = value("kjump.key_file=").map(PathBuf::from);
    args.passphrase_fd = config.passphrase_fd;
    Ok(args.apply(config))
}

/// A key for a new image, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// The key.
    pub key: MasterKey,
    /// For the image's header. The nonce is random.
    pub encryption: Encryption,
}

/// The key for an image that is to be written, if it is to be encrypted. A passphrase is asked for
/// twice.
///
/// # Errors
///
/// [`Error::NoKey`]; [`Error::KdfMemory`]; [`Error::Aborted`].
pub fn for_a_new_image(config: &Config, verb: &'static str) -> Result<Option<NewKey>> {
    let random = |buf: &mut [u8]| random(buf).map_err(|e| Error::io("random numbers", e));
    let mut nonce = [0; 32];
    if config.is_encrypting() {
        core_dump::prevent();
    }
    let (key, source) = match config.encrypt {
        Encrypt::None => return Ok(None),
        Encrypt::KeyFile => (key_of_file(config)?, KeySource::File),
        Encrypt::Passphrase => {
            let mut salt = [0; 16];
            random(&mut salt)?;
            let passphrase = new_passphrase(config, verb)?;
            let source = KeySource::Passphrase {
                salt,
                memory: kdf::memory_for_new(config.kdf_memory)?,
                passes: config.kdf_passes,
                lanes: 1,
            };
            (kdf::derive(&passphrase, &source, &Scratch::Own)?, source)
        }
    };
    random(&mut nonce)?;
    let encryption = Encryption { source, nonce };
    Ok(Some(NewKey { key, encryption }))
}

fn new_passphrase(config: &Config, verb: &'static str) -> Result<Zeroizing<Vec<u8>>> {
    if let Some(fd) = config.passphrase_fd {
        return prompt::from_fd(fd);
    }
    for _ in 0..TRIES {
        let one = prompt::ask("Passphrase for the image: ", verb)?;
        let two = prompt::ask("The same once more: ", verb)?;
        if one == two {
            return Ok(one);
        }
        prompt::tell("They differ.")?;
    }
    Err(Error::NoKey("the two passphrases differ"))
}

fn key_of_file(config: &Config) -> Result<MasterKey> {
    match &config.key_file {
        Some(path) => keyfile::read(path),
        None => Err(Error::NoKey(
            "the image is encrypted by a key file, and none is named: --key-file FILE, `key_file` in \
             /etc/kjump.toml, or kjump.key_file= on the kernel's command line",
        )),
    }
}

/// How often a passphrase is asked for.
const TRIES: u32 = 3;

/// RAM that nobody uses, for a derivation that a window has no room for.
pub struct Spare<'a> {
    /// The module's device.
    pub device: &'a Device,
    /// The RAM.
    pub ram: Vec<Range>,
    /// Whether it was claimed.
    pub claimed: &'a Cell<bool>,
}

/// What opens an encrypted image.
pub struct Opener<'a> {
    /// What is configured.
    pub config: &'a Config,
    /// The key, from the kernel that jumped here.
    pub given: Option<&'a MasterKey>,
    /// Refuse an image that is not encrypted.
    pub demand: bool,
    /// Where a derivation may be done if this kernel's memory is too small.
    pub spare: Option<Spare<'a>>,
    /// For messages.
    pub verb: &'static str,
}

impl<'a> Opener<'a> {
    /// One that asks, and takes a plain image only where none is configured to be encrypted.
    pub fn new(config: &'a Config, verb: &'static str) -> Self {
        Self {
            config,
            given: None,
            demand: config.is_encrypting(),
            spare: None,
            verb,
        }
    }

    /// Unlocks `image`; gives its key if it has one.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: another key, altered, or plain where it must not be; [`Error::NoKey`];
    /// [`Error::KdfMemory`]; [`Error::Aborted`]. Nothing is changed, but RAM may be claimed.
    pub fn unlock<S: Source>(&self, image: &mut Image<S>, name: &str) -> Result<Option<MasterKey>> {
        let refused = |source| Error::Refused {
            target: name.into(),
            source,
        };
        let Some(encryption) = image.encryption().copied() else {
            return match self.demand {
                true => Err(refused(Refusal::Plain)),
                false => Ok(None),
            };
        };
        core_dump::prevent();
        let key = match (self.given, encryption.source) {
            (Some(key), _) => key.clone(),
            (None, KeySource::File) => key_of_file(self.config)?,
            (None, source @ KeySource::Passphrase { .. }) => {
                return self.by_passphrase(image, name, &source).map(Some);
            }
        };
        image.unlock(&key).map_err(refused)?;
        Ok(Some(key))
    }

    fn by_passphrase<S: Source>(
        &self,
        image: &mut Image<S>,
        name: &str,
        source: &KeySource,
    ) -> Result<MasterKey> {
        let refused = |source| Error::Refused {
            target: name.into(),
            source,
        };
        // What speaks against it is said before anybody types.
        let scratch = kdf::scratch(source, self.spare.as_ref())?;
        let mut tries = 0;
        loop {
            let passphrase = match self.config.passphrase_fd {
                Some(fd) => prompt::from_fd(fd)?,
                None => prompt::ask(&format!("Passphrase for {name}: "), self.verb)?,
            };
            let key = kdf::derive(&passphrase, source, &scratch)?;
            tries += 1;
            match image.unlock(&key) {
                Ok(()) => return Ok(key),
                Err(Refusal::WrongKey) if tries < TRIES && self.config.passphrase_fd.is_none() => {
                    prompt::tell("Wrong passphrase.")?;
                }
                Err(e) => return Err(refused(e)),
            }
        }
    }
}

/// Makes sure that an image's nonce is its own, wherever its writer's random numbers come from: a peer
/// that was loaded from a file has those of the moment when it was dumped, each time. From here on the
/// writer, who has the key from elsewhere, leaves no core dump.
pub fn freshen(encryption: &mut Encryption, handoff: &Handoff, uuid: &[u8; 16]) -> Result<()> {
    core_dump::prevent();
    let mut own = [0; 32];
    random(&mut own).map_err(|e| Error::io("random numbers", e))?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut hasher = blake3::Hasher::new();
    for part in [
        &encryption.nonce[..],
        &own,
        uuid,
        &handoff.load_uuid,
        &handoff.mailbox.entries.to_le_bytes(),
        &now.map_or(0, |d| d.as_nanos()).to_le_bytes(),
    ] {
        hasher.update(part);
    }
    encryption.nonce = hasher.finalize().into();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kjump_image::{Header, Options, StreamSource, StreamTarget, Writer};

    const START: u64 = 16 << 20;

    /// A pipe with these bytes in it, as a shell hands it on: it does not close when a program starts.
    pub fn inherited(bytes: &[u8]) -> std::io::PipeReader {
        use std::io::Write;
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(bytes).unwrap();
        rustix::io::fcntl_setfd(&reader, rustix::io::FdFlags::empty()).unwrap();
        reader
    }

    /// An image of a page, as a stream.
    fn image(encryption: Option<Encryption>, key: Option<&MasterKey>) -> Vec<u8> {
        let header = Header {
            uuid: [1; 16],
            pages: 1,
            jump_back_entry: START,
            ram: vec![Range {
                start: 0,
                end: START + 4096,
            }],
            encryption,
            ..Header::default()
        };
        let mut bytes = Vec::new();
        let options = Options {
            key,
            ..Options::default()
        };
        let target = StreamTarget::new(&mut bytes);
        let mut writer = Writer::begin(target, &header, &[], options).unwrap();
        writer.write(START >> 12, &[7; 4096]).unwrap();
        writer.finish().unwrap();
        bytes
    }

    /// The exit code of opening such an image, which reads to its end if it is 0.
    fn opened(opener: &Opener, bytes: &[u8]) -> u8 {
        let mut image = Image::inspect_only(StreamSource::new(bytes)).unwrap();
        match opener.unlock(&mut image, "x") {
            Ok(key) => {
                assert_eq!(key.is_some(), image.encryption().is_some());
                image.verify_all().unwrap();
                0
            }
            Err(e) => e.exit_code(),
        }
    }

    #[test]
    fn what_opens_what() {
        let none = Config::default();
        let wanted = |encrypt| Config {
            encrypt,
            ..Config::default()
        };
        let plain = image(None, None);
        assert_eq!(opened(&Opener::new(&none, "t"), &plain), 0);
        for encrypt in [Encrypt::Passphrase, Encrypt::KeyFile] {
            assert_eq!(opened(&Opener::new(&wanted(encrypt), "t"), &plain), 72);
        }
        // A peer was told so, whatever it is configured to.
        let demand = Opener {
            demand: true,
            ..Opener::new(&none, "t")
        };
        assert_eq!(opened(&demand, &plain), 72);

        let key = MasterKey::of_file(&[1; 32]);
        let other = MasterKey::of_file(&[2; 32]);
        let (source, nonce) = (KeySource::File, [3; 32]);
        let locked = image(Some(Encryption { source, nonce }), Some(&key));
        assert_eq!(opened(&Opener::new(&none, "t"), &locked), 71);
        for (given, code) in [(&key, 0), (&other, 70)] {
            let opener = Opener {
                given: Some(given),
                ..Opener::new(&none, "t")
            };
            assert_eq!(opened(&opener, &locked), code);
        }
        let path = std::env::temp_dir().join(format!("kjump-opener-{}", std::process::id()));
        for (byte, code) in [(1, 0), (2, 70)] {
            std::fs::write(&path, [byte; 32]).unwrap();
            let config = Config {
                key_file: Some(path.clone()),
                ..Config::default()
            };
            assert_eq!(opened(&Opener::new(&config, "t"), &locked), code);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            opened(&Opener::new(&wanted(Encrypt::KeyFile), "t"), &locked),
            71
        );
    }

    /// A key from a passphrase that is given by a file descriptor opens what it has locked, and no other.
    #[test]
    fn a_passphrase_through_and_through() {
        use std::os::fd::AsRawFd;
        let given = |passphrase: &str, f: &mut dyn FnMut(&Config)| {
            let reader = inherited(passphrase.as_bytes());
            f(&Config {
                encrypt: Encrypt::Passphrase,
                passphrase_fd: Some(reader.as_raw_fd()),
                kdf_memory: 1 << 20,
                kdf_passes: 1,
                ..Config::default()
            });
        };
        let mut bytes = Vec::new();
        given("horse\n", &mut |config| {
            let new = for_a_new_image(config, "t").unwrap().unwrap();
            bytes = image(Some(new.encryption), Some(&new.key));
        });
        for (passphrase, code) in [("horse", 0), ("horse\nx", 0), ("horses", 70), ("", 71)] {
            given(passphrase, &mut |config| {
                assert_eq!(opened(&Opener::new(config, "t"), &bytes), code);
            });
        }
    }

    /// Also where all random numbers are the same.
    #[test]
    fn a_nonce_is_not_used_twice() {
        let handoff = crate::device::blank_handoff();
        let fresh = |uuid| {
            let (source, nonce) = (KeySource::File, [0; 32]);
            let mut encryption = Encryption { source, nonce };
            freshen(&mut encryption, &handoff, &[uuid; 16]).unwrap();
            encryption.nonce
        };
        assert!(fresh(1) != fresh(1) && fresh(1) != fresh(2));
    }

    #[test]
    fn options_and_words_go_before_the_file() {
        let config = Config {
            encrypt: Encrypt::Passphrase,
            ..Config::default()
        };
        let apply = |args: KeyArgs| args.apply(config.clone());
        assert_eq!(apply(KeyArgs::default()).encrypt, Encrypt::Passphrase);
        let file = KeyArgs {
            key_file: Some("/k".into()),
            ..KeyArgs::default()
        };
        assert_eq!(apply(file).encrypt, Encrypt::KeyFile);
        let none = KeyArgs {
            encrypt: Some(Encrypt::None),
            ..KeyArgs::default()
        };
        assert_eq!(apply(none).encrypt, Encrypt::None);
        let fd = KeyArgs {
            passphrase_fd: Some(3),
            ..KeyArgs::default()
        };
        let plain = fd.apply(Config::default());
        assert_eq!(
            (plain.encrypt, plain.passphrase_fd),
            (Encrypt::Passphrase, Some(3))
        );

        let line = "ro kjump.encrypt=key-file kjump.key_file=/dev/vdc";
        let c = on_command_line(line, Config::default()).unwrap();
        assert_eq!(
            (c.encrypt, c.key_file),
            (Encrypt::KeyFile, Some("/dev/vdc".into()))
        );
        assert_eq!(on_command_line("ro", config.clone()).unwrap(), config);
        assert!(on_command_line("kjump.encrypt=rot13", config).is_err());
    }
}
