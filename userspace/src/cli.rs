//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use kjump_abi::DEFAULT_WINDOW_END;

use crate::cmd::hibernate::HibernateArgs;
use crate::cmd::image::ImageArgs;
use crate::cmd::peer::PeerArgs;
use crate::cmd::restore::RestoreArgs;
use crate::cmd::resume::ResumeArgs;
use crate::cmd::save::SaveArgs;
use crate::exit::EXIT_CODES;
use crate::parse;

/// Lets a running Linux step aside for another kernel, and come back.
#[derive(Debug, Parser)]
#[command(name = "kjump", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// Say what is being done
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load a kernel (bzImage or 32-bit ELF) to jump to
    Load(LoadArgs),
    /// Peers as files
    Peer(PeerArgs),
    /// Jump to what is loaded, or to the peer that came back before
    Jump(Jump),
    /// In a peer: go back to the kernel that it was entered from
    Back(Back),
    /// In a peer: go back with an answer, and print the command of the next entry
    Wait(Wait),
    /// Free what is loaded
    Unload(Unload),
    /// List what is loaded, by name
    Peers(Peers),
    /// Tell the module's state
    Status(Status),
    /// Tell whether this machine can jump, and what to mend if not
    Doctor,
    /// Save this machine's memory through a peer and power off; go on here after the resume
    Hibernate(Box<HibernateArgs>),
    /// In an initramfs: resume from an image, or return if there is none that may be used
    Resume(Box<ResumeArgs>),
    /// Save this machine's memory through a peer, and go on: to be gone back to by rollback
    Snapshot(Box<crate::cmd::snapshot::SnapshotArgs>),
    /// Put this machine back to a snapshot
    Rollback(crate::cmd::rollback::RollbackArgs),
    /// List the snapshots that have names, or delete one
    Snapshots(crate::cmd::snapshots::SnapshotsArgs),
    /// In a peer: save the memory of the kernel that it was entered from
    Save(SaveArgs),
    /// In a kernel that lives in a window: restore a saved kernel, and enter it
    Restore(RestoreArgs),
    /// Make a file that images go to; put a kernel beside them
    Target(crate::cmd::target::TargetArgs),
    /// Look at a saved image, check it, or give it up
    Image(ImageArgs),
    /// Run a program with paging off, and come back with what it leaves
    Call(Box<crate::cmd::call::CallArgs>),
    /// Ask the firmware, by interrupts of real mode
    Bios(crate::cmd::bios::BiosArgs),
    /// kexec-tools' options, and those of the kexec-jump patches: `kjump kexec --help`
    #[command(disable_help_flag = true)]
    Kexec {
        /// As `kexec` takes them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Wait for the end of the program that has frozen filesystems, and thaw them
    #[command(hide = true)]
    Thaw {
        /// Descriptors of them.
        descriptors: Vec<u32>,
    },
    /// Be PID 1 of a peer's initramfs; does what kjump.do= on the kernel's command line says
    #[command(after_help = crate::init::HELP)]
    Init,
}

/// Arguments of `load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// What to load.
    #[command(flatten)]
    pub load: Load,
    /// The file is a peer that `kjump peer dump` wrote, or a copy of /proc/kimgcore: it is entered
    /// where it was left
    #[arg(long, conflicts_with_all = ["initrd", "append", "window", "own_window", "one_way"])]
    pub peer: bool,
    /// A name for it: several kernels can be loaded, and stay resident, under different names
    #[arg(long = "as", value_name = "NAME", value_parser = parse::load_name, default_value = "", hide_default_value = true)]
    pub name: String,
}

/// Which of several loads.
#[derive(Debug, Default, Args)]
pub struct Which {
    /// Its name, as given with `kjump load --as NAME`; without it, the one without a name
    #[arg(value_name = "NAME", value_parser = parse::load_name, default_value = "", hide_default_value = true)]
    pub name: String,
}

/// Arguments of `unload`.
#[derive(Debug, Default, Args)]
pub struct Unload {
    /// Which.
    #[command(flatten)]
    pub which: Which,
}

/// Arguments of `peers`.
#[derive(Debug, Args)]
pub struct Peers {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A kernel to be loaded.
#[derive(Debug, Args)]
pub struct Load {
    /// The kernel: a bzImage or a 32-bit ELF (vmlinux)
    pub kernel: PathBuf,
    /// Its initrd
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Its command line
    #[arg(
        long,
        value_name = "STRING",
        default_value = "",
        hide_default_value = true
    )]
    pub append: String,
    /// The peer's memory is RAM below this size [default: 16M]
    #[arg(long, value_name = "SIZE", value_parser = parse::size,
        default_value_t = DEFAULT_WINDOW_END, hide_default_value = true)]
    pub window: u64,
    /// The peer's memory is RAM of its own, in one piece of this size [16M if none is given], and the
    /// 640 KiB at 0: a switch exchanges no more than those
    #[arg(long, value_name = "SIZE", value_parser = parse::size, num_args = 0..=1,
        require_equals = true, default_missing_value = "16M", conflicts_with_all = ["window", "one_way"])]
    pub own_window: Option<u64>,
    /// Keep nothing: the kernel takes the whole machine and never comes back
    #[arg(long)]
    pub one_way: bool,
    /// Load to memory below this size only: for a kernel that mem= will keep from the rest
    #[arg(long, value_name = "SIZE", value_parser = parse::size, requires = "one_way")]
    pub below: Option<u64>,
}

