//! `krestore`: a memory image (an ELF core) is put in place and entered, in one step.

use std::path::{Path, PathBuf};

use crate::cmd::core::{demanded, is_elf, restore, Options};
use crate::error::{Error, Result};
use crate::parse;

/// What `--help` prints.
const HELP: &str = "\
Usage: krestore [--entry=0xN] FILE

Restores the kernel whose memory is in FILE, an ELF core (`cp /proc/vmcore`, or `kjump save
--format elf`), and enters it: `kexec -l FILE` and `kexec -e` in one. FILE may be a device.
--entry is for a core that does not say itself where its kernel is entered.";

/// The command line: the file, and where its kernel is entered.
fn parse(arguments: &[String]) -> Result<Option<(PathBuf, Option<u64>)>> {
    let (mut file, mut entry) = (None, None);
    for word in arguments {
        match (word.as_str(), word.strip_prefix("--entry=")) {
            ("-h" | "--help", _) => return Ok(None),
            // What the seed's script makes of a line that it did not find.
            (_, Some("")) => {}
            (_, Some(number)) => entry = Some(parse::number(number).map_err(Error::Usage)?),
            (word, _) if word.starts_with('-') || file.is_some() => {
                return Err(Error::Usage(format!(
                    "`{word}`: krestore takes one file; see krestore --help"
                )));
            }
            (word, _) => file = Some(PathBuf::from(word)),
        }
    }
    match file {
        Some(file) => Ok(Some((file, entry))),
        None => Err(Error::Usage(
            "no file is named; `krestore FILE` restores an ELF core".into(),
        )),
    }
}

/// Runs it: does not return if it succeeds.
pub fn run(arguments: &[String]) -> Result<u8> {
    let Some((file, entry)) = parse(arguments)? else {
        return super::print(HELP);
    };
    if !is_elf(Path::new(&file)) {
        // An image has marks, and a verb that knows them.
        return match file.exists() {
            true => Err(Error::Usage(format!(
                "{0}: no ELF core; `kjump restore {0}` restores an image of kjump's own format",
                file.display()
            ))),
            false => Err(Error::io(
                file.display().to_string(),
                std::io::ErrorKind::NotFound,
            )),
        };
    }
    let options = Options {
        entry,
        guard: true,
        replace: true,
        json: false,
        demand: demanded()?,
    };
    restore(&file, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        let of = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_string).collect();
            parse(&words)
        };
        let file = |name: &str, entry| Some((PathBuf::from(name), entry));
        assert_eq!(of("dump.elf").unwrap(), file("dump.elf", None));
        assert_eq!(of("--entry=0x10 d").unwrap(), file("d", Some(16)));
        assert_eq!(of("d --entry=").unwrap(), file("d", None));
        assert_eq!(of("--help").unwrap(), None);
        for bad in ["", "a b", "--entry=x d", "-x d"] {
            assert_eq!(of(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
        let image = std::env::temp_dir().join(format!("kjump-{}-krestore", std::process::id()));
        std::fs::write(&image, "KJUMP").unwrap();
        let e = run(&[image.display().to_string()]).unwrap_err();
        assert!(e.to_string().contains("kjump restore"), "{e}");
        std::fs::remove_file(image).unwrap();
    }
}
