// SPDX-License-Identifier: GPL-2.0

//! \[snap-debug\]: a kernel bug is set off on purpose after a snapshot, and the machine is as it was
//! before: by a rollback, where a task died of it; by C after a reset, where the kernel did. Two
//! moments are compared with gdb.

use anyhow::{bail, ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::disk;
use crate::ending::{Start, Waiting};
use crate::hibernation::{self, Way};
use crate::initramfs::Purpose;
use crate::kjump;
use crate::shell;
use crate::snapshots::{rollback, snapshot};
use crate::story::Story;
use crate::tests::core_tools::{in_shell, keep};
use crate::tests::hung::off_by_reset;
use crate::tools;
use crate::vm::Vm;

/// Room for all of A's memory, the window twice, MiB.
const ROOM: u64 = 200;
/// What a tmpfs holds meanwhile.
const STORED: &str = "8M";
const SEED: u32 = 20_262;
/// "A kernel died or oopsed": bit 7 of the taint.
const DIED: u32 = 1 << 7;

/// What must be as it was.
struct Before {
    /// What the module says of its list.
    list: String,
    tainted: u32,
    ticks: u64,
}

impl Before {
    fn look(vm: &mut Vm) -> Result<Self> {
        Ok(Self {
            list: vm.sh("cat /proc/trouble")?,
            tainted: tainted(vm)?,
            ticks: ticks(vm)?,
        })
    }

    /// Everything is as it was, and goes on.
    fn again(&self, vm: &mut Vm) -> Result<()> {
        // It would wait for ever if the lock were still held by a task that died.
        let list = vm.sh("timeout 10 cat /proc/trouble")?;
        ensure!(list == self.list, "the list: {list}, before: {}", self.list);
        let tainted = tainted(vm)?;
        ensure!(tainted == self.tainted, "tainted: {tainted}");
        vm.sh(&format!("guest ramcheck {SEED} /run/store"))?;
        vm.sh("kill -0 $(cat /run/counter.pid)")?;
        let there = ticks(vm)?;
        ensure!(there >= self.ticks, "{there} ticks, before: {}", self.ticks);
        let wait = format!(
            "for i in $(seq 60); do test $(cat /run/counter) -gt {there} && exit 0; sleep 0.5; done; exit 1"
        );
        vm.sh(&wait).context("the counter stands still")?;
        Ok(())
    }
}

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config_for(Kernel::Full, Purpose::Small)?;
    config.memory = 128;
    let (image, core) = (story.file("snapshot.img"), story.file("core.img"));
    disk::empty(&image, ROOM)?;
    disk::empty(&core, ROOM)?;
    config.disks.extend([image.into(), core.clone().into()]);
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    vm.sh("insmod /lib/trouble.ko && mkdir -p /run/store")?;
    vm.sh(&format!("guest ramfill {STORED} {SEED} /run/store"))?;
    vm.sh(
        "guest counter /run/counter >/run/counter.err 2>&1 & echo $! >/run/counter.pid; sleep 1",
    )?;
    let before = Before::look(&mut vm)?;
    ensure!(
        before.list.ends_with("corrupted 0 numbers 1 2 3 4 5"),
        "{}",
        before.list
    );
    // Nothing is mounted that could be written to meanwhile: everything is in memory.
    let (then, _) = snapshot(&mut vm, "kjump snapshot /dev/vda")?;

    // What a debugger sees before and after.
    let text = vm.sh("cat /sys/module/trouble/sections/.text")?;
    let module = Module {
        text: text.trim(),
        at: before.list.split_whitespace().nth(1).unwrap_or_default(),
    };
    let good = module.seen(story, &mut vm, &core)?;
    vm.sh("echo corrupt >/proc/trouble")?;
    let bad = module.seen(story, &mut vm, &core)?;
    compare(story, &good, &bad)?;

    // Whoever walks the list dies of it, with the lock; then another bug, at once.
    for words in [&["walk"][..], &["corrupt", "oops"]] {
        for word in words {
            set_off(story, &mut vm, word)?;
        }
        ensure!(tainted(&mut vm)? & DIED != 0, "{words:?}: nobody died");
        let said = rollback(&mut vm, "kjump rollback /dev/vda", &then)
            .with_context(|| format!("after {words:?}"))?;
        ensure!(said.contains("rolled back"), "{said}");
        before
            .again(&mut vm)
            .with_context(|| format!("after {words:?}"))?;
    }

    // The kernel itself dies: the machine restarts, and C puts it back, by either way.
    for way in [Way::Bootloader, Way::Initramfs] {
        vm.sh("echo corrupt >/proc/trouble")?;
        panic(story, &mut vm)?;
        let config = hibernation::again(story, &config, way, "kjump.resume=/dev/vda");
        vm = restored(story, way, &config, &then)?;
        before
            .again(&mut vm)
            .with_context(|| format!("by {way:?}"))?;
    }
    // And it is whole: it can be snapshot and put back once more.
    let (then, _) = snapshot(&mut vm, "kjump snapshot /dev/vda")?;
    rollback(&mut vm, "kjump rollback /dev/vda", &then)?;
    before.again(&mut vm)?;
    vm.power_off()
}

