// SPDX-License-Identifier: GPL-2.0

//! A TCP connection over loopback that must survive: a client sends numbered blocks, a server
//! checks and answers each.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::counter::Progress;
use crate::memory::splitmix64;
use crate::{arg, failed, Outcome};

const BLOCK: usize = 1024;

/// Block `index` of the stream that starts with `salt`.
fn block(salt: u64, index: u64) -> [u8; BLOCK] {
    let mut bytes = [0; BLOCK];
    for (i, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&splitmix64(salt ^ index << 16 ^ i as u64).to_le_bytes());
    }
    bytes
}

const REQUEST: u64 = 0x5245_5155_4553_5421;
const ANSWER: u64 = 0x414e_5357_4552_2121;

/// Reads a block and checks that it is number `index`.
fn expect(stream: &mut TcpStream, salt: u64, index: u64) -> Outcome {
    let mut bytes = [0; BLOCK];
    stream.read_exact(&mut bytes).map_err(failed("receive"))?;
    if bytes != block(salt, index) {
        return Err(format!("block {index} arrived wrong"));
    }
    Ok(())
}

/// The server's side: checks requests, answers them.
fn serve(mut stream: TcpStream) -> Outcome {
    for index in 0.. {
        expect(&mut stream, REQUEST, index)?;
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
        expect(&mut stream, ANSWER, index)?;
        progress.set(index + 1)?;
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
