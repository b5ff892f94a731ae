// SPDX-License-Identifier: GPL-2.0

//! \[bios\]: the firmware is asked, and programs run with paging off; those that do not come back are
//! given up.

use anyhow::{ensure, Context, Result};

use crate::artifacts::Kernel;
use crate::kjump::{self, exit, JUMP};
use crate::story::Story;
use crate::vm::Vm;
use crate::workload::Workload;

/// Sums up ECX words from ESI on: `xor eax,eax; 1: add eax,[esi]; add esi,4; loop 1b; ret`.
const CHECKSUM: &[u8] = &[0x31, 0xc0, 0x03, 0x06, 0x83, 0xc6, 0x04, 0xe2, 0xf9, 0xc3];
/// Copies CX bytes from DS:SI to ES:DI: `cld; rep movsb; retf`.
const COPY: &[u8] = &[0xfc, 0xf3, 0xa4, 0xcb];
/// Waits for the tick count, with DS = 40h: `mov eax,[6ch]; 1: cmp eax,[6ch]; je 1b;
/// mov ebx,[6ch]; retf`.
const TICK: &[u8] = &[
    0x66, 0xa1, 0x6c, 0x00, 0x66, 0x3b, 0x06, 0x6c, 0x00, 0x74, 0xf9, 0x66, 0x8b, 0x1e, 0x6c, 0x00,
    0xcb,
];
/// `1: jmp 1b`
const HANG: &[u8] = &[0xeb, 0xfe];
/// `mov esp,0fffffff0h; 1: jmp 1b`: a stack in ROM.
const HANG_WRECKED: &[u8] = &[0xbc, 0xf0, 0xff, 0xff, 0xff, 0xeb, 0xfe];
/// Fills ECX words from EDI on with EAX: `cld; rep stosd; ret`.
const FILL: &[u8] = &[0xfc, 0xf3, 0xab, 0xc3];
/// `mov esp,0fffffff0h; ud2`
const FAULT_WRECKED: &[u8] = &[0xbc, 0xf0, 0xff, 0xff, 0xff, 0x0f, 0x0b];

/// The story.
pub fn run(story: &Story) -> Result<()> {
    let mut config = story.config(Kernel::Full)?;
    config.append = "i8042.noaux".into();
    let image = Workload::prepare(story, &mut config)?;
    let mut vm = story.boot("A", &config)?;
    kjump::insmod(&mut vm, "")?;
    let allocated = kjump::number(&kjump::status(&mut vm)?, "allocated_pages")?;
    let workload = Workload::start(&mut vm, image)?;
    let before = workload.progress(&mut vm)?;
    programs(&mut vm)?;
    memory_map(&mut vm)?;
    real_mode(&mut vm)?;
    checksum(&mut vm)?;
    put_back(&mut vm)?;
    workload.healthy(&mut vm, before)?;
    let before = workload.progress(&mut vm)?;
    given_up(&mut vm)?;
    refused(&mut vm)?;
    // What a call was like is not what a jump was like.
    let status = kjump::status(&mut vm)?;
    ensure!(
        status["jumps"] == 0 && status["last_outcome"].is_null(),
        "figures of a call: {status}"
    );
    // A resident peer is not in the way.
    kjump::load_lean(&mut vm, kjump::COME_BACK)?;
    kjump::jump_and_return(&mut vm, "")?;
    ok(&mut vm, "kjump call --mode real16 /tmp/copy")?;
    kjump::jump_and_return(&mut vm, "")?;
    vm.sh("kjump unload")?;
    workload.healthy(&mut vm, before)?;
    let now = kjump::number(&kjump::status(&mut vm)?, "allocated_pages")?;
    ensure!(now == allocated, "{now} pages, {allocated} before");
    workload.end(&mut vm)
}

