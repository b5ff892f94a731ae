//! x
use anyhow::Result;
use std::process::ExitCode;
#[derive(clap::Args)]
pub struct VmOptions {}
pub fn run() -> Result<()> {
    Ok(())
}
pub fn interactive(_: &VmOptions) -> Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
