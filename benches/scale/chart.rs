//! Draws the results as an SVG chart: a small diagram for each line.

use std::fmt::Write;

use crate::figure::Line;

const COLUMNS: usize = 4;
const WIDTH: f64 = 230.0;
const HEIGHT: f64 = 132.0;
/// The part of a diagram that its curve is in.
const LEFT: f64 = 14.0;
const RIGHT: f64 = 216.0;
const TOP: f64 = 54.0;
const BOTTOM: f64 = 108.0;
/// The costs that a diagram shows at least, as a multiple of the cost at the smallest size.
const LEAST_FACTOR: f64 = 10.0;

const STYLE: &str = "text{font:11px system-ui,sans-serif;fill:#57606a}\
.name{font-weight:600;fill:#24292f}.flat{fill:#1a7f37;font-weight:600}.steep{fill:#bc4c00;font-weight:600}\
.curve{fill:none;stroke:#0969da;stroke-width:2}.dot{fill:#0969da}\
.base{stroke:#8c959f;stroke-width:1;stroke-dasharray:3 3}\
@media(prefers-color-scheme:dark){text{fill:#8d96a0}.name{fill:#e6edf3}.flat{fill:#3fb950}\
.steep{fill:#f0883e}.curve{stroke:#58a6ff}.dot{fill:#58a6ff}.base{stroke:#6e7681}}";

/// Returns the chart as the text of an SVG file.
pub(crate) fn draw(lines: &[Line]) -> String {
    let rows = lines.len().div_ceil(COLUMNS);
    let (width, height) = (at(COLUMNS, WIDTH), at(rows, HEIGHT));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\" \
         aria-label=\"The cost of one operation at each size\"><style>{STYLE}</style>\n"
    );
    for (number, line) in lines.iter().enumerate() {
        let (x, y) = (at(number % COLUMNS, WIDTH), at(number / COLUMNS, HEIGHT));
        let diagram = draw_line(line);
        let _never_fails = writeln!(svg, "<g transform=\"translate({x},{y})\">{diagram}</g>");
    }
    svg + "</svg>\n"
}

fn at(count: usize, step: f64) -> f64 {
    (0..count).map(|_| step).sum()
}

fn draw_line(line: &Line) -> String {
    let costs = line.points.iter().map(|(_, cost)| *cost);
    let first = line.points.first().map_or(1.0, |(_, cost)| *cost);
    let lowest = costs.clone().fold(first / 3.0, f64::min);
    let highest = costs.fold(lowest * LEAST_FACTOR, f64::max);
    let y_of =
        |cost: f64| BOTTOM - (BOTTOM - TOP) * (cost / lowest).log10() / (highest / lowest).log10();
    let steps = line.points.len().saturating_sub(1).max(1);
    let step = (RIGHT - LEFT) / at(steps, 1.0);
    let places: Vec<(f64, f64)> = line
        .points
        .iter()
        .enumerate()
        .map(|(number, (_, cost))| (LEFT + at(number, step), y_of(*cost)))
        .collect();
    let curve: Vec<String> = places
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let base = y_of(first);
    let factor = line.factor();
    let verdict = if factor <= 1.2 { "flat" } else { "steep" };
    let ends = match (line.points.first(), line.points.last()) {
        (Some((_, first)), Some((_, last))) => {
            format!("{} → {}", line.unit.show(*first), line.unit.show(*last))
        }
        _ => String::new(),
    };
    let mut text = format!(
        "<text class=\"name\" x=\"{LEFT}\" y=\"18\">{}</text>\
         <text x=\"{LEFT}\" y=\"34\">{ends}</text>\
         <text class=\"{verdict}\" x=\"{RIGHT}\" y=\"34\" text-anchor=\"end\">× {factor:.2}</text>\
         <line class=\"base\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{base:.1}\" y2=\"{base:.1}\"/>\
         <polyline class=\"curve\" points=\"{}\"/>",
        line.name,
        curve.join(" ")
    );
    for (x, y) in places {
        let _never_fails = write!(
            text,
            "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"/>"
        );
    }
    let sizes = match (line.points.first(), line.points.last()) {
        (Some((first, _)), Some((last, _))) => format!("{first} to {last} {}", line.of),
        _ => line.of.clone(),
    };
    text + &format!("<text x=\"{LEFT}\" y=\"124\">{sizes}</text>")
}
