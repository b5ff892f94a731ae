//! `kjump save --format elf`: an ELF core of the kernel that this one was entered from.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use kjump_abi::Handoff;
use kjump_core::layout::GIVEN_UP;
use kjump_image::{hex, Source, StreamTarget, Target};
use kjump_target::{Access, Spec, System};

use super::save::SaveArgs;
use super::say;
use crate::abort::Abort;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hibernation::core_map::CoreMap;
use crate::hibernation::core_mark::Marked;
use crate::hibernation::elf_headers::Headers;
use crate::hibernation::guards::Watch;
use crate::hibernation::old::OldMemory;
use crate::hibernation::request::Request;
use crate::hibernation::save::new_uuid;
use crate::hibernation::save_elf::{NewFile, SaveElf, Written};
use crate::private;
use crate::progress::{watch, Reporter};
use crate::secret::Encrypt;

/// Cores that were made here and can no longer be resumed from once the other kernel goes on.
const MADE: &str = "/run/kjump-cores";
/// Where the blocks of such a file are, with a hash of its name behind: its filesystem may be unmounted
/// by then.
const MADE_BLOCKS: &str = "/run/kjump-core-blocks-";

/// Saves.
pub fn run(args: &SaveArgs) -> Result<u8> {
    let device = Device::open_as_root()?;
    let handoff = device.handoff().map_err(|e| Error::from_errno("save", e))?;
    if handoff.own.end != 0 {
        return Err(Error::OwnWindow { verb: "save" });
    }
    let status = device.status().map_err(|e| Error::from_errno("save", e))?;
    let mut request = Request::left(&handoff.request, "save")?;
    if args.key.encrypt.is_some_and(|e| e != Encrypt::None) || args.key.key_file.is_some() {
        return Err(Error::Usage(
            "a core is never encrypted: leave --format elf out".into(),
        ));
    }
    if request.encrypted && args.key.encrypt.is_none() {
        return Err(Error::MustEncrypt { verb: "save" });
    }
    request.image = new_uuid().map_err(|e| Error::io("a UUID for the core", e))?;
    let headers = headers(&device, &handoff);
    let system = System::default();
    let list = request.watched.as_deref();
    let unknown = request.allow_unknown || args.allow_unknown || args.no_guards;
    let mounted = Watch::find(&system, list, unknown)?;
    let save = SaveElf {
        old: &device,
        handoff: &handoff,
        handoff_at: status.handoff,
        request: &request,
        headers: &headers,
        name: &args.target,
        watched: (!args.no_guards).then_some(&mounted),
        free: args.all,
        image: None,
    };
    let spec = Spec::parse(&args.target)?;
    let stream = spec == Spec::Stream;
    let mut reporter = Reporter::new("saving", args.json, stream);
    let mut abort = Abort::watch();
    let mut progress = watch(&mut reporter, &mut abort);
    let written = match &spec {
        Spec::Stream => {
            remember("-")?;
            let target = StreamTarget::new(io::stdout().lock());
            save.run(target, &mut progress)?
        }
        Spec::File(path) if !is_device(path) => to_file(&save, &mounted, path, &mut progress)?,
        _ => {
            let target = match spec.offset() {
                Some(_) => system.open(&spec, Access::Write)?,
                None => system.open_in_a(&spec, args.force)?,
            };
            remember(&args.target)?;
            save.run(target, &mut progress)?
        }
    };
    drop(progress);
    drop(reporter);
    let line = format!(
        "saved {} pages as {} segments in {} bytes",
        written.pages, written.segments, written.bytes
    );
    if stream {
        log::info!("{line}");
    } else if !args.json {
        say(line)?;
    }
    Ok(0)
}

fn is_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::metadata(path).is_ok_and(|m| m.file_type().is_block_device())
}

/// What A's module says for tools. Without it the core can be resumed from all the same.
pub fn headers(device: &dyn OldMemory, handoff: &Handoff) -> Headers {
    let without =
        "the core has no registers and no VMCOREINFO, and tools do not find addresses in it";
    let headers = Headers::read(device, handoff).unwrap_or_else(|e| {
        log::warn!("core headers at {:#x}: {e}", handoff.elfcorehdr);
        Headers::default()
    });
    if headers.prstatus.is_empty() {
        log::warn!("{without}");
    }
    headers
}

/// Writes a file: under its name there is a whole core, or what was there before.
fn to_file(
    save: &SaveElf,
    mounted: &Watch,
    path: &Path,
    progress: crate::hibernation::save_elf::OnProgress,
) -> Result<Written> {
    let io = |path: &Path| {
        let what = path.display().to_string();
        move |e| Error::io(&what, e)
    };
    if let Some(name) = mounted.mounted_here(&System::default())? {
        return Err(Error::Usage(format!(
            "{name} is mounted here and by the kernel to be saved, which knows nothing of it; \
             unmount it, and save to another disk"
        )));
    }
    let absolute = std::path::absolute(path).map_err(io(path))?;
    remember(&absolute.display().to_string())?;
    write_file(save, path, progress)
}

