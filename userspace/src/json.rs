//! JSON output. A writer only, so a few lines do.

use std::fmt::Write;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(u64),
    /// A number with three decimals; `null` if it is not finite.
    Float(f64),
    /// A string.
    Str(String),
    /// An object, in the order given.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// A string.
    pub fn str(text: impl Into<String>) -> Self {
        Json::Str(text.into())
    }

    /// An address, as a string of hexadecimal digits; `null` for 0, which is none.
    pub fn address(n: u64) -> Self {
        if n == 0 {
            Json::Null
        } else {
            Json::Str(format!("{n:#x}"))
        }
    }

    /// An object.
    pub fn object<const N: usize>(members: [(&str, Json); N]) -> Self {
        Json::Object(
            members
                .into_iter()
                .map(|(k, v)| (k.to_string(), v))
                .collect(),
        )
    }

    fn write(&self, out: &mut String, indent: usize) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Json::Int(n) => out.push_str(&n.to_string()),
            Json::Float(n) if n.is_finite() => out.push_str(&format!("{n:.3}")),
            Json::Float(_) => out.push_str("null"),
            Json::Str(s) => quote(s, out),
            Json::Object(members) => {
                let inner = indent + 2;
                out.push('{');
                for (i, (key, value)) in members.iter().enumerate() {
                    out.push_str(if i > 0 { ",\n" } else { "\n" });
                    let _ = write!(out, "{:inner$}", "");
                    quote(key, out);
                    out.push_str(": ");
                    value.write(out, inner);
                }
                if !members.is_empty() {
                    let _ = write!(out, "\n{:indent$}", "");
                }
                out.push('}');
            }
        }
    }
}

impl std::fmt::Display for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = String::new();
        self.write(&mut out, 0);
        f.write_str(&out)
    }
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_every_kind() {
        let j = Json::object([
            ("a", Json::Int(u64::MAX)),
            (
                "b",
                Json::object([("x", Json::Bool(true)), ("y", Json::address(0))]),
            ),
            ("c", Json::address(0xfee)),
            ("d", Json::Object(vec![])),
            ("e", Json::str("\"\\\n\x1b")),
            ("f", Json::Float(1.5)),
            ("g", Json::Float(f64::NAN)),
        ]);
        let lines = [
            r#"{"#,
            r#"  "a": 18446744073709551615,"#,
            r#"  "b": {"#,
            r#"    "x": true,"#,
            r#"    "y": null"#,
            r#"  },"#,
            r#"  "c": "0xfee","#,
            r#"  "d": {},"#,
            r#"  "e": "\"\\\n\u001b","#,
            r#"  "f": 1.500,"#,
            r#"  "g": null"#,
            r#"}"#,
        ];
        assert_eq!(j.to_string(), lines.join("\n"));
    }
}