/// The same machine with less: no HPET in use by Linux, whose timer is there all the same; no
/// IO-APIC, so that nobody ends a program that does not return, which is said.
pub fn plain(story: &Story) -> Result<()> {
    const WARNING: &str = "no HPET or no IO-APIC here";
    for (append, timer) in [("hpet=disable", true), ("noapic", false)] {
        let mut config = story.config(Kernel::Full)?;
        config.append = format!("i8042.noaux {append}");
        config.memory = 128;
        let mut vm = story.boot(append, &config)?;
        kjump::insmod(&mut vm, "")?;
        programs(&mut vm)?;
        let words = "--in esi=0xf0000 --in ecx=0x4000";
        let said = ok(&mut vm, &format!("kjump call /tmp/checksum {words}"))?;
        ensure!(
            said.contains(WARNING) != timer && register(&said, "ecx")? == 0,
            "{append}: {said}"
        );
        let said = ok(&mut vm, "kjump call /tmp/tick --mode real16 --in ds=0x40")?;
        ensure!(ticked(&said)?, "{append}: {said}");
        if timer {
            for mode in ["phys32", "real16"] {
                let command = format!("kjump call --timeout 300 --mode {mode} /tmp/hang");
                kjump::refuses(&mut vm, &command, exit::CALL_TIMED_OUT, "in time")?;
            }
        }
        vm.power_off()?;
    }
    Ok(())
}

/// Puts the programs into A.
fn programs(vm: &mut Vm) -> Result<()> {
    for (name, program) in [
        ("checksum", CHECKSUM),
        ("copy", COPY),
        ("tick", TICK),
        ("fill", FILL),
        ("hang", HANG),
        ("hang-wrecked", HANG_WRECKED),
        ("fault-wrecked", FAULT_WRECKED),
        ("empty", &[]),
    ] {
        let hex: String = program.iter().map(|b| format!("\\x{b:02x}")).collect();
        vm.sh(&format!("printf '{hex}' >/tmp/{name}"))?;
    }
    Ok(())
}

/// What a call prints.
fn ok(vm: &mut Vm, command: &str) -> Result<String> {
    let output = vm.run_for(command, JUMP)?;
    ensure!(output.rc == 0, "{command}: {} {}", output.rc, output.text);
    Ok(output.text)
}

/// Whether the program that waits for a tick has seen one, or a few if the emulator had to wait for its host
/// between its two looks.
fn ticked(text: &str) -> Result<bool> {
    let (first, then) = (register(text, "eax")?, register(text, "ebx")?);
    Ok((first + 1..first + 100).contains(&then))
}

/// A register's value in what was printed.
fn register(text: &str, name: &str) -> Result<u64> {
    let word = text.split_whitespace().find_map(|w| w.strip_prefix(name));
    let value = word.and_then(|w| w.strip_prefix("=0x"));
    let value = value.with_context(|| format!("no {name} in \"{text}\""))?;
    Ok(u64::from_str_radix(value, 16)?)
}

fn memory_map(vm: &mut Vm) -> Result<()> {
    let said = ok(vm, "kjump bios e820")?;
    let known = vm.sh(
        "for d in /sys/firmware/memmap/*; do printf '%08x-%08x : %s\\n' $(cat $d/start) $(cat \
         $d/end) \"$(cat $d/type)\"; done | sort",
    )?;
    let mut said: Vec<&str> = said.lines().collect();
    said.sort_unstable();
    let known: Vec<&str> = known.lines().collect();
    ensure!(
        said == known && said.len() > 3,
        "{said:#?} is not {known:#?}"
    );
    Ok(())
}

fn real_mode(vm: &mut Vm) -> Result<()> {
    // The date of the BIOS, at F000:FFF5.
    let copy = "kjump call /tmp/copy --mode real16 --in ds=0xf000 --in esi=0xfff5 --in edi=0x5000";
    ok(vm, &format!("{copy} --in ecx=8 --out 0x5000+8=/tmp/date"))?;
    let date = vm.sh("cat /tmp/date")?;
    let known = vm.sh("dd if=/dev/mem bs=1 skip=$((0xffff5)) count=8 2>/dev/null")?;
    let shape = date.len() == 8 && date.as_bytes()[2] == b'/' && date.as_bytes()[5] == b'/';
    ensure!(
        date == known && shape,
        "the date is \"{date}\", not \"{known}\""
    );
    // Its clock ticks: the timer's interrupt arrives where a BIOS expects it.
    let said = ok(vm, "kjump call /tmp/tick --mode real16 --in ds=0x40")?;
    ensure!(ticked(&said)?, "{said}");
    // Answers that are known from elsewhere: the graphics card's memory, the disk's size.
    let vbe = ok(vm, "kjump bios vbe")?;
    ensure!(
        vbe.starts_with("VBE ") && vbe.ends_with("16384 KiB"),
        "{vbe}"
    );
    let edd = ok(vm, "kjump bios edd")?;
    let sectors = vm.sh("cat /sys/block/vda/size")?;
    ensure!(
        edd.contains("disk 0x80") && edd.contains(&format!(" {sectors} sectors of 512 bytes")),
        "{edd}: {sectors}"
    );
    // Any service by its number: the size of low memory.
    let size = ok(vm, "kjump bios int 0x12 --eax 0x12340000")?;
    let kib = register(&size, "eax")?;
    ensure!(
        kib >> 16 == 0x1234 && (512..=640).contains(&(kib & 0xffff)),
        "{size}"
    );
    Ok(())
}

