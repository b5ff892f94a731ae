//! What `/etc/kjump.toml` says about hibernation, and what options say instead.
//!
//! The file is read strictly: a misspelt key is an error with its line, not a setting that is
//! silently left out on the day it is needed.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use kjump_abi::DEFAULT_WINDOW_END;
use kjump_image::{Codec, KDF_MEMORY, KDF_PASSES, KDF_WORK};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::error::{Error, Result};
use crate::parse;
use crate::secret::{Encrypt, KeyArgs};

/// Where the configuration is unless `--config` says otherwise. It need not exist.
pub const PATH: &str = "/etc/kjump.toml";

/// How the machine ends once its memory is saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// ACPI S5, as `poweroff`.
    #[default]
    Poweroff,
    /// A restart: the image is resumed at once, or another system gets its turn.
    Reboot,
    /// ACPI S4.
    S4,
    /// Not at all: the image is given up and the machine goes on. For measuring and testing.
    None,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Poweroff, Self::Reboot, Self::S4, Self::None];

    /// Its name, as users and the request to a peer write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Poweroff => "poweroff",
            Self::Reboot => "reboot",
            Self::S4 => "s4",
            Self::None => "none",
        }
    }
}

/// Everything that can be configured.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the image goes: a target as `kjump save` takes it. There is no default: a guess would
    /// overwrite something.
    pub target: Option<String>,
    /// The peer's kernel.
    pub peer: PathBuf,
    /// The peer's initramfs; empty for a kernel that has its own built in.
    pub initrd: PathBuf,
    /// The peer's command line; see [`Config::command_line`].
    pub append: Option<String>,
    /// The peer's memory is RAM below this, bytes.
    #[serde(deserialize_with = "size")]
    pub window: u64,
    /// How pages are compressed.
    #[serde(deserialize_with = "codec")]
    pub compression: Codec,
    /// How the machine ends.
    #[serde(deserialize_with = "mode")]
    pub mode: Mode,
    /// Begin although the worst case does not fit the target.
    pub optimistic: bool,
    /// Save although there are filesystems whose changes nobody could tell.
    pub allow_unknown: bool,
    /// Drop what can be read again before memory is saved.
    pub drop_caches: bool,
    /// Where snapshots with names are: a directory, or a device with a filesystem.
    pub snapshots: String,
    /// How images are encrypted; then others are not taken.
    #[serde(deserialize_with = "encrypt")]
    pub encrypt: Encrypt,
    /// The key file.
    pub key_file: Option<PathBuf>,
    /// Memory that a passphrase's derivation takes, bytes.
    #[serde(deserialize_with = "size")]
    pub kdf_memory: u64,
    /// Passes over it.
    #[serde(deserialize_with = "passes")]
    pub kdf_passes: u32,
    /// Where to read the passphrase; an option only.
    #[serde(skip)]
    pub passphrase_fd: Option<i32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            target: None,
            peer: "/boot/kjump/bzImage".into(),
            initrd: "/boot/kjump/initramfs.cpio.gz".into(),
            append: None,
            window: DEFAULT_WINDOW_END,
            compression: Codec::default(),
            mode: Mode::default(),
            optimistic: false,
            allow_unknown: false,
            drop_caches: false,
            snapshots: "/var/lib/kjump".into(),
            encrypt: Encrypt::None,
            key_file: None,
            kdf_memory: 64 << 20,
            kdf_passes: 3,
            passphrase_fd: None,
        }
    }
}

/// Options that say something else than the file, for any command to take in.
#[derive(Args, Clone, Debug, Default)]
pub struct Overrides {
    /// Read this instead of /etc/kjump.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the image goes: /dev/…, UUID=…, PARTUUID=…, LABEL=…, or a file made by `kjump target`
    #[arg(long, value_name = "SPEC")]
    pub target: Option<String>,
    /// How the machine ends: poweroff, reboot, s4, or none (save, give the image up, come back)
    #[arg(long, value_name = "MODE", value_parser = parse_mode)]
    pub mode: Option<Mode>,
    /// How pages are compressed: lz4, zstd or none
    #[arg(long, value_name = "CODEC", value_parser = parse_codec)]
    pub compression: Option<Codec>,
    /// Begin although the worst case does not fit the target
    #[arg(long)]
    pub optimistic: bool,
    /// Save although there are filesystems whose changes nobody could tell
    #[arg(long)]
    pub allow_unknown: bool,
    /// Drop what can be read again before memory is saved: a smaller image, and more to read afterwards
    #[arg(long)]
    pub drop_caches: bool,
    /// The peer's kernel
    #[arg(long, value_name = "FILE")]
    pub peer: Option<PathBuf>,
    /// The peer's initramfs
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Keys.
    #[command(flatten)]
    pub key: KeyArgs,
}

