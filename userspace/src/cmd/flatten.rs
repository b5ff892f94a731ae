//! `kjump image flatten`: of an image that builds on others, one that needs none.

use kjump_image::{table_size, worst_case, Header, Image, Options, Piece, Summary, Writer, PAGE};
use kjump_target::{Access, Opened, Spec, System};

use super::rollback;
use crate::abort::Abort;
use crate::config::{Config, Overrides};
use crate::error::{Error, Result};
use crate::hibernation::chain;
use crate::hibernation::save::new_uuid;
use crate::hibernation::workers::workers;
use crate::progress::{watch, Reporter};
use crate::snapshots::store::{name_of, Store};

/// Arguments of `image flatten`.
#[derive(Debug, clap::Args)]
pub struct FlattenArgs {
    /// A snapshot's name, or where the image is
    #[arg(value_name = "NAME|SPEC")]
    pub what: String,
    /// Where it goes: a name, a device, or a file made by `kjump target create`; without it, in the
    /// place of the named snapshot
    #[arg(value_name = "NAME|TARGET")]
    pub out: Option<String>,
    /// Read this instead of /etc/kjump.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,
    /// Write over what else the target holds
    #[arg(long)]
    pub force: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    pub json: bool,
}

/// What goes behind a name while the new image is written.
const SUFFIX: &str = "+flat";
/// More than a file's own map of blocks ever takes.
const MAP: u64 = 1 << 20;

/// Makes it; gives what was written.
pub fn run(args: &FlattenArgs) -> Result<Summary> {
    let config = Overrides {
        config: args.config.clone(),
        ..Overrides::default()
    }
    .load()?;
    let at = rollback::source(&args.what, &config)?;
    let flat = Flat { args, at };
    // What cannot be made flat is refused before anything is made.
    flat.open()?;
    let out = match &args.out {
        None => return flat.in_place(&config),
        Some(out) => out,
    };
    match name_of(out)? {
        Some(name) => flat.named(&Store::open(&config.snapshots)?, name),
        None => {
            let spec = Spec::parse(out)?;
            flat.write(System::default().open_in_a(&spec, args.force)?, out)
        }
    }
}

/// What is to be done, and where the image is for a kernel without filesystems.
struct Flat<'a> {
    args: &'a FlattenArgs,
    at: String,
}

impl Flat<'_> {
    fn in_place(&self, config: &Config) -> Result<Summary> {
        let what = &self.args.what;
        let Some(name) = name_of(what)? else {
            let why = format!("{what}: has no name; say where the flat image is to go");
            return Err(Error::Usage(why));
        };
        let store = Store::open(&config.snapshots)?;
        // They need it as it is: another image is no base of theirs.
        store.check_unneeded(name, &self.open()?.header().uuid)?;
        let other = format!("{name}{SUFFIX}");
        let summary = self.named(&store, &other)?;
        System::default().replace(&store.file(&other), &store.file(name))?;
        store.close()?;
        Ok(summary)
    }

    fn named(&self, store: &Store, name: &str) -> Result<Summary> {
        let header = self.open()?.header().clone();
        let most = worst_case(header.pages, header.chunk_pages);
        let size = most + table_size(header.pages) + MAP;
        store.create(name, size, self.args.json)?;
        let target = System::default().open_in_a(&Spec::File(store.file(name)), false);
        let written = target
            .map_err(Error::from)
            .and_then(|t| self.write(t, name));
        if written.is_err() {
            if let Err(e) = store.delete(name) {
                log::warn!("{e}");
            }
        }
        written
    }

    fn open(&self) -> Result<Image<Opened>> {
        let opened = System::default().open(&Spec::parse(&self.at)?, Access::Read)?;
        let image = Image::inspect_only(opened).map_err(|e| self.refused(e))?;
        match image.encryption() {
            None => Ok(image),
            Some(_) => Err(Error::Encrypted {
                target: self.args.what.clone(),
                made: "flat",
                why: "nor need it be, as it builds on no other; copy it as it is",
            }),
        }
    }

    fn refused(&self, source: kjump_image::Refusal) -> Error {
        let target = self.args.what.clone();
        Error::Refused { target, source }
    }

    fn write(&self, target: Opened, name: &str) -> Result<Summary> {
        let failed = |source| Error::Save {
            target: name.into(),
            source,
        };
        let mut image = self.open()?;
        let mut links = chain::links(&image).map_err(|e| self.refused(e))?;
        let guards = image.guards().to_vec();
        let header = Header {
            uuid: new_uuid().map_err(|e| Error::io("a UUID for the image", e))?,
            table: image.header().snapshot,
            base: None,
            ..image.header().clone()
        };
        // Standard output is for the outcome.
        let mut reporter = Reporter::new("writing", self.args.json, !self.args.json);
        let mut abort = Abort::watch();
        let options = Options {
            on_progress: Some(watch(&mut reporter, &mut abort)),
            workers: workers(header.codec, header.chunk_pages),
            ..Options::default()
        };
        let mut writer = Writer::begin(target, &header, &guards, options).map_err(failed)?;
        let chunks = image.chunks_over(&mut links);
        let mut chunks = chunks.map_err(|e| self.refused(e))?;
        while let Some(chunk) = chunks.next_chunk().map_err(|e| self.refused(e))? {
            for piece in chunk.pieces() {
                match piece {
                    Piece::Data { pfn, bytes } => writer.write(pfn, bytes),
                    Piece::Zero { pfn, count } => {
                        (pfn..pfn + count).try_for_each(|pfn| writer.write(pfn, &[0; PAGE]))
                    }
                }
                .map_err(failed)?;
            }
        }
        chunks.finish().map_err(|e| self.refused(e))?;
        writer.finish().map_err(failed)
    }
}
