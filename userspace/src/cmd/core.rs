//! Restoring an ELF core of a saved kernel: `kexec -l dump.elf`, `krestore`, `kjump restore dump.elf`.
//!
//! A kernel that lives in the window writes the pages to their places itself. One that uses all of
//! RAM cannot: it loads the configured peer, which gets the list of the file's blocks in its
//! initramfs and restores from those.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use kjump_abi::ARCH_I386;
use kjump_core::layout::USED;
use kjump_image::{Machine, Refusal, Source, Target};
use kjump_target::{Access, Reader, System};
use rustix::fs::{memfd_create, MemfdFlags};

use super::restore::machine_here;
use crate::cli;
use crate::config::{Config, Overrides};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hibernation::core_map::CoreMap;
use crate::hibernation::core_mark::Marked;
use crate::hibernation::guards::{self, Watch};
use crate::hibernation::machine;
use crate::hibernation::peer::{self, Answer};
use crate::hibernation::restore::{enter, with_swap, Failed};
use crate::hibernation::resumable::Resumable;
use crate::loader::memmap;
use crate::parse;
use crate::progress::Reporter;
use crate::secret::KeyArgs;
use crate::swap;

/// The core that was put in place here: whether its filesystems are compared, and its path.
const RESTORED: &str = "/run/kjump-core";

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// Its pages are in place: [`enter_core`].
    Here,
    /// A peer is loaded that will restore it: a jump.
    Peer,
}

/// How to load a core.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where its kernel is entered, if its note is not to be asked.
    pub entry: Option<u64>,
    /// Compare filesystems with what the core says of them.
    pub guard: bool,
    /// What is loaded gives way, as with kexec-tools.
    pub replace: bool,
    /// Print progress as JSON.
    pub json: bool,
    /// Only what is encrypted is to be restored: a core never is.
    pub demand: bool,
}

/// Whether this kernel is configured so.
///
/// # Errors
///
/// [`Error::Config`].
pub fn demanded() -> Result<bool> {
    Ok(KeyArgs::default().load()?.is_encrypting())
}

/// A core where only encrypted images are taken: whoever can write to a disk could bring his own.
///
/// # Errors
///
/// [`Refusal::Plain`], if `demand`.
pub fn refuse_plain(demand: bool, name: &str) -> Result<()> {
    let target = name.into();
    let source = Refusal::Plain;
    match demand {
        true => Err(Error::Refused { target, source }),
        false => Ok(()),
    }
}

/// Whether a file begins as an ELF does.
pub fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut f| f.read_exact(&mut magic));
    read.is_ok() && magic == *b"\x7fELF"
}

/// Loads a core, so that it can be entered: by `kexec -e`, say.
///
/// # Errors
///
/// [`Error::Core`] for what is no core, not whole or foreign, [`Error::Stale`], and those of a claim
/// or of loading a peer. Nothing is claimed or loaded then.
pub fn load(path: &Path, options: Options) -> Result<Loaded> {
    let device = Device::open_as_root()?;
    let handoff = device.handoff().ok();
    let name = path.display().to_string();
    refuse_plain(options.demand, &name)?;
    let mut core = Resumable::open(Reader::open(path)?, &name, options.entry)?;
    log::info!(
        "{name}: {} pages to be restored, entered at {:#x}",
        core.page_count(),
        core.entry()
    );
    if machine::own_end()? > core.window_end() {
        through_peer(&device, path, &core, options)?;
        return Ok(Loaded::Peer);
    }
    let here = machine_here(handoff.as_deref())?;
    core.check(&here)?;
    if options.guard {
        core.check_guards()?;
    }
    if options.replace {
        crate::kexec::make_room(&device)?;
    }
    remember(path, options.guard)?;
    let mut reporter = Reporter::new("restoring", options.json, false);
    let filled = core.fill(&device, &here, true, &mut reporter);
    let filled = filled.and_then(|()| {
        let committed = device.commit(core.entry(), 0);
        committed.map_err(|e| Failed::Begun(Error::from_errno("restore", e), true))
    });
    match filled {
        Ok(()) => Ok(Loaded::Here),
        Err(Failed::Untouched(e)) => Err(e),
        Err(Failed::Begun(e, _)) => {
            // What was written is of no use to anybody.
            if let Err(e) = device.unload() {
                log::info!("what was claimed stays claimed: {e}");
            }
            Err(e)
        }
    }
}

/// Enters the core that [`load`] has put in place, marked as used; returns only if that failed, and
/// the core is as it was then.
pub fn enter_core(device: &Device) -> Error {
    let Ok(restored) = fs::read_to_string(RESTORED) else {
        // Another program has claimed and written; it knows what of.
        return enter(device, "restore", 0);
    };
    let (guard, path) = restored.split_once('\n').unwrap_or_default();
    match marked(Path::new(path), guard == "guard") {
        Ok((marked, swap)) => enter_marked(device, 0, marked, swap.as_ref()),
        Err(e) => e,
    }
}

