//! What can be on a device, and which one it is.

use std::fmt;

/// What is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ext2, ext3 or ext4.
    Ext,
    /// FAT with 12, 16 or 32 bits.
    Vfat,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
    /// Swap, as Linux has it.
    Swap,
}

impl Kind {
    /// All, in the order in which they are looked for: those last that leave most of an older
    /// one's signature in place.
    pub const ALL: [Self; 5] = [Self::Btrfs, Self::Xfs, Self::Ext, Self::Swap, Self::Vfat];

    /// As a guard's `kind` has it, 1 to 5.
    pub fn number(self) -> u32 {
        match self {
            Self::Ext => 1,
            Self::Vfat => 2,
            Self::Xfs => 3,
            Self::Btrfs => 4,
            Self::Swap => 5,
        }
    }

    /// What has that number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.number() == number)
    }

    /// As in a request and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext => "ext",
            Self::Vfat => "vfat",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Swap => "swap",
        }
    }

    /// What has that name. Names of mounted filesystems, as /proc/mounts has them, are known too.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "ext" | "ext2" | "ext3" | "ext4" => Self::Ext,
            "vfat" | "msdos" => Self::Vfat,
            "xfs" => Self::Xfs,
            "btrfs" => Self::Btrfs,
            "swap" => Self::Swap,
            _ => return None,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A filesystem or swap area that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// Its UUID, in the order of its bytes on paper; zeros where it has none. A vfat has a volume
    /// number instead, which is the first four.
    pub uuid: [u8; 16],
    /// Its label, without NULs and spaces at the end; may be empty.
    pub label: String,
}

impl Found {
    /// The UUID as blkid and /dev/disk/by-uuid have it.
    pub fn uuid_text(&self) -> String {
        if self.kind == Kind::Vfat {
            let [a, b, c, d, ..] = self.uuid;
            return format!("{a:02X}{b:02X}-{c:02X}{d:02X}");
        }
        let hex: String = self.uuid.iter().map(|b| format!("{b:02x}")).collect();
        let parts = [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ];
        parts.join("-")
    }

    /// Whether `text` is that UUID, however it is written: `UUID=` of a command line.
    pub fn has_uuid(&self, text: &str) -> bool {
        let plain = |t: &str| -> Vec<u8> {
            let bytes = t.bytes().filter(|b| *b != b'-');
            bytes.map(|b| b.to_ascii_lowercase()).collect()
        };
        plain(text) == plain(&self.uuid_text())
    }
}
