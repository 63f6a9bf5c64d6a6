//! What is drawn: boxes, links and frames, before anything has a place.

use crate::module::{FuncId, Function, Module, Node, ParamRole, ResultRole, ValueDef, ValueId};
use crate::op::Class;
use crate::ops::Op;
use crate::text::fold::{Folds, Run, RunOperand, folds};
use crate::text::sugar;
use std::collections::BTreeMap;

/// Longest line in a box, in characters.
const MAX_LINE: usize = 42;

/// Links over more ranks than this are cut.
const MAX_SPAN: usize = 16;

/// So many values between two boxes are drawn as one link.
const MIN_BUNDLE: usize = 4;
/// More than any box has results.
const MAX_RESULTS: usize = 1 << 32;

/// What a box stands for; decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Input,
    Output,
    Primitive,
    Composite,
    Region,
}

impl Look {
    /// Every look with its CSS class and its name in the legend.
    pub(super) const ALL: [(Look, &'static str, &'static str); 5] = [
        (Look::Input, "input", "input"),
        (Look::Composite, "composite", "composite"),
        (Look::Primitive, "primitive", "primitive"),
        (Look::Region, "region", "call"),
        (Look::Output, "output", "output"),
    ];

    pub(super) fn class(self) -> &'static str {
        Self::ALL.iter().find(|(look, ..)| *look == self).map_or("", |(_, class, _)| class)
    }
}

/// A box.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) title: String,
    pub(super) lines: Vec<String>,
    pub(super) look: Look,
    /// Index into [`Picture::frames`].
    pub(super) frame: Option<usize>,
}

/// An edge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Link {
    pub(super) from: usize,
    /// Which result of the box.
    pub(super) result: usize,
    pub(super) to: usize,
    /// The type of the value.
    pub(super) label: String,
    /// The value as the text form writes it.
    pub(super) value: String,
    /// From a step of a run to the next one.
    pub(super) is_carried: bool,
}

/// The frame around a run.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) title: String,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) title: String,
    pub(super) shapes: Vec<Shape>,
    pub(super) links: Vec<Link>,
    pub(super) frames: Vec<Frame>,
}

/// Where an operand comes from.
#[derive(Clone)]
enum Source {
    /// A box and which of its results.
    Shape(usize, usize),
    /// A line in the box that uses it.
    Line(String),
}

struct Painter<'a> {
    module: &'a Module,
    function: &'a Function,
    folds: Folds,
    picture: Picture,
    sources: BTreeMap<ValueId, Source>,
    /// Family to the box that defines it.
    families: BTreeMap<usize, (usize, usize)>,
}

/// The picture of a function.
pub(super) fn picture(module: &Module, id: FuncId) -> Picture {
    let function = module.function(id);
    let title = format!("@{} in {}", function.name, module.name);
    let mut painter = Painter {
        module,
        function,
        folds: folds(module, function),
        picture: Picture { title, shapes: Vec::new(), links: Vec::new(), frames: Vec::new() },
        sources: BTreeMap::new(),
        families: BTreeMap::new(),
    };
    painter.params();
    painter.nodes();
    painter.results();
    let mut picture = painter.picture;
    picture.links.sort();
    picture.links.dedup_by_key(|l| (l.from, l.result, l.to, l.is_carried));
    picture.cut_far_links();
    picture.bundle_links();
    picture
}

impl Picture {
    /// Many values from one box to another become one link.
    fn bundle_links(&mut self) {
        let mut n_between: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for link in self.links.iter().filter(|l| !l.is_carried) {
            *n_between.entry((link.from, link.to)).or_default() += 1;
        }
        n_between.retain(|_, n| *n >= MIN_BUNDLE);
        let of =
            |l: &Link| if l.is_carried { None } else { n_between.get(&(l.from, l.to)).copied() };
        self.links.retain(|l| of(l).is_none());
        for ((from, to), n) in &n_between {
            // A port of its own, after those of all results.
            let result = MAX_RESULTS + to;
            let (label, value) = (format!("{n} values"), String::new());
            self.links.push(Link { from: *from, result, to: *to, label, value, is_carried: false });
        }
        self.links.sort();
    }

