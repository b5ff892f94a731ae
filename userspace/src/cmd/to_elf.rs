//! `kjump image to-elf`: of an image, an ELF core for gdb, crash and the like.

use std::path::PathBuf;

use kjump_abi::{Handoff, PAGE_SIZE};
use kjump_core::{decode_handoff, handoff_address, ImageNote};
use kjump_image::{Image, PAGE};
use kjump_target::{Access, Spec, System};

use super::{rollback, save_elf};
use crate::abort::Abort;
use crate::config::Overrides;
use crate::error::{Error, Result};
use crate::hibernation::chain;
use crate::hibernation::old::{OldMemory, Spool};
use crate::hibernation::request::Request;
use crate::hibernation::save_elf::{SaveElf, Written};
use crate::progress::{watch, Reporter};

/// Arguments of `image to-elf`.
#[derive(Debug, clap::Args)]
pub struct ToElfArgs {
    /// A snapshot's name, or where the image is
    #[arg(value_name = "NAME|SPEC")]
    pub what: String,
    /// The file to be written; beside it there must be room for as much again, which is free afterwards
    #[arg(value_name = "FILE")]
    pub out: PathBuf,
    /// Read this instead of /etc/kjump.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the outcome as JSON
    #[arg(long)]
    pub json: bool,
}

/// Writes it.
pub fn run(args: &ToElfArgs) -> Result<Written> {
    let config = Overrides {
        config: args.config.clone(),
        ..Overrides::default()
    }
    .load()?;
    let at = rollback::source(&args.what, &config)?;
    let opened = System::default().open(&Spec::parse(&at)?, Access::Read)?;
    let refused = |source| Error::Refused {
        target: args.what.clone(),
        source,
    };
    let mut image = Image::inspect_only(opened).map_err(refused)?;
    if image.encryption().is_some() {
        return Err(Error::Encrypted {
            target: args.what.clone(),
            made: "an ELF core",
            why: "that would be plain; take a snapshot with --encrypt none, and make it of that",
        });
    }
    let mut links = chain::links(&image).map_err(refused)?;
    let header = image.header().clone();
    let end = header.ram.last().map_or(0, |r| r.end);
    let io = |e| Error::io(args.out.display().to_string(), e);
    let spool = Spool::beside(&args.out, end).map_err(io)?;
    let note = ImageNote {
        guards: image.guards().to_vec(),
        header,
    };

    // Standard output is for the outcome.
    let mut reporter = Reporter::new("reading", args.json, !args.json);
    let mut abort = Abort::watch();
    let mut chunks = image.chunks_over(&mut links).map_err(refused)?;
    while let Some(chunk) = chunks.next_chunk().map_err(refused)? {
        chunk.pieces().try_for_each(|p| spool.put(&p)).map_err(io)?;
        reporter.update(&chunks.progress());
        if abort.requested() {
            let verb = "image to-elf";
            return Err(Error::Aborted { verb });
        }
    }
    chunks.finish().map_err(refused)?;
    drop(reporter);

    let (handoff_at, handoff) = handoff(args, &spool, note.header.jump_back_entry)?;
    let placed = spool.put_window(&handoff);
    placed.map_err(|e| Error::io("the window's pages in the image", e))?;
    let save = SaveElf {
        old: &spool,
        handoff: &handoff,
        handoff_at,
        request: &Request::default(),
        headers: &save_elf::headers(&spool, &handoff),
        name: &args.out.display().to_string(),
        watched: None,
        free: false,
        image: Some(&note),
    };
    let mut reporter = Reporter::new("writing", args.json, !args.json);
    let mut progress = watch(&mut reporter, &mut abort);
    save_elf::write_file(&save, &args.out, &mut progress)
}

/// The handoff block of the kernel that is entered there, and where it is.
fn handoff(args: &ToElfArgs, spool: &Spool, entry: u64) -> Result<(u64, Box<Handoff>)> {
    let refused = |source| Error::Core {
        file: args.what.clone(),
        source,
    };
    let page = |at: u64| {
        let mut page = [0; PAGE];
        let read = spool.read_at(at, &mut page);
        read.map_err(|e| Error::io("the pages of the image", e))?;
        Ok::<_, Error>(page)
    };
    let at = handoff_address(&page(entry & !(PAGE_SIZE - 1))?).map_err(refused)?;
    let handoff = decode_handoff(&page(at)?).map_err(refused)?;
    Ok((at, handoff))
}
