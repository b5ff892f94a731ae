//! Peers as files: what is loaded for the window, the memory of a peer that has booted included, is
//! `/proc/kimgcore`. Loaded again, on the same hardware, it is entered where it was left.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use kjump_core::{Core, Kind, Refusal, Segment};
use kjump_image::Device as Contents;
use rustix::fs::{fadvise, Advice};

use super::load::{commit_error, prepare_error, send};
use super::say;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hibernation::label::Label;
use crate::private;

/// Where the module shows what is loaded.
const KIMGCORE: &str = "/proc/kimgcore";
/// Bytes of a piece, whole pages: a peer is loaded when memory may be full.
const PIECE: u64 = 1 << 20;

/// Arguments of `peer`.
#[derive(Debug, clap::Args)]
pub struct PeerArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PeerCommand,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum PeerCommand {
    /// Write what is loaded, a booted peer's memory included, to a file for `kjump load --peer`
    Dump {
        /// The file; an older one is replaced when all is written
        file: PathBuf,
    },
}

/// Does it.
pub fn run(args: &PeerArgs) -> Result<u8> {
    match &args.command {
        PeerCommand::Dump { file } => dump(file),
    }
}

fn dump(file: &Path) -> Result<u8> {
    let mut from = File::open(KIMGCORE).map_err(not_readable)?;
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let failed = |e| Error::io(new.display().to_string(), e);
    let mut write = || {
        // What a peer has in its memory is nobody else's business.
        let mut to = private::create(&new).map_err(failed)?;
        let bytes = io::copy(&mut from, &mut to).map_err(|e| match e.raw_os_error() {
            // From the one end or the other; what is said of the module is told apart.
            Some(n) if n == rustix::io::Errno::NODATA.raw_os_error() => nothing_loaded(e),
            _ => Error::io(format!("{KIMGCORE} to {}", new.display()), e),
        })?;
        to.sync_all().map_err(failed)?;
        fs::rename(&new, file).map_err(|e| Error::io(file.display().to_string(), e))?;
        Ok(bytes)
    };
    let written: Result<u64> = write();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    let kib = written? >> 10;
    say(format_args!("{}: {kib} KiB", file.display()))?;
    Ok(0)
}

/// Why the file cannot be opened.
fn not_readable(e: io::Error) -> Error {
    let own = Device::open().is_ok_and(|d| d.status().is_ok_and(|s| s.own.end != 0));
    match own && e.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) {
        true => Error::OwnWindow { verb: "peer dump" },
        false => nothing_loaded(e),
    }
}

/// The file is not there while nothing is loaded, or is without contents.
fn nothing_loaded(e: io::Error) -> Error {
    let verb = "peer dump";
    let nothing = e.kind() == io::ErrorKind::NotFound
        || e.raw_os_error() == Some(rustix::io::Errno::NODATA.raw_os_error());
    match nothing {
        true if Path::new(kjump_abi::DEVICE).exists() => Error::NothingLoaded { verb },
        true => Error::NoModule,
        false => Error::io(KIMGCORE, e),
    }
}

/// Whether the file is a peer's core: by its first bytes and its notes.
pub fn is_peer(path: &Path) -> bool {
    let core = File::open(path)
        .and_then(Contents::new)
        .map(|mut file| Core::read(&mut file));
    matches!(
        core,
        Ok(Ok(Core {
            kind: Kind::Peer(..),
            ..
        }))
    )
}

/// Loads a peer from a file, checked before anything is asked of the module. `make_room` is called
/// after that: for what is loaded already.
///
/// # Errors
///
/// [`Error::Core`] and [`Error::NoPeer`] for the file; those of a load.
pub fn load_file(
    device: &Device,
    path: &Path,
    make_room: impl FnOnce(&Device) -> Result<()>,
) -> Result<()> {
    let name = || path.display().to_string();
    let refused = |source| Error::Core {
        file: name(),
        source,
    };
    let no_peer = |why| Error::NoPeer {
        file: path.into(),
        why,
    };
    let file = File::open(path).and_then(Contents::new);
    let mut file = file.map_err(|e| Error::io(name(), e))?;
    let core = Core::read(&mut file).map_err(refused)?;
    let Kind::Peer(note, label) = &core.kind else {
        return Err(no_peer("it is a core, but of no peer"));
    };
    // Only a kernel that is yet to boot is given boot_params.
    if note.jumps == 0 && note.boot_params != 0 {
        let why = "the peer has not run yet, and its command line is for the machine's last boot";
        return Err(no_peer(why));
    }
    let label = Label::parse(label);
    let here = Label::of_this_machine(label.release.clone());
    if let Some((what, file, here)) = label.differs(&here) {
        return Err(refused(Refusal::Foreign { what, file, here }));
    }

    core.check_sum(&mut file).map_err(refused)?;

    make_room(device)?;
    let window_end = note.window_end;
    device
        .prepare(0, window_end)
        .map_err(|e| prepare_error(e, window_end))?;
    tell(device, &here);
    let put = |data: &[u8], mem, memsz| send(device, data, mem, memsz, Some(window_end));
    for segment in &core.segments {
        pieces(file.file(), segment, put).map_err(|e| match e {
            Failed::Read(e) => Error::io(name(), e),
            Failed::Send(e) => e,
        })?;
    }
    // What the kernel keeps of the file is as much as the peer, and would be saved with all else.
    if let Err(e) = fadvise(file.file(), 0, None, Advice::DontNeed) {
        log::info!("{}: its pages stay in the cache: {e}", name());
    }
    device
        .commit(note.entry, note.boot_params)
        .map_err(|e| commit_error(e, note.entry))
}

