//! Puts a picture in place: the inside of each frame is laid out first, then boxes and frames
//! together.

use super::layout::{Edge, Item, Layout, Pin, Point, layered};
use super::picture::Picture;
use std::collections::BTreeMap;

/// Inside a frame: sides and bottom, and the strip of the title.
pub(super) const PAD: f64 = 22.0;
const FRAME_TITLE: f64 = 30.0;
/// Width of the lane of one dashed edge beside the boxes of a frame.
pub(super) const LANE: f64 = 18.0;
/// Widths of a character: titles, lines and labels are monospaced.
const TITLE_CHAR: f64 = 8.0;
pub(super) const LINE_CHAR: f64 = 6.7;
const LABEL_CHAR: f64 = 6.1;
/// Least distance between the points of edges at a box.
const PORT_WIDTH: f64 = 20.0;
/// Heights of a title and of a line.
const TITLE_HEIGHT: f64 = 32.0;
pub(super) const LINE_HEIGHT: f64 = 15.0;

/// A result of a box: edges leave from one point per result.
pub(super) type Port = (usize, usize);

/// The inside of a frame.
struct Inside {
    layout: Layout,
    shapes: Vec<usize>,
    /// Where values come in and go out, as x inside the frame.
    tops: BTreeMap<Port, f64>,
    bottoms: BTreeMap<Port, f64>,
    paths: Vec<Vec<Point>>,
    size: (f64, f64),
}

/// A picture with places.
pub(super) struct Drawing<'a> {
    pub(super) picture: &'a Picture,
    /// Width and height of each box.
    pub(super) sizes: Vec<(f64, f64)>,
    /// Top left of each box.
    pub(super) boxes: Vec<Point>,
    /// Top left and size of each frame.
    pub(super) frames: Vec<(Point, (f64, f64))>,
    /// Edges, but for carried ones.
    pub(super) paths: Vec<Vec<Point>>,
    /// Where each result leaves its box, relative to its centre.
    pub(super) ports: BTreeMap<Port, f64>,
    pub(super) size: (f64, f64),
}

impl<'a> Drawing<'a> {
    /// The drawing of a picture.
    pub(super) fn new(picture: &'a Picture) -> Self {
        let sizes = (0..picture.shapes.len())
            .map(|index| {
                let shape = &picture.shapes[index];
                let title = shape.title.chars().count() as f64 * TITLE_CHAR;
                let lines = shape.lines.iter().map(|l| l.chars().count() as f64 * LINE_CHAR);
                let width = lines.fold(title, f64::max) + 26.0;
                let n_into = picture.links.iter().filter(|l| l.to == index).count();
                let ports = n_into.max(results_of(picture, index).len()) as f64 * PORT_WIDTH;
                let n_lines = shape.lines.len() as f64;
                let extra = if n_lines > 0.0 { n_lines * LINE_HEIGHT + 2.0 } else { 0.0 };
                (width.max(ports).max(76.0), TITLE_HEIGHT + extra)
            })
            .collect();
        let mut drawing = Drawing {
            picture,
            sizes,
            boxes: vec![(0.0, 0.0); picture.shapes.len()],
            frames: Vec::new(),
            paths: Vec::new(),
            ports: BTreeMap::new(),
            size: (0.0, 0.0),
        };
        drawing.arrange();
        drawing
    }

    fn item(&self, shape: usize) -> Item {
        let (width, height) = self.sizes[shape];
        // Labels stand to the right of their port.
        let reach = self
            .picture
            .links
            .iter()
            .filter(|l| l.from == shape)
            .map(|l| {
                let dx = self.ports.get(&(l.from, l.result)).copied().unwrap_or(0.0);
                dx + 8.0 + l.label.chars().count() as f64 * LABEL_CHAR
            })
            .fold(0.0, f64::max);
        Item { width, height, reach, labels: results_of(self.picture, shape).len(), pin: None }
    }

