//! The names that the patches of 2007 and 2008 gave to what kjump does: `kexec`, `krestore`,
//! `kjump_back_param`. By their name, or as `kjump NAME …`, they are this same program.

mod act;
mod back_param;
mod kind;
mod krestore;
mod load;
mod options;
mod table;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::error::{Error, Result};
use crate::logger;
pub use load::make_room;
use options::{Action, Options};

/// A name with a command line of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// kexec-tools', with the seeds' options.
    Kexec,
    /// The restorer of memory images.
    Restore,
    /// The dumper of a jump-back image's parameters.
    BackParam,
}

/// The names.
const NAMES: &[(&str, Name)] = &[
    ("kexec", Name::Kexec),
    ("krestore", Name::Restore),
    ("kjump_back_param", Name::BackParam),
];

impl Name {
    fn find(word: &OsStr) -> Option<Self> {
        let word = Path::new(word).file_name()?;
        NAMES
            .iter()
            .find(|(n, _)| *n == word)
            .map(|(_, name)| *name)
    }

    fn text(self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, n)| *n == self)
            .map_or("kjump", |(n, _)| n)
    }
}

/// Which of the names this program was called by, and the arguments that follow it.
pub fn called_as(arguments: impl IntoIterator<Item = OsString>) -> Option<(Name, Vec<OsString>)> {
    let mut arguments = arguments.into_iter();
    let program = arguments.next()?;
    if let Some(name) = Name::find(&program) {
        return Some((name, arguments.collect()));
    }
    // A path is a file's name here, not this one.
    let first = arguments.next()?;
    let (_, name) = NAMES.iter().find(|(n, _)| *n == first)?;
    Some((*name, arguments.collect()))
}

/// Runs it; gives the exit code.
pub fn run(name: Name, arguments: Vec<OsString>) -> Result<u8> {
    let arguments = words(arguments)?;
    match name {
        Name::Kexec => kexec(&arguments),
        Name::Restore => {
            logger::install(false);
            krestore::run(&arguments)
        }
        Name::BackParam => {
            logger::install(false);
            back_param::run(&arguments)
        }
    }
}

/// Runs it, and says what went wrong.
pub fn main(name: Name, arguments: Vec<OsString>) -> ExitCode {
    match run(name, arguments) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "{}: {e}", name.text());
            ExitCode::from(e.exit_code())
        }
    }
}

fn words(arguments: Vec<OsString>) -> Result<Vec<String>> {
    let word = |a: OsString| {
        a.into_string()
            .map_err(|a| Error::Usage(format!("{}: no text; use names in UTF-8", a.display())))
    };
    arguments.into_iter().map(word).collect()
}

fn kexec(arguments: &[String]) -> Result<u8> {
    let options = Options::parse(arguments)?;
    logger::install(options.debug);
    match options.action {
        Action::Help => print(table::HELP),
        Action::Version => print(concat!("kexec (kjump) ", env!("CARGO_PKG_VERSION"), "\n")),
        _ => {
            for note in &options.notes {
                log::info!("{note}");
            }
            act::act(&options)
        }
    }
}

fn print(text: &str) -> Result<u8> {
    crate::cmd::say(text.trim_end()).map(|()| 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(line: &str) -> Option<(Name, usize)> {
        let words = line.split_whitespace().map(OsString::from);
        called_as(words).map(|(name, rest)| (name, rest.len()))
    }

    #[test]
    fn names() {
        assert_eq!(called("/sbin/kexec -l k"), Some((Name::Kexec, 2)));
        assert_eq!(called("kjump kexec -e"), Some((Name::Kexec, 1)));
        assert_eq!(called("/bin/krestore dump.elf"), Some((Name::Restore, 1)));
        assert_eq!(called("kjump load kexec"), None);
        assert_eq!(called("kjump ./kexec"), None);
        assert_eq!(called("kjump"), None);
        assert_eq!(called(""), None);
        assert_eq!(Name::Kexec.text(), "kexec");
    }
}