    /// Links over many ranks become a line at both ends: nobody can follow them.
    fn cut_far_links(&mut self) {
        let mut ranks = vec![0usize; self.shapes.len()];
        // Boxes stand in an order in which all but carried links go forward.
        for link in self.links.iter().filter(|l| !l.is_carried) {
            ranks[link.to] = ranks[link.to].max(ranks[link.from] + 1);
        }
        let is_far = |l: &Link| {
            // Inputs stand beside their first use.
            let from = match self.shapes[l.from].look {
                Look::Input => return false,
                _ => ranks[l.from],
            };
            !l.is_carried && ranks[l.to] - from > MAX_SPAN
        };
        let (far, near): (Vec<Link>, Vec<Link>) = self.links.drain(..).partition(is_far);
        self.links = near;
        for link in far {
            let from = &mut self.shapes[link.from];
            let (title, line) = (from.title.clone(), format!("{} ↓", link.value));
            if !from.lines.contains(&line) {
                from.lines.push(line);
            }
            self.shapes[link.to].lines.push(shortened(&format!("↑ {} {title}", link.value)));
        }
    }
}

impl Painter<'_> {
    fn params(&mut self) {
        for param in &self.function.params {
            let ty = self.function.ty(param.value);
            let source = match &param.role {
                ParamRole::Weight(path) => Source::Line(format!("{path}: {ty}")),
                ParamRole::State(path) if path.is_empty() => Source::Line(format!("state: {ty}")),
                ParamRole::State(path) => Source::Line(format!("state {path}: {ty}")),
                ParamRole::Input => {
                    let name = self.function.value(param.value).name.clone();
                    let name = name.unwrap_or_else(|| format!("%{}", param.value.0));
                    Source::Shape(self.shape(name, Vec::new(), Look::Input, None), 0)
                }
            };
            self.sources.insert(param.value, source);
        }
    }

    fn nodes(&mut self) {
        let mut at = 0;
        while at < self.function.nodes.len() {
            let folds = std::mem::take(&mut self.folds);
            match folds.run_at(at) {
                Some(run) => {
                    self.run(&folds, run);
                    at += run.count * run.period;
                }
                None => {
                    self.node(at);
                    at += 1;
                }
            }
            self.folds = folds;
        }
    }

    fn node(&mut self, at: usize) {
        let node = &self.function.nodes[at];
        if let (Op::Constant(constant), [result]) = (&node.op, node.results.as_slice())
            && self.function.results.iter().all(|r| r.value != *result)
        {
            let ty = self.function.ty(*result);
            let line = match ty.rank() {
                0 => format!("{:?}", constant.value),
                _ => format!("{:?}: {ty}", constant.value),
            };
            self.sources.insert(*result, Source::Line(line));
            return;
        }
        let operands: Vec<Source> = node.operands.iter().map(|v| self.source(*v)).collect();
        let shape = self.op(node, None, None);
        for (operand, value) in operands.into_iter().zip(&node.operands) {
            self.link(operand, shape, *value, false);
        }
        for (i, result) in node.results.iter().enumerate() {
            self.sources.insert(*result, Source::Shape(shape, i));
        }
    }

    /// The source of a value; an element of a run is the box that stands for its run.
    fn source(&self, value: ValueId) -> Source {
        let known = self.sources.get(&value).cloned();
        known.unwrap_or_else(|| Source::Line(format!("%{}", value.0)))
    }

    /// A box for a node.
    fn op(&mut self, node: &Node, frame: Option<usize>, scope: Option<String>) -> usize {
        let (name, attrs) = sugar::contract(&node.op);
        let mut title = name;
        let mut lines = Vec::new();
        let mut words = Vec::new();
        for (name, value) in attrs {
            match (name, &node.op) {
                ("callee", _) => title = value.to_string(),
                ("scope", _) => {
                    let text = scope.clone().unwrap_or_else(|| value.to_string());
                    lines.push(text.trim_matches('"').to_string());
                }
                // The type of the result says it already.
                ("dims" | "dtype", _) => {}
                _ => words.push(format!("{name} = {value}")),
            }
        }
        lines.extend(wrapped(&words));
        let look = match (&node.op, node.op.class()) {
            (_, Class::Primitive) => Look::Primitive,
            (Op::Call(call), _) if self.is_composite(&call.callee) => Look::Composite,
            (_, Class::Composite) => Look::Composite,
            (_, Class::Region) => Look::Region,
        };
        self.shape(title, lines, look, frame)
    }

    fn is_composite(&self, name: &str) -> bool {
        self.module.find(name).is_some_and(|id| self.module.function(id).is_composite)
    }

    fn shape(
        &mut self,
        title: String,
        lines: Vec<String>,
        look: Look,
        frame: Option<usize>,
    ) -> usize {
        let lines = lines.iter().map(|line| shortened(line)).collect();
        self.picture.shapes.push(Shape { title: shortened(&title), lines, look, frame });
        self.picture.shapes.len() - 1
    }

    fn link(&mut self, source: Source, to: usize, value: ValueId, is_carried: bool) {
        match source {
            Source::Shape(from, result) => {
                let data = self.function.value(value);
                let label = data.ty.to_string();
                let name = data.name.clone().unwrap_or_else(|| value.0.to_string());
                let link = Link { from, result, to, label, value: format!("%{name}"), is_carried };
                self.picture.links.push(link);
            }
            Source::Line(line) => {
                let lines = &mut self.picture.shapes[to].lines;
                // A long path and its type stand below each other.
                let parts = match line.split_once(": ") {
                    Some((path, ty)) if line.chars().count() > MAX_LINE => vec![path, ty],
                    _ => vec![line.as_str()],
                };
                let parts: Vec<String> = parts.into_iter().map(shortened).collect();
                if !lines.windows(parts.len()).any(|w| w == parts) {
                    lines.extend(parts);
                }
            }
        }
    }

    fn run(&mut self, folds: &Folds, run: &Run) {
        let frame = self.picture.frames.len();
        self.picture.frames.push(Frame { title: format!("repeat × {}", run.count) });
        let nodes = &self.function.nodes[run.first..run.first + run.period];
        let mut shapes = Vec::new();
        for (node, folded) in nodes.iter().zip(&run.body) {
            let shape = self.op(node, Some(frame), folded.scope_text());
            shapes.push(shape);
            for (i, result) in folded.results.iter().enumerate() {
                self.families.insert(result.family, (shape, i));
            }
        }
        for ((node, folded), shape) in nodes.iter().zip(&run.body).zip(&shapes) {
            for (operand, value) in folded.operands.iter().zip(&node.operands) {
                match operand {
                    RunOperand::Fixed(value) => {
                        let source = self.source(*value);
                        self.link(source, *shape, *value, false);
                    }
                    RunOperand::Element(family, index) => {
                        let Some((from, result)) = self.families.get(family).copied() else {
                            continue;
                        };
                        let own =
                            run.body.iter().flat_map(|n| &n.results).find(|r| r.family == *family);
                        let is_carried = own.is_some_and(|r| r.index != *index);
                        self.link(Source::Shape(from, result), *shape, *value, is_carried);
                        if is_carried {
                            let initial = run.initial.iter().find(|(f, ..)| f == family);
                            if let Some((_, _, value)) = initial {
                                let source = self.source(*value);
                                self.link(source, *shape, *value, false);
                            }
                        }
                    }
                }
            }
        }
        for t in 0..run.count {
            for (j, shape) in shapes.iter().enumerate() {
                let results = &self.function.nodes[run.first + t * run.period + j].results;
                for (i, value) in results.iter().enumerate() {
                    let family = folds.element(*value).map(|(family, _)| family);
                    let place = family.and_then(|f| self.families.get(&f).copied());
                    let (shape, i) = place.unwrap_or((*shape, i));
                    self.sources.insert(*value, Source::Shape(shape, i));
                }
            }
        }
    }

    fn results(&mut self) {
        for result in &self.function.results {
            let is_unchanged_state =
                matches!(self.function.value(result.value).def, ValueDef::Param(_))
                    && matches!(result.role, ResultRole::State(_));
            if is_unchanged_state {
                continue;
            }
            let (name, line) = match &result.role {
                ResultRole::Output(name) => (name.clone(), None),
                ResultRole::State(path) if path.is_empty() => ("state".to_string(), None),
                ResultRole::State(path) => ("state".to_string(), Some(path.clone())),
            };
            let shape = self.shape(name, line.into_iter().collect(), Look::Output, None);
            let source = self.source(result.value);
            self.link(source, shape, result.value, false);
        }
    }
}

/// Attributes in lines.
fn wrapped(words: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() + 2 <= MAX_LINE => {
                line.push_str(", ");
                line.push_str(word);
            }
            _ => lines.push(word.clone()),
        }
    }
    lines
}

fn shortened(line: &str) -> String {
    match line.chars().count() > MAX_LINE {
        true => line.chars().take(MAX_LINE - 1).chain(['…']).collect(),
        false => line.to_string(),
    }
}