fn checksum(vm: &mut Vm) -> Result<()> {
    let said = ok(
        vm,
        "kjump call /tmp/checksum --in esi=0xf0000 --in ecx=0x4000 --count 3",
    )?;
    let known = vm.sh(
        "dd if=/dev/mem bs=65536 skip=15 count=1 2>/dev/null | od -v -A n -t u4 | awk \
         '{for (i = 1; i <= NF; i++) s = (s + $i) % 4294967296} END {printf \"%.0f\", s}'",
    )?;
    let eax = register(&said, "eax")?;
    ensure!(eax.to_string() == known, "{eax} is not {known}");
    // What it is given at an address of its own, and its registers untouched.
    vm.sh("printf '\\001\\002\\003\\004\\005\\000\\000\\000' >/tmp/words")?;
    let said = ok(
        vm,
        "kjump call /tmp/checksum --at 0x20000 --mem 0x30ff8=/tmp/words --in esi=0x30ff8 --in \
         ecx=2 --in ebp=0x5555aaaa",
    )?;
    ensure!(register(&said, "eax")? == 0x0403_0206, "{said}");
    ensure!(register(&said, "ebp")? == 0x5555_aaaa, "{said}");
    Ok(())
}

/// A program writes all over the memory below 640 KiB, firmware's too, and over A's own text, where it
/// was put. All of it is as it was afterwards, looked at from outside.
fn put_back(vm: &mut Vm) -> Result<()> {
    const LOW: u64 = 0xa_0000;
    /// Where `full` lies.
    const TEXT: u64 = 0x20_0000;
    const PATTERN: [u8; 4] = [0x5a; 4];
    let low = vm.memory(0, LOW)?;
    let text = vm.memory(TEXT, 0x1000)?;
    // Linux leaves its first MiB alone; what is there is firmware's and the way for CPUs to start.
    let used = |bytes: &[u8]| bytes.iter().any(|&b| b != 0);
    ensure!(
        used(&low[..0x500]) && used(&low[0x9_fc00..]) && used(&text),
        "there is nothing to be put back"
    );
    // Page 0; what is below the stack; all above the program, the firmware's last page too.
    for (start, end) in [(0, 0x1000), (0x4000, 0x7000), (0x8000, LOW)] {
        let words = (end - start) / 4;
        let command = format!(
            "kjump call /tmp/fill --in eax=0x5a5a5a5a --in edi={start:#x} --in ecx={words:#x}"
        );
        // Page 0 and the firmware's page are not the program's, and not to be read.
        let seen = start.max(0x8000) + 0x1000;
        let out = format!("--out {seen:#x}+4=/tmp/seen");
        ok(vm, &format!("{command} {out}"))?;
        if start == 0x8000 {
            ensure!(
                vm.sh("cat /tmp/seen")?.as_bytes() == PATTERN,
                "nothing was written"
            );
        }
        let now = vm.memory(0, LOW)?;
        let differs = low.iter().zip(&now).position(|(a, b)| a != b);
        ensure!(
            differs.is_none(),
            "{start:#x}-{end:#x} were overwritten; at {:#x} it shows",
            differs.unwrap_or_default()
        );
    }
    // Over a kernel's own pages a program may be put: they are exchanged like others.
    let words = 0xffc / 4;
    let command = format!("kjump call /tmp/fill --at {TEXT:#x} --in eax=0x5a5a5a5a");
    ok(
        vm,
        &format!(
            "{command} --in edi={:#x} --in ecx={words:#x} --out {:#x}+4=/tmp/seen",
            TEXT + 4,
            TEXT + 4
        ),
    )?;
    ensure!(
        vm.sh("cat /tmp/seen")?.as_bytes() == PATTERN,
        "nothing was written"
    );
    ensure!(vm.memory(TEXT, 0x1000)? == text, "A's text has changed");
    Ok(())
}

