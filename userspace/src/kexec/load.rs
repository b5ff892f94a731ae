//! `kexec -l` and its like.

use std::fs;
use std::path::{Path, PathBuf};

use kjump_abi as abi;

use super::kind::{self, Kind};
use super::options::{Options, Type};
use crate::cli;
use crate::cmd;
use crate::config::Config;
use crate::device::Device;
use crate::error::{Error, Result};

/// The initrd of a peer where none is named: the seeds build one and type no name.
const ROOTFS: &str = "rootfs.gz";

/// Words of this kernel's command line that say something of it alone.
const OWN_WORDS: &[&str] = &[
    "BOOT_IMAGE=",
    "initrd=",
    "kexec_jump_back_entry=",
    "kjump.handoff=",
    "elfcorehdr=",
];

/// Loads the file that is named, whatever it is.
pub fn run(o: &Options) -> Result<()> {
    if o.panic {
        return Err(Error::Usage(
            "--load-panic: kjump does not act when a kernel panics; use kexec-tools and crashkernel="
                .into(),
        ));
    }
    let path = PathBuf::from(
        o.operand
            .as_deref()
            .ok_or_else(|| Error::Usage("no file is named; `kexec -l FILE` loads one".into()))?,
    );
    let kind = kind::of(&path)?;
    if let Some(said) = o.kind.filter(|said| !kind.is(*said)) {
        return Err(Error::Usage(format!(
            "{}: it is of type {}, not {said:?}; leave --type out",
            path.display(),
            kind.name()
        )));
    }
    match kind {
        Kind::BzImage | Kind::Elf if o.image => Err(Error::Usage(format!(
            "{}: a kernel, no saved one; load it with -l",
            path.display()
        ))),
        Kind::BzImage | Kind::Elf => kernel(o, path),
        Kind::Core if o.preserve || o.kind == Some(Type::Peer) || cmd::peer::is_peer(&path) => {
            peer(o, &path)
        }
        Kind::Core => {
            let options = cmd::core::Options {
                entry: o.entry,
                guard: true,
                replace: true,
                json: false,
                demand: cmd::core::demanded()?,
            };
            cmd::core::load(&path, options).map(drop)
        }
    }
}

/// A kernel that boots.
fn kernel(o: &Options, kernel: PathBuf) -> Result<()> {
    let own = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let load = cli::Load {
        initrd: initrd(o, &kernel),
        append: command_line(o, &own),
        window: o.window.unwrap_or(abi::DEFAULT_WINDOW_END),
        own_window: None,
        one_way: !o.preserve,
        below: o.window.filter(|_| !o.preserve),
        kernel,
    };
    let device = Device::open_as_root()?;
    // What is wrong with the files is found before what is there gives way to them.
    cmd::load::check(&load)?;
    make_room(&device)?;
    cmd::load::load(&device, &load)
}

/// A peer that has booted before.
fn peer(o: &Options, path: &Path) -> Result<()> {
    let wrong = |why: &str| Err(Error::Usage(format!("{}: {why}", path.display())));
    if o.image || o.kind == Some(Type::Core) {
        return wrong("a peer, no saved kernel; load it with -l");
    }
    if o.append.is_some() || o.initrd.is_some() || o.reuse_command_line {
        return wrong(
            "a peer that has booted takes no command line and no initrd; leave --append and \
             --initrd out",
        );
    }
    if o.window.is_some() {
        log::info!("--mem-max has no effect: the file says where the window ends");
    }
    let device = Device::open_as_root()?;
    cmd::peer::load_file(&device, path, make_room)
}

/// A load takes the place of another, as with kexec-tools.
pub fn make_room(device: &Device) -> Result<()> {
    let status = device.status().map_err(|e| Error::from_errno("load", e))?;
    let loaded = [abi::STATE_LOADED, abi::STATE_RETURNED, abi::STATE_CLAIMED];
    if loaded.contains(&status.state) {
        log::info!("what was loaded gives way");
        device
            .unload()
            .map_err(|e| Error::from_errno("unload", e))?;
    }
    Ok(())
}

