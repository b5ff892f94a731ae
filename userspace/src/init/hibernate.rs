//! The command word "hibernate": save the kernel that this one was entered from, and end the machine.

use std::fs;

use kjump_target::{Access, Opened, Spec, System};

use super::options::Options;
use super::{say, system};
use crate::abort::Abort;
use crate::cmd::resume::source_of;
use crate::config::Mode;
use crate::device::{self, Device};
use crate::error::{Error, Result};
use crate::hibernation;
use crate::hibernation::request::Request;
use crate::hibernation::save::{give_up, new_uuid, Save};
use crate::hibernation::workers::by;
use crate::progress::Reporter;

/// Does what the request in the handoff block says. Returns only if this kernel is to go back:
/// nothing was saved then, or what was saved is given up again.
pub fn as_asked(options: &Options) -> Result<()> {
    let device = Device::open()?;
    let handoff = device
        .handoff()
        .map_err(|e| Error::from_errno("hibernate", e))?;
    let asked = Request::left(&handoff.request, "hibernate")?;
    let named = asked.image != [0; 16];
    let (mut request, mut target) = match named {
        true => {
            let target = find(&asked, &Spec::parse(&asked.target)?)?;
            (asked, target)
        }
        // What it says of the machine and its filesystems holds, whoever names the target.
        false => to_own(options, asked)?,
    };
    let name = target.name().to_string();
    say(format_args!("saving to {name}; Ctrl-C, Esc or q stops"));
    let mut reporter = Reporter::new("saving", false, false);
    let save = Save {
        device: &device,
        handoff: &handoff,
        request: &request,
        name: &name,
        guard: true,
    };
    let saved = save.run(&mut target, &mut reporter, &mut Abort::watch());
    // Nothing of it stays in this kernel, which may be entered again.
    request.key = None;
    drop(handoff);
    let summary = saved?;
    drop(reporter);
    let totals = summary.totals;
    say(format_args!(
        "saved: {} pages and {} of zeros in {} bytes{}; {}; {}",
        totals.data_pages,
        totals.zero_pages,
        totals.image_bytes,
        by(summary.workers),
        system::peak_memory(),
        match request.mode {
            Mode::None => "going back",
            Mode::Poweroff => "power off",
            Mode::Reboot => "restart",
            Mode::S4 => "ACPI S4",
        }
    ));
    // The other kernel goes on, and may be put back to this moment as often as it likes.
    if request.snapshot {
        return Ok(());
    }
    let ended = match end(request.mode) {
        Err(e) if !named => {
            say(format_args!("{e}: power off"));
            system::end(true)
        }
        other => other,
    };
    // Still here: the other kernel goes on, so the image must never be resumed.
    give_up(&mut target, &summary, &name)?;
    ended
}

/// As the seeds have it: the target is this kernel's own, named on its command line.
fn to_own(options: &Options, request: Request) -> Result<(Request, Opened)> {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let source = source_of(&line)?.filter(|_| options.go_to_hibernate);
    let source = source.ok_or(Error::NoRequest { verb: "hibernate" })?;
    let spec = Spec::parse(&source)?;
    let system = System::default();
    let target = hibernation::once_there(|| match spec.offset() {
        Some(_) => system.open(&spec, Access::Write),
        None => system.open_in_a(&spec, false),
    })?;
    let image = new_uuid().map_err(|e| Error::io("a UUID for the image", e))?;
    let request = Request {
        image,
        target: source,
        mode: Mode::S4,
        ..request
    };
    Ok((request, target))
}

fn end(mode: Mode) -> Result<()> {
    match mode {
        Mode::None => Ok(()),
        Mode::Poweroff => system::end(true),
        Mode::Reboot => system::end(false),
        Mode::S4 => {
            device::enter_s4().map_err(|e| Error::io("ACPI S4 (/dev/snapshot)", e))?;
            let why = std::io::Error::from(std::io::ErrorKind::Other);
            Err(Error::io("ACPI S4: the machine goes on", why))
        }
    }
}

/// The target, by the mark that A has left there.
pub fn find(request: &Request, hint: &Spec) -> Result<Opened> {
    let system = System::default();
    hibernation::once_there(|| system.find_by_image_uuid(request.image, hint))
}
