//! What the kernel's command line says to `kjump init`.

use crate::parse;
use crate::secret::Encrypt;

/// The settings, as `kjump init --help` prints them.
pub const HELP: &str = "\
On the kernel's command line:
  kjump.do=LIST         what to do, in this order, separated by commas: iomem (print /proc/iomem
                        and MemTotal), run, back, shell, panic, hang, poweroff, reboot; without
                        it, what the caller's command word says, or a shell
  kjump.run=PATH,ARG,…  the program that `run` runs
  kjump.status=N        what `back` answers, instead of the program's exit code
  kjump.watchdog=SECS   arm /dev/watchdog0 and feed it until `hang`; disarmed while away
  kjump.resume=SPEC     where an image may be; khdev=MAJ:MIN is the same. Without a handoff and
                        kjump.do= this is enough to have it restored
  kjump.resume_offset=N bytes from the start of that device to the block map of a file
  kjump.encrypt=HOW     passphrase or key-file: only an encrypted image is restored
  kjump.key_file=PATH   its key file, or a block device that has the key in its first 4096 bytes
  go_to_hibernate       with nothing else to do: go straight back from the first entry. At the
                        command hibernate, when the caller has named no target: save to khdev=,
                        then ACPI S4, or off where that is not to be had
  go_to_resume          before anything else: restore the image, if there is one that may be used
  kjump.fallback=WHAT   and if there is none: kernel (the boot bundle behind the image; the default),
                        shell, poweroff or reboot
  kjump.handoff=0xN     put there by `kjump load`; handed to the module
  kjump.testing=1       load the module with testing=1
  kjump.mod.NAME=VALUE  load the module with NAME=VALUE
When entered again after `back`, the command word decides. An executable file of that name, or 0x and
its number, in /etc/kjump/commands is run, and its exit code is the answer. Without one none goes
straight back, shell and run do that first; hibernate saves the other kernel and ends the machine,
resume restores a saved one; anything else is answered with 22.";

/// A step of `kjump.do=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Print /proc/iomem and MemTotal.
    Iomem,
    /// Run the program of `kjump.run=`.
    Run,
    /// Go back; serve command words when entered again.
    Back,
    /// A shell on the console.
    Shell,
    /// Panic the kernel.
    Panic,
    /// Hang, with the watchdog unfed.
    Hang,
    /// Power off.
    Poweroff,
    /// Restart.
    Reboot,
    /// Restore an image, in a kernel that the bootloader started.
    Resume,
    /// Do what this command word of the handoff says, then go back.
    Command(u32),
}

const ACTIONS: &[(&str, Action)] = &[
    ("iomem", Action::Iomem),
    ("run", Action::Run),
    ("back", Action::Back),
    ("shell", Action::Shell),
    ("panic", Action::Panic),
    ("hang", Action::Hang),
    ("poweroff", Action::Poweroff),
    ("reboot", Action::Reboot),
    ("resume", Action::Resume),
];

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self, ACTIONS.iter().find(|(_, a)| a == self)) {
            (_, Some((name, _))) => f.write_str(name),
            (Action::Command(word), _) => {
                let name = parse::command_name(*word).unwrap_or("unknown");
                write!(f, "command {word:#x} ({name})")
            }
            _ => write!(f, "{self:?}"),
        }
    }
}

/// What to do when there is nothing to resume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// Go on as the normal kernel, from the boot bundle.
    #[default]
    Kernel,
    /// A shell on the console.
    Shell,
    /// Power off.
    Poweroff,
    /// Restart.
    Reboot,
}

impl Fallback {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "kernel" => Some(Self::Kernel),
            "shell" => Some(Self::Shell),
            "poweroff" => Some(Self::Poweroff),
            "reboot" => Some(Self::Reboot),
            _ => None,
        }
    }
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `kjump.handoff=`: physical address of the handoff.
    pub handoff: Option<u64>,
    /// `kjump.do=`: what to do, in this order.
    pub actions: Vec<Action>,
    /// `kjump.run=`: program and arguments.
    pub run: Vec<String>,
    /// `kjump.status=`: what to answer.
    pub status: Option<u32>,
    /// `kjump.watchdog=`: seconds.
    pub watchdog: Option<u32>,
    /// `kjump.resume=`: there may be an image.
    pub resume: bool,
    /// `go_to_hibernate`: the first entry goes straight back.
    pub go_to_hibernate: bool,
    /// `kexec_jump_back_entry=`: some kernel was left for this one.
    pub jumped: bool,
    /// `kjump.fallback=`: what to do when there is nothing to resume.
    pub fallback: Fallback,
    /// `kjump.mod.NAME=VALUE` and `kjump.testing=1`: more parameters for the module.
    pub module: Vec<String>,
    /// Words that begin with `kjump.` and make no sense.
    pub unknown: Vec<String>,
}

impl Options {
    /// Reads a command line. What makes no sense is kept in `unknown`, never an error: a peer
    /// that does nothing at all helps nobody.
    pub fn parse(line: &str) -> Self {
        let mut o = Options::default();
        for word in words(line) {
            o.resume |= word.starts_with("khdev=");
            o.go_to_hibernate |= word == "go_to_hibernate";
            o.jumped |= word.starts_with("kexec_jump_back_entry=");
            if word == "go_to_resume" {
                o.actions.insert(0, Action::Resume);
            }
            let Some(setting) = word.strip_prefix("kjump.") else {
                continue;
            };
            if o.set(setting).is_none() {
                o.unknown.push(word);
            }
        }
        o
    }

