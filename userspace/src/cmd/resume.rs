//! `kjump resume`: in a freshly booted normal kernel, before it has mounted anything. An image that
//! memory holds beside this kernel it restores itself; for a larger one that is right as far as can
//! be seen it jumps to a peer, which restores. It returns if there is none, or none that may be used,
//! and the boot goes on.

use std::cell::Cell;
use std::fs;

use kjump_abi as abi;
use kjump_image::{Image, Machine, Refusal, State};
use kjump_target::{Access, Opened, Spec, System};

use super::say;
use crate::cli::{Trust, Way};
use crate::config::{Config, Overrides};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hibernation::direct::{self, Stayed};
use crate::hibernation::peer::{self, Answer};
use crate::hibernation::request::Request;
use crate::hibernation::restore::{open_checked, Checked, Restore};
use crate::hibernation::{self, machine, snapshot};
use crate::json::Json;
use crate::loader::memmap;
use crate::parse;
use crate::progress::Reporter;
use crate::secret::{self, KeyArgs, Opener};
use crate::swap;

const VERB: &str = "resume";

/// Arguments of `resume`.
#[derive(Debug, clap::Args)]
pub struct ResumeArgs {
    /// Where the image is [default: what kjump.resume= on the kernel's command line says, or
    /// `target` in the configuration]
    pub source: Option<String>,
    /// Configuration.
    #[command(flatten)]
    pub overrides: Overrides,
    /// How to go down.
    #[command(flatten)]
    pub way: Way,
    /// Give the image up instead
    #[arg(long)]
    pub discard: bool,
    /// Try an image again that could not be read to its end before
    #[arg(long)]
    pub retry: bool,
    /// Do not compare filesystems with what the image says of them
    #[arg(long)]
    pub no_guards: bool,
    /// By a peer, even if memory holds the image beside this kernel
    #[arg(long, conflicts_with_all = ["discard", "snapshot"])]
    pub through_peer: bool,
    /// By the kernel's own /dev/snapshot: without module and peer, but memory must hold the image
    /// beside this kernel
    #[arg(long, conflicts_with = "discard")]
    pub snapshot: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    pub json: bool,
}

/// Resumes; returns only if nothing was resumed.
pub fn run(args: &ResumeArgs) -> Result<u8> {
    let error = match resume(args) {
        Ok(line) => {
            say(line)?;
            return Ok(0);
        }
        Err(e) => e,
    };
    if args.json {
        say(Json::object([
            ("outcome", Json::str("refused")),
            ("reason", Json::str(error.to_string())),
            ("exit_code", Json::Int(error.exit_code().into())),
        ])
        .line())?;
    }
    Err(error)
}

fn resume(args: &ResumeArgs) -> Result<String> {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let config = with_words(&args.overrides, &line)?;
    let source = match &args.source {
        Some(source) => source.clone(),
        None => match source_of(&line)? {
            Some(source) => source,
            None => config.target()?.into(),
        },
    };
    let spec = Spec::parse(&source)?;
    if args.discard {
        super::image::give_up_by_name(&source)?;
        return Ok(format!("{source}: the image is given up"));
    }
    if forbidden(&line) {
        return Ok("noresume on the command line: no image is looked for".into());
    }
    if args.snapshot {
        return Err(by_snapshot(args, &config, &source, &spec)?);
    }
    let device = Device::open_as_root()?;
    args.way.check_watchdogs(VERB)?;
    let status = peer::usable(&device, VERB)?;
    let (checked, mut request) = look(args, &config, &device, &source, &spec)?;
    // A peer that somebody has loaded is to be used. And a file may be on what cannot be written here: a peer
    // finds the disk that it is on.
    let free = [abi::STATE_EMPTY, abi::STATE_GONE].contains(&status.state);
    let alone = free && !args.through_peer && matches!(spec, Spec::Device { .. });
    if alone {
        let mut reporter = Reporter::new("restoring", args.json, false);
        let target = || open(&spec, Access::Write);
        match direct::restore(&device, checked, &source, &args.way, &mut reporter, target) {
            Stayed::Failed(e) => return Err(e),
            Stayed::NoRoom(key) => request.key = key,
        }
        log::info!("memory does not hold the image beside this kernel: a peer restores it");
    } else {
        let Checked { key, .. } = checked;
        request.key = key;
    }
    peer::ready(&device, &config, VERB)?;
    let command = parse::command(VERB).unwrap_or_default();
    match peer::ask(
        &device,
        VERB,
        command,
        &mut request,
        (&args.way, Trust::default()),
    )? {
        Answer::Failed(code, why) => Err(Error::NotResumed { code, why }),
        Answer::Done | Answer::Resumed(_) => Err(Error::NotResumed {
            code: 1,
            why: "the peer came back without resuming".into(),
        }),
    }
}

/// The configuration, with what options and the command line of the kernel say. Options go first.
fn with_words(overrides: &Overrides, line: &str) -> Result<Config> {
    let file = Overrides {
        key: KeyArgs::default(),
        ..overrides.clone()
    };
    let config = secret::on_command_line(line, file.load()?)?;
    Ok(overrides.key.apply(config))
}

