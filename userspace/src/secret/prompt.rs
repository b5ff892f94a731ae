//! Asking for a passphrase on the terminal, without showing it; or taking it from a script.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::termios::{
    tcgetattr, tcsetattr, LocalModes, OptionalActions, SpecialCodeIndex, Termios,
};
use zeroize::Zeroizing;

use super::signals::Held;
use crate::error::{Error, Result};

/// Between two looks whether a signal has come, nanoseconds.
const MOMENT: i64 = 100_000_000;
/// Bytes that a passphrase has at most.
const MOST: usize = 512;

/// Whether this program was started with a file descriptor: its own close when it starts another.
fn is_given(fd: i32) -> bool {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|f| u32::from_str_radix(f.trim(), 8).ok());
    flags.is_some_and(|flags| flags & OFlags::CLOEXEC.bits() == 0)
}

/// A line from a file descriptor that this program was started with.
///
/// # Errors
///
/// [`Error::Usage`] for one that it was not started with; [`Error::NoKey`] for an empty or endless
/// line; those of the system.
pub fn from_fd(fd: i32) -> Result<Zeroizing<Vec<u8>>> {
    // Without a redirection the number may be that of a file which this program has opened itself.
    if !is_given(fd) {
        return Err(Error::Usage(format!(
            "--passphrase-fd {fd}: kjump was started without that file descriptor; redirect it, as by \
             {fd}<FILE"
        )));
    }
    // By the name that every process has for it, so that nothing unsafe is needed.
    let path = format!("/proc/self/fd/{fd}");
    let failed = |e| Error::io(format!("the passphrase from file descriptor {fd}"), e);
    let file = match fd {
        0 => None,
        _ => Some(File::open(path).map_err(failed)?),
    };
    let mut line = Line::new();
    let mut byte = Zeroizing::new([0; 1]);
    loop {
        let read = match &file {
            Some(file) => (&*file).read(&mut *byte),
            None => rustix::io::read(io::stdin(), &mut *byte).map_err(Into::into),
        };
        match read.map_err(failed)? {
            0 => break,
            _ if byte[0] == b'\n' => break,
            _ => line.push(byte[0])?,
        }
    }
    line.end()
}

/// Asks on the terminal: the process's own, or the one on its standard input, which is a peer's
/// console.
///
/// # Errors
///
/// [`Error::NoKey`] where there is none, or nothing was typed; [`Error::Aborted`] after Ctrl-C, or a
/// signal that would end the program.
pub fn ask(question: &str, verb: &'static str) -> Result<Zeroizing<Vec<u8>>> {
    ask_on(&Terminal::open()?, question, verb)
}

fn ask_on(terminal: &Terminal, question: &str, verb: &'static str) -> Result<Zeroizing<Vec<u8>>> {
    // Before the terminal is quiet, and until it is not any more.
    let signals = Held::new().map_err(failed)?;
    let quiet = Quiet::new(terminal).map_err(failed)?;
    terminal.write(question).map_err(failed)?;
    let end = typed(terminal, &signals, verb);
    drop(quiet);
    // Whatever is said next has a line of its own.
    let written = terminal.write("\n").map_err(failed);
    end.and_then(|line| written.map(|()| line))
}

/// What is typed up to the end of a line.
fn typed(terminal: &Terminal, signals: &Held, verb: &'static str) -> Result<Zeroizing<Vec<u8>>> {
    let mut line = Line::new();
    loop {
        let ready = terminal.wait().map_err(failed)?;
        // In this order: a terminal that hangs up sends a signal, and has an end.
        if signals.came() {
            return Err(Error::Aborted { verb });
        }
        if !ready {
            continue;
        }
        match terminal.read().map_err(failed)? {
            None => return Err(Error::NoKey("the terminal is gone")),
            Some(b'\n' | b'\r' | 0x04) => return line.end(),
            Some(0x03) => return Err(Error::Aborted { verb }),
            Some(0x08 | 0x7f) => line.rub_out(),
            Some(0x15) => line.clear(),
            Some(byte) => line.push(byte)?,
        }
    }
}

