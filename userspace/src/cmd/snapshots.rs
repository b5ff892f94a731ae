//! `kjump snapshots`: lists those with names, and deletes them.

use kjump_image::{Image, State, Totals};

use super::inspection::word;
use super::say;
use crate::config::{Config, Overrides};
use crate::error::{Error, Result};
use crate::json::Json;
use crate::snapshots::store::{name_of, Store};

/// Arguments of `snapshots`.
#[derive(Debug, clap::Args)]
pub struct SnapshotsArgs {
    /// Delete this one instead
    #[arg(long, value_name = "NAME")]
    pub delete: Option<String>,
    /// Read this instead of /etc/kjump.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<std::path::PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What is known of one.
struct Line {
    name: String,
    state: String,
    /// Seconds since 1970 UTC.
    created: u64,
    totals: Totals,
}

/// Lists or deletes.
pub fn run(args: &SnapshotsArgs) -> Result<u8> {
    let config: Config = Overrides {
        config: args.config.clone(),
        ..Overrides::default()
    }
    .load()?;
    let store = Store::open(&config.snapshots)?;
    if let Some(name) = &args.delete {
        let known = name_of(name)?.ok_or_else(|| Error::NoSnapshot { name: name.clone() })?;
        store.delete(known)?;
        store.close()?;
        return say(format_args!("{name}: deleted")).map(|()| 0);
    }
    let lines: Vec<Line> = store
        .names()?
        .into_iter()
        .map(|n| line(&store, n))
        .collect();
    store.close()?;
    if args.json {
        say(Json::Array(lines.iter().map(json).collect()).line())?;
    } else {
        say(table(&lines).trim_end())?;
    }
    Ok(0)
}

fn line(store: &Store, name: String) -> Line {
    match store.image(&name) {
        Ok(image) => Line {
            state: state(&image),
            created: image.header().created,
            totals: image.totals().unwrap_or_default(),
            name,
        },
        Err(e) => Line {
            state: e.to_string(),
            created: 0,
            totals: Totals::default(),
            name,
        },
    }
}

fn state<S: kjump_image::Source>(image: &Image<S>) -> String {
    match image.state() {
        State::Committed if image.header().snapshot => "snapshot".into(),
        State::Committed => "no snapshot: made by kjump hibernate".into(),
        state => word(state).into(),
    }
}

fn json(l: &Line) -> Json {
    Json::object([
        ("name", Json::str(&l.name)),
        ("state", Json::str(&l.state)),
        ("created", Json::Int(l.created)),
        (
            "pages",
            Json::Int(l.totals.data_pages + l.totals.zero_pages),
        ),
        ("bytes", Json::Int(l.totals.image_bytes)),
        ("base", Json::Null),
    ])
}

fn table(lines: &[Line]) -> String {
    let mut text = format!(
        "{:<20} {:<20} {:>9} {:>12}  STATE\n",
        "NAME", "TIME (UTC)", "PAGES", "BYTES"
    );
    for l in lines {
        text += &format!(
            "{:<20} {:<20} {:>9} {:>12}  {}\n",
            l.name,
            utc(l.created),
            l.totals.data_pages + l.totals.zero_pages,
            l.totals.image_bytes,
            l.state
        );
    }
    text
}

/// A time as people write it.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of so many days after 1970-01-01, in the calendar in use.
fn date(days: u64) -> (u64, u64, u64) {
    // Counted from a first of March, so that a leap day is a year's last.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    let (month, over) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + over, month, of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(utc(1_795_600_636), "2026-11-25 09:57:16");
        assert_eq!(utc(4_102_444_799), "2099-12-31 23:59:59");
    }

    #[test]
    fn a_table() {
        let line = Line {
            name: "before".into(),
            state: "snapshot".into(),
            created: 0,
            totals: Totals {
                data_pages: 2,
                zero_pages: 1,
                image_bytes: 4096,
                ..Totals::default()
            },
        };
        let text = table(std::slice::from_ref(&line));
        assert!(
            text.lines()
                .nth(1)
                .unwrap()
                .contains("3         4096  snapshot"),
            "{text}"
        );
        assert!(json(&line).line().contains("\"pages\": 3"));
    }
}
