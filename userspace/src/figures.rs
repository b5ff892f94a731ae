//! What follows from a [`Progress`] and the time that it took, in words and as JSON.

use std::time::Duration;

use kjump_image::{Progress, PAGE};

use crate::json::Json;

/// Hashes of a full bar.
const HASHES: usize = 20;

/// Hundredths that are done, rounded down.
pub fn percent(p: &Progress) -> u64 {
    let percent = p.pages.saturating_mul(100).checked_div(p.pages_total);
    percent.unwrap_or(100).min(100)
}

/// The figures.
pub struct Figures {
    percent: u64,
    seconds: f64,
    /// Bytes of pages with contents, in millions a second; `None` where nothing can be said yet.
    mb_per_s: Option<f64>,
    /// Bytes of memory for a byte of the image, pages of zeros included.
    ratio: Option<f64>,
    /// Seconds that are left if it goes on as it did.
    eta: Option<f64>,
}

impl Figures {
    /// After `elapsed`.
    pub fn new(p: &Progress, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64();
        let over = |n: f64, by: f64| (by > 0.0).then(|| n / by);
        let left = p.pages_total.saturating_sub(p.pages) as f64;
        let memory = p.pages as f64 * PAGE as f64;
        Self {
            percent: percent(p),
            seconds,
            mb_per_s: over(p.memory_bytes as f64 / 1e6, seconds),
            ratio: over(memory, p.image_bytes as f64),
            eta: over(left * seconds, p.pages as f64),
        }
    }

    /// The bar.
    pub fn bar(&self) -> String {
        let full = self.percent as usize * HASHES / 100;
        format!("[{}{}]", "#".repeat(full), "-".repeat(HASHES - full))
    }

    /// The rest of its line.
    pub fn words(&self) -> String {
        let mut words = format!("{:3} %", self.percent);
        if let Some(rate) = self.mb_per_s {
            words += &format!(", {rate:.1} MB/s");
        }
        if let Some(ratio) = self.ratio {
            words += &format!(", ratio {ratio:.2}");
        }
        match self.eta {
            Some(_) if self.percent == 100 => words += &format!(", {} s", self.seconds.ceil()),
            Some(eta) => words += &format!(", {} left", time(eta)),
            None => {}
        }
        words
    }

    /// An object with all of it, and what it follows from.
    pub fn json(&self, p: &Progress) -> Json {
        let float = |n: Option<f64>| n.map_or(Json::Null, Json::Float);
        Json::object([
            ("pages", Json::Int(p.pages)),
            ("pages_total", Json::Int(p.pages_total)),
            ("memory_bytes", Json::Int(p.memory_bytes)),
            ("image_bytes", Json::Int(p.image_bytes)),
            ("seconds", Json::Float(self.seconds)),
            ("mb_per_s", float(self.mb_per_s)),
            ("ratio", float(self.ratio)),
            ("eta_s", float(self.eta)),
        ])
    }
}

/// A time that is left: `59 s`, `3:07 min`, `2:05 h`.
fn time(seconds: f64) -> String {
    let s = seconds.ceil() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{}:{:02} min", s / 60, s % 60),
        _ => format!("{}:{:02} h", s / 3600, s / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_numbers_do_no_harm() {
        let odd = [0, 1, u64::MAX];
        for (pages, pages_total) in odd.iter().flat_map(|p| odd.map(|t| (*p, t))) {
            let p = Progress {
                pages,
                pages_total,
                memory_bytes: u64::MAX,
                image_bytes: 0,
            };
            let f = Figures::new(&p, Duration::ZERO);
            let line = format!("{} {} {}", f.bar(), f.words(), f.json(&p).line());
            assert!(line.contains("\"mb_per_s\": null, \"ratio\": null"));
            assert!(!line.contains("NaN") && !line.contains("inf"), "{line}");
        }
        assert_eq!(
            (time(59.1), time(187.0)),
            ("1:00 min".into(), "3:07 min".into())
        );
        assert_eq!((time(0.2), time(7500.0)), ("1 s".into(), "2:05 h".into()));
    }
}
