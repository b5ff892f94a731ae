// SPDX-License-Identifier: GPL-2.0

//! A virtual machine: how it is put together, and what a test can do to it.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, Context, Result};
use serde_json::json;

use crate::agent::{Agent, Output};
use crate::console::Console;
use crate::drive::Drive;
use crate::ending::{Ending, Left, Start, Waiting};
use crate::gdb::Gdb;
use crate::qmp::Qmp;

/// How a machine is put together. The default is kernel A's usual one.
#[derive(Clone, Debug)]
pub struct Config {
    /// Kernel image.
    pub kernel: PathBuf,
    /// Its initramfs.
    pub initrd: PathBuf,
    /// More of its command line.
    pub append: String,
    /// CPU model.
    pub cpu: String,
    /// Number of CPUs.
    pub smp: u32,
    /// RAM, MiB.
    pub memory: u32,
    /// Virtio disks `vda`, `vdb`….
    pub disks: Vec<Drive>,
    /// A virtio network card.
    pub net: bool,
    /// Whether a reset of the machine starts it again; otherwise it ends QEMU.
    pub reboot: bool,
    /// How many times longer everything may take than with the usual kernel.
    pub patience: u32,
    /// A thread of the host's for each CPU. QEMU 7.2 then now and then lets a CPU trip over text that another
    /// one is patching (an int3 oops at plain CPU hotplug).
    pub thread_each: bool,
    /// More arguments for QEMU.
    pub extra: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kernel: PathBuf::new(),
            initrd: PathBuf::new(),
            append: String::new(),
            cpu: "max,vendor=GenuineIntel".into(),
            smp: 2,
            memory: 256,
            disks: Vec::new(),
            net: true,
            reboot: false,
            patience: 1,
            thread_each: false,
            extra: Vec::new(),
        }
    }
}

impl Config {
    /// QEMU's arguments, apart from the connections to it.
    fn arguments(&self) -> Vec<String> {
        // Whether the timer works is not asked: an emulator that has to wait for its host fails that.
        let append = format!("console=ttyS0 panic=-1 no_timer_check {}", self.append);
        let mut arguments: Vec<String> = [
            "-machine",
            "pc",
            "-accel",
            match self.thread_each {
                true => "tcg,thread=multi",
                false => "tcg,thread=single",
            },
            "-nodefaults",
            "-display",
            "none",
            "-vga",
            "std",
            "-cpu",
            &self.cpu,
            "-smp",
            // A socket each: the firmware's MP table, which counts without ACPI, lists sockets.
            &format!("{0},sockets={0},cores=1,threads=1", self.smp),
            "-m",
            &format!("{}M", self.memory),
            "-append",
            append.trim(),
        ]
        .map(String::from)
        .to_vec();
        arguments.extend(["-kernel".into(), self.kernel.display().to_string()]);
        arguments.extend(["-initrd".into(), self.initrd.display().to_string()]);
        for (number, disk) in self.disks.iter().enumerate() {
            arguments.extend(disk.arguments(number));
        }
        if self.net {
            let card = "user,model=virtio-net-pci,restrict=on";
            arguments.extend(["-nic".into(), card.into()]);
        }
        if !self.reboot {
            arguments.push("-no-reboot".into());
        }
        arguments.extend(self.extra.iter().cloned());
        arguments
    }

    /// The machine with its first serial port on this process's terminal, for `vm`.
    pub fn interactive(&self) -> Command {
        let mut command = Command::new("qemu-system-i386");
        command
            .args(self.arguments())
            .args(["-serial", "mon:stdio"]);
        command
    }
}

/// A running machine. Dropped, it is gone: QEMU is killed, its directory removed.
pub struct Vm {
    child: Child,
    /// To the first serial port.
    keyboard: ChildStdin,
    /// What the kernels print.
    pub console: Console,
    agent: Agent,
    /// QEMU's monitor.
    pub qmp: Qmp,
    deadline: Instant,
    patience: u32,
    dir: PathBuf,
    acpi: bool,
}

/// How long A's boot may take.
const BOOT: Duration = Duration::from_secs(120);
/// How long a command in A may take, unless the test says otherwise.
const COMMAND: Duration = Duration::from_secs(60);

fn connect(child: &mut Child, path: &Path) -> Result<UnixStream> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(_) if Instant::now() < end && child.try_wait()?.is_none() => {
                sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error).context("QEMU did not start"),
        }
    }
}

