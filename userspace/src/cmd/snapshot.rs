//! `kjump snapshot`: the peer saves this machine's memory, and the machine goes on.

use std::cell::Cell;
use std::path::PathBuf;

use kjump_guard::Kind;
use kjump_image::{Base, Codec, Image, Refusal, State};
use kjump_target::{Access, Opened, Spec, System};

use super::{hibernate, rollback, say};
use crate::abort::hold_signals;
use crate::cli::{Trust, Way};
use crate::config::{parse_codec, Config, Mode, Overrides};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hibernation::peer::{self, Answer};
use crate::hibernation::request::Request;
use crate::hibernation::watch;
use crate::json::Json;
use crate::parse;
use crate::secret::{self, KeyArgs, NewKey};
use crate::snapshots::before::Before;
use crate::snapshots::frozen::Frozen;
use crate::snapshots::hooks::{self, Word};
use crate::snapshots::store::{name_of, room_needed, swap_in_use, Store};

const VERB: &str = "snapshot";
/// Exit code of a peer whose target is too small.
const NO_ROOM: u8 = 56;

/// What `snapshot` and `rollback` share.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// Disks are rolled back too: freeze filesystems, and run the hooks of /etc/kjump/snapshot.d
    #[arg(long)]
    pub with_disks: bool,
    /// Read this instead of /etc/kjump.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,
    /// Keys.
    #[command(flatten)]
    pub key: KeyArgs,
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
    /// Store only what is not in this snapshot already, which is needed from then on
    #[arg(long, value_name = "NAME|SOURCE")]
    pub base: Option<String>,
    /// With a name: how large the file is [default: enough for the worst case; with --base a
    /// quarter of that, and all of it if that turns out to be too small; for all of memory if
    /// much more has come into use meanwhile]
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    pub room: Option<u64>,
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
    /// Whether the peer is trusted.
    #[command(flatten)]
    pub trust: Trust,
    /// More.
    #[command(flatten)]
    pub common: Common,
}

/// How it came to its end.
enum Outcome {
    /// Saved just now.
    Saved {
        pages: u64,
        base_pages: u64,
        bytes: u64,
    },
    /// It was saved, and somebody has put this machine back to that moment.
    RolledBack(String),
}

/// Takes one. Returns once when it was saved, and once more for each time that it is gone back to.
pub fn run(args: &SnapshotArgs) -> Result<u8> {
    let result = take(args);
    let (outcome, reason, code) = match &result {
        Ok(Outcome::Saved {
            pages,
            base_pages,
            bytes,
        }) => {
            let mut line = format!("{}: {pages} pages in {bytes} bytes", args.what);
            if let Some(base) = &args.base {
                line += &format!(", {base_pages} of them are in {base}");
            }
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
        key: args.common.key.clone(),
        ..Overrides::default()
    };
    let config = overrides.load()?;
    if args.base.is_some() && config.is_encrypting() {
        return Err(Error::Usage(
            "an encrypted snapshot has no base, as it has no table of pages: leave --base out, or use \
             --encrypt none"
                .into(),
        ));
    }
    let name = name_of(&args.what)?;
    let device = Device::open_as_root()?;
    peer::usable(&device, VERB)?;
    args.common.way.check_watchdogs(VERB)?;
    if let Some(swap) = swap_in_use() {
        return Err(Error::SwapInUse { swap });
    }
    let hooks = match args.common.with_disks {
        true => hooks::find()?,
        false => Vec::new(),
    };
    let base = args.base.as_ref().map(|base| base_of(base, &config));
    let base = base.transpose()?;
    let system = System::default();
    // What speaks against it is to be said before a peer is loaded or a file made.
    watch::collect(&system, config.allow_unknown)?;
    let key = Cell::new(secret::for_a_new_image(&config, VERB)?);
    peer::ready(&device, &config, VERB)?;
    let snapshot = Snapshot {
        args,
        config: &config,
        device: &device,
        base,
        hooks,
        key,
    };
    let Some(name) = name else {
        let spec = Spec::parse(&args.what)?;
        let target = system.open_in_a(&spec, args.force)?;
        snapshot.spare_bases(&spec)?;
        return snapshot.save(&spec, target, None);
    };
    snapshot.named(name)
}

/// What is to be done.
struct Snapshot<'a> {
    args: &'a SnapshotArgs,
    config: &'a Config,
    device: &'a Device,
    base: Option<Base>,
    hooks: Vec<PathBuf>,
    /// Until it is told to the peer.
    key: Cell<Option<NewKey>>,
}

