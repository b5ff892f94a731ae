// SPDX-License-Identifier: GPL-2.0

//! The other machine, and a client of this process at the other end of the cable.

use std::os::unix::net::UnixStream;

use super::wire::TICK;
use super::*;

/// A machine with the stack at the other end of the cable.
struct Client {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    began: Instant,
}

impl Client {
    fn connect(path: &Path) -> Self {
        let mut wire = Wire::default();
        wire.connect(UnixStream::connect(path).unwrap());
        let hardware = EthernetAddress([0x02, 0, 0, 0, 0x77, 2]).into();
        let config = iface::Config::new(hardware);
        let mut interface = Interface::new(config, &mut wire, Moment::ZERO);
        interface.update_ip_addrs(|addresses| {
            let ours = IpCidr::new(IpAddress::v4(10, 77, 0, 2), 24);
            addresses.push(ours).unwrap();
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; 8 * BLOCK]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        let there = (IpAddress::v4(10, 77, 0, 1), PORT);
        socket.connect(interface.context(), there, 50_000).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Self {
            wire,
            interface,
            sockets,
            handle,
            began: Instant::now(),
        }
    }

    /// Lets the stack work until the socket is as wanted.
    fn until<T>(&mut self, mut wanted: impl FnMut(&mut tcp::Socket<'_>) -> Option<T>) -> T {
        while self.began.elapsed() < Duration::from_secs(20) {
            self.wire.hear();
            let moment = Moment::from_micros(self.began.elapsed().as_micros() as i64);
            self.interface
                .poll(moment, &mut self.wire, &mut self.sockets);
            if let Some(result) = wanted(self.sockets.get_mut(self.handle)) {
                return result;
            }
        }
        panic!("it takes too long");
    }

    fn send(&mut self, bytes: &[u8]) {
        self.until(|socket| socket.can_send().then(|| socket.send_slice(bytes).unwrap()));
    }
}

#[test]
fn every_byte_of_a_connection_is_looked_at() {
    let path = std::env::temp_dir().join(format!("kjump-lan-{}", std::process::id()));
    let lan = Lan::start(&path).unwrap();
    let mut client = Client::connect(&path);
    for index in 0..20 {
        client.send(&block(REQUEST, index));
        let mut answer: Vec<u8> = Vec::new();
        client.until(|socket| {
            if socket.can_recv() {
                socket
                    .recv(|bytes| {
                        answer.extend_from_slice(bytes);
                        (bytes.len(), ())
                    })
                    .unwrap();
            }
            (answer.len() >= BLOCK).then_some(())
        });
        assert_eq!(answer, block(ANSWER, index));
    }
    assert_eq!(lan.blocks().unwrap(), 20);

    let mut wrong = block(REQUEST, 20);
    wrong[1000] ^= 1;
    client.send(&wrong);
    client.until(|_| lan.blocks().is_err().then_some(()));

    // A connection that it has forgotten is gone as soon as something is sent on it.
    lan.forget();
    thread::sleep(10 * TICK);
    client.send(&[0]);
    client.until(|socket| (!socket.is_open()).then_some(()));
}