/// The initrd: the one that is named, none if the name is empty.
fn initrd(o: &Options, kernel: &Path) -> Option<PathBuf> {
    match &o.initrd {
        Some(named) => Some(named.clone()).filter(|n| !n.as_os_str().is_empty()),
        None => {
            let beside = kernel.with_file_name(ROOTFS);
            let found = o.preserve && beside.is_file();
            if found {
                log::info!("initrd: {}", beside.display());
            }
            found.then_some(beside)
        }
    }
}

/// The command line. A peer that is told of no console gets this kernel's: the seeds type none, and
/// nobody would see it.
fn command_line(o: &Options, own: &str) -> String {
    let mut words = Vec::new();
    if o.reuse_command_line {
        let is_own = |w: &&str| OWN_WORDS.iter().any(|o| w.starts_with(o));
        words.extend(own.split_whitespace().filter(|w| !is_own(w)));
    }
    words.extend(o.append.as_deref().filter(|a| !a.is_empty()));
    let mut line = words.join(" ");
    if o.preserve && !line.split_whitespace().any(|w| w.starts_with("console=")) {
        let consoles = Config::default().command_line(own);
        // Before a `--` that may be there.
        line = format!("{consoles} {line}").trim().to_string();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Options {
        let words: Vec<String> = line.split_whitespace().map(str::to_string).collect();
        Options::parse(&words).unwrap()
    }

    #[test]
    fn command_lines() {
        let own = "BOOT_IMAGE=/vmlinuz root=/dev/vda console=ttyS0 kjump.handoff=0x1 quiet\n";
        let line = |o: &str| command_line(&options(o), own);
        assert_eq!(line("-l k --append=x"), "x");
        assert_eq!(line("-l k"), "");
        assert_eq!(
            line("-l k --reuse-cmdline --append=single"),
            "root=/dev/vda console=ttyS0 quiet single"
        );
        assert_eq!(line("--load-preserve-context k"), "console=ttyS0");
        assert_eq!(
            line("--load-jump-back k --append=go_to_hibernate"),
            "console=ttyS0 go_to_hibernate"
        );
        assert_eq!(
            line("--load-jump-back k --append=console=tty0"),
            "console=tty0"
        );
        assert_eq!(
            command_line(&options("--load-jump-back k --append=x"), "ro"),
            "x"
        );
    }

    #[test]
    fn initrds() {
        let dir = std::env::temp_dir().join(format!("kjump-{}-rootfs", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let kernel = dir.join("bzImage");
        let of = |line: &str| initrd(&options(line), &kernel);
        assert_eq!(of("--load-preserve-context k"), None);
        fs::write(dir.join(ROOTFS), "x").unwrap();
        assert_eq!(of("--load-preserve-context k"), Some(dir.join(ROOTFS)));
        assert_eq!(of("--load-preserve-context k --initrd="), None);
        assert_eq!(
            of("--load-preserve-context k --initrd=rd"),
            Some("rd".into())
        );
        assert_eq!(of("-l k"), None);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_no_load() {
        let refused = |line: &str| run(&options(line)).unwrap_err();
        assert!(refused("-p k").to_string().contains("crashkernel="));
        assert!(refused("-l").to_string().contains("no file"));
        assert_eq!(refused("-l /nonexistent").exit_code(), 1);
        let path = std::env::temp_dir().join(format!("kjump-{}-kexec", std::process::id()));
        let name = path.display().to_string();
        fs::write(
            &path,
            crate::loader::elf::tests::elf(0, &[(0, 0x5000, 1, b"x")]),
        )
        .unwrap();
        assert!(refused(&format!("-l -t bzImage {name}"))
            .to_string()
            .contains("type elf"));
        assert!(refused(&format!("--load-resume-image {name}"))
            .to_string()
            .contains("-l"));
        fs::remove_file(path).unwrap();
    }
}