impl Snapshot<'_> {
    /// Saves to a file of the store's.
    fn named(&self, name: &str) -> Result<Outcome> {
        if let Some(room) = self.args.room {
            return self.sized(name, room);
        }
        let [now, most] = room_needed()?;
        if self.base.is_some() {
            match self.sized(name, now / 4) {
                // More has changed than that.
                Err(Error::NotDone { code: NO_ROOM, .. }) => {}
                other => return other,
            }
        }
        match self.sized(name, now) {
            // More memory has come into use while the file was written.
            Err(Error::NotDone { code: NO_ROOM, .. }) if now < most => self.sized(name, most),
            other => other,
        }
    }

    fn sized(&self, name: &str, size: u64) -> Result<Outcome> {
        let store = Store::open(&self.config.snapshots)?;
        store.create(name, size, self.args.common.json)?;
        let spec = Spec::File(store.file(name));
        let target = System::default().open_in_a(&spec, false);
        let saved = target
            .map_err(Error::from)
            .and_then(|target| self.save(&spec, target, Some(store)));
        if saved.is_err() {
            let gone = Store::open(&self.config.snapshots).and_then(|store| store.delete(name));
            if let Err(e) = gone {
                log::warn!("{e}");
            }
        }
        saved
    }

    /// Refuses to write over what named snapshots build on, as far as there are any.
    fn spare_bases(&self, spec: &Spec) -> Result<()> {
        if self.args.force {
            return Ok(());
        }
        let there = System::default().open(spec, Access::Read)?;
        let Ok(image) = Image::inspect_only(there) else {
            return Ok(());
        };
        let uuid = &image.header().uuid;
        if self.base.as_ref().is_some_and(|base| base.uuid == *uuid) {
            let what = &self.args.what;
            let why =
                format!("{what}: a snapshot cannot be written over its own base; use another");
            return Err(Error::Usage(why));
        }
        // Without such a place there is none that could build on it.
        let Ok(store) = Store::open(&self.config.snapshots) else {
            return Ok(());
        };
        store.check_unneeded(&self.args.what, uuid)?;
        store.close()
    }

    /// Saves to what is open: a device or a file; a file of the store's, which is closed before the
    /// jump.
    fn save(&self, spec: &Spec, mut target: Opened, store: Option<Store>) -> Result<Outcome> {
        let (system, config) = (System::default(), self.config);
        let named = store.is_some();
        let watched = watch::collect(&system, config.allow_unknown)?;
        let mut request = Request {
            snapshot: true,
            base: self.base.clone(),
            // With a base the worst case never comes.
            optimistic: config.optimistic || self.base.is_some(),
            ..hibernate::request(config, spec, &target, watched, self.key.take())?
        };
        let stop = hold_signals();
        if !named {
            hibernate::show_older_swap(&system, spec);
        }
        let before = Before::of(&mut target, &request.target)?;
        // The first write, of the mark of what is to come, makes an older snapshot invalid. To a file
        // nothing can be written once its filesystem stands still.
        let (early, late) = match spec {
            Spec::File(_) => (Some(target), None),
            _ => (None, Some(target)),
        };
        if let Some(target) = early {
            hibernate::announce(target, request.image)?;
        }
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
        let answer = Frozen::all(&system, !self.hooks.is_empty()).and_then(|_frozen| {
            hooks::run(&self.hooks, Word::Save, &self.args.what, &stop)?;
            if let Some(target) = late {
                hibernate::announce(target, request.image)?;
            }
            let command = parse::command("hibernate").unwrap_or_default();
            let way = (&self.args.common.way, self.args.trust);
            peer::ask(self.device, VERB, command, &mut request, way)
        });
        let failed = |code, why| {
            let why = match self.give_up(&before, &request, named) {
                Ok(()) => why,
                Err(e) => {
                    format!("{why}; and the snapshot may be there all the same, discard it: {e}")
                }
            };
            Err(Error::NotDone {
                verb: VERB,
                code,
                why,
            })
        };
        match answer {
            Ok(Answer::Resumed(how)) => Ok(Outcome::RolledBack(how)),
            Ok(Answer::Done) => match saved(&system, &request) {
                Ok(outcome) => Ok(outcome),
                Err(e) => failed(e.exit_code(), e.to_string()),
            },
            Ok(Answer::Failed(code, why)) => failed(code, why),
            Err(e) => {
                // Nobody has written anything after the announcement.
                if let Err(other) = self.give_up(&before, &request, named) {
                    log::warn!("{other}");
                }
                Err(e)
            }
        }
    }

    /// Nobody is to go back to what is not what it says. What was there before, if nothing was written
    /// over it yet, is there again.
    fn give_up(&self, before: &Before, request: &Request, named: bool) -> Result<()> {
        if !named && before.put_back()? {
            return Ok(());
        }
        match super::image::give_up_by_name(&request.target) {
            Err(Error::Refused {
                source: Refusal::NoImage(_),
                ..
            }) => Ok(()),
            other => other,
        }
    }
}

/// What is to be built on, as a kernel without filesystems finds it.
fn base_of(what: &str, config: &Config) -> Result<Base> {
    let at = rollback::source(what, config)?;
    let opened = System::default().open(&Spec::parse(&at)?, Access::Read)?;
    let refused = |source| Error::Refused {
        target: what.into(),
        source,
    };
    let image = Image::inspect_only(opened).map_err(refused)?;
    if !image.header().snapshot {
        return Err(Error::NoSnapshot { name: what.into() });
    }
    image.as_base(&at).map_err(refused)
}

/// What the peer says that it wrote is looked at: an older one knows nothing of snapshots.
fn saved(system: &System, request: &Request) -> Result<Outcome> {
    let raw = Spec::parse(&request.target)?;
    let opened = system.open(&raw, Access::Read)?;
    let refused = |source| Error::Refused {
        target: raw.to_string(),
        source,
    };
    let image = Image::inspect_only(opened).map_err(refused)?;
    let (header, totals) = (image.header(), image.totals().unwrap_or_default());
    let as_asked = header.snapshot && header.base == request.base;
    if header.uuid != request.image || !as_asked || image.state() != State::Committed {
        return Err(Error::NotDone {
            verb: VERB,
            code: 40,
            why: "the peer knows nothing of snapshots; load one of this build".into(),
        });
    }
    Ok(Outcome::Saved {
        pages: totals.pages(),
        base_pages: totals.base_pages,
        bytes: totals.image_bytes,
    })
}
