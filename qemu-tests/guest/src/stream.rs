// SPDX-License-Identifier: GPL-2.0

//! A TCP connection to another machine, which does not step aside: numbered blocks go out, and
//! those that come back are checked. It is to survive whatever this machine does, but for one thing:
//! when this machine goes back in time, the other one does not.

use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::thread::sleep;
use std::time::Duration;

use crate::blocks::{block, ANSWER, REQUEST};
use crate::counter::Progress;
use crate::tcp::expect;
use crate::{arg, Outcome};

/// `stream ADDRESS PROGRESS LOST`: exchanges blocks with ADDRESS; the number of exchanges goes to
/// PROGRESS, and how many connections were lost to LOST: it makes another one then. Ends if a byte is
/// wrong.
pub fn run(args: &[String]) -> Outcome {
    let address = arg(args, 0)?;
    let progress = Progress::create(arg(args, 1)?)?;
    let lost = Progress::create(arg(args, 2)?)?;
    let mut exchanges = 0;
    for losses in 0.. {
        lost.set(losses)?;
        let stream = loop {
            match TcpStream::connect(address) {
                Ok(stream) => break stream,
                Err(_) => sleep(Duration::from_millis(200)),
            }
        };
        let error = exchange(stream, || {
            exchanges += 1;
            progress.set(exchanges).map_err(io::Error::other)
        });
        match error.kind() {
            ErrorKind::InvalidData | ErrorKind::Other => return Err(format!("{address}: {error}")),
            _ => eprintln!("guest stream: {error}"),
        }
    }
    Ok(())
}

/// Sends blocks and checks the answers, and calls `done` for each, until something fails.
fn exchange(mut stream: TcpStream, mut done: impl FnMut() -> io::Result<()>) -> io::Error {
    let mut one = |stream: &mut TcpStream, index| {
        stream.write_all(&block(REQUEST, index))?;
        expect(stream, ANSWER, index)?;
        done()
    };
    if let Err(error) = keep_alive(&stream) {
        return error;
    }
    let mut index = 0;
    loop {
        if let Err(error) = one(&mut stream, index) {
            return error;
        }
        index += 1;
        sleep(Duration::from_millis(5));
    }
}

/// Asks the other end from time to time whether the connection is still there, as otherwise nobody
/// would notice that it is not who only waits.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let settings = [
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 2),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 120),
    ];
    for (level, name, value) in settings {
        let value: libc::c_int = value;
        // SAFETY: the descriptor is the stream's own, and the option's value is an int that lives
        // longer than the call.
        let result = unsafe {
            libc::setsockopt(
                stream.as_raw_fd(),
                level,
                name,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