    fn arrange(&mut self) {
        for shape in 0..self.picture.shapes.len() {
            let results = results_of(self.picture, shape);
            for (result, dx) in results.iter().zip(spread(results.len(), self.sizes[shape].0)) {
                self.ports.insert((shape, *result), dx);
            }
        }
        let insides: Vec<Inside> = (0..self.picture.frames.len()).map(|f| self.inside(f)).collect();

        // Items of the outer layout: free boxes and frames, in the order of their first box.
        let mut items: Vec<Item> = Vec::new();
        let mut free: Vec<(usize, usize)> = Vec::new();
        let mut item_of_frame: BTreeMap<usize, usize> = BTreeMap::new();
        let mut item_of: Vec<usize> = Vec::new();
        for (shape, data) in self.picture.shapes.iter().enumerate() {
            let item = match data.frame {
                None => {
                    free.push((shape, items.len()));
                    items.push(self.item(shape));
                    items.len() - 1
                }
                Some(frame) => *item_of_frame.entry(frame).or_insert_with(|| {
                    let (width, height) = insides[frame].size;
                    items.push(Item { width, height, reach: width / 2.0, labels: 0, pin: None });
                    items.len() - 1
                }),
            };
            item_of.push(item);
        }
        // One edge per value and frame, or per value and box.
        let mut edges: BTreeMap<(Port, usize, Option<usize>), Edge> = BTreeMap::new();
        for link in self.picture.links.iter().filter(|l| !l.is_carried) {
            let port = (link.from, link.result);
            let (from, to) = (item_of[link.from], item_of[link.to]);
            if from == to {
                continue;
            }
            let from_dx = match self.picture.shapes[link.from].frame {
                None => self.ports.get(&port).copied().unwrap_or(0.0),
                Some(frame) => insides[frame].exit(&port),
            };
            let frame = self.picture.shapes[link.to].frame;
            let to_dx = frame.map_or(0.0, |frame| insides[frame].entry(&port));
            let into = if frame.is_some() { None } else { Some(link.to) };
            edges.insert((port, to, into), Edge { from, from_dx, to, to_dx });
        }
        let mut edges: Vec<Edge> = edges.into_values().collect();
        let is_free: Vec<bool> = {
            let mut is_free = vec![false; items.len()];
            free.iter().for_each(|(_, item)| is_free[*item] = true);
            is_free
        };
        let layout = layered_twice(&items, &mut edges, &|item| is_free[item]);
        for (shape, item) in &free {
            self.boxes[*shape] = self.corner(layout.places[*item], *shape);
        }
        self.paths.extend(layout.paths.iter().cloned());
        for (frame, inside) in insides.iter().enumerate() {
            let (centre, top) = layout.places[item_of_frame[&frame]];
            let (left, size) = (centre - inside.size.0 / 2.0, inside.size);
            self.frames.push(((left, top), size));
            let shift = |(x, y): Point| (x + left + PAD, y + top + FRAME_TITLE);
            for (i, shape) in inside.shapes.iter().enumerate() {
                self.boxes[*shape] = self.corner(shift(inside.layout.places[i]), *shape);
            }
            for path in &inside.paths {
                self.paths.push(path.iter().map(|p| shift(*p)).collect());
            }
            // From the border of the frame to its first and last rank.
            for x in inside.tops.values() {
                self.paths.push(vec![(x + left, top), (x + left, top + FRAME_TITLE)]);
            }
            let bottom = top + size.1;
            for x in inside.bottoms.values() {
                self.paths.push(vec![(x + left, bottom - PAD), (x + left, bottom)]);
            }
        }
        self.size = (layout.width, layout.height);
    }

    fn corner(&self, (centre, top): Point, shape: usize) -> Point {
        (centre - self.sizes[shape].0 / 2.0, top)
    }

