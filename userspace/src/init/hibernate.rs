//! The command word "hibernate": save the kernel that this one was entered from, and end the machine.

use kjump_target::{Opened, Spec, System};

use super::{say, system};
use crate::abort::Abort;
use crate::config::Mode;
use crate::device::{self, Device};
use crate::error::{Error, Result};
use crate::hibernation;
use crate::hibernation::request::Request;
use crate::hibernation::save::{give_up, Save};
use crate::progress::Reporter;

/// Does what the request in the handoff block says. Returns only if this kernel is to go back:
/// nothing was saved then, or what was saved is given up again.
pub fn as_asked() -> Result<()> {
    let device = Device::open()?;
    let handoff = device
        .handoff()
        .map_err(|e| Error::from_errno("hibernate", e))?;
    let no_request = || Error::NoRequest { verb: "hibernate" };
    // One without an image is for whoever saves by hand.
    let request = Request::parse(&handoff.request)
        .filter(|r| r.image != [0; 16])
        .ok_or_else(no_request)?;
    let mut target = find(&request, &Spec::parse(&request.target)?)?;
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
    let summary = save.run(&mut target, &mut reporter, &mut Abort::watch())?;
    drop(reporter);
    let totals = summary.totals;
    say(format_args!(
        "saved: {} pages and {} of zeros in {} bytes; {}; {}",
        totals.data_pages,
        totals.zero_pages,
        totals.image_bytes,
        system::peak_memory(),
        match request.mode {
            Mode::None => "going back",
            Mode::Poweroff => "power off",
            Mode::Reboot => "restart",
            Mode::S4 => "ACPI S4",
        }
    ));
    let ended = end(request.mode);
    // Still here: the other kernel goes on, so the image must never be resumed.
    give_up(&mut target, &summary, &name)?;
    ended
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
