// SPDX-License-Identifier: GPL-2.0

//! Just enough of GDB's remote protocol to stop the machine at one instruction.
//!
//! QEMU stops the machine when a debugger attaches, and again at a breakpoint; in between it
//! answers. While the machine is stopped, QMP shows its CPUs, devices and memory.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};

/// How long the stub may take to answer what needs no running of the guest.
const ANSWER: Duration = Duration::from_secs(10);

/// A debugger's connection to QEMU's stub.
pub struct Gdb(UnixStream);

/// `$payload#checksum`.
fn frame(payload: &str) -> String {
    let sum = payload.bytes().fold(0u8, u8::wrapping_add);
    format!("${payload}#{sum:02x}")
}

impl Gdb {
    /// Attaches over a connected socket: the machine stops.
    pub fn attach(stream: UnixStream) -> Result<Self> {
        stream.set_write_timeout(Some(ANSWER))?;
        let mut gdb = Self(stream);
        let reason = gdb.ask("?")?;
        if !reason.starts_with(['T', 'S']) {
            bail!("gdb: the stub says \"{reason}\" where a stop was expected");
        }
        Ok(gdb)
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.0.read_exact(&mut byte).context("gdb: no answer")?;
        Ok(byte[0])
    }

    /// The next packet's payload, acknowledged.
    fn receive(&mut self, timeout: Duration) -> Result<String> {
        self.0.set_read_timeout(Some(timeout))?;
        while self.byte()? != b'$' {}
        let mut payload = String::new();
        loop {
            match self.byte()? {
                b'#' => break,
                byte => payload.push(byte as char),
            }
        }
        // Two digits of checksum: a unix socket loses nothing.
        self.byte()?;
        self.byte()?;
        self.0.write_all(b"+")?;
        Ok(payload)
    }

    fn ask(&mut self, payload: &str) -> Result<String> {
        self.0.write_all(frame(payload).as_bytes())?;
        self.receive(ANSWER)
    }

    fn command(&mut self, payload: &str) -> Result<()> {
        let mut answer = self.ask(payload)?;
        // The stop that attaching causes may be told a second time, in between.
        while answer.starts_with('T') {
            answer = self.receive(ANSWER)?;
        }
        ensure!(answer == "OK", "gdb: {payload}: \"{answer}\"");
        Ok(())
    }

    /// Sets a hardware breakpoint at a linear address: with paging off, a physical one.
    pub fn break_at(&mut self, address: u64) -> Result<()> {
        self.command(&format!("Z1,{address:x},1"))
    }

    /// Removes it.
    pub fn unbreak(&mut self, address: u64) -> Result<()> {
        self.command(&format!("z1,{address:x},1"))
    }

    /// Lets interrupts come at single steps, which QEMU holds back by default.
    pub fn step_with_interrupts(&mut self) -> Result<()> {
        // SSTEP_ENABLE alone: neither SSTEP_NOIRQ nor SSTEP_NOTIMER.
        self.command("Qqemu.sstep=1")
    }

    /// One instruction, or the way into an interrupt's handler.
    pub fn step(&mut self) -> Result<()> {
        self.0.write_all(frame("s").as_bytes()).context("gdb")?;
        self.wait_stop(ANSWER)
    }

    /// EIP of the CPU that has stopped.
    pub fn eip(&mut self) -> Result<u64> {
        // i386: EIP is the ninth register of 32 bits, in the CPU's byte order.
        let all = self.ask("g")?;
        let word = all
            .get(64..72)
            .and_then(|word| u32::from_str_radix(word, 16).ok());
        let word = word.with_context(|| format!("gdb: registers \"{all}\""))?;
        Ok(u64::from(word.swap_bytes()))
    }

    /// Lets the machine run on.
    pub fn go(&mut self) -> Result<()> {
        self.0.write_all(frame("c").as_bytes()).context("gdb")
    }

    /// Waits for the machine to stop at a breakpoint.
    pub fn wait_stop(&mut self, timeout: Duration) -> Result<()> {
        let reason = self
            .receive(timeout)
            .context("gdb: the machine did not stop")?;
        if !reason.starts_with(['T', 'S']) {
            bail!("gdb: \"{reason}\" where a stop was expected");
        }
        Ok(())
    }

    /// Takes all breakpoints away and lets the machine run on, without a debugger.
    pub fn detach(mut self) -> Result<()> {
        self.command("D")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn packets_carry_their_checksum() {
        assert_eq!(frame("?"), "$?#3f");
        assert_eq!(frame("OK"), "$OK#9a");
        assert_eq!(frame(""), "$#00");
    }

    #[test]
    fn a_breakpoint_is_set_and_hit() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let stub = thread::spawn(move || {
            let mut heard = Vec::new();
            for answer in ["+$T05thread:01;#07", "+$OK#9a", "+$T05#b9"] {
                // A packet, and whatever acknowledgements come before it.
                let mut tail = [0; 3];
                while tail[0] != b'#' {
                    let mut byte = [0];
                    theirs.read_exact(&mut byte).unwrap();
                    heard.push(byte[0]);
                    tail = [tail[1], tail[2], byte[0]];
                }
                theirs.write_all(answer.as_bytes()).unwrap();
            }
            // The port stays open: the client acknowledges what it hears.
            (String::from_utf8(heard).unwrap(), theirs)
        });
        let mut gdb = Gdb::attach(ours).unwrap();
        gdb.break_at(0x1f0_0010).unwrap();
        gdb.go().unwrap();
        gdb.wait_stop(Duration::from_secs(5)).unwrap();
        drop(gdb);
        let (heard, _port) = stub.join().unwrap();
        assert!(heard.contains("$Z1,1f00010,1#"), "{heard}");
    }
}
