//! kexec's command line, read as getopt_long reads it: options and operands in any order, long
//! names cut short where that is unambiguous, letters together.
//!
//! One thing is not getopt's: `-c`. Seed 000 gives a command word with it, `-e -c 0x6b630001`;
//! kexec-tools has made it the choice of a system call. It is the former where `-e` is given and a
//! number or a command's name follows.

use std::path::PathBuf;

use super::table::{Spec, Value, What, OPTIONS};
use crate::error::{Error, Result};
use crate::parse;

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Load, then let the system shut down, whose last step is `kexec -e`.
    #[default]
    LoadAndShutDown,
    /// Load.
    Load,
    /// Load and execute.
    LoadAndExec,
    /// Execute.
    Exec,
    /// Free.
    Unload,
    /// Tell whether something is loaded.
    Status,
    /// Get ready to enter the kernel that is there.
    ResumeEntry,
    /// The same, where the kernel has its own way only.
    BackHelper,
    /// Print bytes.
    CrashSize,
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// A file's kind, where the user says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A bzImage or zImage.
    BzImage,
    /// An ELF kernel.
    Elf,
    /// A saved kernel.
    Core,
    /// A saved peer.
    Peer,
}

/// A command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What to do; of several, the last.
    pub action: Action,
    /// This kernel is kept.
    pub preserve: bool,
    /// It must be a saved kernel that is loaded.
    pub image: bool,
    /// `-l` was given: which status is asked for.
    pub load: bool,
    /// `-p` was given.
    pub panic: bool,
    /// The file, or an entry.
    pub operand: Option<String>,
    /// `--entry=`.
    pub entry: Option<u64>,
    /// `-c` with a number.
    pub command: Option<u32>,
    /// `--mem-max=` or `--window=`: where the window ends, bytes.
    pub window: Option<u64>,
    /// `--append=`.
    pub append: Option<String>,
    /// `--reuse-cmdline`.
    pub reuse_command_line: bool,
    /// `--initrd=`; empty: none.
    pub initrd: Option<PathBuf>,
    /// `--type=`.
    pub kind: Option<Type>,
    /// `-d`.
    pub debug: bool,
    /// Options without effect here, and why.
    pub notes: Vec<String>,
}

impl Options {
    /// Reads the arguments, without the command's name.
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let mut reader = Reader::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument == "--" {
                reader.operands.extend(rest.by_ref().cloned());
            } else if let Some(long) = argument.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_string())),
                    None => (long, None),
                };
                reader.option(by_name(name)?, value, &mut rest)?;
            } else if argument.len() > 1 && argument.starts_with('-') {
                reader.letters(&argument[1..], &mut rest)?;
            } else {
                reader.operands.push(argument.clone());
            }
        }
        reader.finish()
    }
}

/// An option by its name, or by a beginning of it that is no other's.
fn by_name(name: &str) -> Result<&'static Spec> {
    if let Some(exact) = OPTIONS.iter().find(|o| o.long == name) {
        return Ok(exact);
    }
    let similar: Vec<_> = OPTIONS
        .iter()
        .filter(|o| !name.is_empty() && o.long.starts_with(name))
        .collect();
    match similar[..] {
        [one] => Ok(one),
        [] => Err(usage(format!("no option is called --{name}"))),
        _ => {
            let names: Vec<_> = similar.iter().map(|o| format!("--{}", o.long)).collect();
            Err(usage(format!("--{name} may be {}", names.join(", "))))
        }
    }
}

fn usage(what: String) -> Error {
    Error::Usage(format!("{what}; `kexec --help` lists the options"))
}

fn number(spec: &Spec, value: &str) -> Result<u64> {
    parse::number(value).map_err(|why| Error::Usage(format!("--{}: {why}", spec.long)))
}

/// Bytes of a page.
const PAGE: u64 = kjump_abi::PAGE_SIZE;
/// `KEXEC_ON_CRASH` and `KEXEC_PRESERVE_CONTEXT` of `include/uapi/linux/kexec.h`.
const ON_CRASH: u64 = 1;
const PRESERVE_CONTEXT: u64 = 2;

/// What has been read.
#[derive(Default)]
struct Reader {
    options: Options,
    operands: Vec<String>,
    /// How many operands stood before the last `-c`.
    command_at: Option<usize>,
}

