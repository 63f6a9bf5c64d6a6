//! One line chart as HTML and SVG.
//!
//! The drawing is an SVG that stretches to its place, with strokes that do not;
//! labels are HTML beside it, placed in per cent. So the chart fits any width
//! with text of one height. A point is a line of no length with round ends,
//! which stays round. The values lie in an attribute, for the script that shows
//! them under the pointer.

use super::html::{escape, grouped, significant};
use super::series::{Point, inner_ticks, nice_range, thin};
use std::fmt::Write;

/// Side of the SVG's own coordinates.
const SIDE: f64 = 1000.0;

/// How a series is drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// A line.
    Line,
    /// A faint line behind the others, not in the legend.
    Faint,
    /// A line with points on it.
    Points,
}

/// Values over steps.
pub(super) struct Series {
    /// For legend and read-out.
    pub(super) name: &'static str,
    /// Class of the colour: `a` to `d`.
    pub(super) colour: &'static str,
    pub(super) style: Style,
    /// Finite values only.
    pub(super) points: Vec<Point>,
}

/// A chart over steps.
pub(super) struct Chart {
    pub(super) title: &'static str,
    /// Unit of the values; may be empty.
    pub(super) unit: &'static str,
    /// What is to be seen, in a sentence or two.
    pub(super) caption: String,
    /// Class of the figure: `wide` or empty.
    pub(super) class: &'static str,
    /// Whether the axis starts at 0.
    pub(super) is_from_zero: bool,
    /// Values above this are cut off; the caption should say so.
    pub(super) ceiling: Option<f64>,
    pub(super) series: Vec<Series>,
}

/// Axes of a chart: ranges and ticks.
struct Axes {
    x: (f64, f64),
    y: (f64, f64),
    y_ticks: Vec<f64>,
}

impl Axes {
    fn left(&self, x: f64) -> f64 {
        if self.x.1 > self.x.0 { (x - self.x.0) / (self.x.1 - self.x.0) } else { 0.5 }
    }

    /// Values above a cut axis lie on its edge.
    fn top(&self, y: f64) -> f64 {
        1.0 - ((y - self.y.0) / (self.y.1 - self.y.0)).clamp(0.0, 1.0)
    }
}

/// The figure; empty if there is not a single point.
pub(super) fn figure(chart: &Chart) -> String {
    let Some(axes) = axes(chart) else { return String::new() };
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<figure class=\"card chart {}\"><div class=\"chart-head\"><h3>{}</h3>{}</div>",
        chart.class,
        escape(chart.title),
        legend(chart)
    );
    let _ = write!(
        out,
        "<div class=\"plot\" tabindex=\"0\" role=\"group\" aria-label=\"{}: {}\" data-series=\"{}\" \
         data-axes=\"{},{},{},{}\">\n<div class=\"y-ticks\" aria-hidden=\"true\">",
        escape(chart.title),
        escape(&chart.caption),
        escape(&data(chart)),
        axes.x.0,
        axes.x.1,
        axes.y.0,
        axes.y.1
    );
    for tick in &axes.y_ticks {
        let top = axes.top(*tick) * 100.0;
        let _ = write!(out, "<span style=\"top:{top:.2}%\">{}</span>", tick_label(*tick));
    }
    let _ = write!(
        out,
        "</div>\n<div class=\"area\"><svg viewBox=\"0 0 {SIDE} {SIDE}\" preserveAspectRatio=\"none\" \
         aria-hidden=\"true\"><path class=\"grid\" d=\""
    );
    for tick in &axes.y_ticks {
        let _ = write!(out, "M0 {:.1}H{SIDE}", axes.top(*tick) * SIDE);
    }
    out.push_str("\"/>");
    for series in &chart.series {
        out.push_str(&paths(series, &axes));
    }
    out.push_str(
        "</svg><div class=\"cursor\" hidden></div><div class=\"readout\" role=\"status\" hidden></div></div>\n\
         <div class=\"x-ticks\" aria-hidden=\"true\">",
    );
    for tick in inner_ticks(axes.x.0, axes.x.1, 6) {
        let left = axes.left(tick) * 100.0;
        let class = match left {
            l if l < 3.0 => " class=\"first\"",
            l if l > 97.0 => " class=\"last\"",
            _ => "",
        };
        let _ = write!(
            out,
            "<span style=\"left:{left:.2}%\"{class}>{}</span>",
            grouped(tick.max(0.0).round() as u64)
        );
    }
    let _ = write!(
        out,
        "</div>\n<div class=\"x-label\" aria-hidden=\"true\">step</div></div>\n<figcaption>{}</figcaption></figure>\n",
        escape(&chart.caption)
    );
    out
}

