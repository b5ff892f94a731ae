//! `kjump_back_param`: what is known of a kernel that can be jumped back to, a fact a line, for
//! scripts to cut at the `=`. Of a file: a core, a peer's core, an image of `kjump save`. Without a
//! file, in a peer: of the kernel that it was entered from.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use kjump_abi::{Handoff, Range};
use kjump_core::{Core, Kind, Reader, Source};
use kjump_image::{Device as Contents, Image, Inspection, PAGE};

use crate::cmd::say;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::parse;

const HELP: &str = "\
Usage: kjump_back_param [FILE]
Prints what is known of a kernel that can be jumped back to, NAME=VALUE a line.

FILE is a core of a kernel's memory (dump.elf, /proc/vmcore, `kjump save --format elf`), of a peer's
(/proc/kimgcore), or an image of `kjump save`. Without it, in a peer: the kernel that it was entered
from.
";

/// Runs it.
pub fn run(arguments: &[String]) -> Result<u8> {
    let text = match arguments {
        [] => running()?,
        [one] if one == "-h" || one == "--help" => HELP.into(),
        [one] if !one.starts_with('-') => file(Path::new(one))?,
        [other, ..] => {
            return Err(Error::Usage(format!(
                "`{other}`: kjump_back_param takes a file, or nothing"
            )))
        }
    };
    say(text.trim_end())?;
    Ok(0)
}

/// Lines being written.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn text(&mut self, name: &str, value: &str) {
        self.0 += &format!("{name}={value}\n");
    }

    fn address(&mut self, name: &str, value: u64) {
        self.text(name, &format!("{value:#x}"));
    }

    fn fingerprint(&mut self, value: u64) {
        self.text("fingerprint", &format!("{value:#018x}"));
    }

    fn ram(&mut self, ranges: &[Range]) {
        for r in ranges {
            self.text("ram", &format!("{:#x}-{:#x}", r.start, r.end));
        }
    }

    fn handoff(&mut self, at: u64, h: &Handoff) {
        self.address("kexec_jump_back_entry", h.jump_back_entry);
        self.address("handoff", at);
        self.address("window_end", h.window_end);
        if h.own.end != 0 {
            let own = format!("{:#x}-{:#x}", h.own.start, h.own.end);
            self.text("own_window", &own);
        }
        self.fingerprint(h.fingerprint);
        self.text("release", &parse::text(&h.release));
        let ranges = h.ram.get(..h.ram_count as usize);
        self.ram(ranges.unwrap_or_default());
    }
}

/// The kernel that this one was entered from.
fn running() -> Result<String> {
    let device = Device::open_as_root()?;
    let failed = |e| Error::from_errno("kjump_back_param", e);
    let handoff = device.handoff().map_err(failed)?;
    let status = device.status().map_err(failed)?;
    let mut lines = Lines::default();
    lines.text("kind", "running");
    lines.handoff(status.handoff, &handoff);
    lines.text("jumps", &handoff.mailbox.entries.to_string());
    Ok(lines.0)
}

fn file(path: &Path) -> Result<String> {
    let name = path.display().to_string();
    let io = |e| Error::io(name.clone(), e);
    let mut contents = File::open(path).and_then(Contents::new).map_err(io)?;
    let mut start = [0; 4];
    // Of no size, as a file of /proc may say, is not without contents.
    let read = contents.file().read_at(&mut start, 0).map_err(io)?;
    if read == 4 && start == *b"\x7fELF" {
        let core = match contents.length() {
            0 => core(Unsized(contents.file())),
            _ => core(&mut contents),
        };
        return core.map_err(|source| Error::Core { file: name, source });
    }
    let refused = |source| Error::Refused {
        target: name.clone(),
        source,
    };
    let image = Image::inspect_only(contents).map_err(refused)?;
    Ok(saved(&image.inspect()))
}

/// A file that does not say how large it is.
struct Unsized<'a>(&'a File);

impl Source for Unsized<'_> {
    fn size(&self) -> Option<u64> {
        None
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
}

fn core(mut source: impl Source) -> std::result::Result<String, kjump_core::Refusal> {
    let core = Core::read(&mut source)?;
    let mut lines = Lines::default();
    match &core.kind {
        Kind::Core(note) => {
            lines.text("kind", "core");
            let mut reader = Reader::new(source, PAGE)?;
            let (at, handoff) = core.handoff(&mut reader, note.jump_back_entry)?;
            lines.handoff(at, &handoff);
        }
        Kind::Peer(note, label) => {
            lines.text("kind", "peer");
            lines.address("entry", note.entry);
            lines.address("window_end", note.window_end);
            lines.fingerprint(note.fingerprint);
            lines.text("jumps", &note.jumps.to_string());
            for line in label.lines() {
                lines.text("label", &parse::text(line.as_bytes()));
            }
        }
        Kind::Plain => {
            lines.text("kind", "plain");
            if let Some(release) = core.vmcoreinfo("OSRELEASE") {
                lines.text("release", &parse::text(release.as_bytes()));
            }
        }
    }
    if let Some(image) = &core.image {
        lines.text("uuid", &kjump_image::uuid(&image.header.uuid));
    }
    for s in &core.segments {
        let end = s.paddr + s.memsz;
        lines.text(
            "segment",
            &format!("{:#x}-{end:#x} at {:#x}", s.paddr, s.offset),
        );
    }
    Ok(lines.0)
}

