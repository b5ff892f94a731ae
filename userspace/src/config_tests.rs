//! Configuration files, right and wrong.

use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> std::result::Result<Config, String> {
    Config::parse(Path::new("k.toml"), Ok(text.into())).map_err(|e| e.to_string())
}

#[test]
fn a_full_file() {
    let text = r#"
        # Comments are fine.
        target = "UUID=0b5c"
        peer = "/boot/k"
        initrd = ""
        append = "console=ttyS0,115200"
        window = "32M"
        compression = "zstd"
        mode = "s4"
        optimistic = true
        drop_caches = true
        allow_unknown = true
        snapshots = "UUID=77"
        encrypt = "key-file"
        key_file = "/root/key"
        kdf_memory = "32M"
        kdf_passes = 5
    "#;
    let c = parse(text).unwrap();
    assert_eq!((c.target().unwrap(), c.initrd()), ("UUID=0b5c", None));
    assert_eq!((c.window, c.mode), (32 << 20, Mode::S4));
    assert_eq!(
        (c.compression, c.peer.to_str()),
        (Codec::Zstd, Some("/boot/k"))
    );
    assert_eq!((c.kdf_memory, c.kdf_passes), (32 << 20, 5));
    assert_eq!(c.encrypt, Encrypt::KeyFile);
    assert_eq!(c.key_file, Some("/root/key".into()));
    assert!(c.optimistic && c.allow_unknown && c.drop_caches && c.snapshots == "UUID=77");
    assert_eq!(c.command_line("console=tty0"), "console=ttyS0,115200");
}

#[test]
fn nothing_said() {
    let c = parse("").unwrap();
    assert_eq!(c, Config::default());
    assert_eq!(
        c,
        Config::load(Path::new("/nonexistent/kjump.toml")).unwrap()
    );
    assert!(Config::read(Path::new("/nonexistent/kjump.toml")).is_err());
    assert!(c.target().unwrap_err().to_string().contains("--target"));
    assert_eq!((c.compression, c.mode), (Codec::Lz4, Mode::Poweroff));
    let own = "ro console=tty0 quiet console=ttyS0,115200 -- console=no\n";
    assert_eq!(c.command_line(own), "console=tty0 console=ttyS0,115200");
    assert_eq!(c.command_line("ro quiet"), "");
}

#[test]
fn mistakes_are_told_with_their_line() {
    for (text, line, part) in [
        ("target = \"x\"\ntraget = \"y\"", 2, "`traget`"),
        ("\n\nmode = \"sleep\"", 3, "poweroff, reboot, s4 or none"),
        ("compression = \"gzip\"", 1, "lz4, zstd or none"),
        ("optimistic = true\nwindow = \"16Q\"\n", 2, "write 16M"),
        ("window = 16", 1, "expected a string"),
        ("encrypt = \"rot13\"", 1, "passphrase, key-file or none"),
        ("kdf_passes = 0", 1, "1 to 1000"),
        ("\nkdf_passes = 257", 2, "16448 MiB"),
        (
            "kdf_passes = 17\nkdf_memory = \"1G\"\n# kdf_",
            2,
            "than 16384",
        ),
        ("optimistic = \"yes\"", 1, "expected a boolean"),
        ("mode = \"s4\"\n\nmode = \"s4\"", 3, "duplicate"),
        ("peer", 1, ""),
        ("[section]\nmode = \"s4\"", 1, "`section`"),
    ] {
        let e = parse(text).unwrap_err();
        assert!(
            e.starts_with(&format!("k.toml, line {line}: ")),
            "{text}: {e}"
        );
        assert!(e.contains(part) && e.lines().count() == 1, "{text}: {e}");
    }
}

/// What is configured can be read again: more memory than an image may ask for is not taken.
#[test]
fn the_most_of_a_derivation() {
    for text in [
        "kdf_passes = 256",
        "kdf_memory = \"1G\"\nkdf_passes = 16",
        "kdf_memory = \"64G\"\nkdf_passes = 16",
        "kdf_memory = \"16M\"\nkdf_passes = 1000",
    ] {
        assert!(parse(text).is_ok(), "{text}");
    }
}

#[test]
fn options_come_first() {
    let file = parse("target = \"a\"\nmode = \"s4\"\noptimistic = true").unwrap();
    let none = Overrides::default().apply(file.clone());
    assert_eq!(none, file);
    let some = Overrides {
        target: Some("b".into()),
        mode: Some(Mode::None),
        compression: Some(Codec::None),
        initrd: Some("i".into()),
        allow_unknown: true,
        ..Overrides::default()
    };
    let c = some.apply(file);
    assert_eq!((c.target().unwrap(), c.mode), ("b", Mode::None));
    assert_eq!(
        (c.compression, c.initrd()),
        (Codec::None, Some(Path::new("i")))
    );
    assert!(c.optimistic && c.allow_unknown);
}

#[test]
fn every_mode_has_its_name() {
    for mode in Mode::ALL {
        assert_eq!(parse_mode(mode.name()), Ok(mode));
    }
    assert!(parse_mode("off").is_err() && parse_codec("gzip").is_err());
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(text in "[a-z=\"\\[\\]\n.#1 ]{0,80}", any in ".{0,80}") {
        let _ = (parse(&text), parse(&any));
    }
}
