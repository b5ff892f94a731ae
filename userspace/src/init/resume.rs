//! Kernel C: restoring, as a peer that a normal kernel jumped to, or started by the bootloader.

use std::cell::Cell;
use std::fs;

use kjump_core::layout::USED;
use kjump_target::{Access, Spec};

use super::options::{Fallback, Options};
use super::{say, system};
use crate::cmd::core::{demanded, enter_marked, refuse_plain};
use crate::cmd::restore::{machine_here, opener, Place};
use crate::cmd::resume::{forbidden, open, source_of};
use crate::config::Config;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::hibernation::core_map::CoreMap;
use crate::hibernation::core_mark::Marked;
use crate::hibernation::go_on;
use crate::hibernation::request::Request;
use crate::hibernation::restore::{Failed, Restore};
use crate::hibernation::resumable::Resumable;
use crate::progress::Reporter;
use crate::secret::{self, KeyArgs, Opener};

/// The command word "resume": returns if nothing was written yet, so that the kernel that jumped
/// here can go on booting. After that there is none any more: then the machine restarts.
pub fn as_asked() -> Result<()> {
    restart_on_panic();
    if let Some(map) = CoreMap::read()? {
        return from_core(&map);
    }
    let device = Device::open()?;
    let handoff = device
        .handoff()
        .map_err(|e| Error::from_errno("resume", e))?;
    let no_request = || Error::NoRequest { verb: "resume" };
    // One without an image is for whoever saves by hand.
    let request = Request::parse(&handoff.request)
        .filter(|r| r.image != [0; 16])
        .ok_or_else(no_request)?;
    let hint = Spec::parse(&request.target)?;
    let target = super::hibernate::find(&request, &hint)?;
    let name = target.name().to_string();
    let (config, claimed) = (KeyArgs::default().load()?, Cell::new(false));
    let restore = Restore {
        device: &device,
        machine: machine_here(Some(&handoff))?,
        opener: Opener {
            given: request.key.as_ref(),
            demand: request.encrypted || config.is_encrypting(),
            ..Opener::new(&config, "resume")
        },
        claimed: &claimed,
        name: &name,
        guard: !request.unguarded,
        retry: request.retry,
        // One that was booted for this has nothing to lose.
        spare: request.snapshot,
    };
    let mut reporter = Reporter::new("restoring", false, false);
    let came = restore.run(Place::Opened(Box::new(target)), &mut reporter);
    let came = match came {
        Failed::Untouched(e) if request.snapshot => Failed::Untouched(e.of_a_snapshot()),
        other => other,
    };
    failed(came, reporter)
}

/// What comes after a restore that failed.
fn failed(failed: Failed, reporter: Reporter) -> Result<()> {
    match failed {
        Failed::Untouched(e) => Err(e),
        Failed::Begun(e, marked) => {
            drop(reporter);
            say(format_args!("failed: {e}"));
            if !marked {
                // A restart would try the same again, for ever.
                say("the image could not be marked: switching off");
                system::end(true)?;
            }
            say("the kernel that jumped here is written over: restarting in 5 seconds");
            for _ in 0..5 {
                system::nap();
            }
            system::end(false)?;
            Err(e)
        }
    }
}

/// A core that was loaded by the kernel that jumped here, from the blocks that it is in. Returns as
/// [`as_asked`] does.
fn from_core(map: &CoreMap) -> Result<()> {
    let device = Device::open()?;
    let handoff = device
        .handoff()
        .map_err(|e| Error::from_errno("resume", e))?;
    refuse_plain(demanded()?, &map.name)?;
    let mut core = Resumable::open(map.open(Access::Read)?, &map.name, Some(map.entry))?;
    let mut here = machine_here(Some(&handoff))?;
    // That of the kernel that jumped here, which has nothing to do with the core's.
    here.build_id = None;
    core.check(&here)?;
    let swap = match map.guard {
        true => Some(core.check_guards()?),
        false => None,
    };
    let mut reporter = Reporter::new("restoring", false, false);
    let came = core.fill(&device, &here, false, &mut reporter);
    let came = came.and_then(|()| {
        let target = map.open(Access::Write);
        let marked = target.and_then(|target| Marked::mark(target, &map.name, USED));
        marked.map_err(|e| Failed::Begun(e, true))
    });
    let came = match came {
        Ok(marked) => {
            let error = enter_marked(&device, core.entry(), marked, swap.as_ref());
            Failed::Begun(error, true)
        }
        Err(came) => came,
    };
    failed(came, reporter)
}

/// A kernel that cannot go on restarts instead of standing still: nobody is there to press reset.
fn restart_on_panic() {
    if let Err(e) = fs::write("/proc/sys/kernel/panic", "10") {
        say(format_args!("/proc/sys/kernel/panic: {e}"));
    }
}

/// `go_to_resume`: restores, or goes on as the normal kernel.
pub fn from_bootloader(options: &Options) -> Result<()> {
    restart_on_panic();
    let device = Device::open()?;
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let spec = source_of(&line).and_then(|source| {
        let source = source.ok_or(Error::NoTarget)?;
        Ok((Spec::parse(&source)?, source))
    });
    let config = KeyArgs::default()
        .load()
        .and_then(|config| secret::on_command_line(&line, config));
    let claimed = Cell::new(false);
    let error = match (&spec, &config) {
        (Err(e), _) | (_, Err(e)) => e.to_string(),
        _ if forbidden(&line) => "the command line says noresume".into(),
        (Ok((spec, source)), Ok(config)) => {
            match restore(&device, source, spec, config, &claimed) {
                Ok(Failed::Untouched(e) | Failed::Begun(e, _)) | Err(e) => e.to_string(),
            }
        }
    };
    say(format_args!("not resumed: {error}"));
    match options.fallback {
        Fallback::Kernel => {
            let (spec, _) = spec?;
            let mut target = open(&spec, Access::Read)?;
            say("going on to the normal kernel");
            go_on::start(&device, &mut target, claimed.get())
        }
        Fallback::Shell => Ok(()),
        Fallback::Poweroff => system::end(true),
        Fallback::Reboot => system::end(false),
    }
}

fn restore(
    device: &Device,
    source: &str,
    spec: &Spec,
    config: &Config,
    claimed: &Cell<bool>,
) -> Result<Failed> {
    let mut target = open(spec, Access::Write)?;
    let mut machine = machine_here(None)?;
    // The kernel that would be booted otherwise: an image of another is foreign here.
    machine.build_id = go_on::build(&mut target).unwrap_or_else(|e| {
        say(format_args!("the kernel's build is not compared: {e}"));
        None
    });
    let restore = Restore {
        device,
        opener: opener(device, &machine, true, config, claimed),
        claimed,
        machine,
        name: source,
        guard: true,
        retry: false,
        spare: false,
    };
    let mut reporter = Reporter::new("restoring", false, false);
    Ok(restore.run(Place::Opened(Box::new(target)), &mut reporter))
}
