// SPDX-License-Identifier: GPL-2.0

//! A TCP connection over loopback that must survive: a client sends numbered blocks, a server
//! checks and answers each.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::blocks::{block, ANSWER, BLOCK, REQUEST};
use crate::counter::Progress;
use crate::{arg, failed, Outcome};

/// Reads a block and checks that it is number `index`.
///
/// # Errors
///
/// The connection's; [`ErrorKind::InvalidData`] for other bytes than those.
pub fn expect(stream: &mut TcpStream, salt: u64, index: u64) -> io::Result<()> {
    let mut bytes = [0; BLOCK];
    stream.read_exact(&mut bytes)?;
    if bytes == block(salt, index) {
        return Ok(());
    }
    let why = format!("block {index} arrived wrong");
    Err(io::Error::new(ErrorKind::InvalidData, why))
}

/// The server's side: checks requests, answers them.
fn serve(mut stream: TcpStream) -> Outcome {
    for index in 0.. {
        expect(&mut stream, REQUEST, index).map_err(failed("receive"))?;
        stream
            .write_all(&block(ANSWER, index))
            .map_err(failed("answer"))?;
    }
    Ok(())
}

/// `tcp PROGRESS`: server and client over 127.0.0.1 until something goes wrong; the number of
/// exchanges goes to PROGRESS.
pub fn run(args: &[String]) -> Outcome {
    let progress = Progress::create(arg(args, 0)?)?;
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed("bind"))?;
    let address = listener.local_addr().map_err(failed("address"))?;
    thread::spawn(move || {
        let outcome = listener
            .accept()
            .map_err(failed("accept"))
            .and_then(|(s, _)| serve(s));
        if let Err(why) = outcome {
            eprintln!("guest tcp: server: {why}");
            std::process::exit(1);
        }
    });
    let mut stream = TcpStream::connect(address).map_err(failed("connect"))?;
    for index in 0.. {
        stream
            .write_all(&block(REQUEST, index))
            .map_err(failed("send"))?;
        expect(&mut stream, ANSWER, index).map_err(failed("receive"))?;
        progress.set(index + 1)?;
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
