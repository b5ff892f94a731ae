//! `kjump restore`: in C, by hand; init uses the same.

use std::cell::Cell;
use std::io::{self, Stdin};
use std::path::PathBuf;

use kjump_abi::{Handoff, Range, ARCH_I386};
use kjump_image::{Machine, Source, StreamSource, Target};
use kjump_target::{Access, Opened, Spec, System};

use crate::config::Config;
use crate::device::Device;
use crate::error::Result;
use crate::hibernation::machine;
use crate::hibernation::request::Request;
use crate::hibernation::restore::{machine_ram, Failed, Restore};
use crate::loader::memmap;
use crate::progress::Reporter;
use crate::secret::{KeyArgs, Opener, Spare};

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// Where from: as `kjump save` takes it, an ELF core, or - for standard input
    pub source: String,
    /// Do not compare filesystems with what the image says of them
    #[arg(long)]
    pub no_guards: bool,
    /// Try an image again that could not be read to its end before
    #[arg(long)]
    pub retry: bool,
    /// Keys.
    #[command(flatten)]
    pub key: KeyArgs,
    /// Print progress as JSON, an object each second
    #[arg(long)]
    pub json: bool,
}

/// Restores and enters the saved kernel.
pub fn run(args: &RestoreArgs) -> Result<u8> {
    let config = args.key.load()?;
    if let Some(core) = elf(&args.source)? {
        let options = super::core::Options {
            entry: None,
            guard: !args.no_guards,
            replace: false,
            json: args.json,
            demand: config.is_encrypting(),
        };
        return super::core::restore(&core, options);
    }
    let device = Device::open_as_root()?;
    let handoff = device.handoff().ok();
    let machine = machine_here(handoff.as_deref())?;
    let claimed = Cell::new(false);
    let restore = Restore {
        device: &device,
        opener: opener(&device, &machine, handoff.is_none(), &config, &claimed),
        claimed: &claimed,
        machine,
        name: &args.source,
        guard: !args.no_guards,
        retry: args.retry,
        spare: false,
    };
    let mut reporter = Reporter::new("restoring", args.json, false);
    let place = open(&args.source)?;
    let (Failed::Untouched(e) | Failed::Begun(e, _)) = restore.run(place, &mut reporter);
    Err(e)
}

/// What opens an encrypted image here. RAM above the window is spare where no other kernel lies in it.
pub fn opener<'a>(
    device: &'a Device,
    machine: &Machine,
    alone: bool,
    config: &'a Config,
    claimed: &'a Cell<bool>,
) -> Opener<'a> {
    let spare = alone.then(|| Spare {
        device,
        ram: machine_ram(machine),
        claimed,
    });
    Opener {
        spare,
        ..Opener::new(config, "restore")
    }
}

/// The path of an ELF core, if `source` is one: a file, or a device with one on it.
fn elf(source: &str) -> Result<Option<PathBuf>> {
    let path = match Spec::parse(source)? {
        Spec::Stream => return Ok(None),
        Spec::File(path) => path,
        Spec::Device {
            device,
            offset: None,
        } => match System::default().find(&device) {
            Ok(device) => device.path(),
            // Whoever opens it says so, or waits for it.
            Err(_) => return Ok(None),
        },
        Spec::Device { .. } => return Ok(None),
    };
    Ok(super::core::is_elf(&path).then_some(path))
}

/// The machine as this kernel knows it: by its own memory map if the bootloader started it, else as
/// the kernel that jumped here says.
pub fn machine_here(handoff: Option<&Handoff>) -> Result<Machine> {
    let map = memmap::read()?;
    let own_end = machine::own_end()?;
    let Some(handoff) = handoff else {
        return Ok(Machine {
            arch: ARCH_I386,
            fingerprint: Some(machine::fingerprint(&map)),
            build_id: None,
            ram: machine::ram_above(&map, 0),
            window_end: own_end,
        });
    };
    let request = Request::parse(&handoff.request).unwrap_or_default();
    let ram: Vec<Range> = handoff
        .ram
        .iter()
        .take(handoff.ram_count as usize)
        .copied()
        .collect();
    Ok(Machine {
        arch: handoff.arch,
        fingerprint: request.fingerprint,
        build_id: request.build,
        ram,
        window_end: own_end.max(handoff.window_end),
    })
}

/// Where an image comes from.
pub enum Place {
    /// A device, or a file on one.
    Opened(Box<Opened>),
    /// Standard input: it cannot be marked.
    Stdin(StreamSource<Stdin>),
}

/// Opens it.
pub fn open(source: &str) -> Result<Place> {
    match Spec::parse(source)? {
        Spec::Stream => Ok(Place::Stdin(StreamSource::new(io::stdin()))),
        spec => {
            let opened = System::default().open(&spec, Access::Write)?;
            Ok(Place::Opened(Box::new(opened)))
        }
    }
}

impl Source for Place {
    fn size(&self) -> Option<u64> {
        match self {
            Self::Opened(o) => Source::size(&**o),
            Self::Stdin(s) => s.size(),
        }
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Opened(o) => o.read_at(offset, buf),
            Self::Stdin(s) => s.read_at(offset, buf),
        }
    }
}

impl Target for Place {
    fn size(&self) -> Option<u64> {
        match self {
            Self::Opened(o) => Target::size(&**o),
            Self::Stdin(_) => None,
        }
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Opened(o) => o.write_at(offset, bytes),
            Self::Stdin(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Opened(o) => o.flush(),
            Self::Stdin(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}