fn saved(image: &Inspection) -> String {
    let h = &image.header;
    let mut lines = Lines::default();
    lines.text("kind", "image");
    lines.address("kexec_jump_back_entry", h.jump_back_entry);
    lines.address("window_end", h.window_end);
    lines.fingerprint(h.fingerprint);
    lines.text("release", &parse::text(h.release.as_bytes()));
    lines.ram(&h.ram);
    lines.text("uuid", &kjump_image::uuid(&h.uuid));
    lines.text("state", &image.state.to_string());
    lines.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use kjump_abi::PeerNote;
    use kjump_core::{Notes, Segment, Writer};
    use std::fs;

    /// A core with two pages at 1 MiB.
    fn written(kind: &Kind) -> Vec<u8> {
        let notes = Notes {
            prstatus: &[],
            vmcoreinfo: b"OSRELEASE=7.3.4-x\nPAGESIZE=4096",
            kind,
            image: None,
        };
        let mut segments = [Segment {
            paddr: 1 << 20,
            vaddr: 0xc010_0000,
            offset: 0,
            filesz: 8192,
            memsz: 8192,
        }];
        let mut bytes = Vec::new();
        let mut writer = Writer::begin(&mut bytes, &notes, &mut segments).unwrap();
        writer.write(&[0; 8192]).unwrap();
        writer.finish().unwrap();
        bytes
    }

    fn told(name: &str, bytes: &[u8]) -> Result<String> {
        let path = std::env::temp_dir().join(format!("kjump-{}-param-{name}", std::process::id()));
        fs::write(&path, bytes).unwrap();
        let told = file(&path);
        fs::remove_file(path).unwrap();
        told
    }

    #[test]
    fn a_peer() {
        let note = PeerNote {
            version: 1,
            size: size_of::<PeerNote>() as u32,
            entry: 0x10_0040,
            window_end: 16 << 20,
            fingerprint: 0x12,
            jumps: 3,
            ..PeerNote::default()
        };
        let bytes = written(&Kind::Peer(note, "release=7.3.4\nbuild=\x1b[2J".into()));
        let told = told("peer", &bytes).unwrap();
        for line in [
            "kind=peer",
            "entry=0x100040",
            "window_end=0x1000000",
            "fingerprint=0x0000000000000012",
            "jumps=3",
            "label=release=7.3.4",
            "label=build= [2J",
            "segment=0x100000-0x102000 at 0x1000",
        ] {
            assert!(told.lines().any(|l| l == line), "{line} is not in\n{told}");
        }
    }

    #[test]
    fn a_plain_core() {
        let told = told("plain", &written(&Kind::Plain)).unwrap();
        assert!(told.starts_with("kind=plain\nrelease=7.3.4-x\n"), "{told}");
    }

    #[test]
    fn a_running_kernel() {
        let mut handoff = crate::device::blank_handoff();
        handoff.jump_back_entry = 0x1f0_1000;
        handoff.release[..3].copy_from_slice(b"7.3");
        handoff.ram_count = 1;
        handoff.ram[0].end = 4096;
        let mut lines = Lines::default();
        lines.handoff(0x1f0_0000, &handoff);
        assert!(lines.0.contains("kexec_jump_back_entry=0x1f01000\n"));
        assert!(lines.0.contains("release=7.3\nram=0x0-0x1000\n"));
        // What says that it has more than there is room for is not believed.
        handoff.ram_count = u32::MAX;
        Lines::default().handoff(0, &handoff);
    }

    #[test]
    fn what_is_none_of_them() {
        let code = |name, bytes: &[u8]| told(name, bytes).unwrap_err().exit_code();
        assert_eq!(code("text", b"hello"), 50);
        let core = written(&Kind::Plain);
        assert_eq!(code("short", &core[..4097]), 51);
        assert_eq!(code("kernel", &crate::loader::elf::tests::elf(0, &[])), 50);
        let usage = |line: &[&str]| {
            let words: Vec<String> = line.iter().map(|w| (*w).to_string()).collect();
            run(&words).unwrap_err().exit_code()
        };
        assert_eq!((usage(&["-x"]), usage(&["a", "b"])), (2, 2));
    }
}