/// Says what is being loaded. A load without a label is as good, only no file of it is ever taken.
pub fn tell(device: &Device, label: &Label) {
    if let Err(e) = device.label(&label.text()) {
        log::info!("no label: {e}");
    }
}

enum Failed {
    Read(io::Error),
    Send(Error),
}

/// Hands a segment on, piece by piece.
fn pieces(
    file: &File,
    segment: &Segment,
    put: impl Fn(&[u8], u64, u64) -> Result<()>,
) -> std::result::Result<(), Failed> {
    let mut data = vec![0; PIECE.min(segment.filesz) as usize];
    let mut done = 0;
    while done < segment.memsz {
        let mem = segment.paddr + done;
        let have = (segment.filesz.saturating_sub(done)).min(PIECE) as usize;
        let data = &mut data[..have];
        file.read_exact_at(data, segment.offset + done)
            .map_err(Failed::Read)?;
        // The last piece with contents has the zeros behind it.
        let rest = segment.memsz - done;
        let memsz = if done + PIECE < segment.filesz {
            PIECE
        } else {
            rest
        };
        put(data, mem, memsz).map_err(Failed::Send)?;
        done += memsz;
    }
    Ok(())
}

/// `uname -r` of the kernel in a file, as far as it says.
pub fn release_of(path: &Path) -> Option<String> {
    use crate::loader::bzimage;
    let mut head = Vec::new();
    let file = File::open(path).ok()?;
    file.take(bzimage::SETUP as u64)
        .read_to_end(&mut head)
        .ok()?;
    bzimage::version(&head).map(|(release, _)| release)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn segments_go_in_pieces() {
        let path = std::env::temp_dir().join(format!("kjump-peer-{}", std::process::id()));
        fs::write(&path, vec![7; PIECE as usize + 8192]).unwrap();
        let file = File::open(&path).unwrap();
        let sent = |filesz, memsz| {
            let sent = RefCell::new(Vec::new());
            let segment = Segment {
                paddr: 0x10_0000,
                offset: 4096,
                filesz,
                memsz,
                ..Default::default()
            };
            let put = |data: &[u8], mem, memsz| {
                assert!(data.iter().all(|b| *b == 7));
                sent.borrow_mut().push((data.len() as u64, mem, memsz));
                Ok(())
            };
            let ended = pieces(&file, &segment, put).is_ok();
            ended.then(|| sent.into_inner())
        };
        let one = |filesz, memsz| Some(vec![(filesz, 0x10_0000, memsz)]);
        assert_eq!(sent(4096, 4096), one(4096, 4096));
        assert_eq!(sent(4096, 3 * PIECE), one(4096, 3 * PIECE));
        assert_eq!(sent(0, 8192), one(0, 8192));
        assert_eq!(sent(PIECE, PIECE), one(PIECE, PIECE));
        let two = vec![(PIECE, 0x10_0000, PIECE), (4096, 0x10_0000 + PIECE, 8192)];
        assert_eq!(sent(PIECE + 4096, PIECE + 8192), Some(two));
        // The file has become shorter.
        assert_eq!(sent(PIECE + 8192, PIECE + 8192), None);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_is_no_peer() {
        assert!(!is_peer(Path::new("/nonexistent")) && !is_peer(Path::new("/proc/version")));
        let not_found = nothing_loaded(io::ErrorKind::NotFound.into());
        assert!([4, 6].contains(&not_found.exit_code()));
        let other = nothing_loaded(io::ErrorKind::PermissionDenied.into());
        assert_eq!(other.exit_code(), 1);
    }
}