fn failed(e: io::Error) -> Error {
    Error::io("the terminal", e)
}

/// Says something where [`ask`] asks.
pub fn tell(line: &str) -> Result<()> {
    Terminal::open()?
        .write(&format!("{line}\n"))
        .map_err(failed)
}

/// A line in the making, which is wiped and never moved.
struct Line(Zeroizing<Vec<u8>>);

impl Line {
    fn new() -> Self {
        Self(Zeroizing::new(Vec::with_capacity(MOST)))
    }

    fn push(&mut self, byte: u8) -> Result<()> {
        if self.0.len() == MOST {
            return Err(Error::NoKey("the passphrase is longer than 512 bytes"));
        }
        self.0.push(byte);
        Ok(())
    }

    /// The last character, all bytes of it.
    fn rub_out(&mut self) {
        while self.0.pop().is_some_and(|b| b & 0xc0 == 0x80) {}
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn end(self) -> Result<Zeroizing<Vec<u8>>> {
        match self.0.is_empty() {
            true => Err(Error::NoKey("no passphrase was given")),
            false => Ok(self.0),
        }
    }
}

/// Where a user can be asked.
enum Terminal {
    Own(File),
    Input,
}

impl Terminal {
    fn open() -> Result<Self> {
        let own = File::options().read(true).write(true).open("/dev/tty");
        match own {
            Ok(file) => Ok(Self::Own(file)),
            Err(_) if io::stdin().is_terminal() => Ok(Self::Input),
            Err(_) => Err(Error::NoKey(
                "there is no terminal to ask for the passphrase on; use --passphrase-fd N or --key-file FILE",
            )),
        }
    }

