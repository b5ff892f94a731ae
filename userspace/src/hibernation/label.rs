//! What a load says of itself, for whoever finds it in a file later: on which hardware it was made, and
//! what it is. Lines of `key=value`; keys that are not known are passed over.

use std::fs;
use std::path::Path;

use kjump_abi::{crc32, ABI_VERSION, LABEL_SIZE};

use super::machine;
use crate::loader::memmap;
use crate::parse;

/// A label, as it is written and read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// `uname -r` of the peer, as its file has it.
    pub release: Option<String>,
    /// Identity of the machine, see [`machine::fingerprint`].
    pub fingerprint: Option<u64>,
    /// Identity of its PCI devices, see [`pci`].
    pub pci: Option<u32>,
    /// The command that loaded it.
    pub made_by: String,
}

impl Label {
    /// This machine's.
    pub fn of_this_machine(release: Option<String>) -> Self {
        Self {
            release,
            fingerprint: memmap::read().ok().map(|map| machine::fingerprint(&map)),
            pci: pci(Path::new("/sys/bus/pci/devices")),
            made_by: format!("kjump {}, ABI {ABI_VERSION}", env!("CARGO_PKG_VERSION")),
        }
    }

    /// As text, shorter than a label's room.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                text += &format!("{key}={value}\n");
            }
        };
        line("fingerprint", self.fingerprint.map(|n| format!("{n:#x}")));
        line("pci", self.pci.map(|n| format!("{n:#x}")));
        let clean = |text: &str| parse::text(text.as_bytes()).chars().take(64).collect();
        line("release", self.release.as_deref().map(clean));
        line("made-by", Some(clean(&self.made_by)));
        debug_assert!(text.len() < LABEL_SIZE);
        text
    }

    /// Reads a label; what makes no sense is as if it were not there.
    pub fn parse(text: &str) -> Self {
        let mut label = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let number = || parse::number(value).ok();
            match key {
                "fingerprint" => label.fingerprint = number(),
                "pci" => label.pci = number().and_then(|n| u32::try_from(n).ok()),
                "release" => label.release = Some(value.into()),
                "made-by" => label.made_by = value.into(),
                _ => {}
            }
        }
        label
    }

    /// What of this label's hardware differs from `here`: what it is, in the label, here.
    pub fn differs(&self, here: &Self) -> Option<(&'static str, String, String)> {
        let hex = |n: Option<u64>| n.map_or("unknown".into(), |n| format!("{n:#x}"));
        if self.fingerprint != here.fingerprint {
            let what = "the machine's memory map and CPU";
            return Some((what, hex(self.fingerprint), hex(here.fingerprint)));
        }
        let hex = |n: Option<u32>| n.map_or("none".into(), |n| format!("{n:#x}"));
        (self.pci != here.pci).then(|| {
            let what = "the set of PCI devices and their addresses";
            (what, hex(self.pci), hex(here.pci))
        })
    }
}

/// CRC-32 over the PCI devices, by address: IDs, class, revision and BARs. A peer remembers where its
/// devices are, and puts their BARs back.
fn pci(devices: &Path) -> Option<u32> {
    const FILES: [&str; 6] = [
        "vendor",
        "device",
        "subsystem_vendor",
        "subsystem_device",
        "class",
        "revision",
    ];
    /// Lines of `resource` that are the BARs; what follows is the kernel's business.
    const BARS: usize = 6;
    let mut paths: Vec<_> = fs::read_dir(devices).ok()?.flatten().collect();
    paths.sort_unstable_by_key(fs::DirEntry::file_name);
    let mut crc = 0;
    for entry in paths {
        crc = crc32(crc, entry.file_name().as_encoded_bytes());
        for file in FILES {
            let text = fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            crc = crc32(crc, text.trim().as_bytes());
        }
        let bars = fs::read_to_string(entry.path().join("resource")).unwrap_or_default();
        for line in bars.lines().take(BARS) {
            crc = crc32(crc, line.as_bytes());
        }
    }
    Some(crc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn label() -> Label {
        Label {
            release: Some("7.3.4-kjump-lean".into()),
            fingerprint: Some(u64::MAX),
            pci: Some(u32::MAX),
            made_by: "kjump 1".into(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Label::parse(&label().text()), label());
        assert_eq!(Label::parse("novelty=1\nx"), Label::default());
        let long = Label {
            release: Some("r\n".repeat(2000)),
            made_by: "m".repeat(2000),
            ..label()
        };
        assert!(long.text().len() < LABEL_SIZE);
        assert_eq!(Label::parse(&long.text()).pci, Some(u32::MAX));
    }

    #[test]
    fn other_hardware_differs() {
        assert_eq!(label().differs(&label()), None);
        let other = Label {
            release: None,
            ..label()
        };
        assert_eq!(label().differs(&other), None);
        let map = Label {
            fingerprint: Some(1),
            ..label()
        };
        assert!(map.differs(&label()).unwrap().0.contains("memory map"));
        let devices = Label {
            pci: None,
            ..label()
        };
        let (what, file, here) = devices.differs(&label()).unwrap();
        assert!(what.contains("PCI") && file == "none" && here == "0xffffffff");
    }

    #[test]
    fn pci_devices_by_address() {
        let folder = std::env::temp_dir().join(format!("kjump-pci-{}", std::process::id()));
        let add = |name: &str, device: &str, bar: &str| {
            fs::create_dir_all(folder.join(name)).unwrap();
            fs::write(folder.join(name).join("device"), device).unwrap();
            let rom = "0x1 0x2 0x3\n";
            let bars = format!("{bar}\n").repeat(BARS) + rom;
            fs::write(folder.join(name).join("resource"), bars).unwrap();
        };
        const BARS: usize = 6;
        assert_eq!(pci(&folder), None);
        add("0000:00:02.0", "0x1001", "0xc000 0xc07f 0x40101");
        add("0000:00:01.0", "0x7000", "0x0 0x0 0x0");
        let before = pci(&folder);
        add("0000:00:02.0", "0x1001\n", "0xc000 0xc07f 0x40101");
        assert_eq!(pci(&folder), before);
        add("0000:00:02.0", "0x1001", "0xc080 0xc0ff 0x40101");
        let moved = pci(&folder);
        assert_ne!(moved, before);
        add("0000:00:02.0", "0x1000", "0xc080 0xc0ff 0x40101");
        assert_ne!(pci(&folder), moved);
        fs::remove_dir_all(&folder).unwrap();
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(t in "[a-z=\n0-9x]{0,80}", any in ".{0,80}") {
            Label::parse(&t).text();
            Label::parse(&any).text();
        }
    }
}
