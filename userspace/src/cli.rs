//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use kjump_abi::DEFAULT_WINDOW_END;

use crate::cmd::hibernate::HibernateArgs;
use crate::cmd::image::ImageArgs;
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
    Load(Load),
    /// Jump to what is loaded, or to the peer that came back before
    Jump(Jump),
    /// In a peer: go back to the kernel that it was entered from
    Back(Back),
    /// Free what is loaded
    Unload,
    /// Tell the module's state
    Status(Status),
    /// Tell whether this machine can jump, and what to mend if not
    Doctor,
    /// Save this machine's memory through a peer and power off; go on here after the resume
    Hibernate(Box<HibernateArgs>),
    /// In an initramfs: resume from an image, or return if there is none that may be used
    Resume(Box<ResumeArgs>),
    /// In a peer: save the memory of the kernel that it was entered from
    Save(SaveArgs),
    /// In a kernel that lives in a window: restore a saved kernel, and enter it
    Restore(RestoreArgs),
    /// Make a file that images go to; put a kernel beside them
    Target(crate::cmd::target::TargetArgs),
    /// Look at a saved image, check it, or give it up
    Image(ImageArgs),
    /// Be PID 1 of a peer's initramfs; does what kjump.do= on the kernel's command line says
    #[command(after_help = crate::init::HELP)]
    Init,
}

/// Arguments of `load`.
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
    /// Keep nothing: the kernel takes the whole machine and never comes back
    #[arg(long)]
    pub one_way: bool,
}

/// How to go down; the same for `jump` and `back`.
#[derive(Debug, Args)]
pub struct Way {
    /// Do not freeze programs and kernel threads first
    #[arg(long)]
    pub no_freezer: bool,
    /// Take CPUs down by hotplug and call no PM notifiers
    #[arg(long)]
    pub hotplug_cpus: bool,
    /// Make this rung fail (module loaded with testing=1)
    #[arg(long, value_name = "RUNG", value_parser = parse::rung, hide = true)]
    pub fail_at: Option<u32>,
}

/// Arguments of `jump`.
#[derive(Debug, Args)]
pub struct Jump {
    /// Command word for the peer: none, hibernate, shell, run, or a number
    #[arg(long, value_name = "NAME|0xN", value_parser = parse::command, default_value = "none")]
    pub command: u32,
    /// How to go down.
    #[command(flatten)]
    pub way: Way,
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

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct Status {
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
            (l.window, l.append.as_str(), l.one_way),
            (32 << 20, "x", false)
        );
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
