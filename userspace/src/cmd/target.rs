//! `kjump target`: makes a file to save to, puts a normal kernel beside it, tells where it lies.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use kjump_image::{hex, Image, Progress};
use kjump_target::{Access, Bundle, Input, Opened, Spec, System, Target};

use super::inspection::word;
use super::say;
use crate::abort::Abort;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::loader::bzimage;
use crate::parse;
use crate::progress::Reporter;

/// Arguments of `target`.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// What to do.
    #[command(subcommand)]
    pub what: What,
}

/// What to do with a target.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Make a file that an image can be saved to: fully written, and pinned
    Create(Create),
    /// Put a kernel at a target's end, to be started when there is no image
    Bundle(BundleArgs),
    /// Tell where a target lies, how large it is and what it holds
    Show(Show),
}

/// Arguments of `target create`.
#[derive(Debug, Args)]
pub struct Create {
    /// The file, on ext2, ext3, ext4 or XFS; it must not exist
    pub file: PathBuf,
    /// Its size: as much as the machine has memory is always enough
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    pub size: u64,
    /// Print progress and outcome as JSON, an object a line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `target bundle`.
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// The target: a device, or a file made by `kjump target create`
    #[arg(value_name = "SPEC")]
    pub target: String,
    /// The kernel: a bzImage
    #[arg(long, value_name = "FILE", required_unless_present = "remove")]
    pub kernel: Option<PathBuf>,
    /// Its initrd
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Its command line
    #[arg(
        long,
        value_name = "STRING",
        default_value = "",
        hide_default_value = true
    )]
    pub append: String,
    /// Remove the bundle: an image may have its room
    #[arg(long, conflicts_with_all = ["kernel", "initrd", "append"])]
    pub remove: bool,
    /// Write over what else the device holds
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `target show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The target: a device, a file, or a device and the offset of a file on it
    #[arg(value_name = "SPEC")]
    pub target: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Does it.
pub fn run(args: &TargetArgs) -> Result<u8> {
    match &args.what {
        What::Create(args) => create(args),
        What::Bundle(args) => bundle(args),
        What::Show(args) => show(args),
    }
    .map(|()| 0)
}

fn create(args: &Create) -> Result<()> {
    let system = System::default();
    let mut reporter = Reporter::new("writing", args.json, false);
    let mut abort = Abort::watch();
    let progress = |bytes: u64| Progress {
        pages: bytes / 4096,
        pages_total: args.size.div_ceil(4096),
        memory_bytes: bytes,
        image_bytes: bytes,
    };
    let mut stopped = false;
    let made = system.create(&args.file, args.size, &mut |bytes| {
        reporter.update(&progress(bytes));
        stopped = abort.requested();
        match stopped {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    drop(reporter);
    if stopped {
        let verb = "target create";
        return Err(Error::Aborted { verb });
    }
    made?;
    let spec = Spec::File(args.file.clone());
    let shown = Shown::of(&system, &spec)?;
    say(shown.text(args.json))
}

fn bundle(args: &BundleArgs) -> Result<()> {
    let spec = Spec::parse(&args.target)?;
    let mut target = System::default().open_in_a(&spec, args.force)?;
    let Some(path) = &args.kernel else {
        target.remove_bundle()?;
        return say(format_args!("{spec}: no boot bundle any more"));
    };
    let mut kernel = open(path)?;
    check_kernel(&mut kernel.0, path)?;
    let mut initrd = args.initrd.as_deref().map(open).transpose()?;
    let installed =
        target.install_bundle(input(&mut kernel), initrd.as_mut().map(input), &args.append)?;
    // What is on the disk counts, not what was meant to be.
    let parts = [Some(&installed.kernel), installed.initrd.as_ref()];
    for part in parts.into_iter().flatten() {
        let mut reader = target.part(part)?;
        let read = std::io::copy(&mut reader, &mut std::io::sink());
        read.map_err(|e| Error::io(format!("{spec}: reading the boot bundle"), e))?;
    }
    let room = Target::size(&target).unwrap_or(0);
    say(format_args!(
        "{spec}: boot bundle of {}; {room} bytes are left for an image",
        words(&installed)
    ))
}

/// A file and its length.
fn open(path: &Path) -> Result<(File, u64)> {
    let failed = |e| Error::io(path.display().to_string(), e);
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    Ok((file, length))
}

fn input((file, length): &mut (File, u64)) -> Input<'_> {
    Input {
        reader: file,
        length: *length,
    }
}

/// A kernel that cannot be started would be found out when it is needed.
fn check_kernel(file: &mut File, path: &Path) -> Result<()> {
    let failed = |e| Error::io(path.display().to_string(), e);
    let mut start = Vec::new();
    file.take(1024).read_to_end(&mut start).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    if bzimage::is_bzimage(&start) {
        return Ok(());
    }
    let (path, why) = (path.into(), "it is no bzImage".into());
    Err(Error::NotKernel { path, why })
}

fn show(args: &Show) -> Result<()> {
    let spec = Spec::parse(&args.target)?;
    say(Shown::of(&System::default(), &spec)?.text(args.json))
}

/// What there is to say about a target.
struct Shown {
    spec: String,
    /// Its device, and the offset of its block map; or why that cannot be told.
    place: std::result::Result<(String, Option<u64>), String>,
    /// `kjump.resume=` for it.
    resume: Option<String>,
    container: u64,
    room: u64,
    /// A word, and a line.
    image: (&'static str, String),
    bundle: std::result::Result<Option<Bundle>, String>,
}

impl Shown {
    fn of(system: &System, spec: &Spec) -> Result<Self> {
        let mut opened = system.open(spec, Access::Read)?;
        let device = opened.device().cloned();
        let place = match (device, spec) {
            (Some(device), _) => Ok((device, opened.offset())),
            (None, Spec::File(path)) if opened.has_map() => {
                let place = system.locate(path).map_err(|e| e.to_string());
                place.map(|p| (p.device, Some(p.offset)))
            }
            _ => Err("a file as it is: an image can be read from it, not saved to it".into()),
        };
        let resume = place.as_ref().ok().map(|(device, offset)| {
            let name = system.lasting_name(device);
            let offset = offset.map(|o| format!(" kjump.resume_offset={o}"));
            format!("kjump.resume={name}{}", offset.unwrap_or_default())
        });
        let numbered = |(device, offset): (kjump_target::BlockDevice, _)| {
            let numbers = device.numbers();
            (format!("{} ({numbers})", device.path().display()), offset)
        };
        Ok(Self {
            spec: spec.to_string(),
            place: place.map(numbered),
            resume,
            container: opened.container(),
            room: Target::size(&opened).unwrap_or(0),
            bundle: opened.bundle().map_err(|e| e.to_string()),
            image: image(&mut opened),
        })
    }

    fn text(&self, json: bool) -> String {
        if json {
            self.json().line()
        } else {
            self.lines()
        }
    }

    fn lines(&self) -> String {
        let mut text = format!("target   {}\n", self.spec);
        match &self.place {
            Ok((device, offset)) => {
                text += &format!("device   {device}\n");
                if let Some(offset) = offset {
                    text += &format!("offset   {offset}\n");
                }
            }
            Err(why) => text += &format!("device   not known: {why}\n"),
        }
        if let Some(resume) = &self.resume {
            text += &format!("resume   {resume}\n");
        }
        let (container, room) = (self.container, self.room);
        text += &format!("size     {container} bytes, {room} for an image\n");
        text += &format!("image    {}\n", self.image.1);
        let bundle = match &self.bundle {
            Ok(Some(bundle)) => words(bundle),
            Ok(None) => "none".into(),
            Err(why) => why.clone(),
        };
        text + &format!("bundle   {bundle}")
    }

    fn json(&self) -> Json {
        let text = |s: Option<&String>| s.map_or(Json::Null, Json::str);
        let number = |n: Option<u64>| n.map_or(Json::Null, Json::Int);
        let place = self.place.as_ref();
        let bundle = match &self.bundle {
            Ok(Some(b)) => Json::object([
                ("kernel_bytes", Json::Int(b.kernel.length)),
                ("kernel_blake3", Json::str(hex(&b.kernel.digest))),
                ("initrd_bytes", number(b.initrd.as_ref().map(|i| i.length))),
                ("command_line", Json::str(&b.command_line)),
            ]),
            Ok(None) => Json::Null,
            Err(why) => Json::object([("error", Json::str(why))]),
        };
        Json::object([
            ("target", Json::str(&self.spec)),
            ("device", text(place.ok().map(|p| &p.0))),
            ("offset", number(place.ok().and_then(|p| p.1))),
            ("not_known", text(place.err())),
            ("resume", text(self.resume.as_ref())),
            ("container_bytes", Json::Int(self.container)),
            ("room_bytes", Json::Int(self.room)),
            ("image", Json::str(self.image.0)),
            ("bundle", bundle),
        ])
    }
}

/// What the image is, in a word and in a line.
fn image(opened: &mut Opened) -> (&'static str, String) {
    match Image::inspect_only(opened) {
        Ok(image) => {
            let (state, uuid) = (image.state(), kjump_image::uuid(&image.header().uuid));
            (word(state), format!("{uuid}, {state}"))
        }
        Err(kjump_image::Refusal::NoImage(_)) => ("none", "none".into()),
        Err(e @ kjump_image::Refusal::Unfinished { .. }) => ("unfinished", e.to_string()),
        Err(e) => ("damaged", e.to_string()),
    }
}

fn words(bundle: &Bundle) -> String {
    let mut text = format!("kernel {} bytes", bundle.kernel.length);
    if let Some(initrd) = &bundle.initrd {
        text += &format!(", initrd {} bytes", initrd.length);
    }
    text + &format!(
        ", command line \"{}\"",
        parse::text(bundle.command_line.as_bytes())
    )
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
