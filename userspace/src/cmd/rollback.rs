//! `kjump rollback`: the peer puts this machine's memory back to a snapshot, and enters it. Returns
//! only if that was refused.

use std::cell::Cell;
use std::sync::atomic::AtomicBool;

use kjump_image::{Image, Machine};
use kjump_target::{Access, Spec, System};

use super::say;
use super::snapshot::{outcome_json, Common};
use crate::abort::hold_signals;
use crate::cli::Trust;
use crate::config::{Config, Overrides};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hibernation::guards::{self, Watch};
use crate::hibernation::peer::{self, Answer};
use crate::hibernation::request::Request;
use crate::hibernation::restore::Restore;
use crate::hibernation::{machine, watch};
use crate::loader::memmap;
use crate::parse;
use crate::secret::Opener;
use crate::snapshots::frozen::Frozen;
use crate::snapshots::hooks::{self, Word};
use crate::snapshots::store::{name_of, Store};

const VERB: &str = "rollback";

/// Arguments of `rollback`.
#[derive(Debug, clap::Args)]
pub struct RollbackArgs {
    /// A snapshot's name, or where it is
    #[arg(value_name = "NAME|SOURCE")]
    pub what: String,
    /// Do not compare filesystems with what they were: what is mounted then and was written since
    /// will be destroyed
    #[arg(long)]
    pub no_guards: bool,
    /// Try one again that could not be read to its end before
    #[arg(long)]
    pub retry: bool,
    /// More.
    #[command(flatten)]
    pub common: Common,
}

/// Goes back; returns only if nothing was changed.
pub fn run(args: &RollbackArgs) -> Result<u8> {
    let Err(e) = go(args);
    if args.common.json {
        say(outcome_json("refused", &e.to_string(), e.exit_code()))?;
    }
    Err(e)
}

fn go(args: &RollbackArgs) -> Result<std::convert::Infallible> {
    let overrides = Overrides {
        config: args.common.config.clone(),
        key: args.common.key.clone(),
        ..Overrides::default()
    };
    let config = overrides.load()?;
    let device = Device::open_as_root()?;
    peer::usable(&device, VERB)?;
    args.common.way.check_watchdogs(VERB)?;
    let hooks = match args.common.with_disks {
        true => hooks::find()?,
        false => Vec::new(),
    };
    let source = source(&args.what, &config)?;
    // What this kernel has not written yet must not come after the comparison.
    rustix::fs::sync();
    let mut request = look(args, &config, &device, &source)?;
    peer::ready(&device, &config, VERB)?;
    let stop = hold_signals();
    if hooks.is_empty() {
        return Err(ask(args, &device, &mut request));
    }
    let system = System::default();
    let here = watch::collect(&system, config.allow_unknown)?;
    let frozen = Frozen::all(&system, true)?;
    let now = Watch::find(&system, Some(&here), config.allow_unknown)?.record(&system)?;
    let e = match hooks::run(&hooks, Word::Restore, &args.what, &stop) {
        Ok(()) => ask(args, &device, &mut request),
        Err(e) => e,
    };
    // Still here, with disks that may be those of then.
    if guards::check(&system, &now, &args.what).is_ok() {
        return Err(e);
    }
    // Whatever somebody wants stopped, this is not it.
    let go_on = AtomicBool::new(false);
    let undone = hooks::run(&hooks, Word::Undo, &args.what, &go_on);
    match undone.and_then(|()| guards::check(&system, &now, &args.what).map(drop)) {
        Ok(()) => Err(e),
        Err(why) => {
            frozen.leave();
            let e = Error::DisksGone {
                first: e.to_string(),
                then: why.of_a_snapshot().to_string(),
            };
            // Standard error may be on a filesystem that stands still from now on.
            let _ = std::fs::write("/dev/kmsg", format!("kjump: {e}\n"));
            Err(e)
        }
    }
}

/// Where it is, for a kernel that has no filesystems.
pub fn source(what: &str, config: &Config) -> Result<String> {
    let system = System::default();
    let at = |place: kjump_target::FilePlace| {
        let device = place.device.path();
        format!("{}:{}", device.display(), place.offset)
    };
    if let Some(name) = name_of(what)? {
        let store = Store::open(&config.snapshots)?;
        let place = store.locate(name)?;
        store.close()?;
        return Ok(at(place));
    }
    match Spec::parse(what)? {
        Spec::File(path)
            if system
                .open(&Spec::File(path.clone()), Access::Read)?
                .has_map() =>
        {
            Ok(at(system.locate(&path)?))
        }
        spec => Ok(spec.to_string()),
    }
}

/// Looks at it with the eyes of the peer: most refusals need no jump.
fn look(args: &RollbackArgs, config: &Config, device: &Device, source: &str) -> Result<Request> {
    let map = memmap::read()?;
    let claimed = Cell::new(false);
    let restore = Restore {
        device,
        machine: Machine {
            arch: kjump_abi::ARCH_I386,
            fingerprint: Some(machine::fingerprint(&map)),
            build_id: Some(machine::build()),
            ram: machine::ram_above(&map, 0),
            window_end: config.window,
        },
        name: &args.what,
        // Hooks change what would be compared.
        guard: !args.no_guards && !args.common.with_disks,
        retry: args.retry,
        // The peer reads it all before it writes: it is that which the peer will restore from.
        spare: false,
        opener: Opener::new(config, VERB),
        claimed: &claimed,
    };
    let spec = Spec::parse(source)?;
    let open = || System::default().open(&spec, Access::Read);
    let refused = |source| Error::Refused {
        target: args.what.clone(),
        source,
    };
    let header = Image::inspect_only(open()?)
        .map_err(refused)?
        .header()
        .clone();
    if !header.snapshot {
        return Err(Error::NoSnapshot {
            name: args.what.clone(),
        });
    }
    let checked = restore.open(open()?).map_err(Error::of_a_snapshot)?;
    let key = checked.key;
    Ok(Request {
        image: header.uuid,
        target: source.into(),
        build: restore.machine.build_id,
        fingerprint: restore.machine.fingerprint,
        retry: args.retry,
        unguarded: args.no_guards,
        snapshot: true,
        encrypted: key.is_some(),
        key,
        ..Request::default()
    })
}

/// Asks the peer; it comes back only with a refusal.
fn ask(args: &RollbackArgs, device: &Device, request: &mut Request) -> Error {
    let command = parse::command("resume").unwrap_or_default();
    let not_done = |code, why| Error::NotDone {
        verb: VERB,
        code,
        why,
    };
    match peer::ask(
        device,
        VERB,
        command,
        request,
        (&args.common.way, Trust::default()),
    ) {
        Ok(Answer::Failed(code, why)) => not_done(code, why),
        Ok(Answer::Done | Answer::Resumed(_)) => {
            not_done(40, "the peer came back without it".into())
        }
        Err(e) => e,
    }
}