/// How to go down; the same for `jump` and `back`.
#[derive(Debug, Default, Args)]
pub struct Way {
    /// Do not freeze programs and kernel threads first
    #[arg(long)]
    pub no_freezer: bool,
    /// Take CPUs down by hotplug and call no PM notifiers
    #[arg(long)]
    pub hotplug_cpus: bool,
    /// Go although a hardware watchdog of this kernel runs: whoever is entered must stop or feed it
    #[arg(long)]
    pub ignore_watchdog: bool,
    /// Make this rung fail (module loaded with testing=1)
    #[arg(long, value_name = "RUNG", value_parser = parse::rung, hide = true)]
    pub fail_at: Option<u32>,
}

/// Whether the peer is trusted.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Trust {
    /// Look whether the peer leaves alone what it was not given: sum all pages of this kernel
    /// outside the window before, and compare after
    #[arg(long)]
    pub paranoid: bool,
}

/// Arguments of `jump`.
#[derive(Debug, Args)]
pub struct Jump {
    /// Where to.
    #[command(flatten)]
    pub which: Which,
    /// Command word for the peer: none, hibernate, shell, run, or a number
    #[arg(long, value_name = "NAME|0xN", value_parser = parse::command, default_value = "none")]
    pub command: u32,
    /// How to go down.
    #[command(flatten)]
    pub way: Way,
    /// Whether the peer is trusted.
    #[command(flatten)]
    pub trust: Trust,
    /// Print the outcome as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `back`.
#[derive(Debug, Args)]
pub struct Back {
    /// The answer, 0 for success
    #[arg(long, value_name = "N", value_parser = parse::status, default_value = "0")]
    pub status: u32,
    /// How to go down.
    #[command(flatten)]
    pub way: Way,
}

/// Arguments of `wait`.
#[derive(Debug, Args)]
pub struct Wait {
    /// The answer to the present command, 0 for success
    #[arg(long, value_name = "N", value_parser = parse::status, default_value = "0")]
    pub status: u32,
    /// The answer in words
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Do not go back: print the present command
    #[arg(long, conflicts_with_all = ["status", "reason"])]
    pub present: bool,
    /// How to go down.
    #[command(flatten)]
    pub way: Way,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Of what.
    #[command(flatten)]
    pub which: Which,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Command, String> {
        let line = line.split_whitespace();
        Cli::try_parse_from(line)
            .map(|c| c.command)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn is_consistent() {
        Cli::command().debug_assert();
        assert!(!EXIT_CODES.lines().any(|l| l.len() > 80));
    }

    #[test]
    fn takes_what_the_help_says() {
        let Ok(Command::Load(l)) = parse("kjump load k --window 0x2000000 --append x") else {
            panic!()
        };
        assert_eq!(
            (l.load.window, l.load.append.as_str(), l.load.one_way),
            (32 << 20, "x", false)
        );
        assert!(!l.peer && parse("kjump load --peer kimgcore").is_ok());
        assert!(parse("kjump load --peer kimgcore --window 16M").is_err());
        let own = |line: &str| match parse(line) {
            Ok(Command::Load(l)) => l.load.own_window,
            _ => panic!("{line}"),
        };
        assert_eq!(own("kjump load k"), None);
        assert_eq!(own("kjump load --own-window k"), Some(16 << 20));
        assert_eq!(own("kjump load --own-window=24M k"), Some(24 << 20));
        assert!(parse("kjump load k --own-window --window 16M").is_err());
        assert!(parse("kjump load --peer kimgcore --own-window").is_err());
        assert!(matches!(parse("kjump jump a-b"), Ok(Command::Jump(j)) if j.which.name == "a-b"));
        assert!(parse("kjump unload a/b").unwrap_err().contains("letters"));
        assert!(parse("kjump wait --present --status 1").is_err());
        let Ok(Command::Jump(j)) = parse("kjump jump --command shell --fail-at devices") else {
            panic!()
        };
        assert_eq!((j.command, j.way.fail_at), (0x6b63_0002, Some(8)));
        assert!(matches!(parse("kjump back --status 7"), Ok(Command::Back(b)) if b.status == 7));
        assert!(parse("kjump load k --window 16Q")
            .unwrap_err()
            .contains("write 16M"));
        assert!(parse("kjump jump --command bogus")
            .unwrap_err()
            .contains("hibernate"));
        assert!(parse("kjump back --status 0x80000000").is_err());
        assert!(parse("kjump").is_err());
    }
}