fn given_up(vm: &mut Vm) -> Result<()> {
    for (program, code) in [
        ("hang", exit::CALL_TIMED_OUT),
        ("hang --mode real16", exit::CALL_TIMED_OUT),
        ("hang-wrecked", exit::CALL_TIMED_OUT),
        ("fault-wrecked", exit::CALL_FAULTED),
    ] {
        let output = vm.run_for(&format!("kjump call --timeout 500 /tmp/{program}"), JUMP)?;
        ensure!(
            output.rc == code,
            "{program}: {} {}",
            output.rc,
            output.text
        );
    }
    Ok(())
}

fn refused(vm: &mut Vm) -> Result<()> {
    for (arguments, code, words) in [
        ("/tmp/nothing", exit::FAILURE, "/tmp/nothing: "),
        ("/tmp/empty", exit::USAGE, "nothing to be put at 0x7c00"),
        ("/tmp/hang --at 0x1000", exit::USAGE, "0x1000-0x1002"),
        (
            "/tmp/hang --at 0xa0000",
            exit::SEGMENT_OUTSIDE,
            "0xa0000+0x2 lies outside",
        ),
        // Above this machine's RAM, and above what a window may have.
        (
            "/tmp/hang --at 0x18000000",
            exit::SEGMENT_OUTSIDE,
            "0x18000000+0x2 lies outside",
        ),
        (
            "/tmp/hang --at 0xfffff000",
            exit::USAGE,
            "0xfffff000-0xfffff002",
        ),
        // RAM, but there is none left above to exchange it with.
        (
            "/tmp/hang --at 0xd000000",
            exit::NO_MEMORY,
            "window 0xd001000",
        ),
        (
            "/tmp/hang --mode real16 --at 0x100000",
            exit::USAGE,
            "0x100000: real mode reaches 1 MiB",
        ),
        (
            "/tmp/hang --mem 0x7c01=/tmp/hang",
            exit::USAGE,
            "0x7c01 is used twice",
        ),
        ("/tmp/hang --timeout 0", exit::USAGE, "--timeout 0"),
        ("/tmp/hang --timeout 100000", exit::USAGE, "ms at most"),
        ("/tmp/hang --count 0", exit::USAGE, "--count 0"),
        // What cannot be had afterwards is refused before, whatever its size.
        (
            "/tmp/hang --out 0xa0000+16=/tmp/o",
            exit::USAGE,
            "--out 0xa0000+0x10",
        ),
        (
            "/tmp/hang --out 0x5000+0x100001000=/tmp/o",
            exit::USAGE,
            "--out 0x5000+0x100001000",
        ),
        (
            "/tmp/hang --out 0x5000+0xffffffffffffffff=/tmp/o",
            exit::USAGE,
            "--out 0x5000+0xffffffffffffffff",
        ),
        (
            "/tmp/hang --out 0x5000+4=/none/o",
            exit::FAILURE,
            "/none/o: ",
        ),
    ] {
        let command = format!("kjump call {arguments}");
        kjump::refuses(vm, &command, code, words)?;
    }
    for (command, words) in [
        ("call /tmp/hang --in rax=1", "there is no register rax"),
        (
            "call /tmp/hang --in eax=0x123456789",
            "a register has 32 bits",
        ),
        ("call /tmp/hang --mode real64", "real64"),
        ("bios int 0x100", "below 256"),
        ("bios int 0x10 --in foo=1", "there is no register foo"),
        ("bios int 0x12 --count 0", "--count 0"),
    ] {
        kjump::refuses(vm, &format!("kjump {command}"), exit::USAGE, words)?;
    }
    // None of them ran, and nothing was left.
    ensure!(
        vm.run("test -e /tmp/o")?.rc != 0,
        "a file of a refused call"
    );
    Ok(())
}