    /// Lays out the boxes of one frame, with its borders as ranks of their own.
    fn inside(&self, frame: usize) -> Inside {
        let is_in = |shape: usize| self.picture.shapes[shape].frame == Some(frame);
        let shapes: Vec<usize> = (0..self.picture.shapes.len()).filter(|s| is_in(*s)).collect();
        let index: BTreeMap<usize, usize> =
            shapes.iter().enumerate().map(|(i, shape)| (*shape, i)).collect();
        let mut items: Vec<Item> = shapes.iter().map(|shape| self.item(*shape)).collect();
        let border = |pin| Item { width: 1.0, height: 0.0, reach: 0.0, labels: 0, pin: Some(pin) };
        let mut tops: BTreeMap<Port, usize> = BTreeMap::new();
        let mut bottoms: BTreeMap<Port, usize> = BTreeMap::new();
        let mut edges = Vec::new();
        let mut n_lanes = 0;
        for link in &self.picture.links {
            let port = (link.from, link.result);
            let from_dx = self.ports.get(&port).copied().unwrap_or(0.0);
            match (index.get(&link.from), index.get(&link.to)) {
                (Some(_), Some(_)) if link.is_carried => n_lanes += 1,
                (Some(from), Some(to)) => {
                    edges.push(Edge { from: *from, from_dx, to: *to, to_dx: 0.0 });
                }
                (None, Some(to)) => {
                    let from = *tops.entry(port).or_insert_with(|| {
                        items.push(border(Pin::Top));
                        items.len() - 1
                    });
                    edges.push(Edge { from, from_dx: 0.0, to: *to, to_dx: 0.0 });
                }
                (Some(from), None) => {
                    let next = items.len();
                    let to = *bottoms.entry(port).or_insert(next);
                    if to == next {
                        items.push(border(Pin::Bottom));
                        edges.push(Edge { from: *from, from_dx, to, to_dx: 0.0 });
                    }
                }
                (None, None) => {}
            }
        }
        let n_shapes = shapes.len();
        let layout = layered_twice(&items, &mut edges, &|item| item < n_shapes);
        let lanes = f64::from(n_lanes) * LANE;
        let title = self.picture.frames[frame].title.chars().count() as f64 * TITLE_CHAR;
        let width = (layout.width + 2.0 * PAD + lanes).max(title + 2.0 * PAD);
        let at = |items: &BTreeMap<Port, usize>| -> BTreeMap<Port, f64> {
            items.iter().map(|(port, item)| (*port, layout.places[*item].0 + PAD)).collect()
        };
        Inside {
            tops: at(&tops),
            bottoms: at(&bottoms),
            paths: layout.paths.clone(),
            size: (width, layout.height + FRAME_TITLE + PAD),
            shapes,
            layout,
        }
    }
}

impl Inside {
    /// Where a value comes in, relative to the centre of the frame.
    fn entry(&self, port: &Port) -> f64 {
        self.tops.get(port).map_or(0.0, |x| x - self.size.0 / 2.0)
    }

    /// Where a value goes out.
    fn exit(&self, port: &Port) -> f64 {
        self.bottoms.get(port).map_or(0.0, |x| x - self.size.0 / 2.0)
    }
}

/// Results of a box that some edge leaves from, in order.
fn results_of(picture: &Picture, shape: usize) -> Vec<usize> {
    let mut results: Vec<usize> =
        picture.links.iter().filter(|l| l.from == shape).map(|l| l.result).collect();
    results.sort_unstable();
    results.dedup();
    results
}

/// Offsets of `n` points on a side of this width, evenly.
fn spread(n: usize, width: f64) -> Vec<f64> {
    let step = (width - 24.0) / n.max(1) as f64;
    (0..n).map(|i| (i as f64 + 0.5) * step - (width - 24.0) / 2.0).collect()
}

/// Lays out once to see from which side edges come, gives the edges into each box their points in
/// that order, and lays out again; then the order of the points is put right once more.
fn layered_twice(items: &[Item], edges: &mut [Edge], has_ports: &dyn Fn(usize) -> bool) -> Layout {
    let assign = |layout: &Layout, edges: &mut [Edge]| {
        for item in (0..items.len()).filter(|item| has_ports(*item)) {
            let mut into: Vec<usize> = (0..edges.len()).filter(|e| edges[*e].to == item).collect();
            // The last place before the box says from where the edge comes.
            let from = |e: usize| {
                let end = layout.places[item].0 + edges[e].to_dx;
                let path = layout.paths[e].iter().rev();
                path.map(|p| p.0).find(|x| (x - end).abs() > 0.01).unwrap_or(end)
            };
            into.sort_by(|a, b| from(*a).total_cmp(&from(*b)).then(a.cmp(b)));
            for (edge, dx) in into.iter().zip(spread(into.len(), items[item].width)) {
                edges[*edge].to_dx = dx;
            }
        }
    };
    let first = layered(items, edges);
    assign(&first, edges);
    let mut layout = layered(items, edges);
    let before: Vec<f64> = edges.iter().map(|edge| edge.to_dx).collect();
    assign(&layout, edges);
    for ((path, edge), dx) in layout.paths.iter_mut().zip(edges.iter()).zip(before) {
        let end = layout.places[edge.to].0 + dx;
        // The end of the path, and the point above it.
        for point in path.iter_mut().rev().take_while(|p| (p.0 - end).abs() < 0.01).take(2) {
            point.0 += edge.to_dx - dx;
        }
    }
    layout
}