    fn set(&mut self, setting: &str) -> Option<()> {
        let (name, value) = setting.split_once('=')?;
        let small = || {
            parse::number(value)
                .ok()
                .and_then(|n| u32::try_from(n).ok())
        };
        match name {
            "handoff" => self.handoff = Some(parse::number(value).ok().filter(|n| *n != 0)?),
            "do" => {
                let one = |w: &str| ACTIONS.iter().find(|(n, _)| *n == w).map(|(_, a)| *a);
                let list = value.split(',').filter(|w| !w.is_empty()).map(one);
                self.actions.extend(list.collect::<Option<Vec<_>>>()?);
            }
            "run" => {
                let list: Vec<String> = value.split(',').map(str::to_string).collect();
                self.run = Some(list).filter(|l| l.first().is_some_and(|p| !p.is_empty()))?;
            }
            "status" => self.status = Some(parse::status(value).ok()?),
            "watchdog" => self.watchdog = Some(small().filter(|n| *n > 0)?),
            // Looked at where they are used.
            "resume" => self.resume = true,
            "resume_offset" | "key_file" => {}
            "encrypt" => drop(Encrypt::parse(value).ok()?),
            "fallback" => self.fallback = Fallback::parse(value)?,
            "testing" => self.module.push(format!("testing={value}")),
            _ => self
                .module
                .push(format!("{}={value}", name.strip_prefix("mod.")?)),
        }
        Some(())
    }

    /// The module's parameters.
    pub fn module_parameters(&self) -> String {
        let handoff = self.handoff.map(|h| format!("handoff={h:#x}"));
        let all: Vec<String> = handoff
            .into_iter()
            .chain(self.module.iter().cloned())
            .collect();
        all.join(" ")
    }
}

/// The words of a kernel command line; double quotes protect spaces, `--` ends them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words
        .into_iter()
        .filter(|w| !w.is_empty())
        .take_while(|w| w != "--")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_full_line() {
        let o = Options::parse(
            "console=ttyS0 kjump.do=iomem,run,back kjump.run=/bin/fill,0x10,a \
             kjump.handoff=0x1f00000 kexec_jump_back_entry=0x1e00100 kjump.testing=1 \
             kjump.mod.panic=back kjump.status=7 kjump.watchdog=30\n",
        );
        assert_eq!(o.actions, [Action::Iomem, Action::Run, Action::Back]);
        assert_eq!(o.actions[0].to_string(), "iomem");
        assert_eq!(
            Action::Command(0x6b63_0003).to_string(),
            "command 0x6b630003 (run)"
        );
        assert_eq!(o.run, ["/bin/fill", "0x10", "a"]);
        assert_eq!(
            (o.handoff, o.status, o.watchdog),
            (Some(0x1f0_0000), Some(7), Some(30))
        );
        assert_eq!(
            o.module_parameters(),
            "handoff=0x1f00000 testing=1 panic=back"
        );
        assert!(o.unknown.is_empty());
    }

    #[test]
    fn nothing_said() {
        let o = Options::parse("quiet ro\n");
        assert_eq!(o, Options::default());
        assert_eq!(o.module_parameters(), "");
    }

    #[test]
    fn nonsense_is_kept_aside() {
        let line =
            "kjump.do=back,dance kjump.handoff=x kjump.run= kjump.watchdog=0 kjump.x=1 kjump.do";
        let o = Options::parse(line);
        assert_eq!((o.unknown.len(), o.actions.len(), o.handoff), (6, 0, None));
    }

    #[test]
    fn the_seeds_words() {
        let line = "memmap=exactmap memmap=640K@0 memmap=15M@1M mem=16M go_to_resume khdev=3:7 \
                    kjump.fallback=shell";
        let o = Options::parse(line);
        assert_eq!(
            (o.actions.as_slice(), o.fallback),
            (&[Action::Resume][..], Fallback::Shell)
        );
        assert!(o.unknown.is_empty());
        let o = Options::parse("kjump.encrypt=key-file kjump.key_file=/dev/vdc");
        assert!(o.unknown.is_empty());
        assert_eq!(Options::parse("kjump.encrypt=x").unknown.len(), 1);
        let o = Options::parse("kjump.do=iomem go_to_resume");
        assert_eq!(o.actions, [Action::Resume, Action::Iomem]);
        assert_eq!(Options::parse("kjump.fallback=x").unknown.len(), 1);
        let o = Options::parse("khdev=3:7 go_to_hibernate kexec_jump_back_entry=0x1e00100");
        assert!(o.go_to_hibernate && o.jumped && o.resume && o.actions.is_empty());
    }

    #[test]
    fn quotes_and_the_end() {
        assert_eq!(words("a=\"b c\" d -- kjump.do=back"), ["a=b c", "d"]);
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "[kjump.do=a,\" ]{0,60}", any in ".{0,60}") {
            Options::parse(&line).module_parameters();
            Options::parse(&any);
        }
    }
}
