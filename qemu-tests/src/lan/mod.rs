// SPDX-License-Identifier: GPL-2.0

//! Another machine on A's network: a TCP/IP stack of its own at the other end of the network card's
//! cable. It stays on while A's machine is off, so a connection can outlive a hibernation. It answers
//! numbered blocks with numbered blocks, and looks at every byte.

mod wire;

use std::collections::VecDeque;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use smoltcp::iface::{self, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as Moment;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

use crate::blocks::{block, ANSWER, BLOCK, REQUEST};
use crate::vm::{Config, Vm};
use wire::Wire;

/// Where it listens.
pub const ADDRESS: &str = "10.77.0.1:7777";
/// What A is to be on this network.
const OURS: &str = "10.77.0.2/24";
const PORT: u16 = 7777;

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

#[cfg(test)]
mod tests;