impl Reader {
    /// A word of letters: `-lx`, `-tTYPE`, `-c0x6b630001`.
    fn letters<'a>(
        &mut self,
        mut letters: &str,
        rest: &mut impl Iterator<Item = &'a String>,
    ) -> Result<()> {
        while let Some(letter) = letters.chars().next() {
            letters = &letters[letter.len_utf8()..];
            let spec = OPTIONS
                .iter()
                .find(|o| o.short == Some(letter))
                .ok_or_else(|| usage(format!("no option is called -{letter}")))?;
            let takes_all = spec.value == Value::Yes
                || spec.what == What::Command && letters.starts_with(|c: char| c.is_ascii_digit());
            let value = (takes_all && !letters.is_empty()).then(|| letters.to_string());
            if value.is_some() {
                letters = "";
            }
            if spec.what == What::Command {
                self.command_at = Some(self.operands.len());
                self.operands.extend(value);
                continue;
            }
            self.option(spec, value, rest)?;
        }
        Ok(())
    }

    fn option<'a>(
        &mut self,
        spec: &'static Spec,
        value: Option<String>,
        rest: &mut impl Iterator<Item = &'a String>,
    ) -> Result<()> {
        let value = match (spec.value, value) {
            (Value::No, Some(_)) => {
                return Err(usage(format!("--{} takes no value", spec.long)));
            }
            (Value::Yes, None) => Some(
                rest.next()
                    .cloned()
                    .ok_or_else(|| usage(format!("--{} needs a value", spec.long)))?,
            ),
            (Value::Maybe, Some(value)) => {
                self.operands.push(value.clone());
                Some(value)
            }
            (_, value) => value,
        };
        self.take(spec, value.as_deref().unwrap_or_default())
    }

    fn take(&mut self, spec: &'static Spec, value: &str) -> Result<()> {
        let o = &mut self.options;
        match spec.what {
            What::Help => o.action = Action::Help,
            What::Version => o.action = Action::Version,
            What::CrashSize => o.action = Action::CrashSize,
            What::Debug => o.debug = true,
            // `-S -l` and `-l -S` are one to kexec-tools, too.
            What::Load if o.action == Action::Status => o.load = true,
            What::Load => (o.action, o.load) = (Action::Load, true),
            What::Exec => o.action = Action::Exec,
            What::Unload => o.action = Action::Unload,
            What::Force => o.action = Action::LoadAndExec,
            What::Status => o.action = Action::Status,
            What::Panic => (o.action, o.panic) = (Action::Load, true),
            What::Preserve => (o.action, o.preserve) = (Action::Load, true),
            What::ResumeImage => (o.action, o.image) = (Action::Load, true),
            What::ResumeEntry => o.action = Action::ResumeEntry,
            What::BackHelper => o.action = Action::BackHelper,
            // Spelt out it is kexec-tools' and nothing else.
            What::Command => o
                .notes
                .push(note(spec, "kjump's module loads, no system call")),
            // 0 and nothing at all are no entry, as with kexec-tools; a recipe's shell may leave it out.
            What::Entry if value.is_empty() => o.entry = None,
            What::Entry => o.entry = Some(number(spec, value)?).filter(|n| *n != 0),
            What::Flags => {
                let flags = number(spec, value)?;
                o.panic |= flags & ON_CRASH != 0;
                o.preserve |= flags & PRESERVE_CONTEXT != 0;
            }
            What::MemMin => {
                number(spec, value)?;
                o.notes.push(note(
                    spec,
                    "memory from 0 on is backed up, as a peer needs it",
                ));
            }
            What::MemMax => {
                let end = number(spec, value)?.checked_add(1);
                let end = end.and_then(|e| e.checked_next_multiple_of(PAGE));
                o.window = Some(end.ok_or_else(|| {
                    Error::Usage(format!(
                        "--mem-max={value}: beyond all memory; use 0xffffff"
                    ))
                })?);
            }
            What::Window => {
                let size = parse::size(value);
                o.window = Some(size.map_err(|why| Error::Usage(format!("--window: {why}")))?);
            }
            What::Append => o.append = Some(value.into()),
            What::ReuseCommandLine => o.reuse_command_line = true,
            What::Initrd => o.initrd = Some(value.into()),
            What::Type => o.kind = Some(kind(value)?),
            What::Nothing(why) => o.notes.push(note(spec, why)),
            What::Refused(why) => {
                return Err(Error::Usage(format!("--{}: {why}", spec.long)));
            }
        }
        Ok(())
    }

    /// Gives the operands their meaning.
    fn finish(mut self) -> Result<Options> {
        let mut o = self.options;
        if let Some(at) = self.command_at {
            let word = self.operands.get(at).map(|w| parse::command(w));
            match word {
                Some(Ok(word)) if o.action == Action::Exec => {
                    o.command = Some(word);
                    self.operands.remove(at);
                }
                _ => o
                    .notes
                    .push("-c: kjump's module loads, no system call".into()),
            }
        }
        let mut operands = self.operands.into_iter();
        o.operand = operands.next();
        match (o.action, operands.next()) {
            (Action::Exec, _) if o.operand.is_some() => Err(usage(format!(
                "`{}`: -e executes what is loaded and takes no file",
                o.operand.unwrap_or_default()
            ))),
            (_, Some(more)) => Err(usage(format!("`{more}` is one file too many"))),
            _ => Ok(o),
        }
    }
}

fn note(spec: &Spec, why: &str) -> String {
    format!("--{} has no effect: {why}", spec.long)
}

/// A kind by the names that kexec-tools and kjump have for it.
fn kind(name: &str) -> Result<Type> {
    match name {
        "bzImage" | "bzImage-x86" => Ok(Type::BzImage),
        "elf" | "elf-x86" => Ok(Type::Elf),
        "core" | "elf-core" => Ok(Type::Core),
        "peer" => Ok(Type::Peer),
        _ => Err(Error::Usage(format!(
            "--type={name}: not loaded here; use bzImage, elf, core or peer"
        ))),
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
