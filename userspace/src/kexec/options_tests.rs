//! The command lines of the seeds, of kexec-tools' manual, and nonsense.

use super::*;
use proptest::prelude::*;

fn read(line: &str) -> Result<Options> {
    let words: Vec<String> = line.split_whitespace().map(str::to_string).collect();
    Options::parse(&words)
}

fn good(line: &str) -> Options {
    read(line).unwrap_or_else(|e| panic!("{line}: {e}"))
}

/// What is said of a line that is refused.
fn bad(line: &str) -> String {
    match read(line) {
        Ok(o) => panic!("{line}: {o:?}"),
        Err(e) => {
            assert_eq!(e.exit_code(), 2, "{line}");
            e.to_string()
        }
    }
}

#[test]
fn the_seeds_lines() {
    let words = [
        "--load-jump-back",
        "/boot/bzImage",
        "--mem-min=0x100000",
        "--mem-max=0xffffff",
        "--elf64-core-headers",
        "--append=khdev=3:7 go_to_hibernate",
    ];
    let o = Options::parse(&words.map(String::from)).unwrap();
    assert_eq!(o.action, Action::Load);
    assert!(o.preserve && !o.image);
    assert_eq!(o.operand.as_deref(), Some("/boot/bzImage"));
    assert_eq!(o.window, Some(16 << 20));
    assert_eq!(o.append.as_deref(), Some("khdev=3:7 go_to_hibernate"));
    assert_eq!(o.notes.len(), 2);

    let o = good(
        "--load-preserve-context /boot/bzImage --mem-min=0x100000 --mem-max=0xffffff \
         --initrd=rootfs.gz",
    );
    assert!(o.preserve && o.initrd == Some("rootfs.gz".into()));

    let o = good("-l --args-none --flags=0x3e kimgcore");
    assert!(o.preserve && !o.panic && o.action == Action::Load);
    assert_eq!(o.operand.as_deref(), Some("kimgcore"));

    let o = good("-l --args-none --entry=0x1f01000 dump.elf");
    assert!(!o.preserve && o.entry == Some(0x1f0_1000));

    assert_eq!(good("-l --entry= dump.elf").entry, None);
    assert_eq!(good("-l --entry=0 dump.elf").entry, None);
    assert!(bad("-l --entry=dump.elf").contains("no number"));

    let o = good("--load-resume-image dump.elf");
    assert!(o.image && o.operand.as_deref() == Some("dump.elf"));
    assert_eq!(good("--load-resume-image=dump.elf"), o);
    let o = good("--load-resume-entry 0x1000");
    assert_eq!(
        (o.action, o.operand.as_deref()),
        (Action::ResumeEntry, Some("0x1000"))
    );
    assert_eq!(good("--load-resume-entry=0x1000"), o);
    let o = good("--load-jump-back-helper --entry=0x1000");
    assert_eq!((o.action, o.entry), (Action::BackHelper, Some(0x1000)));
}

#[test]
fn both_meanings_of_c() {
    assert_eq!(good("-e").command, None);
    for line in [
        "-e -c 0x6b630001",
        "-ec 0x6b630001",
        "-e -c0x6b630001",
        "-c 0x6b630001 -e",
        "-e -c hibernate",
    ] {
        let o = good(line);
        assert_eq!(
            (o.action, o.command),
            (Action::Exec, Some(0x6b63_0001)),
            "{line}"
        );
        assert_eq!(o.operand, None);
    }
    // As kexec-tools has it.
    let o = good("-c -l /boot/vmlinuz --append=x");
    assert_eq!((o.action, o.command), (Action::Load, None));
    assert_eq!(o.operand.as_deref(), Some("/boot/vmlinuz"));
    assert_eq!(good("-l -c 12").operand.as_deref(), Some("12"));
    assert_eq!(good("-e -c").command, None);
    assert_eq!(good("-e --kexec-syscall").command, None);
    assert!(bad("-e -c vmlinuz").contains("takes no file"));
    assert!(bad("-e --kexec-syscall 0x6b630001").contains("takes no file"));
}

