//! Numbers, sizes and words as people and kernels write them.

use kjump_abi::{COMMANDS, NAME_SIZE, REASON_SIZE, RUNGS};

/// A number: decimal, or hexadecimal with `0x`.
pub fn number(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is no number; write 12 or 0xc");
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    // `from_str_radix` takes a sign.
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(bad());
    }
    u64::from_str_radix(digits, radix).map_err(|_| bad())
}

/// A size: a number, with K, M or G behind it if wanted (`16M`, `16MiB`, `0x1000000`).
pub fn size(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is no size; write 16M or 0x1000000");
    // B is a digit in `0x…`, so a unit of that kind needs its `i`.
    let lower = text.to_ascii_lowercase();
    let plain = lower.strip_suffix("ib").unwrap_or(&lower);
    let (digits, shift) = match plain.strip_suffix(['k', 'm', 'g']) {
        Some(digits) => (
            digits,
            match plain.as_bytes().last() {
                Some(b'k') => 10,
                Some(b'm') => 20,
                _ => 30,
            },
        ),
        None if plain.len() != lower.len() => return Err(bad()),
        None => (plain, 0),
    };
    let n = number(digits).map_err(|_| bad())?;
    n.checked_mul(1 << shift).ok_or_else(bad)
}

/// A command word: a name of [`COMMANDS`], or a number.
pub fn command(text: &str) -> Result<u32, String> {
    if let Some((_, word)) = COMMANDS.iter().find(|(name, _)| *name == text) {
        return Ok(*word);
    }
    let names: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
    number(text)
        .ok()
        .and_then(|n| u32::try_from(n).ok())
        .ok_or_else(|| {
            format!(
                "`{text}` is no command; use {}, or a number",
                names.join(", ")
            )
        })
}

/// A rung: a name of [`RUNGS`], or its number.
pub fn rung(text: &str) -> Result<u32, String> {
    let by_name = RUNGS
        .iter()
        .position(|name| *name == text)
        .map(|i| i as u64 + 1);
    by_name
        .or_else(|| number(text).ok())
        .and_then(|n| u32::try_from(n).ok())
        .ok_or_else(|| {
            format!(
                "`{text}` is no rung; use a number or one of {}",
                RUNGS.join(", ")
            )
        })
}

/// An answer to the kernel that this one was entered from.
pub fn status(text: &str) -> Result<u32, String> {
    number(text)
        .ok()
        .and_then(|n| u32::try_from(n).ok())
        .filter(|n| *n <= kjump_abi::STATUS_MAX)
        .ok_or_else(|| format!("`{text}` is no status; use a number below 0x80000000"))
}

/// The name of a command word, if it has one.
pub fn command_name(word: u32) -> Option<&'static str> {
    COMMANDS
        .iter()
        .find(|(_, w)| *w == word)
        .map(|(name, _)| *name)
}

/// The name of rung `number`, or the number.
pub fn rung_name(number: u32) -> String {
    let name = (number as usize).checked_sub(1).and_then(|i| RUNGS.get(i));
    name.map_or_else(|| number.to_string(), |n| (*n).to_string())
}

/// A reason in words as the module takes it: cut off where it is too long, NUL-terminated.
pub fn reason(text: &str) -> [u8; REASON_SIZE] {
    let mut bytes = [0; REASON_SIZE];
    let length = text.floor_char_boundary(REASON_SIZE - 1);
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
    bytes
}

/// The text of a NUL-terminated field, with nothing a terminal would act on.
pub fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|b| *b == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(bytes);
    let clean: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    clean.trim().to_string()
}

/// The name of a load.
pub fn load_name(text: &str) -> Result<String, String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.+".contains(&b);
    if text.len() < NAME_SIZE && text.bytes().all(good) {
        Ok(text.into())
    } else {
        Err(format!(
            "a name has up to {} ASCII letters, digits and -_.+",
            NAME_SIZE - 1
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        for (text, n) in [
            ("16M", 16 << 20),
            ("0x1000000", 16 << 20),
            ("0", 0),
            ("4096", 4096),
            ("1g", 1 << 30),
            ("640k", 640 << 10),
            ("16MiB", 16 << 20),
            ("0x10M", 16 << 20),
            ("0xb", 11),
            ("17179869183G", 17179869183 << 30),
        ] {
            assert_eq!(size(text), Ok(n), "{text}");
        }
        for text in [
            "",
            "M",
            "0x",
            "-1",
            "+1",
            "1T",
            "16 M",
            "17179869184G",
            "1ib",
            "1.5M",
            "0x-1",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn words() {
        assert_eq!(command("hibernate"), Ok(0x6b63_0001));
        assert_eq!(command("0x12"), Ok(0x12));
        assert!(command("0x100000000").is_err() && command("bogus").is_err());
        assert_eq!(
            (rung("sleep-lock"), rung("processor"), rung("3")),
            (Ok(1), Ok(15), Ok(3))
        );
        assert_eq!(
            (rung_name(8), rung_name(0), rung_name(99)),
            ("devices".into(), "0".into(), "99".into())
        );
        assert_eq!(
            (status("0x7fffffff"), status("0x80000000").is_err()),
            (Ok(0x7fff_ffff), true)
        );
        assert_eq!((command_name(0), command_name(7)), (Some("none"), None));
    }

    #[test]
    fn texts_are_harmless() {
        assert_eq!(text(b"Oops: \x1b[2Jboom\n\0rest"), "Oops:  [2Jboom");
        assert_eq!(text(b"\0"), "");
        assert_eq!(text(&[b'a'; 4]), "aaaa");
        let long = reason(&"é".repeat(REASON_SIZE));
        assert_eq!(text(&long).len(), REASON_SIZE - 2);
        assert_eq!(text(&reason("short")), "short");
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(t in ".{0,20}", b in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = (size(&t), number(&t), command(&t), rung(&t), status(&t), text(&b));
        }
    }
}
