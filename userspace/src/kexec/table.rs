//! Every option: those of the seeds, and those that kexec-tools has today. docs/kexec.md has the
//! same table for users.

/// Whether an option takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// None.
    No,
    /// `--name=VALUE` or `--name VALUE`.
    Yes,
    /// `--name=VALUE`, or the operand.
    Maybe,
}

/// What an option says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Print the help.
    Help,
    /// Print the version.
    Version,
    /// Say what is being done.
    Debug,
    /// Load, to be executed later.
    Load,
    /// Execute what is loaded.
    Exec,
    /// Free what is loaded.
    Unload,
    /// Load and execute at once.
    Force,
    /// Is something loaded?
    Status,
    /// The kernel for a panic.
    Panic,
    /// Load and keep this kernel.
    Preserve,
    /// Load a saved kernel.
    ResumeImage,
    /// Check where the other kernel is entered.
    ResumeEntry,
    /// Get ready to go back, where kjump is not there.
    BackHelper,
    /// `-c`: kexec-tools' system call, or with `-e` and a number the seeds' command.
    Command,
    /// Where a saved kernel is entered.
    Entry,
    /// `kexec_load`'s flags, as the seeds have it.
    Flags,
    /// The lowest address to load to.
    MemMin,
    /// The highest address to load to.
    MemMax,
    /// kjump's own: the window's size.
    Window,
    /// The command line.
    Append,
    /// This kernel's command line.
    ReuseCommandLine,
    /// The initrd.
    Initrd,
    /// The file's kind.
    Type,
    /// Bytes of the region for a panic's kernel.
    CrashSize,
    /// Taken and without effect: why.
    Nothing(&'static str),
    /// Refused: what to do instead.
    Refused(&'static str),
}

/// An option.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Its name, without dashes.
    pub long: &'static str,
    /// Its letter.
    pub short: Option<char>,
    /// Its value.
    pub value: Value,
    /// What it says.
    pub what: What,
}

const fn plain(long: &'static str, what: What) -> Spec {
    Spec {
        long,
        short: None,
        value: Value::No,
        what,
    }
}

const fn letter(short: char, long: &'static str, what: What) -> Spec {
    Spec {
        short: Some(short),
        ..plain(long, what)
    }
}

const fn with(long: &'static str, what: What) -> Spec {
    Spec {
        value: Value::Yes,
        ..plain(long, what)
    }
}

const fn maybe(long: &'static str, what: What) -> Spec {
    Spec {
        value: Value::Maybe,
        ..plain(long, what)
    }
}

const SYSCALL: &str = "kjump's module loads, not a system call";
const PURGATORY: &str = "nothing runs between the two kernels that could do it";
const HEADERS: &str = "ELF64 headers are always prepared with a jump load";
const ARGUMENTS: &str = "the file's kind says what its kernel is given";
const XEN: &str = "it is Xen's; use kexec-tools there";
const MULTIBOOT: &str = "multiboot kernels are not loaded; give a bzImage or a 32-bit ELF";

