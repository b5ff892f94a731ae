//! `kjump hibernate`: in A. Checks, then a jump to the peer, which saves and ends the machine.

use kjump_guard::Kind;
use kjump_image::{discard, Image, Refusal, State};
use kjump_target::{Access, Opened, Spec, System};

use super::say;
use crate::abort::hold_signals;
use crate::cli::{Trust, Way};
use crate::config::{Config, Mode, Overrides};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hibernation::peer::{self, Answer};
use crate::hibernation::request::{Request, Watched};
use crate::hibernation::{machine, save, watch};
use crate::json::Json;
use crate::loader::memmap;
use crate::parse;
use crate::secret::{self, NewKey};
use crate::swap;

const VERB: &str = "hibernate";

/// Arguments of `hibernate`.
#[derive(Debug, clap::Args)]
pub struct HibernateArgs {
    /// What to do.
    #[command(flatten)]
    pub overrides: Overrides,
    /// How to go down.
    #[command(flatten)]
    pub way: Way,
    /// Whether the peer is trusted.
    #[command(flatten)]
    pub trust: Trust,
    /// Write over what else the target holds
    #[arg(long)]
    pub force: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    pub json: bool,
}

/// Hibernates; returns when the machine has been resumed, or goes on as it could not be saved.
pub fn run(args: &HibernateArgs) -> Result<u8> {
    let result = hibernate(args);
    if args.json {
        let (outcome, reason, code) = match &result {
            Ok(line) => ("resumed", line.clone(), 0),
            Err(e) => ("failed", e.to_string(), e.exit_code()),
        };
        say(Json::object([
            ("outcome", Json::str(outcome)),
            ("reason", Json::str(reason)),
            ("exit_code", Json::Int(code.into())),
        ])
        .line())?;
        return result.map(|_| 0);
    }
    result.and_then(|line| say(line).map(|()| 0))
}

fn hibernate(args: &HibernateArgs) -> Result<String> {
    let config = args.overrides.load()?;
    let spec = Spec::parse(config.target()?)?;
    if spec == Spec::Stream {
        return Err(kjump_target::Error::Stream.into());
    }
    let device = Device::open_as_root()?;
    peer::usable(&device, VERB)?;
    args.way.check_watchdogs(VERB)?;
    let system = System::default();
    // What speaks against it is to be said before a peer is loaded.
    watch::collect(&system, config.allow_unknown)?;
    let target = system.open_in_a(&spec, args.force)?;
    let key = secret::for_a_new_image(&config, VERB)?;
    peer::ready(&device, &config, VERB)?;
    if config.drop_caches {
        drop_caches()?;
    }

    let watched = watch::collect(&system, config.allow_unknown)?;
    let mut request = request(&config, &spec, &target, watched, key)?;
    let swap: Vec<[u8; 16]> = swap_areas(&request);
    // From here on the target holds no image that is worth anything, and must hold none afterwards.
    hold_signals();
    show_older_swap(&system, &spec);
    announce(target, request.image)?;
    let command = parse::command(VERB).unwrap_or_default();
    let answer = peer::ask(
        &device,
        VERB,
        command,
        &mut request,
        (&args.way, args.trust),
    );
    // Whatever happened over there: this kernel goes on, so no image of it may be left, and its
    // swap areas are its own again.
    let image = give_up_image(&system, &spec);
    for (device, shown) in swap::show_areas(&swap) {
        if let Err(e) = shown {
            log::warn!("{device}: {e}; make the swap area anew with mkswap after a swapoff");
        }
    }
    // Where the jump itself failed nobody wrote anything after the announcement.
    match answer? {
        Answer::Resumed(how) => {
            if let Err(e) = image {
                // It carries the mark that it was used, which is as good.
                log::warn!("{e}");
            }
            Ok(format!("resumed: {how}"))
        }
        Answer::Done if config.mode == Mode::None => {
            image?;
            Ok("saved and come back; the image is given up, as this kernel goes on".into())
        }
        Answer::Done => Err(not_saved(
            1,
            "the peer came back without saving".into(),
            image,
        )),
        Answer::Failed(code, why) => Err(not_saved(code, why, image)),
    }
}

