// SPDX-License-Identifier: GPL-2.0

//! `cargo xtask soak`: builds, then has `qemu-tests soak` run machines at random.

use anyhow::{bail, Context, Result};

use crate::{artifacts::Flavour, build, guest, sh};

/// Options of `cargo xtask soak`.
#[derive(clap::Args)]
pub struct Options {
    /// So long (`2h`, `90m`), or so many jumps, snapshots, rollbacks and hibernations (`50`)
    amount: String,
    /// The same machines and operations as with that seed
    #[arg(long)]
    seed: Option<u64>,
    /// Kernel A; `debug` is built when it is asked for
    #[arg(long, value_enum, default_value_t)]
    kernel: Flavour,
    /// Show the guests' consoles as they run
    #[arg(long, short)]
    verbose: bool,
}

/// Runs the subcommand. The last line on stdout has the counts.
pub fn run(options: &Options) -> Result<()> {
    build::build(&options.kernel.kernels())?;
    let mut command = guest::qemu_tests()?;
    command.arg("soak").arg(&options.amount);
    if let Some(seed) = options.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    command.args(options.kernel.option());
    command.args(options.verbose.then_some("--verbose"));
    let status = command.status();
    let status = status.with_context(|| format!("cannot run `{}`", sh::describe(&command)))?;
    if !status.success() {
        bail!("something went wrong: the lines above say what, and how to have it again");
    }
    Ok(())
}
