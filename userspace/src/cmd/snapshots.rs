//! `kjump snapshots`: lists those with names, and deletes them.

use kjump_image::{uuid, Base, Image, State, Totals};

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
    uuid: Option<[u8; 16]>,
    /// What it builds on, and the name of that, if it has one here.
    base: Option<(Base, Option<String>)>,
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
        // On what cannot be read nothing builds that could be used.
        if let Ok(image) = store.image(known) {
            store.check_unneeded(name, &image.header().uuid)?;
        }
        store.delete(known)?;
        store.close()?;
        return say(format_args!("{name}: deleted")).map(|()| 0);
    }
    let names = store.names()?.into_iter();
    let mut lines: Vec<Line> = names.map(|n| line(&store, n)).collect();
    store.close()?;
    name_bases(&mut lines);
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
            uuid: Some(image.header().uuid),
            base: image.header().base.clone().map(|base| (base, None)),
            name,
        },
        Err(e) => Line {
            state: e.to_string(),
            created: 0,
            totals: Totals::default(),
            uuid: None,
            base: None,
            name,
        },
    }
}

/// Bases by the names that they have here.
fn name_bases(lines: &mut [Line]) {
    let names: Vec<_> = lines.iter().map(|l| (l.uuid, l.name.clone())).collect();
    for (base, name) in lines.iter_mut().filter_map(|l| l.base.as_mut()) {
        let found = names.iter().find(|(uuid, _)| *uuid == Some(base.uuid));
        *name = found.map(|(_, name)| name.clone());
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
        ("pages", Json::Int(l.totals.pages())),
        ("bytes", Json::Int(l.totals.image_bytes)),
        ("base", l.base.as_ref().map_or(Json::Null, base_json)),
    ])
}

fn base_json((base, name): &(Base, Option<String>)) -> Json {
    Json::object([
        ("name", name.as_ref().map_or(Json::Null, Json::str)),
        ("uuid", Json::str(uuid(&base.uuid))),
        ("at", Json::str(&base.at)),
    ])
}

fn table(lines: &[Line]) -> String {
    let mut text = format!(
        "{:<20} {:<20} {:>9} {:>12}  {:<20} STATE\n",
        "NAME", "TIME (UTC)", "PAGES", "BYTES", "BASE"
    );
    for l in lines {
        text += &format!(
            "{:<20} {:<20} {:>9} {:>12}  {:<20} {}\n",
            l.name,
            utc(l.created),
            l.totals.pages(),
            l.totals.image_bytes,
            base_word(l.base.as_ref()),
            l.state
        );
    }
    text
}

/// A base for people: its name, or where it was.
fn base_word(base: Option<&(Base, Option<String>)>) -> &str {
    match base {
        None => "-",
        Some((_, Some(name))) => name,
        Some((base, None)) => &base.at,
    }
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
            uuid: Some([1; 16]),
            base: None,
        };
        let text = table(std::slice::from_ref(&line));
        assert!(
            text.lines()
                .nth(1)
                .unwrap()
                .contains("3         4096  -                    snapshot"),
            "{text}"
        );
        let text = json(&line).line();
        assert!(text.contains("\"pages\": 3") && text.contains("\"base\": null"));
        // One that builds on it, and one whose base is elsewhere.
        let on = |uuid| Line {
            name: "after".into(),
            state: String::new(),
            created: 0,
            totals: Totals::default(),
            uuid: Some([2; 16]),
            base: Some((
                Base {
                    uuid,
                    digest: [0; 32],
                    depth: 1,
                    at: "/dev/vdc:4096".into(),
                },
                None,
            )),
        };
        let mut lines = [line, on([1; 16]), on([3; 16])];
        name_bases(&mut lines);
        let bases = lines.each_ref().map(|l| base_word(l.base.as_ref()));
        assert_eq!(bases, ["-", "before", "/dev/vdc:4096"]);
        assert!(json(&lines[1]).line().contains("\"name\": \"before\""));
    }
}
