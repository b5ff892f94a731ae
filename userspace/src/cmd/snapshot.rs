//! `kjump snapshot`: the peer saves this machine's memory, and the machine goes on.

use kjump_guard::Kind;
use kjump_image::{Codec, Refusal, State};
use kjump_target::{Access, Opened, Spec, System};

use super::{hibernate, say};
use crate::abort::hold_signals;
use crate::cli::Way;
use crate::config::{parse_codec, Config, Mode, Overrides};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hibernation::peer::{self, Answer};
use crate::hibernation::request::Request;
use crate::hibernation::watch;
use crate::json::Json;
use crate::parse;
use crate::snapshots::frozen::Frozen;
use crate::snapshots::hooks::{self, Word};
use crate::snapshots::store::{name_of, swap_in_use, Store};

const VERB: &str = "snapshot";

/// What `snapshot` and `rollback` share.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// Disks are rolled back too: freeze filesystems, and run the hooks of /etc/kjump/snapshot.d
    #[arg(long)]
    pub with_disks: bool,
    /// Read this instead of /etc/kjump.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,
    /// How to go down.
    #[command(flatten)]
    pub way: Way,
    /// Print the outcome as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `snapshot`.
#[derive(Debug, clap::Args)]
pub struct SnapshotArgs {
    /// A name, or where the image goes: /dev/…, or a file made by `kjump target create`
    #[arg(value_name = "NAME|TARGET")]
    pub what: String,
    /// How pages are compressed: lz4, zstd or none
    #[arg(long, value_name = "CODEC", value_parser = parse_codec)]
    pub compression: Option<Codec>,
    /// Begin although the worst case does not fit the target
    #[arg(long)]
    pub optimistic: bool,
    /// Save although there are filesystems whose changes nobody could tell
    #[arg(long)]
    pub allow_unknown: bool,
    /// Write over what else the target holds
    #[arg(long)]
    pub force: bool,
    /// More.
    #[command(flatten)]
    pub common: Common,
}

/// How it came to its end.
enum Outcome {
    /// Saved just now.
    Saved { pages: u64, bytes: u64 },
    /// It was saved, and somebody has put this machine back to that moment.
    RolledBack(String),
}

/// Takes one. Returns once when it was saved, and once more for each time that it is gone back to.
pub fn run(args: &SnapshotArgs) -> Result<u8> {
    let result = take(args);
    let (outcome, reason, code) = match &result {
        Ok(Outcome::Saved { pages, bytes }) => {
            let line = format!("{}: {pages} pages in {bytes} bytes", args.what);
            ("snapshot", line, 0)
        }
        Ok(Outcome::RolledBack(how)) => {
            let what = &args.what;
            let line = format!("{what}: rolled back: this is the machine as it was then; {how}");
            ("rolled-back", line, 0)
        }
        Err(e) => ("failed", e.to_string(), e.exit_code()),
    };
    if args.common.json {
        say(outcome_json(outcome, &reason, code))?;
    } else if result.is_ok() {
        say(reason)?;
    }
    result.map(|_| 0)
}

/// The outcome for programs.
pub fn outcome_json(outcome: &str, reason: &str, code: u8) -> String {
    Json::object([
        ("outcome", Json::str(outcome)),
        ("reason", Json::str(reason)),
        ("exit_code", Json::Int(code.into())),
    ])
    .line()
}

fn take(args: &SnapshotArgs) -> Result<Outcome> {
    let overrides = Overrides {
        config: args.common.config.clone(),
        compression: args.compression,
        mode: Some(Mode::None),
        optimistic: args.optimistic,
        allow_unknown: args.allow_unknown,
        ..Overrides::default()
    };
    let config = overrides.load()?;
    let name = name_of(&args.what)?;
    let device = Device::open_as_root()?;
    if let Some(swap) = swap_in_use() {
        return Err(Error::SwapInUse { swap });
    }
    let hooks = match args.common.with_disks {
        true => hooks::find()?,
        false => Vec::new(),
    };
    let system = System::default();
    // What speaks against it is to be said before a peer is loaded or a file made.
    watch::collect(&system, config.allow_unknown)?;
    peer::ready(&device, &config)?;
    let Some(name) = name else {
        let spec = Spec::parse(&args.what)?;
        let target = system.open_in_a(&spec, args.force)?;
        return save(args, &config, &device, &spec, target, None, &hooks);
    };
    let store = Store::open(&config.snapshots)?;
    store.create(name, args.common.json)?;
    let spec = Spec::File(store.file(name));
    let target = system.open_in_a(&spec, false);
    let saved = target
        .map_err(Error::from)
        .and_then(|target| save(args, &config, &device, &spec, target, Some(store), &hooks));
    if saved.is_err() {
        let gone = Store::open(&config.snapshots).and_then(|store| store.delete(name));
        if let Err(e) = gone {
            log::warn!("{e}");
        }
    }
    saved
}