#[test]
fn as_getopt_reads() {
    let o = good("vmlinuz -l --app one --command-line=two --ini rd");
    assert_eq!(o.append.as_deref(), Some("two"));
    assert_eq!(o.initrd, Some("rd".into()));
    assert_eq!(o.operand.as_deref(), Some("vmlinuz"));
    assert_eq!(good("-tbzImage -l k").kind, Some(Type::BzImage));
    assert_eq!(good("-l -t elf-x86 k").kind, Some(Type::Elf));
    assert_eq!(good("-l -- -k").operand.as_deref(), Some("-k"));
    assert_eq!(good("-ld k").action, Action::Load);
    assert!(good("-dl k").debug);
    assert!(bad("--load-p x").contains("--load-panic, --load-preserve-context"));
    assert!(bad("--bogus").contains("--bogus"));
    assert!(bad("-q").contains("-q"));
    assert!(bad("-l --append").contains("needs a value"));
    assert!(bad("-l --load=x").contains("takes no value"));
    assert!(bad("-l a b").contains("`b`"));
    assert!(bad("--=x").contains("no option"));
}

#[test]
fn windows() {
    let window = |line: &str| good(line).window;
    assert_eq!(window("--mem-max=0xffffff"), Some(16 << 20));
    assert_eq!(window("--mem-max=0x1000000"), Some((16 << 20) + 4096));
    assert_eq!(window("--mem-max 33554431"), Some(32 << 20));
    assert_eq!(window("--window=32M"), Some(32 << 20));
    assert_eq!(window("-l k"), None);
    assert!(bad("--mem-max=0xffffffffffffffff").contains("beyond"));
    assert!(bad("--mem-max=16M").contains("no number"));
    assert!(bad("--window=x").contains("no size"));
    assert!(bad("--mem-min=x").contains("--mem-min"));
}

#[test]
fn the_last_action_counts() {
    assert_eq!(good("vmlinuz").action, Action::LoadAndShutDown);
    assert_eq!(good("-f vmlinuz").action, Action::LoadAndExec);
    assert_eq!(good("-u").action, Action::Unload);
    let o = good("-l -S");
    assert!(o.load && o.action == Action::Status);
    let o = good("-S -l");
    assert!(o.load && o.action == Action::Status);
    assert!(good("-p k").panic && good("--flags=1 -l k").panic);
    assert_eq!(good("-v").action, Action::Version);
    assert_eq!(good("-h").action, Action::Help);
}

#[test]
fn what_is_refused_says_what_to_do() {
    for line in [
        "-l --module=x k",
        "-l --real-mode k",
        "-l --reuseinitrd k",
        "-l --dtb=x k",
        "--load-live-update k",
        "-l -t multiboot-x86 k",
    ] {
        assert!(bad(line).len() > 20, "{line}");
    }
}

#[test]
fn names_and_letters_are_unique() {
    for (n, one) in OPTIONS.iter().enumerate() {
        for other in &OPTIONS[n + 1..] {
            assert_ne!(one.long, other.long);
            assert!(one.short.is_none() || one.short != other.short);
        }
    }
}

proptest! {
    #[test]
    fn no_line_makes_it_panic(
        words in prop::collection::vec("(-{0,2}[a-z=0-9-]{0,24}|-[a-zA-Z0-9]{0,5}|.{0,8})", 0..8)
    ) {
        let _ = Options::parse(&words);
    }

    #[test]
    fn any_beginning_of_a_name_is_that_option_or_refused(n in 0..OPTIONS.len(), cut in 0usize..30) {
        let long = OPTIONS[n].long;
        let cut = cut.min(long.len());
        if let Ok(found) = by_name(&long[..cut]) {
            prop_assert!(found.long.starts_with(&long[..cut]));
        }
        prop_assert_eq!(by_name(long).map(|o| o.long).ok(), Some(long));
    }
}
