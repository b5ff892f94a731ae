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
    /// An array.
    Array(Vec<Json>),
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

    /// All of it in one line, for output that is a line a value.
    pub fn line(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, None);
        out
    }

    /// `indent` is that of the line it begins in; `None` keeps to one line.
    fn write(&self, out: &mut String, indent: Option<usize>) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Json::Int(n) => out.push_str(&n.to_string()),
            Json::Float(n) if n.is_finite() => out.push_str(&format!("{n:.3}")),
            Json::Float(_) => out.push_str("null"),
            Json::Str(s) => quote(s, out),
            Json::Object(members) => list(out, indent, ('{', '}'), members, |m, out, inner| {
                quote(&m.0, out);
                out.push_str(": ");
                m.1.write(out, inner);
            }),
            Json::Array(items) => list(out, indent, ('[', ']'), items, |item, out, inner| {
                item.write(out, inner);
            }),
        }
    }
}

impl std::fmt::Display for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = String::new();
        self.write(&mut out, Some(0));
        f.write_str(&out)
    }
}

/// Writes what is between brackets, each item on a line of its own or all in one.
fn list<T>(
    out: &mut String,
    indent: Option<usize>,
    (open, close): (char, char),
    items: &[T],
    item: impl Fn(&T, &mut String, Option<usize>),
) {
    let inner = indent.map(|n| n + 2);
    let new_line = |out: &mut String, indent: Option<usize>| {
        if let Some(n) = indent {
            let _ = write!(out, "\n{:n$}", "");
        }
    };
    out.push(open);
    for (i, one) in items.iter().enumerate() {
        if i > 0 {
            out.push_str(if indent.is_some() { "," } else { ", " });
        }
        new_line(out, inner);
        item(one, out, inner);
    }
    if !items.is_empty() {
        new_line(out, indent);
    }
    out.push(close);
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
            ("h", Json::Array(vec![Json::Int(1), Json::Null])),
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
            r#"  "g": null,"#,
            r#"  "h": ["#,
            r#"    1,"#,
            r#"    null"#,
            r#"  ]"#,
            r#"}"#,
        ];
        assert_eq!(j.to_string(), lines.join("\n"));
        let small = Json::object([("a", Json::Array(vec![Json::Int(1), Json::Int(2)]))]);
        assert_eq!(small.line(), r#"{"a": [1, 2]}"#);
        assert!(!j.line().contains('\n'));
    }
}