/// Page cache, directory entries and inodes that can be read again are given up: what is written back first
/// can be.
fn drop_caches() -> Result<()> {
    const PATH: &str = "/proc/sys/vm/drop_caches";
    rustix::fs::sync();
    // Its 1 and 2 (Documentation/admin-guide/sysctl/vm.rst).
    std::fs::write(PATH, "3").map_err(|e| Error::io(PATH, e))
}

/// Why there is no image; or, worse, that there may be one.
fn not_saved(code: u8, why: String, image: Result<()>) -> Error {
    let why = match image {
        Ok(()) => why,
        Err(e) => format!("{why}; and an image may be left, discard it: {e}"),
    };
    Error::NotSaved { code, why }
}

/// An older image is about to be overwritten, and with it the list of swap areas that it hides.
pub(super) fn show_older_swap(system: &System, spec: &Spec) {
    let older = system.open(spec, Access::Read).ok();
    let Some(Ok(image)) = older.map(Image::inspect_only) else {
        return;
    };
    for (device, shown) in swap::show_areas(&swap::areas(image.guards())) {
        if let Err(e) = shown {
            log::warn!("{device}: {e}");
        }
    }
}

/// What the peer is told about a save to `target`.
pub(super) fn request(
    config: &Config,
    spec: &Spec,
    target: &Opened,
    watched: Vec<Watched>,
    key: Option<NewKey>,
) -> Result<Request> {
    let map = memmap::read()?;
    let (encrypted, encryption) = (key.is_some(), key.as_ref().map(|k| k.encryption));
    let image = save::new_uuid().map_err(|e| Error::io("a UUID for the image", e))?;
    Ok(Request {
        image,
        target: locator(spec, target)?,
        codec: config.compression,
        mode: config.mode,
        optimistic: config.optimistic,
        allow_unknown: config.allow_unknown,
        watched: Some(watched),
        encrypted,
        key: key.map(|k| k.key),
        encryption,
        ..machine::introduce(&map)
    })
}

/// The target as a kernel without filesystems finds it.
fn locator(spec: &Spec, target: &Opened) -> Result<String> {
    if let (true, Spec::File(path)) = (target.has_map(), spec) {
        let place = System::default().locate(path)?;
        return Ok(format!(
            "{}:{}",
            place.device.path().display(),
            place.offset
        ));
    }
    let device = target.device().ok_or(Error::NoTarget)?;
    Ok(device.path().display().to_string())
}

fn swap_areas(request: &Request) -> Vec<[u8; 16]> {
    let watched = request.watched.iter().flatten();
    let swap = watched.filter(|w| w.kind == Kind::Swap);
    swap.map(|w| w.uuid).collect()
}

/// Makes an older image invalid and says which one is to come: by that the peer knows the target.
pub(super) fn announce(mut target: Opened, image: [u8; 16]) -> Result<()> {
    Ok(target.prepare(image)?)
}

/// Gives up an image that is complete.
fn give_up_image(system: &System, spec: &Spec) -> Result<()> {
    let opened = system.open_in_a(spec, true)?;
    match Image::inspect_only(opened) {
        Ok(image) if !matches!(image.state(), State::Discarded { .. }) => {
            let seal = *image.seal();
            discard(&mut image.into_source(), &seal).map_err(|source| Error::Save {
                target: spec.to_string(),
                source,
            })
        }
        Err(source @ (Refusal::Io { .. } | Refusal::NoMemory(_))) => Err(Error::Refused {
            target: spec.to_string(),
            source,
        }),
        // What is not complete is never resumed.
        _ => Ok(()),
    }
}
