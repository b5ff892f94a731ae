// SPDX-License-Identifier: GPL-2.0

//! What others' programs on the host say of a core: readelf, gdb, and Debian's i386 crash with its
//! own loader and libraries.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{ensure, Context, Result};

use crate::artifacts::Artifacts;

/// Seconds that a program may take; far more than any needs.
const LIMIT: &str = "300";

/// Walks the list of all tasks and prints a line `task PID COMM` for each; needs a vmlinux with
/// types.
pub const TASKS: &str = r#"set $first = (struct task_struct *)&init_task
set $back = (unsigned long)&((struct task_struct *)0)->tasks
set $at = $first->tasks.next
printf "task %d %s\n", $first->pid, $first->comm
while $at != &$first->tasks
  set $task = (struct task_struct *)((unsigned long)$at - $back)
  printf "task %d %s\n", $task->pid, $task->comm
  set $at = $at->next
end
"#;

/// Runs a program; gives what it printed on both outputs, and whether it ended well.
fn said(command: &mut Command) -> Result<(String, bool)> {
    let name = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{name}: run `cargo xtask setup`"))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok((text, output.status.success()))
}

/// A program that is stopped if it does not end.
fn program(name: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.arg(LIMIT).arg(name);
    command
}

/// Header, segments and notes as `readelf` lists them, which must have nothing to complain of.
pub fn readelf(core: &Path) -> Result<String> {
    let mut command = program(Path::new("readelf"));
    let (text, good) = said(command.args(["-W", "-h", "-l", "-n"]).arg(core))?;
    ensure!(good && !text.contains("arning"), "readelf: {text}");
    Ok(text)
}

/// What gdb prints for a script, with the kernel's vmlinux and a core. `dir` takes the script.
pub fn gdb(vmlinux: &Path, core: &Path, script: &str, dir: &Path) -> Result<String> {
    let file = dir.join("gdb.script");
    std::fs::write(&file, script)?;
    let mut command = program(Path::new("gdb"));
    command.args(["-nx", "-batch", "-x"]).arg(&file);
    let (text, good) = said(command.arg(vmlinux).arg(core))?;
    ensure!(good, "gdb: {text}");
    Ok(text)
}

/// Runs Debian's i386 makedumpfile on a core, with these options.
pub fn makedumpfile(artifacts: &Artifacts, core: &Path, options: &[&str], to: &Path) -> Result<()> {
    let mut command = debian(artifacts, "makedumpfile");
    let (text, good) = said(command.args(options).arg(core).arg(to))?;
    ensure!(good, "makedumpfile: {text}");
    Ok(())
}

/// A program of a package of Debian's for i386, by its own loader: the host's does not know it.
fn debian(artifacts: &Artifacts, name: &str) -> Command {
    let package = artifacts.debian(name);
    let mut command = program(&package.join("lib/ld-linux.so.2"));
    command.arg("--library-path").arg(package.join("lib"));
    command.arg(package.join("bin").join(name));
    command
}

/// What crash prints for commands, and whether it ended well. `dir` takes the commands.
pub fn crash(
    artifacts: &Artifacts,
    vmlinux: &Path,
    core: &Path,
    commands: &str,
    dir: &Path,
) -> Result<(String, bool)> {
    let file = dir.join("crash.commands");
    std::fs::write(&file, format!("{commands}\nquit\n"))?;
    // crash is for the kernel's architecture, and so i386.
    let mut command = debian(artifacts, "crash");
    command.arg("-s");
    // It knows neither the slabs nor the modules of this kernel.
    command.args(["--no_kmem_cache", "--no_modules"]);
    command.arg("-i").arg(&file).arg(vmlinux).arg(core);
    command.env("HOME", dir).env("TERM", "dumb");
    said(&mut command)
}
