//! A place for an image, in words.

use std::fmt;
use std::path::PathBuf;

use crate::block::BLOCK64;
use crate::error::Error;

/// Where an image is or shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// `-`: standard input or output.
    Stream,
    /// A block device; with `offset`, a file on it, whose block map starts at that byte.
    Device {
        /// Which.
        device: DeviceSpec,
        /// A multiple of 4096, not 0.
        offset: Option<u64>,
    },
    /// A file, by its path in what is mounted.
    File(PathBuf),
}

/// Which block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceSpec {
    /// By its node, or a link to it.
    Path(PathBuf),
    /// By its numbers.
    Number {
        /// The driver's.
        major: u32,
        /// The device's.
        minor: u32,
    },
    /// By the UUID of the filesystem on it, or of the image.
    Uuid(String),
    /// By the label of the filesystem on it.
    Label(String),
    /// By the UUID in the partition table; with MBR the disk's signature and the number.
    PartUuid(String),
}

impl Spec {
    /// `/dev/NAME`, `UUID=X`, `LABEL=X`, `PARTUUID=X`, `MAJ:MIN` (decimal), each also with
    /// `:OFFSET`; the path of a file; `-`. Numbers that can be no offset belong to the name: links
    /// in /dev/disk/by-path end in them.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |why| {
            let text = text.into();
            Err(Error::BadSpec { text, why })
        };
        if text == "-" {
            return Ok(Self::Stream);
        }
        if text.is_empty() || text.contains('\0') {
            return bad("there is no name in it");
        }
        let (name, offset) = match text.rsplit_once(':') {
            Some((name, number)) => match decimal(number) {
                Some(offset) if is_offset(offset) && !name.is_empty() => (name, Some(offset)),
                _ => (text, None),
            },
            None => (text, None),
        };
        // The minor number of 8:4096 is one.
        let numbers = |text: &str| {
            let (major, minor) = text.split_once(':')?;
            let part = |text| u32::try_from(decimal(text)?).ok();
            Some((part(major)?, part(minor)?))
        };
        if let Some((major, minor)) = numbers(text) {
            let device = DeviceSpec::Number { major, minor };
            return Ok(Self::Device {
                device,
                offset: None,
            });
        }
        let keyed = |key: &str| name.strip_prefix(key).map(str::to_string);
        let device = if let Some((major, minor)) = numbers(name) {
            DeviceSpec::Number { major, minor }
        } else if let Some(uuid) = keyed("UUID=") {
            DeviceSpec::Uuid(uuid)
        } else if let Some(label) = keyed("LABEL=") {
            DeviceSpec::Label(label)
        } else if let Some(uuid) = keyed("PARTUUID=") {
            DeviceSpec::PartUuid(uuid)
        } else if name.starts_with("/dev/") {
            DeviceSpec::Path(name.into())
        } else {
            return Ok(Self::File(text.into()));
        };
        if matches!(&device, DeviceSpec::Uuid(t) | DeviceSpec::Label(t) | DeviceSpec::PartUuid(t) if t.is_empty())
        {
            return bad("nothing stands behind the =");
        }
        Ok(Self::Device { device, offset })
    }

    /// The same device with a block map at `offset` (`kjump.resume_offset=`).
    pub fn with_offset(self, offset: u64) -> Result<Self, Error> {
        match self {
            Self::Device { device, .. } if is_offset(offset) => Ok(Self::Device {
                device,
                offset: Some(offset),
            }),
            other => Err(Error::BadSpec {
                text: format!("{other}:{offset}"),
                why: "an offset is a multiple of 4096 on a device, not 0",
            }),
        }
    }

    /// Where the block map is, for a file named by its device.
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::Device { offset, .. } => *offset,
            _ => None,
        }
    }
}

/// Digits only: `from_str` takes a sign.
fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// No file's first block is a device's first.
fn is_offset(n: u64) -> bool {
    n != 0 && n.is_multiple_of(BLOCK64)
}

impl std::str::FromStr for Spec {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream => f.write_str("-"),
            Self::File(path) => path.display().fmt(f),
            Self::Device { device, offset } => {
                device.fmt(f)?;
                offset.map_or(Ok(()), |o| write!(f, ":{o}"))
            }
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Number { major, minor } => write!(f, "{major}:{minor}"),
            Self::Uuid(text) => write!(f, "UUID={text}"),
            Self::Label(text) => write!(f, "LABEL={text}"),
            Self::PartUuid(text) => write!(f, "PARTUUID={text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn device(text: &str) -> (DeviceSpec, Option<u64>) {
        match Spec::parse(text) {
            Ok(Spec::Device { device, offset }) => (device, offset),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn places() {
        let path = |p: &str| DeviceSpec::Path(p.into());
        let number = |major, minor| DeviceSpec::Number { major, minor };
        let uuid = |u: &str| DeviceSpec::Uuid(u.into());
        for (text, what, offset) in [
            ("/dev/sda2", path("/dev/sda2"), None),
            ("/dev/sda2:4096", path("/dev/sda2"), Some(4096)),
            ("8:2", number(8, 2), None),
            ("8:4096", number(8, 4096), None),
            ("8:2:1048576", number(8, 2), Some(1 << 20)),
            ("UUID=ab-cd", uuid("ab-cd"), None),
            ("UUID=ab-cd:8192", uuid("ab-cd"), Some(8192)),
            ("LABEL=a:b", DeviceSpec::Label("a:b".into()), None),
            ("PARTUUID=1-02", DeviceSpec::PartUuid("1-02".into()), None),
            (
                "/dev/disk/by-path/s-0:0:0:0",
                path("/dev/disk/by-path/s-0:0:0:0"),
                None,
            ),
        ] {
            assert_eq!(device(text), (what, offset), "{text}");
            assert_eq!(Spec::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Spec::parse("-").unwrap(), Spec::Stream);
        for file in ["/data/kjump.img", "x", "/data/a:4096", "8:x"] {
            assert_eq!(Spec::parse(file).unwrap(), Spec::File(file.into()));
        }
        for bad in ["", "UUID=", "LABEL=:4096", "a\0b"] {
            assert!(
                matches!(Spec::parse(bad), Err(Error::BadSpec { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn offsets_are_put_on_devices() {
        let spec = || Spec::parse("LABEL=x").unwrap();
        assert_eq!(spec().with_offset(4096).unwrap().offset(), Some(4096));
        assert!(spec().with_offset(0).is_err() && spec().with_offset(512).is_err());
        assert!(Spec::Stream.with_offset(4096).is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(text in "(/dev/|UUID=|LABEL=|)[a-z0-9:/]{1,12}(:4096|)") {
            if let Ok(spec) = Spec::parse(&text) {
                prop_assert_eq!(Spec::parse(&spec.to_string()).unwrap(), spec);
            }
        }
    }
}