/// Saves to what is open: a device or a file; a file of the store's, which is closed before the jump.
fn save(
    args: &SnapshotArgs,
    config: &Config,
    device: &Device,
    spec: &Spec,
    target: Opened,
    store: Option<Store>,
    hooks: &[std::path::PathBuf],
) -> Result<Outcome> {
    let system = System::default();
    let named = store.is_some();
    let watched = watch::collect(&system, config.allow_unknown)?;
    let mut request = Request {
        snapshot: true,
        ..hibernate::request(config, spec, &target, watched)?
    };
    hold_signals();
    if !named {
        hibernate::show_older_swap(&system, spec);
    }
    hibernate::announce(target, request.image)?;
    if let Some(store) = store {
        let mounted = store.is_mounted();
        store.close()?;
        // It was mounted for the file alone, and is not while the peer looks.
        if mounted {
            request.watched = Some(watch::collect(&system, config.allow_unknown)?);
        }
    }
    debug_assert!(!request
        .watched
        .iter()
        .flatten()
        .any(|w| w.kind == Kind::Swap));
    // ext4 commits without touching its superblocks, which is all that guards compare. Frozen it
    // writes into them that it is clean, and thawed that it is not: so once A goes on they differ.
    let frozen = Frozen::all(&system, !hooks.is_empty())?;
    hooks::run(hooks, Word::Save, &args.what)?;
    let command = parse::command("hibernate").unwrap_or_default();
    let answer = peer::ask(device, VERB, command, &request, &args.common.way);
    drop(frozen);
    let raw = Spec::parse(&request.target)?;
    let failed = |code, why| {
        // Nobody is to go back to what is not what it says.
        let why = match give_up(&request.target) {
            Ok(()) => why,
            Err(e) => format!("{why}; and the snapshot may be there all the same, discard it: {e}"),
        };
        Err(Error::NotDone {
            verb: VERB,
            code,
            why,
        })
    };
    match answer? {
        Answer::Resumed(how) => Ok(Outcome::RolledBack(how)),
        Answer::Done => match saved(&system, &raw, &request) {
            Ok(outcome) => Ok(outcome),
            Err(e) => failed(e.exit_code(), e.to_string()),
        },
        Answer::Failed(code, why) => failed(code, why),
    }
}

/// Gives up what the peer may have written.
fn give_up(target: &str) -> Result<()> {
    match super::image::give_up_by_name(target) {
        Err(Error::Refused {
            source: Refusal::NoImage(_),
            ..
        }) => Ok(()),
        other => other,
    }
}

/// What the peer says that it wrote is looked at: an older one knows nothing of snapshots.
fn saved(system: &System, raw: &Spec, request: &Request) -> Result<Outcome> {
    let opened = system.open(raw, Access::Read)?;
    let refused = |source| Error::Refused {
        target: raw.to_string(),
        source,
    };
    let image = kjump_image::Image::inspect_only(opened).map_err(refused)?;
    let (header, totals) = (image.header(), image.totals().unwrap_or_default());
    if header.uuid != request.image || !header.snapshot || image.state() != State::Committed {
        return Err(Error::NotDone {
            verb: VERB,
            code: 40,
            why: "the peer knows nothing of snapshots; load one of this build".into(),
        });
    }
    Ok(Outcome::Saved {
        pages: totals.data_pages + totals.zero_pages,
        bytes: totals.image_bytes,
    })
}