fn tainted(vm: &mut Vm) -> Result<u32> {
    Ok(vm.sh("cat /proc/sys/kernel/tainted")?.trim().parse()?)
}

fn ticks(vm: &mut Vm) -> Result<u64> {
    Ok(vm.sh("cat /run/counter")?.trim().parse()?)
}

/// Writes a word to the module: whoever writes one that is a bug dies of it.
fn set_off(story: &Story, vm: &mut Vm, word: &str) -> Result<()> {
    let deadly = word != "corrupt";
    let mark = vm.console.mark();
    if deadly {
        story.expect_trouble(mark);
    }
    let output = vm.run(&format!("echo {word} >/proc/trouble"))?;
    if deadly {
        // The last line of an oops may come after the task's end.
        vm.wait_for(mark, "---[ end trace", kjump::JUMP)?;
        story.trouble_is_over();
    }
    ensure!(
        (output.rc > 128) == deadly,
        "{word}: {} and \"{}\"",
        output.rc,
        output.text
    );
    Ok(())
}

/// Has A panic, which restarts the machine.
fn panic(story: &Story, vm: &mut Vm) -> Result<()> {
    let mark = vm.console.mark();
    story.expect_trouble(mark);
    vm.start_command("echo panic >/proc/trouble")?;
    vm.wait_for(mark, "Kernel panic - not syncing: trouble:", kjump::JUMP)?;
    off_by_reset(vm)
}

/// Starts the machine again, which must go on with the snapshot's moment.
fn restored(story: &Story, way: Way, config: &crate::vm::Config, then: &Waiting) -> Result<Vm> {
    let title = format!("C, {way:?}");
    let (vm, start) = hibernation::start(story, &title, config, then)?;
    match start {
        Start::Resumed(output) => {
            let good = output.rc == 0 && output.text.contains("rolled back");
            ensure!(good, "{title}: {} and \"{}\"", output.rc, output.text);
            Ok(vm)
        }
        Start::Booted => bail!(
            "{title}: the machine has booted afresh:\n{}",
            hibernation::said_by_resume(&vm.console.since(0))
        ),
    }
}

/// What gdb has to know of the module.
struct Module<'a> {
    text: &'a str,
    at: &'a str,
}

impl Module<'_> {
    /// What gdb sees of the module's data in a core of A as it is now, line by line.
    fn seen(&self, story: &Story, vm: &mut Vm, disk: &std::path::Path) -> Result<Vec<String>> {
        let jump = in_shell(vm)?;
        shell::line(vm, "kjump save --format elf /dev/vdb")?;
        let core = story.file("core.elf");
        keep(disk, &core)?;
        // Not by `kjump back`: the shell has to end, for the peer to obey at its next entry.
        vm.type_in("exit\n")?;
        vm.finish(jump, hibernation::LONG)?.ok()?;
        let (vmlinux, module) = (
            story.artifacts.vmlinux(Kernel::Full),
            story.artifacts.trouble(Kernel::Full),
        );
        let script = format!(
            "add-symbol-file {} {}\nset $t = (struct trouble *)0x{}\n{SHOW}",
            module.display(),
            self.text,
            self.at
        );
        let said = tools::gdb(&vmlinux, &core, &script, &story.dir)?;
        let lines = said.lines().filter(|line| line.starts_with("seen "));
        let lines: Vec<String> = lines.map(String::from).collect();
        ensure!(lines.len() == 6, "gdb says: {said}");
        Ok(lines)
    }
}

/// Prints the module's flag and its list's links.
const SHOW: &str = r#"printf "seen corrupted %u\n", $t->corrupted
set $i = 0
while $i < 5
  printf "seen item %u next %x\n", $t->item[$i].number, $t->item[$i].link.next
  set $i = $i + 1
end
"#;

/// The flag and one link differ, and nothing else.
fn compare(story: &Story, good: &[String], bad: &[String]) -> Result<()> {
    let pairs = good.iter().zip(bad).filter(|(a, b)| a != b);
    let pairs: Vec<(&str, &str)> = pairs.map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let wanted = match pairs[..] {
        [("seen corrupted 0", "seen corrupted 1"), (a, b)] => {
            a.starts_with("seen item 3 next c") && b == "seen item 3 next 150"
        }
        _ => false,
    };
    ensure!(wanted, "gdb sees {good:?}, then {bad:?}");
    story.note(format!(
        "gdb sees {} of {} lines differ",
        pairs.len(),
        good.len()
    ));
    Ok(())
}
