//! The chart: a panel for each of the main workloads, with a bar for each peer.

use std::fmt::Write as _;

use harness::Workload;

use crate::peers::{ANNALS, LIMIT};
use crate::results::{Cell, Comparison, Row};
use crate::table::{duration, plain, rate};

/// The panels, in columns of three.
const PANELS: [(&str, &str); 8] = [
    ("append-1", "append, one record a call"),
    ("append-100", "append, 100 records a call"),
    ("durable-1", "durable append, 1 thread"),
    ("durable-16", "durable append, 16 threads"),
    ("scan", "scan: visit every record"),
    ("point-active", "point reads at random"),
    ("beside", "writer and reader together"),
    ("latency", "time until a reader has a record"),
];

const COLUMNS: usize = 3;
const PANEL_WIDTH: f64 = 400.0;
const NAME_WIDTH: f64 = 92.0;
const BAR_WIDTH: f64 = 170.0;
const ROW: f64 = 19.0;
const HEAD: f64 = 46.0;
const GAP: f64 = 18.0;
const TITLE: f64 = 74.0;

/// Colors of the light and of the dark theme, and the fonts.
const STYLE: &str = "
  text { font: 12px ui-sans-serif, system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
  .title { font-size: 18px; font-weight: 600 } .head { font-size: 13px; font-weight: 600 }
  .soft { fill: #59636e } .fault { fill: #b3261e } .own { font-weight: 700 }
  .name { text-anchor: end }
  .bar { fill: #7d9ec0 } .weak { fill: #7d9ec0; fill-opacity: .28; stroke: #7d9ec0; stroke-dasharray: 3 2 }
  .annals { fill: #d9480f } .limit { stroke: #1f2328; stroke-width: 1; stroke-dasharray: 2 3 }
  .ground { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .soft { fill: #9198a1 } .fault { fill: #ff8a80 }
    .bar { fill: #4f7396 } .weak { fill: #4f7396; stroke: #6d94ba } .annals { fill: #f76707 }
    .limit { stroke: #e6edf3 } .ground { fill: #0d1117 }
  }
";

/// A bar, or the reason why there is none.
struct Bar {
    name: String,
    /// The length, as a share of the limit. `None` for a fault.
    ratio: Option<f64>,
    label: String,
    is_weak: bool,
}

/// Returns the chart as a document.
pub(crate) fn svg(comparison: &Comparison) -> String {
    let panels: Vec<_> = PANELS
        .iter()
        .filter_map(|(name, title)| {
            let bars = bars(comparison, Workload::named(name)?);
            (!bars.is_empty()).then_some((*title, bars))
        })
        .collect();
    let most_bars = panels
        .iter()
        .map(|(_, bars)| bars.len())
        .max()
        .unwrap_or_default();
    let panel_height = HEAD + ROW * units(most_bars) + GAP;
    let columns = panels.len().clamp(1, COLUMNS);
    // The explanation takes the place of one more panel.
    let width = PANEL_WIDTH * units(columns) + GAP;
    let height = TITLE + panel_height * units((panels.len() + 1).div_ceil(columns));

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-label=\"annals and other logs, compared\">\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n"
    );
    text(
        &mut svg,
        "title",
        GAP,
        30.0,
        "The same work, every record checked",
    );
    text(&mut svg, "soft", GAP, 52.0, &comparison.machine);
    for (at, (title, bars)) in panels.iter().enumerate() {
        let (x, y) = place(at, columns, panel_height);
        panel(&mut svg, x, y, title, bars);
    }
    let (x, y) = place(panels.len(), columns, panel_height);
    explanation(&mut svg, x, y);
    svg.push_str("</svg>\n");
    svg
}

fn place(at: usize, columns: usize, panel_height: f64) -> (f64, f64) {
    let (column, line) = (at % columns, at / columns);
    (
        GAP + PANEL_WIDTH * units(column),
        TITLE + panel_height * units(line),
    )
}

/// Returns the bars of a workload: the best ratio first, faults last.
fn bars(comparison: &Comparison, workload: Workload) -> Vec<Bar> {
    let limit = comparison.rows.iter().find(|row| row.name == LIMIT);
    let limit = limit.map(|row| comparison.cell(row, workload));
    let bar = |row: &Row| {
        let (ratio, label) = match comparison.cell(row, workload) {
            Cell::Empty | Cell::Sound | Cell::Figure { ratio: None, .. } => return None,
            Cell::Fault(fault) => (None, fault),
            Cell::Figure {
                value,
                ratio: Some(ratio),
            } => (Some(ratio), format!("{} · {}", rate(value), plain(ratio))),
            Cell::Latency([middle, most, _]) => {
                let Some(Cell::Latency([_, of_limit, _])) = limit else {
                    return None;
                };
                let label = format!("{} · {}", duration(middle), duration(most));
                (Some(of_limit / most), label)
            }
        };
        Some(Bar {
            name: row.name.clone(),
            ratio,
            label,
            is_weak: is_weak(row, workload),
        })
    };
    let rows = comparison
        .rows
        .iter()
        .filter(|row| !row.name.starts_with(LIMIT));
    let mut bars: Vec<_> = rows.filter_map(bar).collect();
    bars.sort_by(|a, b| b.ratio.unwrap_or(-1.0).total_cmp(&a.ratio.unwrap_or(-1.0)));
    bars
}

/// Returns whether a peer promises less than annals: a read is not checked, or a killed process
/// loses what was acknowledged.
fn is_weak(row: &Row, workload: Workload) -> bool {
    let is = |key: &str, value: &str| row.about.text(key) == Some(value);
    match workload {
        Workload::Append { .. } => is("acknowledged", "process"),
        Workload::Durable { .. } => false,
        _ => !is("checked", "yes"),
    }
}

fn panel(svg: &mut String, x: f64, y: f64, title: &str, bars: &[Bar]) {
    text(svg, "head", x, y + 16.0, title);
    let left = x + NAME_WIDTH + 8.0;
    let longest = bars.iter().filter_map(|bar| bar.ratio).fold(1.0, f64::max);
    let top = y + HEAD - 16.0;
    for (at, bar) in bars.iter().enumerate() {
        let middle = top + ROW * units(at);
        let class = match bar.name.as_str() {
            ANNALS => "name own",
            _ => "name",
        };
        text(svg, class, x + NAME_WIDTH, middle + 12.0, &bar.name);
        let Some(ratio) = bar.ratio else {
            text(svg, "fault", left, middle + 12.0, &shortened(&bar.label));
            continue;
        };
        let length = (ratio / longest) * BAR_WIDTH;
        let class = match (bar.name.as_str(), bar.is_weak) {
            (ANNALS, _) => "annals",
            (_, true) => "weak",
            (_, false) => "bar",
        };
        let shown = length.max(1.5);
        writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{shown:.1}\" height=\"13\" rx=\"2\"/>",
            middle + 2.0
        )
        .expect("a text grows");
        let class = if bar.name == ANNALS { "own" } else { "soft" };
        text(
            svg,
            class,
            left + BAR_WIDTH + 10.0,
            middle + 12.0,
            &bar.label,
        );
    }
    let limit = left + BAR_WIDTH / longest;
    let bottom = top + ROW * units(bars.len());
    writeln!(
        svg,
        "<line class=\"limit\" x1=\"{limit:.1}\" y1=\"{top:.1}\" x2=\"{limit:.1}\" y2=\"{bottom:.1}\"/>"
    )
    .expect("a text grows");
}

fn explanation(svg: &mut String, x: f64, y: f64) {
    text(svg, "head", x, y + 16.0, "How to read it");
    let lines = [
        "Bars are ratios to the raw limit of the machine, the dotted",
        "line: the same values by pwrite, by pwrite and fdatasync,",
        "or read and checked with a CRC-32C.",
        "Numbers are medians, and their ratios to the limit.",
        "",
        "Some logs sync to space that they have allocated, so that",
        "they pass the limit of a file that grows.",
        "Times are p50 and p99, and bars are ratios of p99.",
    ];
    for (at, line) in lines.iter().enumerate() {
        text(svg, "soft", x, y + 40.0 + ROW * units(at), line);
    }
    let y = y + 40.0 + ROW * units(lines.len());
    let keys = [
        ("annals", "annals"),
        (
            "bar",
            "checks what it reads, and acknowledges at least as safely",
        ),
        (
            "weak",
            "reads unchecked, or acknowledged in the process only",
        ),
    ];
    for (at, (class, label)) in keys.iter().enumerate() {
        let y = y + ROW * units(at);
        writeln!(svg, "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"26\" height=\"13\" rx=\"2\"/>")
            .expect("a text grows");
        text(svg, "soft", x + 34.0, y + 11.0, label);
    }
}

fn shortened(label: &str) -> String {
    const MOST: usize = 40;
    match label.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &label[..at]),
        None => label.to_owned(),
    }
}

fn text(svg: &mut String, class: &str, x: f64, y: f64, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{content}</text>"
    )
    .expect("a text grows");
}

#[expect(clippy::cast_precision_loss, reason = "a chart has few rows")]
fn units(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use harness::{Outcome, Size};

    use super::*;

    fn comparison() -> Comparison {
        let mut comparison = Comparison::new("a machine".to_owned(), Size::Full);
        let scan = |name: &str, checked: &str, outcome: Outcome| {
            let mut row = Row::new(name, Outcome::default().with("checked", checked));
            row.add(Workload::Scan, 0, outcome);
            row
        };
        let rate = |rate: f64| Outcome::default().with("rate", rate);
        comparison.rows = vec![
            scan(LIMIT, "yes", rate(10.0)),
            scan("slow", "yes", rate(1.0)),
            scan(ANNALS, "yes", rate(5.0)),
            scan("unchecked", "no", rate(7.0)),
            scan(
                "loses",
                "yes",
                rate(9.0).with_verdict(Some("lost 1 of <9>".to_owned())),
            ),
        ];
        comparison
    }

    #[test]
    fn bars_are_sorted_by_ratio_and_faults_come_last() {
        let bars = bars(&comparison(), Workload::Scan);
        let names: Vec<_> = bars.iter().map(|bar| bar.name.as_str()).collect();
        assert_eq!(names, ["unchecked", ANNALS, "slow", "loses"]);
        assert!(
            bars[0].is_weak && !bars[1].is_weak,
            "unchecked reads are marked"
        );
        assert_eq!(bars[3].ratio, None, "a fault has no bar");
    }

    #[test]
    fn a_fault_is_text_in_the_chart() {
        let svg = svg(&comparison());
        assert!(svg.contains("lost 1 of &lt;9>"), "{svg}");
        assert!(!svg.contains("9.00/s"), "{svg}");
    }
}
