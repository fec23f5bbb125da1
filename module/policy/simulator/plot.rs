// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! Draws a run as SVG: pool, pressure and available memory over time.

use std::fmt::Write;

use super::host::Moment;
use super::{trace::Trace, Run, FLOOR};
use policy::{Config, SHORT_PERCENT, SPARE_PERCENT};

const WIDTH: u64 = 960;
const LEFT: u64 = 80;
const PANEL: u64 = 150;
const GAP: u64 = 50;
const TOP: u64 = 60;

const STYLE: &str = "text{font:12px sans-serif;fill:#333}.t{font-size:15px;font-weight:bold}.g{stroke:#ddd}\
.c{fill:none;stroke:#0b61a4;stroke-width:2}.a{fill:none;stroke:#b8860b;stroke-width:1}.l{stroke:#c33;stroke-dasharray:5 4}";

/// One panel: a value with its scale and marked levels.
struct Panel {
    title: &'static str,
    /// The value at the upper edge; the lower edge is 0.
    max: u64,
    /// Divides values for their labels.
    unit: u64,
    levels: Vec<(u64, &'static str)>,
    value: fn(&Moment) -> u64,
}

/// Draws a run.
pub fn svg(trace: &Trace, run: &Run) -> String {
    let panels = panels();
    let height = TOP + panels.len() as u64 * (PANEL + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\">\n<style>{STYLE}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text class=\"t\" x=\"{LEFT}\" y=\"22\">{}: {}</text>\n",
        trace.name, trace.about
    );
    for (index, panel) in panels.iter().enumerate() {
        draw(&mut svg, panel, TOP + index as u64 * (PANEL + GAP), run);
    }
    svg.push_str("</svg>\n");
    svg
}

fn panels() -> Vec<Panel> {
    let config = Config::new();
    vec![
        Panel {
            title: "huge pages (blue: dynamic=1, ochre: dynamic=0)",
            max: 60_000,
            unit: 1,
            levels: vec![(FLOOR, "floor")],
            value: |moment| moment.pool,
        },
        Panel {
            title: "memory_pressure in per cent",
            max: 10_000,
            unit: 100,
            levels: vec![(config.high().hundredths().into(), "high"), (config.low().hundredths().into(), "low")],
            value: |moment| moment.pressure,
        },
        Panel {
            title: "available memory of the shorter node in per cent",
            max: 6_000,
            unit: 100,
            levels: vec![(SPARE_PERCENT * 100, "spare"), (SHORT_PERCENT * 100, "short")],
            value: |moment| moment.available,
        },
    ]
}

fn draw(svg: &mut String, panel: &Panel, top: u64, run: &Run) {
    let right = WIDTH - 50;
    let y = |value: u64| top + PANEL - value.min(panel.max) * PANEL / panel.max;
    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{}\">{}</text>", top - 8, panel.title);
    for quarter in 0..=2 {
        let value = panel.max * quarter / 2;
        let (at, label) = (y(value), value / panel.unit);
        let _ = writeln!(svg, "<line class=\"g\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at}\" y2=\"{at}\"/>");
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{label}</text>", LEFT - 6, at + 4);
    }
    for (index, (value, name)) in (0..).zip(&panel.levels) {
        let at = y(*value);
        let _ = writeln!(svg, "<line class=\"l\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at}\" y2=\"{at}\"/>");
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\">{name}</text>", right + 4, at + 8 * index);
    }
    let end = run.controlled.last().map_or(1, |moment| moment.second.max(1));
    for (class, moments) in [("a", &run.left_alone), ("c", &run.controlled)] {
        let points = line(moments, end, |moment| y((panel.value)(moment)));
        let _ = writeln!(svg, "<polyline class=\"{class}\" points=\"{points}\"/>");
    }
    for minute in (0..=end / 60).step_by(10) {
        let x = LEFT + minute * 60 * (right - LEFT) / end;
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{minute} min</text>", top + PANEL + 16);
    }
}

/// Returns the points of a line, without those inside a level stretch.
fn line(moments: &[Moment], end: u64, y: impl Fn(&Moment) -> u64) -> String {
    let points: Vec<_> = moments.iter().map(|m| (LEFT + m.second * (WIDTH - 50 - LEFT) / end, y(m))).collect();
    let mut text = String::new();
    for (index, &(x, y)) in points.iter().enumerate() {
        let neighbour = |index: usize| points.get(index).map(|&(_, y)| y);
        let level = index > 0 && neighbour(index - 1) == Some(y) && neighbour(index + 1) == Some(y);
        if !level {
            let _ = write!(text, "{}{x},{y}", if text.is_empty() { "" } else { " " });
        }
    }
    text
}