/// The same, whoever is to know of it.
pub fn write_file(
    save: &SaveElf,
    path: &Path,
    progress: crate::hibernation::save_elf::OnProgress,
) -> Result<Written> {
    let io = |path: &Path| {
        let what = path.display().to_string();
        move |e| Error::io(&what, e)
    };
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let file = private::create(&part).map_err(io(&part))?;
    let absolute = std::path::absolute(path).map_err(io(path))?;
    let written = save.run(NewFile(file), progress).and_then(|written| {
        fs::rename(&part, path).map_err(io(path))?;
        let directory = absolute.parent().unwrap_or(Path::new("/"));
        let synced = File::open(directory).and_then(|d| d.sync_all());
        synced.map_err(io(directory))?;
        remember_blocks(&absolute, save.handoff.jump_back_entry)?;
        Ok(written)
    });
    if written.is_err() {
        // It may have been renamed already; the error says what counts.
        let _ = fs::remove_file(&part);
    }
    written
}

/// Before the core is begun: whatever stops this program, `kjump back` must know of it.
fn remember(target: &str) -> Result<()> {
    let made = fs::read_to_string(MADE).unwrap_or_default();
    fs::write(MADE, made + target + "\n").map_err(|e| Error::io(MADE, e))
}

/// Where a core's blocks are. A file that is on no disk goes with this kernel.
fn remember_blocks(path: &Path, entry: u64) -> Result<()> {
    match CoreMap::of(path, entry, true) {
        Ok(map) => {
            let to = blocks_of(&path.display().to_string());
            fs::write(&to, map.text()).map_err(|e| Error::io(to, e))
        }
        Err(e) => {
            log::info!("{e}");
            Ok(())
        }
    }
}

fn blocks_of(target: &str) -> String {
    let hash = blake3::hash(target.as_bytes());
    format!("{MADE_BLOCKS}{}", hex(&hash.as_bytes()[..8]))
}

/// The other kernel is about to go on: its swap areas are put back, and the cores that were made
/// here can only be looked at from now on.
///
/// # Errors
///
/// Of the first core that cannot be reached: the other kernel must not go on then, as nothing else
/// keeps the core from being resumed later, over disks that have changed.
pub fn give_up_made() -> Result<()> {
    if !Path::new(MADE).exists() {
        return Ok(());
    }
    let made = fs::read_to_string(MADE).map_err(|e| Error::io(MADE, e))?;
    for target in made.lines() {
        match give_up(target) {
            Ok(true) => log::info!("{target}: can only be looked at from now on"),
            Ok(false) => {}
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                give_up_blocks(target)?;
            }
            Err(e) => return Err(e),
        }
    }
    let device = Device::open_as_root()?;
    let handoff = device.handoff().map_err(|e| Error::from_errno("back", e))?;
    let request = Request::parse(&handoff.request).unwrap_or_default();
    let system = System::default();
    Watch::find(&system, request.watched.as_deref(), true)?.show_swap(&system)?;
    fs::remove_file(MADE).map_err(|e| Error::io(MADE, e))
}

/// Makes a core one that cannot be resumed from; says whether it was one that could.
fn give_up(target: &str) -> Result<bool> {
    let spec = Spec::parse(target)?;
    match spec {
        Spec::Stream => Ok(false),
        Spec::File(path) => {
            let io = |e| Error::io(target, e);
            let file = File::options().read(true).write(true).open(path);
            take_back(
                kjump_image::Device::new(file.map_err(io)?).map_err(io)?,
                target,
            )
        }
        _ => take_back(System::default().open(&spec, Access::Write)?, target),
    }
}

/// The same for a file whose name is not there any more: it was deleted, or its filesystem is not
/// mounted.
fn give_up_blocks(target: &str) -> Result<()> {
    let Ok(text) = fs::read_to_string(blocks_of(target)) else {
        // The save came to no end, or was to no disk.
        return Ok(());
    };
    let map = CoreMap::parse(&text).ok_or_else(|| {
        let at = blocks_of(target);
        Error::Usage(format!(
            "{at}: no list of a core's blocks; mount the core's filesystem"
        ))
    })?;
    if let Some(blocks) = map.open_if_there(Access::Write)? {
        take_back(blocks, target)?;
    }
    Ok(())
}

fn take_back(target: impl Source + Target, name: &str) -> Result<bool> {
    Ok(Marked::mark(target, name, GIVEN_UP)?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kjump_core::{Core, CoreNote, Kind, Notes, Refusal, Segment, Writer};

    #[test]
    fn a_core_is_given_up() {
        let kind = Kind::Core(CoreNote {
            version: 1,
            size: 40,
            jump_back_entry: 32 << 20,
            handoff: 33 << 20,
            window_end: 16 << 20,
            fingerprint: 1,
        });
        let notes = Notes {
            prstatus: &[],
            vmcoreinfo: b"PAGESIZE=4096\n",
            kind: &kind,
            image: None,
        };
        let mut segments = [Segment {
            paddr: 32 << 20,
            filesz: 4096,
            memsz: 4096,
            ..Segment::default()
        }];
        let mut writer = Writer::begin(Vec::new(), &notes, &mut segments).unwrap();
        writer.write(&[1; 4096]).unwrap();
        let path = std::env::temp_dir().join(format!("kjump-core-{}", std::process::id()));
        fs::write(&path, writer.finish().unwrap()).unwrap();
        let name = path.display().to_string();
        let given_up = (give_up(&name), give_up(&name));
        let core = Core::read(&mut kjump_image::Device::new(File::open(&path).unwrap()).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(matches!(given_up, (Ok(true), Ok(false))), "{given_up:?}");
        assert!(matches!(core, Err(Refusal::GivenUp)));
        assert!(give_up(&name).is_err());
        assert!(matches!(give_up("-"), Ok(false)));
    }
}
