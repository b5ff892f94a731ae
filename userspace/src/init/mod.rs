//! `kjump init`: PID 1 of a peer's initramfs. It mounts what is needed, loads the module, and does
//! what `kjump.do=` on the kernel's command line says. It never exits and never panics by itself:
//! that would panic the kernel.

mod actions;
mod commands;
mod hibernate;
mod options;
mod resume;
mod system;
mod watchdog;

use std::fs;
use std::io::{self, Write};

use actions::Init;
use options::Action;
pub use options::Options;
pub use options::HELP;
use watchdog::Watchdog;

/// A line about a step, on the console. There is nobody to tell if the console is gone.
fn say(line: impl std::fmt::Display) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "kjump-init: {line}");
    let _ = out.flush();
}

/// Runs the initramfs; for ever.
pub fn run() -> ! {
    system::mount_all();
    system::console();
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let options = Options::parse(&command_line);
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    say(format_args!(
        "Linux {release}, {}",
        match options.handoff {
            Some(handoff) => format!("peer with handoff {handoff:#x}"),
            None => "no handoff".to_string(),
        }
    ));
    for word in &options.unknown {
        say(format_args!("ignored: {word}"));
    }
    let watchdog = options.watchdog.map(Watchdog::start).unwrap_or_default();
    match system::load_module(&release, &options.module_parameters()) {
        Ok(()) => system::forget_other_modules(&release),
        Err(e) => say(format_args!("module: {e}")),
    }
    let mut init = Init {
        options,
        watchdog,
        last_exit: None,
    };
    let mut actions = init.options.actions.clone();
    if actions.is_empty() {
        actions = init.default_actions();
    }
    for action in actions {
        say(format_args!("do: {action}"));
        if let Err(e) = init.act(action) {
            init.failed(&e);
        }
    }
    say("nothing left to do: a shell");
    loop {
        if let Err(e) = init.act(Action::Shell) {
            init.failed(&e);
            system::nap();
        }
    }
}
