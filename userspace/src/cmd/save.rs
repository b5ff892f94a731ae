//! `kjump save`: by hand in a peer's shell; the peer's init uses the same when A says "hibernate".

use std::fs;
use std::io;
use std::path::Path;

use kjump_image::{Codec, Refusal, StreamTarget};
use kjump_target::{Access, Spec, System};

use super::say;
use crate::abort::Abort;
use crate::config::parse_codec;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hibernation::request::Request;
use crate::hibernation::save::{new_uuid, Save};
use crate::hibernation::workers::by;
use crate::progress::Reporter;
use crate::secret::{self, Encrypt, KeyArgs};

/// Images that were made here and would be out of date once the other kernel goes on.
const MADE: &str = "/run/kjump-images";

/// Arguments of `save`.
#[derive(Debug, clap::Args)]
pub struct SaveArgs {
    /// Where to: /dev/…, UUID=…, PARTUUID=…, MAJ:MIN, DEVICE:OFFSET, or - for standard output;
    /// with --format elf also any file
    pub target: String,
    /// What to write: an image, or an ELF core for gdb, crash and the like, which can be resumed
    /// from too
    #[arg(long, value_enum, default_value_t = Format::Image)]
    pub format: Format,
    /// With --format elf: free pages too
    #[arg(long)]
    pub all: bool,
    /// How pages are compressed: lz4, zstd or none
    #[arg(long, value_name = "CODEC", value_parser = parse_codec)]
    pub compression: Option<Codec>,
    /// Begin although the worst case does not fit
    #[arg(long)]
    pub optimistic: bool,
    /// Save although there are filesystems whose changes nobody could tell
    #[arg(long)]
    pub allow_unknown: bool,
    /// Do not record what filesystems look like
    #[arg(long)]
    pub no_guards: bool,
    /// Write over what else the target holds
    #[arg(long)]
    pub force: bool,
    /// Keys.
    #[command(flatten)]
    pub key: KeyArgs,
    /// Print progress as JSON, an object each second
    #[arg(long)]
    pub json: bool,
}

/// What a save writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// docs/image-format.md
    Image,
    /// An ELF64 core
    Elf,
}

/// Saves the memory of the kernel that this one was entered from.
pub fn run(args: &SaveArgs) -> Result<u8> {
    if args.format == Format::Elf {
        return super::save_elf::run(args);
    }
    if args.all {
        return Err(Error::Usage(
            "--all is for --format elf: what is free in memory is never in an image".into(),
        ));
    }
    let device = Device::open_as_root()?;
    let handoff = device.handoff().map_err(|e| Error::from_errno("save", e))?;
    let mut request = Request::left(&handoff.request, "save")?;
    request.image = new_uuid().map_err(|e| Error::io("a UUID for the image", e))?;
    request.codec = args.compression.unwrap_or(request.codec);
    request.optimistic |= args.optimistic;
    request.allow_unknown |= args.allow_unknown;
    take_key(args, &mut request)?;
    let save = Save {
        device: &device,
        handoff: &handoff,
        request: &request,
        name: &args.target,
        guard: !args.no_guards,
    };
    let spec = Spec::parse(&args.target)?;
    let stream = spec == Spec::Stream;
    let mut reporter = Reporter::new("saving", args.json, stream);
    let mut abort = Abort::watch();
    let summary = if stream {
        let target = StreamTarget::new(io::stdout());
        save.run(target, &mut reporter, &mut abort)?
    } else {
        let system = System::default();
        let target = match spec.offset() {
            Some(_) => system.open(&spec, Access::Write)?,
            None => system.open_in_a(&spec, args.force)?,
        };
        remember(&args.target)?;
        save.run(target, &mut reporter, &mut abort)?
    };
    drop(reporter);
    let line = format!(
        "saved {} pages in {} bytes{}; now power off: `kjump back` gives the image up",
        summary.totals.data_pages + summary.totals.zero_pages,
        summary.totals.image_bytes,
        by(summary.workers)
    );
    if stream {
        log::info!("{line}");
    } else if !args.json {
        say(line)?;
    }
    Ok(0)
}

/// The key: that of the option, or else what the other kernel has left. A passphrase is not taken here,
/// as its derivation would have to be weak to fit into a peer's memory.
fn take_key(args: &SaveArgs, request: &mut Request) -> Result<()> {
    if let Some(Encrypt::None) = args.key.encrypt {
        (request.encrypted, request.key, request.encryption) = (false, None, None);
        return Ok(());
    }
    let config = args.key.load()?;
    match config.encrypt {
        Encrypt::None => Ok(()),
        Encrypt::Passphrase if request.key.is_some() => Ok(()),
        Encrypt::Passphrase => Err(Error::MustEncrypt { verb: "save" }),
        Encrypt::KeyFile => {
            let new = secret::for_a_new_image(&config, "save")?;
            request.encrypted = true;
            request.encryption = new.as_ref().map(|n| n.encryption);
            request.key = new.map(|n| n.key);
            Ok(())
        }
    }
}

/// Before the image is begun: whatever stops this program, `kjump back` must know of it.
fn remember(target: &str) -> Result<()> {
    let made = fs::read_to_string(MADE).unwrap_or_default();
    fs::write(MADE, made + target + "\n").map_err(|e| Error::io(MADE, e))
}

/// Gives up the images that were made here: the other kernel is about to go on.
pub fn give_up_made() -> Result<()> {
    super::save_elf::give_up_made()?;
    if !Path::new(MADE).exists() {
        return Ok(());
    }
    let made = fs::read_to_string(MADE).map_err(|e| Error::io(MADE, e))?;
    for target in made.lines() {
        match super::image::give_up_by_name(target) {
            Ok(()) => log::info!("{target}: the image is given up"),
            // The save failed before it wrote anything.
            Err(Error::Refused {
                source: Refusal::NoImage(_),
                ..
            }) => {}
            Err(e) => return Err(e),
        }
    }
    fs::remove_file(MADE).map_err(|e| Error::io(MADE, e))
}