/// Whether the command line forbids to look for an image.
pub fn forbidden(line: &str) -> bool {
    line.split_whitespace()
        .any(|w| w == "noresume" || w == "kjump.noresume")
}

/// `kjump.resume=` and `kjump.resume_offset=`, or the seeds' `khdev=`.
pub fn source_of(line: &str) -> Result<Option<String>> {
    let value = |key: &str| {
        let mut words = line.split_whitespace();
        words.find_map(|w| w.strip_prefix(key).map(str::to_string))
    };
    let Some(source) = value("kjump.resume=").or_else(|| value("khdev=")) else {
        return Ok(None);
    };
    let Some(offset) = value("kjump.resume_offset=") else {
        return Ok(Some(source));
    };
    let offset = parse::number(&offset).map_err(Error::Usage)?;
    Ok(Some(Spec::parse(&source)?.with_offset(offset)?.to_string()))
}

/// Opens the target, waiting for its disk.
pub fn open(spec: &Spec, access: Access) -> Result<Opened> {
    let system = System::default();
    hibernation::once_there(|| system.open(spec, access))
}

/// Resumes by the kernel's own means; returns only with an error.
fn by_snapshot(args: &ResumeArgs, config: &Config, source: &str, spec: &Spec) -> Result<Error> {
    let map = memmap::read()?;
    // This kernel has all of memory, and need not be the one that was saved.
    let machine = Machine {
        arch: abi::ARCH_I386,
        fingerprint: Some(machine::fingerprint(&map)),
        build_id: None,
        ram: machine::ram_above(&map, 0),
        window_end: 0,
    };
    let opened = open(spec, Access::Write)?;
    let (guard, opener) = (!args.no_guards, Opener::new(config, VERB));
    let checked = open_checked(opened, &machine, source, guard, args.retry, &opener);
    let checked = checked.inspect_err(|e| show_swap_of_the_dead(e, spec))?;
    let mut reporter = Reporter::new("restoring", args.json, false);
    Ok(snapshot::restore(checked, source, &mut reporter))
}

/// Looks at the image with the eyes of a peer, so that most refusals need no jump; gives it, and what
/// a peer is to be asked.
fn look(
    args: &ResumeArgs,
    config: &Config,
    device: &Device,
    source: &str,
    spec: &Spec,
) -> Result<(Checked<Opened>, Request)> {
    let map = memmap::read()?;
    let machine = Machine {
        arch: abi::ARCH_I386,
        fingerprint: Some(machine::fingerprint(&map)),
        build_id: Some(machine::build()),
        ram: machine::ram_above(&map, 0),
        window_end: config.window,
    };
    let claimed = Cell::new(false);
    let restore = Restore {
        device,
        machine,
        name: source,
        guard: !args.no_guards,
        retry: args.retry,
        spare: false,
        opener: Opener::new(config, VERB),
        claimed: &claimed,
    };
    let opened = open(spec, Access::Read)?;
    let checked = restore.open(opened);
    let checked = checked.inspect_err(|e| show_swap_of_the_dead(e, spec))?;
    let request = Request {
        image: checked.image.header().uuid,
        target: source.into(),
        build: restore.machine.build_id,
        fingerprint: restore.machine.fingerprint,
        retry: args.retry,
        unguarded: args.no_guards,
        encrypted: checked.key.is_some(),
        ..Request::default()
    };
    Ok((checked, request))
}

/// An image that was used or given up is of no use to anybody: its swap areas can be used again,
/// should a power cut have kept them hidden.
fn show_swap_of_the_dead(e: &Error, spec: &Spec) {
    let dead = matches!(
        e,
        Error::Refused {
            source: Refusal::Used { .. } | Refusal::Discarded { .. },
            ..
        }
    );
    if let Error::Refused {
        source: Refusal::Unfinished { .. },
        ..
    } = e
    {
        // Power went during a save: which areas it had hidden is not known any more.
        tell(swap::show(|_| true));
        return;
    }
    let image = open(spec, Access::Read).ok().filter(|_| dead);
    let Some(Ok(image)) = image.map(Image::inspect_only) else {
        return;
    };
    debug_assert!(!matches!(image.state(), State::Committed));
    tell(swap::show_areas(&swap::areas(image.guards())));
}

fn tell(shown: Vec<(String, Result<()>)>) {
    for (device, shown) in shown {
        match shown {
            Ok(()) => log::info!("{device}: this swap area can be used again"),
            Err(e) => log::warn!("{device}: {e}; make it anew with mkswap"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_command_line_says() {
        let of = |line: &str| source_of(line).unwrap();
        assert_eq!(of("ro quiet"), None);
        assert_eq!(of("go_to_resume khdev=3:7"), Some("3:7".into()));
        assert_eq!(
            of("khdev=3:7 kjump.resume=/dev/vdb"),
            Some("/dev/vdb".into())
        );
        let both = "kjump.resume=/dev/vda kjump.resume_offset=40960";
        assert_eq!(of(both), Some("/dev/vda:40960".into()));
        assert!(source_of("kjump.resume=/dev/vda kjump.resume_offset=5").is_err());
        assert!(source_of("kjump.resume=/dev/vda kjump.resume_offset=x").is_err());
    }
}