/// Marks a core as used, if nothing has been written since it was put in place.
fn marked(path: &Path, guard: bool) -> Result<(Option<Marked<Reader>>, Option<Watch>)> {
    let name = path.display().to_string();
    let system = System::default();
    let mut blocks = match system.list_blocks(path) {
        Ok(listed) => system.open_listed(&listed, Access::Write)?,
        Err(e) if guard => return Err(e.into()),
        Err(e) => {
            log::warn!("{e}: the core is not marked as used; never resume from it again");
            return Ok((None, None));
        }
    };
    let recorded = Resumable::guards_of(&mut blocks, &name)?;
    let swap = match guard {
        true => Some(guards::check(&system, &recorded, &name)?),
        false => {
            // Whatever else has changed, its swap areas are its own.
            for (device, shown) in swap::show_areas(&swap::areas(&recorded)) {
                if let Err(e) = shown {
                    log::warn!("{device}: {e}");
                }
            }
            None
        }
    };
    Ok((Marked::mark(blocks, &name, USED)?, swap))
}

/// Enters what was put in place at `entry` (0: where the module was told) of a core with a mark; takes
/// everything back if that fails.
pub fn enter_marked<T: Source + Target>(
    device: &Device,
    entry: u64,
    marked: Option<Marked<T>>,
    swap: Option<&Watch>,
) -> Error {
    if marked.is_none() {
        log::warn!("the core has no note that can be marked; never resume from it again");
    }
    let go = || enter(device, "restore", entry);
    let error = match swap {
        Some(swap) => with_swap(swap, go),
        None => go(),
    };
    match marked.map(Marked::withdraw) {
        Some(Err(e)) => e,
        _ => error,
    }
}

/// Loads and enters, as `krestore` and `kjump restore` do: returns only if that failed.
///
/// # Errors
///
/// Those of [`load`], and of the way down.
pub fn restore(path: &Path, options: Options) -> Result<u8> {
    match load(path, options)? {
        Loaded::Here => Err(enter_core(&Device::open()?)),
        Loaded::Peer => {
            let map = memmap::read()?;
            let command = parse::command("resume").unwrap_or_default();
            let (way, mut request) = (cli::Way::default(), machine::introduce(&map));
            match peer::ask(
                &Device::open()?,
                "restore",
                command,
                &mut request,
                (&way, cli::Trust::default()),
            )? {
                Answer::Failed(code, why) => Err(Error::NotResumed { code, why }),
                Answer::Done | Answer::Resumed(_) => Err(Error::NotResumed {
                    code: 1,
                    why: "the peer came back without restoring".into(),
                }),
            }
        }
    }
}

/// Loads the peer of the configuration, which is to restore.
fn through_peer<S: Source>(
    device: &Device,
    path: &Path,
    core: &Resumable<S>,
    options: Options,
) -> Result<()> {
    let mut config = Overrides::default().load()?;
    beside(path, &mut config);
    let map = memmap::read()?;
    let window = config.window.min(core.window_end());
    core.check(&Machine {
        arch: ARCH_I386,
        fingerprint: Some(machine::fingerprint(&map)),
        // Whoever reads the core ends here: it need not be the same kernel.
        build_id: None,
        ram: machine::ram_above(&map, 0),
        window_end: window,
    })?;
    if options.guard {
        core.check_guards()?;
    }
    let blocks = CoreMap::of(path, core.entry(), options.guard)?;
    if options.replace {
        crate::kexec::make_room(device)?;
    }
    let initrd = with_map(&config, &blocks)?;
    let own = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    super::load::load(
        device,
        &cli::Load {
            kernel: config.peer.clone(),
            initrd: Some(initrd.path()),
            append: config.command_line(&own),
            window,
            own_window: None,
            one_way: false,
            below: None,
        },
    )?;
    // The peer sees a window only, and cannot tell which machine this is.
    let request = machine::introduce(&map).text();
    device
        .request(&request)
        .map_err(|e| Error::from_errno("load", e))
}

/// Where no peer is installed, the one that the dump was made with may lie beside it: the seeds name
/// none.
fn beside(dump: &Path, config: &mut Config) {
    let (kernel, initrd) = (
        dump.with_file_name("bzImage"),
        dump.with_file_name("rootfs.gz"),
    );
    if !config.peer.exists() && kernel.is_file() && initrd.is_file() {
        log::info!("peer: {} and {}", kernel.display(), initrd.display());
        (config.peer, config.initrd) = (kernel, initrd);
    }
}

/// A file without a name: gone when it is closed.
struct Nameless(File);

impl Nameless {
    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// The configured initramfs with the map behind it.
fn with_map(config: &Config, blocks: &CoreMap) -> Result<Nameless> {
    let failed = |e: io::Error| Error::io("an initramfs with the core's blocks", e);
    let file =
        memfd_create("kjump-initramfs", MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    let mut file = File::from(file);
    let mut size = 0;
    if let Some(initrd) = config.initrd() {
        let named = |e| Error::io(initrd.display().to_string(), e);
        let mut initrd = File::open(initrd).map_err(named)?;
        size = io::copy(&mut initrd, &mut file).map_err(named)?;
    }
    // The kernel looks for the next archive at a multiple of four.
    let pad = (size.next_multiple_of(4) - size) as usize;
    file.write_all(&[0; 4][..pad])
        .and_then(|()| file.write_all(&blocks.archive()?))
        .map_err(failed)?;
    Ok(Nameless(file))
}

fn remember(path: &Path, guard: bool) -> Result<()> {
    let path = std::path::absolute(path).map_err(|e| Error::io(path.display().to_string(), e))?;
    let guard = if guard { "guard" } else { "no guard" };
    let text = format!("{guard}\n{}", path.display());
    fs::write(RESTORED, text).map_err(|e| Error::io(RESTORED, e))
}
