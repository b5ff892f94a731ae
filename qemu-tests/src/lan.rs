// SPDX-License-Identifier: GPL-2.0

//! Another machine on A's network: a TCP/IP stack of its own at the other end of the network card's
//! cable. It stays on while A's machine is off, so a connection can outlive a hibernation. It answers
//! numbered blocks with numbered blocks, and looks at every byte.

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use smoltcp::iface::{self, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as Moment;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

use crate::blocks::{block, ANSWER, BLOCK, REQUEST};
use crate::vm::{Config, Vm};

/// Where it listens.
pub const ADDRESS: &str = "10.77.0.1:7777";
/// What A is to be on this network.
const OURS: &str = "10.77.0.2/24";
const PORT: u16 = 7777;
/// How long the wire may be silent before the stack looks at its timers.
const TICK: Duration = Duration::from_millis(4);

/// The other machine. Dropped, it is gone.
pub struct Lan {
    shared: Arc<Mutex<Shared>>,
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

/// What its thread and the story tell each other.
#[derive(Default)]
struct Shared {
    /// Blocks that came and were right.
    blocks: u64,
    /// The first thing that was not.
    wrong: Option<String>,
    /// The story wants it to know of no connection.
    forget: bool,
    /// Time stands still.
    still: bool,
    stop: bool,
}

impl Lan {
    /// Switches it on. `path` is for its socket.
    pub fn start(path: &Path) -> Result<Self> {
        let listener = UnixListener::bind(path).with_context(|| path.display().to_string())?;
        listener.set_nonblocking(true)?;
        let shared = Arc::<Mutex<Shared>>::default();
        let theirs = shared.clone();
        let thread = thread::spawn(move || Station::new(listener, &theirs).run(&theirs));
        Ok(Self {
            shared,
            path: path.to_path_buf(),
            thread: Some(thread),
        })
    }

    /// Connects a machine that is yet to be started.
    pub fn connect(&self, config: &mut Config) {
        config.net = false;
        let path = self.path.display().to_string().replace(',', ",,");
        let netdev = format!("stream,id=lan,server=off,addr.type=unix,addr.path={path}");
        let more = ["-netdev", &netdev, "-device", "virtio-net-pci,netdev=lan"];
        config.extra.extend(more.map(String::from));
    }

    /// Gives A its address.
    pub fn bring_up(&self, vm: &mut Vm) -> Result<()> {
        vm.sh(&format!("ip addr add {OURS} dev eth0; ip link set eth0 up"))
            .map(drop)
    }

    fn with<T>(&self, change: impl FnOnce(&mut Shared) -> T) -> T {
        change(&mut lock(&self.shared))
    }

    /// Its clock stands still, or goes on: while A is away the waits between its retransmissions
    /// would only grow.
    pub fn still(&self, still: bool) {
        self.with(|shared| shared.still = still);
    }

    /// It forgets its connections: A has gone back in time and means to go on with an older one.
    pub fn forget(&self) {
        self.with(|shared| shared.forget = true);
    }

    /// Blocks that have arrived, every byte of them right.
    pub fn blocks(&self) -> Result<u64> {
        self.with(|shared| match &shared.wrong {
            Some(why) => bail!("on the network: {why}"),
            None => Ok(shared.blocks),
        })
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.with(|shared| shared.stop = true);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
        fs::remove_file(&self.path).ok();
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's part: the cable, the stack, and one connection.
struct Station<'a> {
    listener: UnixListener,
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'a>,
    handle: SocketHandle,
    /// Bytes of the block that is coming in, and its number.
    incoming: Vec<u8>,
    index: u64,
    /// Answers that do not fit the socket's buffer yet.
    answers: VecDeque<u8>,
    /// Its own time, and when that was looked at last.
    clock: Duration,
    looked: Instant,
}

impl Station<'_> {
    fn new(listener: UnixListener, shared: &Mutex<Shared>) -> Self {
        let mut wire = Wire::default();
        let hardware = EthernetAddress([0x02, 0, 0, 0, 0x77, 1]).into();
        let mut interface = Interface::new(iface::Config::new(hardware), &mut wire, Moment::ZERO);
        interface.update_ip_addrs(|addresses| {
            let ours = IpCidr::new(IpAddress::v4(10, 77, 0, 1), 24);
            if addresses.push(ours).is_err() {
                lock(shared).wrong = Some("no room for an address".into());
            }
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; 16 * BLOCK]);
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Self {
            listener,
            wire,
            interface,
            sockets,
            handle,
            incoming: Vec::new(),
            index: 0,
            answers: VecDeque::new(),
            clock: Duration::ZERO,
            looked: Instant::now(),
        }
    }

    fn run(mut self, shared: &Mutex<Shared>) {
        loop {
            let (stop, still, forget) = {
                let mut shared = lock(shared);
                let forget = std::mem::take(&mut shared.forget);
                (shared.stop, shared.still, forget)
            };
            if stop {
                return;
            }
            let now = Instant::now();
            if !still && self.wire.is_connected() {
                self.clock += now - self.looked;
            }
            self.looked = now;
            if let Ok((stream, _)) = self.listener.accept() {
                self.wire.connect(stream);
            }
            self.wire.hear();
            let moment = Moment::from_micros(self.clock.as_micros() as i64);
            self.interface
                .poll(moment, &mut self.wire, &mut self.sockets);
            if let Err(why) = self.talk(forget, shared) {
                lock(shared).wrong.get_or_insert(why);
            }
        }
    }

    /// Looks at what has come in, and answers.
    fn talk(&mut self, forget: bool, shared: &Mutex<Shared>) -> Result<(), String> {
        let socket = self.sockets.get_mut::<tcp::Socket>(self.handle);
        if forget {
            socket.abort();
        }
        // The other end has closed: nothing of ours is left to be said.
        if socket.state() == tcp::State::CloseWait {
            socket.close();
        }
        if !socket.is_open() {
            self.incoming.clear();
            self.answers.clear();
            self.index = 0;
            let listening = socket.listen(PORT);
            return listening.map_err(|error| format!("listen: {error}"));
        }
        while socket.can_recv() {
            let incoming = &mut self.incoming;
            let taken = socket.recv(|bytes| {
                let count = bytes.len().min(BLOCK - incoming.len());
                incoming.extend(&bytes[..count]);
                (count, ())
            });
            taken.map_err(|error| format!("receive: {error}"))?;
            if self.incoming.len() < BLOCK {
                continue;
            }
            if self.incoming != block(REQUEST, self.index) {
                return Err(format!("block {} arrived wrong", self.index));
            }
            self.answers.extend(block(ANSWER, self.index));
            self.incoming.clear();
            self.index += 1;
            lock(shared).blocks += 1;
        }
        while socket.can_send() && !self.answers.is_empty() {
            let sent = socket.send_slice(self.answers.make_contiguous());
            let sent = sent.map_err(|error| format!("send: {error}"))?;
            self.answers.drain(..sent);
        }
        Ok(())
    }
}

/// The cable: frames to and from QEMU, each with its length before it, 4 bytes, big-endian.
#[derive(Default)]
struct Wire {
    stream: Option<UnixStream>,
    heard: Vec<u8>,
    frames: VecDeque<Vec<u8>>,
}

impl Wire {
    /// Another QEMU; the one before is gone.
    fn connect(&mut self, stream: UnixStream) {
        let ready = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_read_timeout(Some(TICK)))
            .and_then(|()| stream.set_write_timeout(Some(Duration::from_secs(5))));
        self.stream = ready.ok().map(|()| stream);
        self.heard.clear();
        self.frames.clear();
    }

    fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Waits for a moment for something to come in.
    fn hear(&mut self) {
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
struct Frame(Vec<u8>);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, look: F) -> R {
        look(&self.0)
    }
}

/// Room for a frame to go out.
struct Sender<'a>(&'a mut Wire);

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        self.0.say(&frame);
        result
    }
}
