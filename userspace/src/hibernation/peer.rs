//! What A and N do to a peer: have one, tell it what to do, jump, and understand its answer.

use std::fs;

use kjump_abi as abi;

use kjump_target::System;

use super::request::Request;
use super::{machine, watch};
use crate::cli;
use crate::cmd::{self, jump, load};
use crate::config::{Config, Overrides};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::loader::memmap;
use crate::parse;

/// What a peer said when it came back.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// This kernel's memory was saved, and restored since.
    Resumed(String),
    /// It did what it was told.
    Done,
    /// It did not: an exit code of this command, and why.
    Failed(u8, String),
}

/// Refuses a peer that is loaded and can neither save nor restore, before anything is done for it.
///
/// # Errors
///
/// [`Error::OwnWindow`].
pub fn usable(device: &Device, verb: &'static str) -> Result<abi::Status> {
    let status = device
        .status()
        .map_err(|e| Error::from_errno("status", e))?;
    match status.own.end {
        0 => Ok(status),
        _ => Err(Error::OwnWindow { verb }),
    }
}

/// Loads the configured peer for `verb`, unless one is there.
///
/// # Errors
///
/// [`Error::OwnWindow`] for one that cannot save or restore; those of a load.
pub fn ready(device: &Device, config: &Config, verb: &'static str) -> Result<()> {
    let status = usable(device, verb)?;
    if [abi::STATE_LOADED, abi::STATE_RETURNED].contains(&status.state)
        && status.flags & abi::STATUS_FLAG_ONE_WAY == 0
    {
        return Ok(());
    }
    if cmd::peer::is_peer(&config.peer) {
        return cmd::peer::load_file(device, &config.peer, |_| Ok(()));
    }
    let own = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    load::load(
        device,
        &cli::Load {
            kernel: config.peer.clone(),
            initrd: config.initrd().map(Into::into),
            append: config.command_line(&own),
            window: config.window,
            own_window: None,
            one_way: false,
            below: None,
        },
    )
}

/// Leaves what a peer cannot find out by itself, for a save by hand. Without it a save watches every
/// filesystem that it finds.
pub fn tell_what_is(device: &Device) {
    let map = memmap::read().unwrap_or_default();
    // What cannot be read may say that nothing is to be written as it is.
    let encrypted = match Overrides::default().load() {
        Ok(config) => config.is_encrypting(),
        Err(e) => {
            log::warn!("{e}; a peer is told to write encrypted images only");
            true
        }
    };
    let mut request = Request {
        watched: watch::collect(&System::default(), false).ok(),
        encrypted,
        ..machine::introduce(&map)
    };
    if request.text().len() >= abi::REQUEST_SIZE {
        log::warn!("more is mounted than can be told: a peer that saves watches all filesystems that it finds");
        request.watched = None;
    }
    // What is loaded may go one way, or nothing may be: the jump says so.
    if let Err(e) = device.request(&request.text()) {
        log::info!("no request left for the peer: {e}");
    }
}

/// Tells the peer what to do, and jumps. A key is wiped here as soon as it is told.
pub fn ask(
    device: &Device,
    verb: &'static str,
    command: u32,
    request: &mut Request,
    (way, trust): (&cli::Way, cli::Trust),
) -> Result<Answer> {
    let text = request.text();
    if text.len() >= abi::REQUEST_SIZE {
        return Err(Error::TooMuchToWatch(
            request.watched.as_ref().map_or(0, Vec::len),
        ));
    }
    device
        .request(&text)
        .map_err(|e| Error::from_errno(verb, e))?;
    drop(text);
    request.key = None;
    let mut jump = abi::Jump {
        flags: way.flags() | trust.flags(),
        command,
        fail_at: way.fail_at.unwrap_or(0),
        ..Default::default()
    };
    // If nobody comes back: lose no data.
    rustix::fs::sync();
    device
        .jump(&mut jump)
        .map_err(|e| jump::error(verb, way, e, jump.failed_rung))
        .and_then(|()| jump::untouched(verb, device, &jump))?;
    let reason = device.status().map(|s| parse::text(&s.reason));
    Ok(answer(jump.status, reason.unwrap_or_default()))
}

fn answer(status: u32, reason: String) -> Answer {
    match (status, u8::try_from(status)) {
        (abi::STATUS_RESUMED, _) => Answer::Resumed(reason),
        (0, _) => Answer::Done,
        (abi::STATUS_PANIC, _) => Answer::Failed(
            crate::exit::EXIT_PEER_PANIC,
            format!("the peer panicked: {reason}"),
        ),
        (abi::STATUS_NONE, _) => {
            let why = "the peer came back without a word: it does not know this command";
            Answer::Failed(crate::exit::EXIT_PEER_STATUS, why.into())
        }
        (_, Ok(code)) => Answer::Failed(code, reason),
        (n, Err(_)) => Answer::Failed(
            crate::exit::EXIT_PEER_STATUS,
            format!("status {n}: {reason}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let text = || String::from("x");
        assert_eq!(answer(0, text()), Answer::Done);
        assert_eq!(answer(abi::STATUS_RESUMED, text()), Answer::Resumed(text()));
        assert_eq!(answer(57, text()), Answer::Failed(57, text()));
        assert!(matches!(
            answer(abi::STATUS_NONE, text()),
            Answer::Failed(40, _)
        ));
        assert!(
            matches!(answer(abi::STATUS_PANIC, text()), Answer::Failed(41, w) if w.contains('x'))
        );
        assert!(matches!(answer(1000, text()), Answer::Failed(40, w) if w.contains("1000")));
    }
}