fn axes(chart: &Chart) -> Option<Axes> {
    let points = || chart.series.iter().flat_map(|series| &series.points);
    let fold = |f: fn(f64, f64) -> f64, of: fn(&Point) -> f64| points().map(of).reduce(f);
    let x = (fold(f64::min, |p| p.0)?, fold(f64::max, |p| p.0)?);
    let (mut low, mut high) = (fold(f64::min, |p| p.1)?, fold(f64::max, |p| p.1)?);
    if let Some(ceiling) = chart.ceiling {
        high = high.min(ceiling);
    }
    if chart.is_from_zero {
        (low, high) = (low.min(0.0), if high > 0.0 { high } else { 1.0 });
    }
    let n_ticks = if chart.class == "wide" { 5 } else { 4 };
    let (low, high, y_ticks) = nice_range(low, high, n_ticks);
    Some(Axes { x, y: (low, high), y_ticks })
}

fn legend(chart: &Chart) -> String {
    let mut out = String::from("<ul class=\"legend\">");
    if chart.series.iter().filter(|s| s.style != Style::Faint).count() > 1 {
        for series in chart.series.iter().filter(|s| s.style != Style::Faint) {
            let mark = if series.style == Style::Points { "point" } else { "line" };
            let _ = write!(
                out,
                "<li><i class=\"{mark} {}\"></i>{}</li>",
                series.colour,
                escape(series.name)
            );
        }
    }
    if !chart.unit.is_empty() {
        let _ = write!(out, "<li class=\"unit\">{}</li>", escape(chart.unit));
    }
    out.push_str("</ul>");
    out
}

fn tick_label(tick: f64) -> String {
    if tick >= 1000.0 { grouped(tick.round() as u64) } else { significant(tick, 6) }
}

fn paths(series: &Series, axes: &Axes) -> String {
    let at = |p: &Point| (axes.left(p.0) * SIDE, axes.top(p.1) * SIDE);
    let drawn = thin(&series.points);
    let mut line = String::new();
    for (i, point) in drawn.iter().enumerate() {
        let (x, y) = at(point);
        let _ = write!(line, "{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
    }
    let class = match series.style {
        Style::Line => "line",
        Style::Faint => "faint",
        Style::Points => "dotted",
    };
    let colour = series.colour;
    let mut out = String::new();
    if drawn.len() > 1 {
        let _ = write!(out, "<path class=\"{class} {colour}\" d=\"{line}\"/>");
    }
    if series.style == Style::Points || drawn.len() == 1 {
        let mut dots = String::new();
        for point in &drawn {
            let (x, y) = at(point);
            let _ = write!(dots, "M{x:.1} {y:.1}h0");
        }
        let _ = write!(out, "<path class=\"halo\" d=\"{dots}\"/>");
        let _ = write!(out, "<path class=\"dots {colour}\" d=\"{dots}\"/>");
    }
    out
}

/// The values as JSON: `[[name, colour, [[x, y], …]], …]`.
fn data(chart: &Chart) -> String {
    let mut out = String::from("[");
    for (i, series) in chart.series.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        let _ = write!(out, "{comma}[{:?},{:?},[", series.name, series.colour);
        for (j, (x, y)) in thin(&series.points).iter().enumerate() {
            let comma = if j == 0 { "" } else { "," };
            let _ = write!(out, "{comma}[{x},{}]", significant(*y, 6));
        }
        out.push_str("]]");
    }
    out.push(']');
    out
}