    /// Waits a moment for something to read; says whether there is.
    fn wait(&self) -> io::Result<bool> {
        let moment = Timespec {
            tv_sec: 0,
            tv_nsec: MOMENT,
        };
        let ready = self.settings(|fd| {
            let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
            poll(&mut fds, Some(&moment))
        });
        match ready {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn read(&self) -> io::Result<Option<u8>> {
        let mut byte = Zeroizing::new([0; 1]);
        let n = self.settings(|fd| {
            rustix::io::retry_on_intr(|| rustix::io::read(fd.as_fd(), &mut *byte))
        })?;
        Ok((n > 0).then_some(byte[0]))
    }

    fn write(&self, text: &str) -> io::Result<()> {
        match self {
            Self::Own(file) => (&*file).write_all(text.as_bytes()),
            // Standard output may be a program's.
            Self::Input => io::stderr().write_all(text.as_bytes()),
        }
    }

    fn settings<T>(&self, f: impl FnOnce(&dyn AsFd) -> T) -> T {
        match self {
            Self::Own(file) => f(file),
            Self::Input => f(&io::stdin()),
        }
    }
}

/// A terminal that gives bytes one by one, without echo and signals, until this is dropped.
struct Quiet<'a> {
    terminal: &'a Terminal,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn new(terminal: &'a Terminal) -> io::Result<Self> {
        let before = terminal.settings(|fd| tcgetattr(fd.as_fd()))?;
        let mut quiet = before.clone();
        // Ctrl-C arrives as a byte: a signal would leave the terminal without echo.
        quiet.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        // What was typed before the question was not meant for it.
        terminal.settings(|fd| tcsetattr(fd.as_fd(), OptionalActions::Flush, &quiet))?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let (terminal, before) = (self.terminal, &self.before);
        // Nothing can be done about it.
        let _ = terminal.settings(|fd| tcsetattr(fd.as_fd(), OptionalActions::Flush, before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::tests::inherited;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::ptr;
    use std::thread;
    use std::time::Duration;

    fn given(bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        from_fd(inherited(bytes).as_raw_fd())
    }

    #[test]
    fn a_line_of_a_file_descriptor() {
        assert_eq!(**given(b"correct horse\nx").unwrap(), *b"correct horse");
        assert_eq!(**given("grün".as_bytes()).unwrap(), *"grün".as_bytes());
        assert_eq!(given(b"").unwrap_err().exit_code(), 71);
        assert_eq!(given(b"\nx").unwrap_err().exit_code(), 71);
        assert_eq!(given(&[b'x'; 512]).unwrap().len(), 512);
        assert!(given(&[b'x'; 513]).is_err());
    }

    #[test]
    fn a_file_of_its_own_is_no_passphrase() {
        let path = std::env::temp_dir().join(format!("kjump-own-{}", std::process::id()));
        fs::write(&path, "not meant\n").unwrap();
        let own = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        for fd in [own.as_raw_fd(), 9999, -1] {
            let e = from_fd(fd).unwrap_err();
            assert_eq!(e.exit_code(), 2, "{e}");
            assert!(e.to_string().contains(&format!("{fd}<FILE")), "{e}");
        }
        rustix::io::fcntl_setfd(&own, rustix::io::FdFlags::empty()).unwrap();
        assert!(is_given(own.as_raw_fd()));
    }

    /// A terminal, and who sits at it.
    fn terminal() -> (Terminal, File) {
        let (mut user, mut side) = (-1, -1);
        let (name, settings, size) = (ptr::null_mut(), ptr::null(), ptr::null());
        // SAFETY: both numbers are written; of the rest nothing is given, or wanted.
        let made = unsafe { libc::openpty(&mut user, &mut side, name, settings, size) };
        assert_eq!(made, 0, "{}", io::Error::last_os_error());
        // SAFETY: both were made just now, and are nobody else's.
        let [user, side] = [user, side].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        (Terminal::Own(side.into()), user.into())
    }

    fn modes(terminal: &impl AsFd) -> LocalModes {
        tcgetattr(terminal).unwrap().local_modes
    }

    /// What becomes of a question, once somebody has done this at the terminal.
    fn asked(does: impl FnOnce(&File, libc::pthread_t) + Send) -> Result<Zeroizing<Vec<u8>>> {
        let (terminal, user) = terminal();
        let before = modes(&user);
        assert!(before.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG));
        // SAFETY: it has no conditions.
        let asker = unsafe { libc::pthread_self() } as usize;
        let end = thread::scope(|scope| {
            scope.spawn(|| {
                while modes(&user).contains(LocalModes::ECHO) {
                    thread::sleep(Duration::from_millis(1));
                }
                does(&user, asker as libc::pthread_t);
            });
            ask_on(&terminal, "Well? ", "t")
        });
        assert_eq!(modes(&user), before);
        end
    }

    #[test]
    fn an_answer() {
        let typed = |keys: &'static [u8]| asked(move |mut user, _| user.write_all(keys).unwrap());
        assert_eq!(**typed(b"horsd\x7fe\r").unwrap(), *b"horse");
        assert_eq!(**typed(b"cow\x15horse\n").unwrap(), *b"horse");
        assert_eq!(typed(b"\r").unwrap_err().exit_code(), 71);
        assert_eq!(typed(b"hor\x03").unwrap_err().exit_code(), 57);
    }

    /// It is not lost, and does not leave the terminal without echo.
    #[test]
    fn a_signal_ends_the_question() {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            let e = asked(|mut user, asker| {
                user.write_all(b"hor").unwrap();
                // SAFETY: that thread waits for this one.
                assert_eq!(unsafe { libc::pthread_kill(asker, signal) }, 0);
            });
            assert_eq!(e.unwrap_err().exit_code(), 57, "signal {signal}");
        }
    }

    #[test]
    fn characters_are_rubbed_out_whole() {
        let mut line = Line::new();
        for byte in "aü".bytes() {
            line.push(byte).unwrap();
        }
        line.rub_out();
        assert_eq!(**line.0, *b"a");
        line.rub_out();
        line.rub_out();
        assert!(line.end().is_err());
    }
}
