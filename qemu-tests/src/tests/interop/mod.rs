// SPDX-License-Identifier: GPL-2.0

//! \[interop-a\]: A uses kjump; B is a mainline KEXEC_JUMP kernel without kjump.ko. \[interop-b\]: A was
//! left by mainline's kexec jump and Debian's kexec-tools; B goes back with kjump. docs/interop.md.

pub mod files;

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::kjump;
use crate::story::Story;
use crate::vm::Vm;
use crate::workload::{Progress, Workload};

/// Round trips.
const TRIPS: u32 = 4;

/// A machine with something to do.
struct Machine<'a> {
    story: &'a Story,
    vm: Vm,
    workload: Workload,
    progress: Progress,
}

impl<'a> Machine<'a> {
    fn boot(story: &'a Story, kernel: Kernel, with_module: bool) -> Result<Self> {
        let mut config = story.config(kernel)?;
        files::add(story, &mut config)?;
        let image = Workload::prepare(story, &mut config)?;
        let mut vm = story.boot("A", &config)?;
        if with_module {
            kjump::insmod(&mut vm, "")?;
        }
        let workload = Workload::start(&mut vm, image)?;
        let progress = workload.progress(&mut vm)?;
        Ok(Self {
            story,
            vm,
            workload,
            progress,
        })
    }

    /// `kjump jump`: what the peer answers, and what was on the console meanwhile.
    fn jump(&mut self, word: &str) -> Result<(String, String)> {
        let mark = self.vm.console.mark();
        let said = kjump::jump(&mut self.vm, &format!("--command {word}"))?.text;
        self.progress = self.workload.healthy(&mut self.vm, self.progress)?;
        Ok((said, self.vm.console.since(mark)))
    }

    /// `kexec -e` of kexec-tools, which take it for a failure that they come back.
    fn exec(&mut self) -> Result<String> {
        let mark = self.vm.console.mark();
        // The notes of a kernel that did not crash are empty, and the /proc/vmcore of a peer that
        // boots with kexec-tools' headers of it is surprised by that.
        self.story.expect_trouble(mark);
        let output = self.vm.run_for("/bin/kexec -e", kjump::JUMP)?;
        self.story.trouble_is_over();
        ensure!(
            output.text.starts_with("kexec failed"),
            "kexec -e: {}: {}",
            output.rc,
            output.text
        );
        self.progress = self.workload.healthy(&mut self.vm, self.progress)?;
        Ok(self.vm.console.since(mark))
    }

    fn end(mut self) -> Result<()> {
        kjump::power_button(&mut self.vm)?;
        self.workload.end(&mut self.vm)
    }
}

/// B booted, or did not.
fn boots(seen: &str, wanted: bool) -> Result<()> {
    let count = seen.matches("Linux version").count();
    ensure!(
        count == usize::from(wanted),
        "B booted {count} times, {wanted} was wanted"
    );
    Ok(())
}

/// B has no module, so it was mainline's jump that went back.
fn no_module(seen: &str) -> Result<()> {
    ensure!(
        seen.contains("kjump-init: module: /lib/modules/kjump.ko: No such file"),
        "B has not looked for a module, or has one"
    );
    Ok(())
}

/// B is `lean`, in the usual window. Kept in a file and loaded again it goes back to where it is
/// entered from then, not to where its command line says.
pub fn lean(story: &Story) -> Result<()> {
    let mut a = from_kjump(story, "/boot/lean")?;
    let before = kjump::address(&kjump::status(&mut a.vm)?, "jump_back_entry")?;
    a.vm.sh("kjump peer dump /run/peer && kjump unload")?;
    // What is free first is taken by somebody else meanwhile.
    a.vm.sh("dd if=/dev/zero of=/run/ballast bs=1M count=24 2>/dev/null")?;
    a.vm.sh("kjump load --peer /run/peer && rm /run/peer /run/ballast")?;
    let now = kjump::address(&kjump::status(&mut a.vm)?, "jump_back_entry")?;
    ensure!(now != before, "the entry is where it was: {now:#x}");
    let (said, seen) = a.jump("run")?;
    ensure!(
        said == format!("peer came back: status {TRIPS}"),
        "\"{said}\""
    );
    boots(&seen, false)?;
    let (said, _) = a.jump("hibernate")?;
    ensure!(said == "peer came back: status 4", "\"{said}\"");
    let status = kjump::status(&mut a.vm)?;
    let reason = status["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("module missing"), "{status}");
    a.vm.sh("kjump unload")?;
    a.end()
}

/// B is a kernel with PAE and several CPUs.
pub fn pae(story: &Story) -> Result<()> {
    let mut a = from_kjump(story, "/boot/pae --window 64M")?;
    a.vm.sh("kjump unload")?;
    a.end()
}

/// The first entry boots B, which goes straight back; later it does what the word says. B counts in
/// its own memory how often that was.
fn from_kjump<'a>(story: &'a Story, kernel: &str) -> Result<Machine<'a>> {
    let mut a = Machine::boot(story, Kernel::Full, true)?;
    let append = "console=ttyS0 panic=-1 kjump.do=back kjump.run=/bin/count";
    a.vm.sh(&format!(
        "kjump load {kernel} --initrd /boot/bare.cpio.gz --append \"{append}\""
    ))?;
    for trip in 0..TRIPS {
        let word = if trip == 0 { "none" } else { "run" };
        let (said, seen) = a.jump(word)?;
        ensure!(
            said == format!("peer came back: status {trip}"),
            "trip {trip}: kjump jump says \"{said}\""
        );
        boots(&seen, trip == 0)?;
        if trip == 0 {
            no_module(&seen)?;
        }
    }
    Ok(a)
}

