// SPDX-License-Identifier: GPL-2.0

//! The cable between QEMU's network card and a TCP/IP stack of this process.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant as Moment;

/// How long the wire may be silent before the stack looks at its timers.
pub const TICK: Duration = Duration::from_millis(4);

/// The cable: frames to and from QEMU, each with its length before it, 4 bytes, big-endian.
#[derive(Default)]
pub struct Wire {
    stream: Option<UnixStream>,
    heard: Vec<u8>,
    frames: VecDeque<Vec<u8>>,
}

impl Wire {
    /// Another QEMU; the one before is gone.
    pub fn connect(&mut self, stream: UnixStream) {
        let ready = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_read_timeout(Some(TICK)))
            .and_then(|()| stream.set_write_timeout(Some(Duration::from_secs(5))));
        self.stream = ready.ok().map(|()| stream);
        self.heard.clear();
        self.frames.clear();
    }

    pub fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Waits for a moment for something to come in.
    pub fn hear(&mut self) {
        let Some(stream) = &mut self.stream else {
            thread::sleep(TICK);
            return;
        };
        let mut piece = [0; 65536];
        match stream.read(&mut piece) {
            Ok(0) => self.stream = None,
            Ok(count) => self.heard.extend(&piece[..count]),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                _ => self.stream = None,
            },
        }
        while let Some((length, rest)) = self.heard.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            if rest.len() < length {
                break;
            }
            self.frames.push_back(rest[..length].to_vec());
            self.heard.drain(..4 + length);
        }
    }

    /// Sends a frame; without a machine at the other end it is lost.
    fn say(&mut self, frame: &[u8]) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
        bytes.extend(frame);
        if stream.write_all(&bytes).is_err() {
            // Half a frame may have gone out: nothing that follows would be understood.
            self.stream = None;
        }
    }
}

impl Device for Wire {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _: Moment) -> Option<(Frame, Sender<'_>)> {
        let frame = self.frames.pop_front()?;
        Some((Frame(frame), Sender(self)))
    }

    fn transmit(&mut self, _: Moment) -> Option<Sender<'_>> {
        Some(Sender(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// A frame that came in.
pub struct Frame(Vec<u8>);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, look: F) -> R {
        look(&self.0)
    }
}

/// Room for a frame to go out.
pub struct Sender<'a>(&'a mut Wire);

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        self.0.say(&frame);
        result
    }
}