/// All of them.
pub const OPTIONS: &[Spec] = &[
    letter('h', "help", What::Help),
    letter('v', "version", What::Version),
    letter('d', "debug", What::Debug),
    letter('l', "load", What::Load),
    letter('e', "exec", What::Exec),
    letter('u', "unload", What::Unload),
    letter('f', "force", What::Force),
    letter('S', "status", What::Status),
    letter('p', "load-panic", What::Panic),
    plain("load-preserve-context", What::Preserve),
    plain("load-jump-back", What::Preserve),
    maybe("load-resume-image", What::ResumeImage),
    maybe("load-resume-entry", What::ResumeEntry),
    plain("load-jump-back-helper", What::BackHelper),
    letter('c', "kexec-syscall", What::Command),
    with("entry", What::Entry),
    with("flags", What::Flags),
    with("mem-min", What::MemMin),
    with("mem-max", What::MemMax),
    with("window", What::Window),
    with("append", What::Append),
    with("command-line", What::Append),
    plain("reuse-cmdline", What::ReuseCommandLine),
    with("initrd", What::Initrd),
    with("ramdisk", What::Initrd),
    Spec {
        short: Some('t'),
        ..with("type", What::Type)
    },
    plain("print-ckr-size", What::CrashSize),
    letter('s', "kexec-file-syscall", What::Nothing(SYSCALL)),
    letter('a', "kexec-syscall-auto", What::Nothing(SYSCALL)),
    letter(
        'i',
        "no-checks",
        What::Nothing("no checksum is computed on the way"),
    ),
    letter(
        'x',
        "no-ifdown",
        What::Nothing("network interfaces stay up, and are there again afterwards"),
    ),
    letter(
        'y',
        "no-sync",
        What::Nothing("disks are always synced before a jump"),
    ),
    plain("hotplug", What::Nothing("it is for a panic's kernel")),
    plain("no-cma", What::Nothing("no memory of CMA is used")),
    plain(
        "force-dtb",
        What::Nothing("this machine has no device tree"),
    ),
    plain("elf32-core-headers", What::Nothing(HEADERS)),
    plain("elf64-core-headers", What::Nothing(HEADERS)),
    plain(
        "pass-memmap-cmdline",
        What::Nothing("the memory map that a peer is given has its window only"),
    ),
    plain("noefi", What::Nothing("no EFI runtime is handed on")),
    plain(
        "reuse-video-type",
        What::Nothing("the screen's description is handed on as it is"),
    ),
    plain("entry-32bit", What::Nothing("it is the entry that is used")),
    plain("args-none", What::Nothing(ARGUMENTS)),
    plain("args-linux", What::Nothing(ARGUMENTS)),
    plain("args-elf", What::Nothing(ARGUMENTS)),
    plain("reset-vga", What::Nothing(PURGATORY)),
    plain("console-vga", What::Nothing(PURGATORY)),
    plain("console-serial", What::Nothing(PURGATORY)),
    with("serial", What::Nothing(PURGATORY)),
    with("serial-baud", What::Nothing(PURGATORY)),
    plain(
        "reuseinitrd",
        What::Refused("the running kernel's initrd is gone; name it with --initrd=FILE"),
    ),
    plain(
        "real-mode",
        What::Refused(
            "firmware cannot be called any more; leave it out, and the 32-bit entry is used",
        ),
    ),
    with("module", What::Refused(MULTIBOOT)),
    with(
        "dtb",
        What::Refused("this machine has no device tree; leave it out"),
    ),
    plain("load-live-update", What::Refused(XEN)),
    plain("exec-live-update", What::Refused(XEN)),
];

/// What `kexec --help` prints.
pub const HELP: &str = "\
Usage: kexec [OPTION]... [FILE]
Boots or enters another kernel, through kjump.

  -l, --load FILE               load; nothing of this kernel is kept. FILE: a bzImage, an ELF kernel;
                                a core of a saved kernel or of a peer (/proc/kimgcore) is known by itself
      --load-preserve-context FILE, --load-jump-back FILE
                                load a kernel that is jumped to and comes back
      --load-resume-image CORE  load a saved kernel
      --load-resume-entry ENTRY, --load-jump-back-helper --entry=ENTRY
                                get ready to enter the kernel that is there already
  -e, --exec                    execute: jump, go back, or enter, whatever is ready
  -e -c COMMAND                 jump with a command word for the peer (0x6b630001: hibernate)
  -f, --force FILE              load and execute
  -u, --unload                  free what is loaded
  -S, --status                  exit with 1 if a panic's kernel is loaded, with -l if anything else is
      --mem-max=ADDRESS         the peer's memory ends here [default: 0xffffff]; --window=SIZE is the same;
                                with -l: nothing is loaded above
      --append=STRING, --command-line=STRING, --reuse-cmdline
      --initrd=FILE, --ramdisk=FILE  [default of a jump load: rootfs.gz beside the kernel, if there]
      --entry=ADDRESS           where a saved kernel is entered [default: as its core says]
      --flags=0xN               with bit 1, keep this kernel
  -t, --type=TYPE               bzImage, elf, core, peer: refuse another kind
  -d, --debug; -v, --version; -h, --help

kexec-tools' other options are taken, most without effect, or refused with what to do instead:
docs/kexec.md has the table. Exit codes are those of `kjump --help`.
";
