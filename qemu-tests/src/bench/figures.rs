// SPDX-License-Identifier: GPL-2.0

//! All figures of a run, for `bench.json`: what was measured, by what means, every sample.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use serde_json::{json, Value};

/// A figure.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The part of the benchmark: `jumps`, `hibernation`, …
    pub part: &'static str,
    /// What was measured.
    pub what: String,
    /// By what means: the column of the table.
    pub means: String,
    /// How full memory was, per cent, where that is varied.
    pub fill: Option<u32>,
    /// Seconds, MiB, MB/s …
    pub unit: &'static str,
    /// Every sample, in the order in which they were taken. None: this means cannot do it.
    pub samples: Vec<f64>,
}

/// The middle one of some samples, the least, the most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Median.
    pub median: f64,
    /// Least.
    pub min: f64,
    /// Most.
    pub max: f64,
}

impl Figure {
    /// What was measured once, or is a median already; at no particular fill.
    pub fn once(
        part: &'static str,
        what: impl Into<String>,
        means: impl Into<String>,
        unit: &'static str,
        value: f64,
    ) -> Self {
        Self {
            part,
            what: what.into(),
            means: means.into(),
            fill: None,
            unit,
            samples: vec![value],
        }
    }

    /// The same at a fill, per cent.
    pub fn at(self, fill: u32) -> Self {
        Self {
            fill: Some(fill),
            ..self
        }
    }

    /// `None` without samples.
    pub fn summary(&self) -> Option<Summary> {
        Summary::of(&self.samples)
    }

    fn json(&self) -> Value {
        let summary = self.summary();
        json!({
            "part": self.part,
            "what": self.what,
            "means": self.means,
            "fill": self.fill,
            "unit": self.unit,
            "median": summary.map(|s| s.median),
            "min": summary.map(|s| s.min),
            "max": summary.map(|s| s.max),
            "samples": self.samples,
        })
    }
}

impl Summary {
    /// `None` without samples.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let median = super::jumps::median(samples.to_vec())?;
        let fold = |f: fn(f64, f64) -> f64| samples.iter().copied().reduce(f);
        Some(Self {
            median,
            min: fold(f64::min)?,
            max: fold(f64::max)?,
        })
    }

    /// As a table has it: `2.31 (2.20-2.60)`.
    pub fn text(&self, digits: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.digits$} ({min:.digits$}-{max:.digits$})")
    }
}

static ALL: Mutex<Vec<Figure>> = Mutex::new(Vec::new());

/// Notes a figure.
pub fn note(figure: Figure) {
    ALL.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(figure);
}

/// All that were noted so far.
pub fn all() -> Vec<Figure> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Writes all of them.
pub fn write(path: &Path, options: &Value) -> Result<()> {
    let figures: Vec<Value> = all().iter().map(Figure::json).collect();
    let all = json!({ "options": options, "figures": figures });
    let text = serde_json::to_string_pretty(&all)? + "\n";
    fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn summaries() {
        assert_eq!(Summary::of(&[]), None);
        let summary = Summary::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!(summary.text(1), "2.0 (1.0-3.0)");
    }
}
