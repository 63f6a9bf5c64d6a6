//! A self-contained SVG: styles inside, light and dark by the reader's preference, no script.

use super::arrange::{Drawing, LANE, LINE_CHAR, LINE_HEIGHT, PAD, Port};
use super::layout::{LABEL_HEIGHT, Point};
use super::picture::{Look, picture};
use crate::module::{FuncId, Module};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Space around the drawing.
const MARGIN: f64 = 28.0;
/// Height of title and legend.
const HEADER: f64 = 60.0;

const STYLE: &str = "
svg{--bg:#ffffff;--ink:#1f2328;--muted:#59636e;--edge:#8c959f;--frame:#f6f8fa;--frame-line:#c8d0d9;
--input:#e3eefa;--input-line:#4a7fb5;--composite:#e2f3e8;--composite-line:#3d8b5f;--primitive:#f2f2ef;--primitive-line:#8a8a86;
--region:#f1e8fa;--region-line:#8456ad;--output:#fdeedd;--output-line:#b9762f}
@media (prefers-color-scheme:dark){svg{--bg:#0f1419;--ink:#e6e8ea;--muted:#9aa4ae;--edge:#6b7681;--frame:#161c23;--frame-line:#36414d;
--input:#18293c;--input-line:#5b93cc;--composite:#173022;--composite-line:#57ad7d;--primitive:#24292e;--primitive-line:#7d858d;
--region:#2b2038;--region-line:#a47bd0;--output:#372917;--output-line:#d09150}}
text{font-family:ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace;fill:var(--ink)}
.name{font-size:13px;font-weight:600;text-anchor:middle}
.line{font-size:11px;fill:var(--muted);text-anchor:middle}
.label{font-size:10px;fill:var(--muted);paint-order:stroke;stroke:var(--bg);stroke-width:3px;stroke-linejoin:round}
.in-frame{stroke:var(--frame)}
.head{font-size:17px;font-weight:600}
.key{font-size:11px;fill:var(--muted)}
.frame{fill:var(--frame);stroke:var(--frame-line);stroke-dasharray:6 4}
.frame-title{font-size:12px;font-weight:600;fill:var(--muted);paint-order:stroke;stroke:var(--frame);stroke-width:4px;stroke-linejoin:round}
.edge{fill:none;stroke:var(--edge);stroke-width:1.3}
.carried{stroke-dasharray:4 3}
.arrow{fill:var(--edge)}
.box{stroke-width:1.2}
.input{fill:var(--input);stroke:var(--input-line)}
.composite{fill:var(--composite);stroke:var(--composite-line)}
.primitive{fill:var(--primitive);stroke:var(--primitive-line)}
.region{fill:var(--region);stroke:var(--region-line)}
.output{fill:var(--output);stroke:var(--output-line)}
";

/// The graph of a function as an SVG document, runs of layers folded into frames.
pub fn svg(module: &Module, function: FuncId) -> String {
    let picture = picture(module, function);
    Drawing::new(&picture).render()
}

impl Drawing<'_> {
    fn render(&self) -> String {
        let legend_width = 560.0;
        let title_width = self.picture.title.chars().count() as f64 * 10.4;
        let width = self.size.0.max(legend_width).max(title_width) + 2.0 * MARGIN;
        let height = self.size.1 + HEADER + 2.0 * MARGIN;
        let dx = (width - self.size.0) / 2.0;
        let dy = HEADER + MARGIN;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n",
            escaped(&self.picture.title)
        );
        out.push_str("<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path class=\"arrow\" d=\"M0 0.5L8 4L0 7.5z\"/></marker></defs>\n");
        out.push_str("<rect width=\"100%\" height=\"100%\" fill=\"var(--bg)\"/>\n");
        self.header(&mut out);
        _ = writeln!(out, "<g transform=\"translate({dx:.1} {dy:.1})\">");
        for ((x, y), (w, h)) in &self.frames {
            _ = writeln!(
                out,
                "<rect class=\"frame\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"10\"/>"
            );
        }
        for path in &self.paths {
            // Edges that go on inside or outside a frame have their tip there.
            let ends_at_box = path.last().is_some_and(|end| self.is_top_of_box(*end));
            let tip = if ends_at_box { " marker-end=\"url(#tip)\"" } else { "" };
            _ = writeln!(out, "<path class=\"edge\" d=\"{}\"{tip}/>", smooth(path));
        }
        self.lanes(&mut out);
        for (((x, y), _), frame) in self.frames.iter().zip(&self.picture.frames) {
            let (x, y, title) = (x + 12.0, y + 19.0, escaped(&frame.title));
            _ = writeln!(
                out,
                "<text class=\"frame-title\" x=\"{x:.1}\" y=\"{y:.1}\">{title}</text>"
            );
        }
        for (shape, (x, y)) in self.boxes.iter().enumerate() {
            self.shape(&mut out, shape, *x, *y);
        }
        self.labels(&mut out);
        out.push_str("</g>\n</svg>\n");
        out
    }

    fn is_top_of_box(&self, (x, y): Point) -> bool {
        self.boxes.iter().zip(&self.sizes).any(|((left, top), (width, _))| {
            (y - top).abs() < 0.5 && x >= left - 0.5 && x <= left + width + 0.5
        })
    }

    fn header(&self, out: &mut String) {
        let y = MARGIN + 14.0;
        _ = writeln!(
            out,
            "<text class=\"head\" x=\"{MARGIN}\" y=\"{y}\">{}</text>",
            escaped(&self.picture.title)
        );
        let (mut x, y) = (MARGIN, MARGIN + 36.0);
        let used = |look: Look| self.picture.shapes.iter().any(|s| s.look == look);
        for (look, class, name) in Look::ALL.iter().filter(|(look, ..)| used(*look)) {
            debug_assert_eq!(look.class(), *class);
            _ = writeln!(
                out,
                "<rect class=\"box {class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"14\" height=\"14\" rx=\"4\"/>",
                y - 11.0
            );
            _ = writeln!(
                out,
                "<text class=\"key\" x=\"{:.1}\" y=\"{y:.1}\">{name}</text>",
                x + 20.0
            );
            x += 20.0 + name.len() as f64 * LINE_CHAR + 20.0;
        }
        if self.picture.links.iter().any(|l| l.is_carried) {
            _ = writeln!(out, "<path class=\"edge carried\" d=\"M{x:.1} {:.1}h24\"/>", y - 4.0);
            _ = writeln!(
                out,
                "<text class=\"key\" x=\"{:.1}\" y=\"{y:.1}\">to the next step</text>",
                x + 30.0
            );
        }
    }

    fn shape(&self, out: &mut String, index: usize, x: f64, y: f64) {
        let (shape, (w, h)) = (&self.picture.shapes[index], self.sizes[index]);
        let class = shape.look.class();
        let round = if matches!(shape.look, Look::Input | Look::Output) { 16.0 } else { 7.0 };
        let radius = f64::min(round, h / 2.0);
        _ = writeln!(
            out,
            "<rect class=\"box {class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"{radius}\"/>"
        );
        let centre = x + w / 2.0;
        _ = writeln!(
            out,
            "<text class=\"name\" x=\"{centre:.1}\" y=\"{:.1}\">{}</text>",
            y + 20.5,
            escaped(&shape.title)
        );
        for (i, line) in shape.lines.iter().enumerate() {
            let y = y + 20.5 + (i + 1) as f64 * LINE_HEIGHT;
            _ = writeln!(
                out,
                "<text class=\"line\" x=\"{centre:.1}\" y=\"{y:.1}\">{}</text>",
                escaped(line)
            );
        }
    }

    /// The type of each result once, beside the point where its edges leave.
    fn labels(&self, out: &mut String) {
        let mut seen: BTreeMap<Port, &str> = BTreeMap::new();
        for link in &self.picture.links {
            seen.entry((link.from, link.result)).or_insert(&link.label);
        }
        let mut line = 0;
        let mut before = None;
        for ((shape, result), label) in seen {
            line = if before == Some(shape) { line + 1 } else { 0 };
            before = Some(shape);
            let dx = self.ports.get(&(shape, result)).copied().unwrap_or(0.0);
            let ((left, top), (w, h)) = (self.boxes[shape], self.sizes[shape]);
            let x = left + w / 2.0 + dx + 6.0;
            let y = top + h + 13.0 + f64::from(line) * LABEL_HEIGHT;
            let class =
                if self.picture.shapes[shape].frame.is_some() { "label in-frame" } else { "label" };
            _ = writeln!(
                out,
                "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
                escaped(label)
            );
        }
    }

    /// Dashed edges to the next step, in lanes at the right of their frame.
    fn lanes(&self, out: &mut String) {
        let mut used: BTreeMap<usize, f64> = BTreeMap::new();
        for link in self.picture.links.iter().filter(|l| l.is_carried) {
            let Some(frame) = self.picture.shapes[link.from].frame else { continue };
            let lane = used.entry(frame).or_insert(0.0);
            let ((left, _), (width, _)) = self.frames[frame];
            let x = left + width - PAD * 0.6 - *lane;
            *lane += LANE;
            let side = |shape: usize, part: f64| {
                let ((left, top), (w, h)) = (self.boxes[shape], self.sizes[shape]);
                (left + w, top + h * part)
            };
            let ((sx, sy), (tx, ty)) = (side(link.from, 0.68), side(link.to, 0.32));
            let r = 7.0;
            _ = writeln!(
                out,
                "<path class=\"edge carried\" d=\"M{sx:.1} {sy:.1}H{:.1}Q{x:.1} {sy:.1} {x:.1} {:.1}V{:.1}Q{x:.1} {ty:.1} {:.1} {ty:.1}H{:.1}\" marker-end=\"url(#tip)\"/>",
                x - r,
                sy - r,
                ty + r,
                x - r,
                tx + 1.0
            );
        }
    }
}

/// A path through points: vertical where it enters and leaves each of them.
fn smooth(points: &[Point]) -> String {
    let mut out = String::new();
    for (i, (x, y)) in points.iter().enumerate() {
        match i.checked_sub(1).map(|before| points[before]) {
            None => _ = write!(out, "M{x:.1} {y:.1}"),
            Some((x0, _)) if (x0 - x).abs() < 0.5 => _ = write!(out, "L{x:.1} {y:.1}"),
            Some((x0, y0)) => {
                let middle = (y0 + y) / 2.0;
                _ = write!(out, "C{x0:.1} {middle:.1} {x:.1} {middle:.1} {x:.1} {y:.1}");
            }
        }
    }
    out
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
