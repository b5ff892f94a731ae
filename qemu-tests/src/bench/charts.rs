// SPDX-License-Identifier: GPL-2.0

//! Two charts of the hibernation's figures: how long a power cycle takes, and how large its image is,
//! against how full memory is.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, Result};
use plotters::prelude::*;

use super::figures::{self, Figure};
use super::hibernation::{DOWN, IMAGE, UP};

/// Pixels.
const SIZE: (u32, u32) = (640, 400);
/// A colour for each means, in the order of the table.
const COLOURS: [RGBColor; 4] = [
    RGBColor(150, 150, 150),
    RGBColor(70, 70, 70),
    RGBColor(220, 120, 20),
    RGBColor(20, 100, 200),
];

/// A line of a chart: its name, and a point for each fill at which this means works.
type Series = (String, Vec<(f64, f64)>);

/// Draws them, if there is something to draw; the files.
pub fn draw(directory: &Path) -> Result<Vec<PathBuf>> {
    let all = figures::all();
    let charts = [
        (
            "bench-time.svg",
            "power off and back, seconds",
            series(&all, &[DOWN, UP]),
        ),
        ("bench-size.svg", "image, MiB", series(&all, &[IMAGE])),
    ];
    let mut drawn = Vec::new();
    for (name, title, series) in charts {
        if series.iter().all(|(_, points)| points.len() < 2) {
            continue;
        }
        let path = directory.join(name);
        chart(&path, title, &series).map_err(|e| anyhow!("{}: {e}", path.display()))?;
        drawn.push(path);
    }
    Ok(drawn)
}

/// Sums of the medians of what is named, for each means.
fn series(all: &[Figure], names: &[&str]) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for first in all.iter().filter(|f| f.what == names[0]) {
        let Some(fill) = first.fill else { continue };
        let same = |f: &&Figure| f.means == first.means && f.fill == first.fill;
        let medians = names.iter().map(|name| {
            let figure = all.iter().filter(same).find(|f| f.what == *name);
            figure.and_then(Figure::summary).map(|s| s.median)
        });
        let at = series.iter().position(|(means, _)| *means == first.means);
        let at = at.unwrap_or_else(|| {
            series.push((first.means.clone(), Vec::new()));
            series.len() - 1
        });
        if let Some(sum) = medians.sum::<Option<f64>>() {
            series[at].1.push((f64::from(fill), sum));
        }
    }
    series
}

fn chart(
    path: &Path,
    title: &str,
    series: &[Series],
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let highest = series.iter().flat_map(|(_, points)| points).map(|p| p.1);
    let top = highest.fold(0.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..100.0, 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc("memory that holds noise, per cent")
        .draw()?;
    for ((name, points), colour) in series.iter().zip(COLOURS.iter().cycle()) {
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style).point_size(3))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod unit {
    use super::*;

    fn figure(what: &str, means: &str, fill: u32, samples: &[f64]) -> Figure {
        Figure {
            part: "hibernation",
            what: what.into(),
            means: means.into(),
            fill: Some(fill),
            unit: "s",
            samples: samples.into(),
        }
    }

    #[test]
    fn times_are_added_up_and_drawn() {
        let all = [
            figure(DOWN, "a", 10, &[1.0, 2.0, 9.0]),
            figure(UP, "a", 10, &[3.0]),
            figure(DOWN, "b", 10, &[]),
            figure(UP, "b", 10, &[]),
            figure(DOWN, "a", 40, &[4.0]),
            figure(UP, "a", 40, &[4.0]),
        ];
        let found = series(&all, &[DOWN, UP]);
        let expected = [("a", vec![(10.0, 5.0), (40.0, 8.0)]), ("b", vec![])];
        assert_eq!(found, expected.map(|(name, p)| (name.to_string(), p)));
        let path = std::env::temp_dir().join(format!("kjump-chart-{}.svg", std::process::id()));
        chart(&path, "title", &found).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("title") && svg.contains("polyline"));
    }
}