impl Vm {
    /// Starts a machine. Nothing done with it may take longer than to `deadline`. `log` gets the
    /// console's text as it comes.
    pub fn start(
        config: &Config,
        deadline: Instant,
        log: impl FnMut(&str) + Send + 'static,
    ) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("kjump-vm-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir)?;

        let mut command = Command::new("qemu-system-i386");
        command.args(config.arguments());
        command.args([
            "-chardev",
            "stdio,id=console,signal=off",
            "-serial",
            "chardev:console",
        ]);
        for (id, flag) in [("agent", "-serial"), ("qmp", "-qmp"), ("gdb", "-gdb")] {
            let path = dir.join(id);
            command.arg("-chardev");
            command.arg(format!(
                "socket,id={id},path={},server=on,wait=off",
                path.display()
            ));
            command.args([flag, &format!("chardev:{id}")]);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .context("qemu-system-i386 (package qemu-system-x86)")?;

        let console = Console::tee(child.stdout.take().context("stdout")?, log);
        let keyboard = child.stdin.take().context("stdin")?;
        let mut errors = child.stderr.take().context("stderr")?;
        let also = console.clone();
        std::thread::spawn(move || {
            let mut text = String::new();
            if std::io::Read::read_to_string(&mut errors, &mut text).is_ok() && !text.is_empty() {
                also.push(&format!("\nqemu: {text}"));
            }
        });
        let connected = connect(&mut child, &dir.join("agent"))
            .and_then(Agent::new)
            .and_then(|agent| Ok((agent, Qmp::new(connect(&mut child, &dir.join("qmp"))?)?)));
        match connected {
            Ok((agent, qmp)) => Ok(Self {
                child,
                keyboard,
                console,
                agent,
                qmp,
                deadline,
                patience: config.patience,
                dir,
                acpi: !config.append.contains("acpi=off"),
            }),
            Err(error) => {
                child.kill().ok();
                child.wait().ok();
                fs::remove_dir_all(&dir).ok();
                Err(anyhow!("{error:#}\n{}", console.since(0)))
            }
        }
    }

    /// The earlier of `timeout` from now and the test's own end.
    fn end(&self, timeout: Duration) -> Instant {
        self.deadline.min(Instant::now() + timeout * self.patience)
    }

    /// A closure that fails once a kernel has panicked, so that nobody waits for the dead.
    fn alive(console: &Console) -> impl Fn() -> Result<()> {
        let (console, mark) = (console.clone(), console.mark());
        move || {
            let news = console.since(mark);
            match news.lines().find(|line| line.contains("Kernel panic")) {
                Some(line) => bail!("a kernel panicked: {line}"),
                None => Ok(()),
            }
        }
    }

    /// Waits until A's userspace takes commands.
    pub fn wait_boot(&self) -> Result<()> {
        self.agent
            .wait_ready(self.end(BOOT), &Self::alive(&self.console))
    }

    /// Executes a line of shell in A.
    pub fn run(&mut self, command: &str) -> Result<Output> {
        self.run_for(command, COMMAND)
    }

    /// As [`Vm::run`], for what takes longer.
    pub fn run_for(&mut self, command: &str, timeout: Duration) -> Result<Output> {
        let end = self.end(timeout);
        self.agent.run(command, end, &Self::alive(&self.console))
    }

    /// Executes a line of shell in A that must end well; gives what it printed.
    pub fn sh(&mut self, command: &str) -> Result<String> {
        self.run(command)?
            .ok()
            .with_context(|| format!("in A: {command}"))
    }

    /// Sends a line of shell without waiting for its end; see [`Vm::finish`].
    pub fn start_command(&mut self, command: &str) -> Result<usize> {
        self.agent.send(command)
    }

    /// Waits for the end of what [`Vm::start_command`] began; a panicking kernel does not end it.
    pub fn finish(&mut self, started: usize, timeout: Duration) -> Result<Output> {
        let end = self.end(timeout);
        self.agent.finish(started, end, &|| Ok(()))
    }

    /// How what [`Vm::start_command`] began has ended; `None` if it has not yet.
    pub fn ended(&self, started: usize) -> Result<Option<Output>> {
        let ended = self.agent.ended(started).transpose()?;
        if ended.is_none() && Instant::now() > self.deadline {
            bail!("time is up");
        }
        Ok(ended)
    }

    /// Waits for a text on the console, after `mark`; gives all from the mark to its line's end.
    pub fn wait_for(&self, mark: usize, needle: &str, timeout: Duration) -> Result<String> {
        let left = self.end(timeout).saturating_duration_since(Instant::now());
        self.console.wait_for(mark, needle, left).context("console")
    }

    /// Types on the first serial port.
    pub fn type_in(&mut self, text: &str) -> Result<()> {
        self.keyboard.write_all(text.as_bytes())?;
        Ok(self.keyboard.flush()?)
    }

    /// Attaches a debugger: the machine stops.
    pub fn gdb(&mut self) -> Result<Gdb> {
        Gdb::attach(connect(&mut self.child, &self.dir.join("gdb"))?)
    }

    /// Bytes of guest-physical memory.
    pub fn memory(&mut self, address: u64, size: u64) -> Result<Vec<u8>> {
        let file = self.dir.join("memory");
        self.qmp.save_memory(address, size, &file)
    }

    /// Waits for QEMU to end by itself: the guest has powered off or, without
    /// [`Config::reboot`], reset itself.
    pub fn wait_off(&mut self, timeout: Duration) -> Result<()> {
        let end = self.end(timeout);
        while self.child.try_wait()?.is_none() {
            if Instant::now() > end {
                bail!("the machine is still on after {} s", timeout.as_secs());
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Waits for the end of what [`Vm::start_command`] began, or for the machine's.
    pub fn wait_left(&mut self, started: usize, timeout: Duration) -> Result<Left> {
        let end = self.end(timeout);
        let alive = Self::alive(&self.console);
        loop {
            if let Some(output) = self.agent.ended(started) {
                return output.map(Left::Back);
            }
            if self.child.try_wait()?.is_some() {
                return Ok(Left::Off(self.ending()));
            }
            alive()?;
            if Instant::now() > end {
                let seconds = timeout.as_secs();
                bail!("neither off nor back after {seconds} s");
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// How a machine that is off ended.
    fn ending(&mut self) -> Ending {
        let mut ending = Ending::default();
        for event in self.qmp.last_events() {
            match event["event"].as_str() {
                Some("SUSPEND_DISK") => ending.s4 = true,
                Some("SHUTDOWN") => {
                    let reason = event["data"]["reason"].as_str();
                    ending.reason = reason.unwrap_or_default().to_string();
                }
                _ => {}
            }
        }
        ending
    }

    /// Waits until the machine is back where it was in an earlier line of shell, which ends then for
    /// the second time, from the one that [`Vm::start_command`] began.
    pub fn wait_back(
        &mut self,
        started: usize,
        then: &Waiting,
        timeout: Duration,
    ) -> Result<Output> {
        let end = self.end(timeout);
        let alive = Self::alive(&self.console);
        self.agent.went_back(started, then.number, end, &alive)
    }

    /// What the machine was in the middle of: for the one that goes on with it.
    pub fn waiting(&self, started: usize) -> Waiting {
        self.agent.waiting(started)
    }

    /// Waits until the machine goes on where another one was, or has booted afresh. A kernel that
    /// panics ends the wait.
    pub fn wait_start(&mut self, waiting: &Waiting, timeout: Duration) -> Result<Start> {
        let end = self.end(timeout);
        let alive = Self::alive(&self.console);
        let console = self.console.clone();
        let going = move || {
            // A kernel C that has nothing to resume and nothing to boot.
            let news = console.since(0);
            match news
                .lines()
                .find(|line| line.contains("kjump-init: not resumed"))
            {
                Some(line) if news.contains("nothing left to do") => bail!("{line}"),
                _ => alive(),
            }
        };
        self.agent.take_over(waiting, end, &going)
    }

    /// Waits until the machine that another one was goes on here, where a kernel takes commands that
    /// was told, by the line that [`Vm::start_command`] began, to give way to it.
    pub fn wait_resumed(
        &mut self,
        waiting: &Waiting,
        started: usize,
        timeout: Duration,
    ) -> Result<Output> {
        let end = self.end(timeout);
        let alive = Self::alive(&self.console);
        self.agent.give_way(waiting, started, end, &alive)
    }

    /// Pulls the plug.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Presses the power button.
    pub fn press_power(&mut self) -> Result<()> {
        self.qmp.execute("system_powerdown", json!({})).map(drop)
    }

    /// Switches the machine off as a user would: disks unmounted, A's own poweroff. Without ACPI
    /// A cannot; then a restart has to do, which ends QEMU as well.
    pub fn power_off(&mut self) -> Result<()> {
        let how = if self.acpi { "poweroff" } else { "reboot" };
        self.agent.send(&format!("sync; umount -a -r; {how} -f"))?;
        self.wait_off(COMMAND)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // First QEMU, by its handle: its sockets lie in the directory that goes next.
        self.child.kill().ok();
        self.child.wait().ok();
        fs::remove_dir_all(&self.dir).ok();
    }
}