impl Overrides {
    /// The configuration with these options in it. A file that was asked for must exist.
    pub fn load(&self) -> Result<Config> {
        let config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::load(Path::new(PATH))?,
        };
        Ok(self.apply(config))
    }

    fn apply(&self, file: Config) -> Config {
        let file = self.key.apply(file);
        Config {
            target: self.target.clone().or(file.target),
            peer: self.peer.clone().unwrap_or(file.peer),
            initrd: self.initrd.clone().unwrap_or(file.initrd),
            compression: self.compression.unwrap_or(file.compression),
            mode: self.mode.unwrap_or(file.mode),
            optimistic: self.optimistic || file.optimistic,
            allow_unknown: self.allow_unknown || file.allow_unknown,
            drop_caches: self.drop_caches || file.drop_caches,
            ..file
        }
    }
}

impl Config {
    /// Reads a file; one that is not there leaves everything at its default.
    pub fn load(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Self::default()),
            text => Self::parse(path, text),
        }
    }

    /// Reads a file, which must be there.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(path, fs::read_to_string(path))
    }

    fn parse(path: &Path, text: std::io::Result<String>) -> Result<Self> {
        let text = text.map_err(|e| Error::io(path.display().to_string(), e))?;
        Self::from_text(path, &text)
    }

    /// The configuration in a text; `path` is for messages.
    pub fn from_text(path: &Path, text: &str) -> Result<Self> {
        let wrong = |start: usize, why: String| Error::Config {
            path: path.into(),
            line: text.bytes().take(start).filter(|b| *b == b'\n').count() + 1,
            why,
        };
        let config: Self = toml::from_str(text).map_err(|e| {
            // The message may have lines of its own.
            let why: Vec<&str> = e.message().lines().collect();
            wrong(e.span().map_or(0, |s| s.start), why.join(" "))
        })?;
        match config.kdf_work() {
            ..=KDF_WORK => Ok(config),
            work => Err(wrong(of_kdf(text), too_much(work))),
        }
    }

    /// Whether images are encrypted, and others not taken.
    pub fn is_encrypting(&self) -> bool {
        self.encrypt != Encrypt::None
    }

    /// What a passphrase's derivation comes to, as an image's header counts it.
    fn kdf_work(&self) -> u64 {
        let memory = (self.kdf_memory >> 10).min(u64::from(*KDF_MEMORY.end()));
        memory * u64::from(self.kdf_passes)
    }

    /// The target, or what to do about not having one.
    pub fn target(&self) -> Result<&str> {
        self.target.as_deref().ok_or(Error::NoTarget)
    }

    /// The peer's initramfs, if it is to get one.
    pub fn initrd(&self) -> Option<&Path> {
        Some(self.initrd.as_path()).filter(|p| !p.as_os_str().is_empty())
    }

    /// The peer's command line: what was configured, or else the consoles of the kernel whose
    /// `/proc/cmdline` is `own`.
    pub fn command_line(&self, own: &str) -> String {
        let consoles = || {
            let words = own.split_whitespace().take_while(|w| *w != "--");
            let consoles: Vec<_> = words.filter(|w| w.starts_with("console=")).collect();
            consoles.join(" ")
        };
        self.append.clone().unwrap_or_else(consoles)
    }
}

/// A mode by its name.
pub fn parse_mode(name: &str) -> std::result::Result<Mode, String> {
    let mode = Mode::ALL.into_iter().find(|m| m.name() == name);
    mode.ok_or_else(|| format!("`{name}` is no mode; use poweroff, reboot, s4 or none"))
}

/// A compression by its name.
pub fn parse_codec(name: &str) -> std::result::Result<Codec, String> {
    Codec::from_name(name)
        .ok_or_else(|| format!("`{name}` is no compression; use lz4, zstd or none"))
}

/// A string of the file, read as an option's would be.
fn read<'de, D: Deserializer<'de>, T>(
    d: D,
    parse: impl Fn(&str) -> std::result::Result<T, String>,
) -> std::result::Result<T, D::Error> {
    parse(&String::deserialize(d)?).map_err(D::Error::custom)
}

fn size<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<u64, D::Error> {
    read(d, parse::size)
}

fn codec<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<Codec, D::Error> {
    read(d, parse_codec)
}

fn mode<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<Mode, D::Error> {
    read(d, parse_mode)
}

fn encrypt<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<Encrypt, D::Error> {
    read(d, Encrypt::parse)
}

fn passes<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<u32, D::Error> {
    let passes = u32::deserialize(d)?;
    match KDF_PASSES.contains(&passes) {
        true => Ok(passes),
        false => Err(D::Error::custom(format!(
            "{passes} passes; use 1 to {}",
            KDF_PASSES.end()
        ))),
    }
}

/// Where the text sets a part of the derivation last: one of the two is too large.
fn of_kdf(text: &str) -> usize {
    let mut at = 0;
    let starts = text.split_inclusive('\n').map(|line| {
        at += line.len();
        (at - line.len(), line.trim_start())
    });
    let set = starts.filter(|(_, line)| line.starts_with("kdf_"));
    set.last().map_or(0, |(start, _)| start)
}

fn too_much(work: u64) -> String {
    format!(
        "`kdf_memory` times `kdf_passes` is {} MiB, and no reader takes more than {}; set one lower",
        work >> 10,
        KDF_WORK >> 10
    )
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
