//! Kernel C: restoring, as a peer that a normal kernel jumped to, or started by the bootloader.

use std::fs;

use kjump_target::{Access, Spec, System};

use super::options::{Fallback, Options};
use super::{say, system};
use crate::cmd::restore::{machine_here, Place};
use crate::cmd::resume::{open, source_of};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hibernation::go_on;
use crate::hibernation::request::Request;
use crate::hibernation::restore::{Failed, Restore};
use crate::progress::Reporter;

/// The command word "resume": returns if nothing was written yet, so that the kernel that jumped
/// here can go on booting. After that there is none any more: then the machine restarts.
pub fn as_asked() -> Result<()> {
    let device = Device::open()?;
    let handoff = device
        .handoff()
        .map_err(|e| Error::from_errno("resume", e))?;
    let no_request = || Error::NoRequest { verb: "resume" };
    let request = Request::parse(&handoff.request).ok_or_else(no_request)?;
    let hint = Spec::parse(&request.target)?;
    let target = System::default().find_by_image_uuid(request.image, &hint)?;
    let name = target.name().to_string();
    let restore = Restore {
        device: &device,
        machine: machine_here(Some(&handoff))?,
        name: &name,
        guard: !request.unguarded,
        retry: request.retry,
    };
    let mut reporter = Reporter::new("restoring", false, false);
    match restore.run(Place::Opened(Box::new(target)), &mut reporter) {
        Failed::Untouched(e) => Err(e),
        Failed::Begun(e) => {
            drop(reporter);
            say(format_args!("failed: {e}"));
            say("the kernel that jumped here is written over: restarting in 5 seconds");
            for _ in 0..5 {
                system::nap();
            }
            system::end(false)?;
            Err(e)
        }
    }
}

/// `go_to_resume`: restores, or goes on as the normal kernel.
pub fn from_bootloader(options: &Options) -> Result<()> {
    let device = Device::open()?;
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let source = source_of(&line)?.ok_or(Error::NoTarget)?;
    let spec = Spec::parse(&source)?;
    let (error, claimed) = match restore(&device, &source, &spec) {
        Ok(Failed::Untouched(e)) => (e, false),
        Ok(Failed::Begun(e)) => (e, true),
        Err(e) => (e, false),
    };
    say(format_args!("not resumed: {error}"));
    match options.fallback {
        Fallback::Kernel => {
            let mut target = open(&spec, Access::Read)?;
            say("going on to the normal kernel");
            go_on::start(&device, &mut target, claimed)
        }
        Fallback::Shell => Ok(()),
        Fallback::Poweroff => system::end(true),
        Fallback::Reboot => system::end(false),
    }
}

fn restore(device: &Device, source: &str, spec: &Spec) -> Result<Failed> {
    let target = open(spec, Access::Write)?;
    let restore = Restore {
        device,
        machine: machine_here(None)?,
        name: source,
        guard: true,
        retry: false,
    };
    let mut reporter = Reporter::new("restoring", false, false);
    Ok(restore.run(Place::Opened(Box::new(target)), &mut reporter))
}