/// Debian's kexec-tools in B: their own way back fails for want of memory; with kjump's helper in
/// the place of theirs their `kexec -e` goes back, again and again.
pub fn tools_in_peer(story: &Story) -> Result<()> {
    let mut a = Machine::boot(story, Kernel::Full, true)?;
    let append = "console=ttyS0 panic=-1 kjump.do=run,back kjump.run=/bin/tools";
    a.vm.sh(&format!(
        "kjump load /boot/lean --window 32M --initrd /boot/tools.cpio.gz --append \"{append}\""
    ))?;
    let mark = a.vm.console.mark();
    // Memory runs out in B.
    story.expect_trouble(mark);
    let (said, seen) = a.jump("none")?;
    story.trouble_is_over();
    ensure!(said == "peer came back: status 0", "\"{said}\"");
    boots(&seen, true)?;
    no_module(&seen)?;
    let own = number_after(&seen, "tools: kexec-tools' helper: ")?;
    ensure!(own != "0", "kexec-tools' own helper is taken: {own}");
    story.note(format!("kexec-tools' own helper ends with {own}"));
    ensure!(number_after(&seen, "tools: kjump's helper: ")? == "0");
    let (said, seen) = a.jump("none")?;
    ensure!(said == "peer came back: status 0", "\"{said}\"");
    boots(&seen, false)?;
    ensure!(seen.contains("tools: entered again"), "{seen}");
    let (said, seen) = a.jump("none")?;
    ensure!(said == "peer came back: status 7", "\"{said}\"");
    ensure!(seen.contains("tools: entered a second time"), "{seen}");
    a.vm.sh("kjump unload")?;
    a.end()
}

fn number_after<'a>(seen: &'a str, words: &str) -> Result<&'a str> {
    let (_, rest) = seen
        .split_once(words)
        .with_context(|| format!("B did not say \"{words}\""))?;
    // A kernel's message may follow on the same line.
    let end = rest.find(|c: char| !c.is_ascii_digit());
    Ok(&rest[..end.unwrap_or(rest.len())])
}

/// A has no kjump at all; Debian's kexec-tools load B and jump.
pub fn kexec_tools(story: &Story) -> Result<()> {
    from_kexec_tools(story, Kernel::Full)
}

/// The same with an A that has PAE, which mainline's way back gets wrong in one more way.
pub fn kexec_tools_pae(story: &Story) -> Result<()> {
    from_kexec_tools(story, Kernel::Pae)
}

/// How kexec-tools load B; what each option is for is in docs/interop.md.
fn kexec_load(initrd: &str, what: &str) -> String {
    format!(
        "/bin/kexec -c --load-preserve-context /boot/lean --initrd=/boot/{initrd} --mem-min=0 \
         --mem-max=0x1ffffff --pass-memmap-cmdline \
         --append='console=ttyS0 panic=-1 kjump.do={what}'"
    )
}

fn from_kexec_tools(story: &Story, kernel: Kernel) -> Result<()> {
    let mut a = Machine::boot(story, kernel, false)?;
    a.vm.sh(&kexec_load("bare.cpio.gz", "back"))?;
    for trip in 0..TRIPS {
        let seen = a.exec()?;
        boots(&seen, trip == 0)?;
        if trip == 0 {
            no_module(&seen)?;
        } else {
            entered(&seen)?;
        }
    }
    // With the module in B, which has no handoff to go by, but leaves by its own way down: mainline's
    // does not freeze kernel threads.
    a.vm.sh("/bin/kexec -c -u")?;
    a.vm.sh(&kexec_load("plain.cpio.gz", "back"))?;
    let seen = a.exec()?;
    boots(&seen, true)?;
    ensure!(
        seen.contains("kjump.ko") && no_module(&seen).is_err(),
        "B has no module"
    );
    for _ in 0..2 {
        let seen = a.exec()?;
        entered(&seen)?;
        ensure!(
            seen.contains("Freezing remaining freezable tasks"),
            "B has not left through the module"
        );
    }
    a.end()
}

/// A's page tables are not where the helper is told: B finds itself where it was, with a reason, and
/// can try again.
pub fn lost(story: &Story) -> Result<()> {
    let mut a = Machine::boot(story, Kernel::Full, false)?;
    a.vm.sh(&kexec_load("tools.cpio.gz", "run,back kjump.run=/bin/lost"))?;
    let seen = a.exec()?;
    boots(&seen, true)?;
    ensure!(number_after(&seen, "lost: back: ")? == "35", "{seen}");
    ensure!(seen.contains("whose GDT"), "{seen}");
    ensure!(number_after(&seen, "lost: device: ")? == "35", "{seen}");
    ensure!(number_after(&seen, "lost: circle: ")? == "35", "{seen}");
    ensure!(number_after(&seen, "lost: stale: ")? == "35", "{seen}");
    ensure!(
        seen.contains("kjump-init: run: /bin/lost: exit 0"),
        "{seen}"
    );
    entered(&a.exec()?)?;
    a.end()
}

/// B was entered again and has gone back.
fn entered(seen: &str) -> Result<()> {
    ensure!(
        seen.contains("kjump-init: entered again: command 0x0 (none)"),
        "B was not entered again"
    );
    Ok(())
}
