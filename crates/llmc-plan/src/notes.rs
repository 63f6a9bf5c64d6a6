//! Layouts for people: every value of a function with its place and why, and what was not fused.

use crate::layout::{Instance, Layout, Place};
use crate::space::{ALIGN_WORDS, WORD_BYTES, tensor_words};
use crate::why::Storage;
use llmc_base::Decision;
use llmc_ir::{Function, Module, ValueDef, ValueId};
use std::collections::BTreeMap;

/// The memory of one function for concrete dims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionNotes {
    /// Its name.
    pub function: String,
    /// Bytes of its frame, callees' frames included.
    pub frame_bytes: u64,
    /// Bytes that the frame would have without reuse.
    pub unshared_bytes: u64,
    /// Its values, in order of definition, and the frames of its calls.
    pub buffers: Vec<BufferNote>,
    /// Launches that could be part of another and are not, and why.
    pub decisions: Vec<Decision>,
}

/// One value in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferNote {
    /// `%name`, or `frame of @callee`.
    pub value: String,
    /// Its type, e.g. `f32[8, 16]`.
    pub ty: String,
    /// Bytes that it takes for itself; 0 for views and what is never in memory.
    pub bytes: u64,
    /// Bytes from the start of the frame, of what lives there.
    pub offset: Option<u64>,
    /// `parameter`, `view`, `in place`, `result`, `frame`, or `absorbed`.
    pub storage: &'static str,
    /// Why it is there, and until when.
    pub why: String,
}

fn name(f: &Function, value: ValueId) -> String {
    match &f.value(value).name {
        Some(name) => format!("%{name}"),
        None => format!("%{}", value.0),
    }
}

/// A node for people; the number of nodes stands for the end of the function.
fn node(f: &Function, at: usize) -> String {
    match f.nodes.get(at) {
        None => "the end".to_string(),
        Some(node) => match node.results.first() {
            Some(result) => format!("{} = {}", name(f, *result), node.op.name()),
            None => node.op.name().to_string(),
        },
    }
}

/// The notes of every layout, in the order of the functions.
pub(crate) fn notes(module: &Module, layouts: &BTreeMap<Instance, Layout>) -> Vec<FunctionNotes> {
    layouts
        .iter()
        .map(|((id, _), layout)| of(module, module.function(*id), layout, layouts))
        .collect()
}

fn of(
    module: &Module,
    f: &Function,
    own: &Layout,
    layouts: &BTreeMap<Instance, Layout>,
) -> FunctionNotes {
    let bytes = |words: usize| (words * WORD_BYTES) as u64;
    let mut buffers = Vec::new();
    for (at, value) in f.values.iter().enumerate() {
        let id = ValueId(at as u32);
        let (shape, storage) = (&own.shapes[at], own.storage[at]);
        let words = tensor_words(value.ty.dtype, shape);
        let place = &own.places[at];
        let why = match storage {
            Storage::Parameter => match place {
                Place::Persistent(path) => format!("persistent as `{path}`"),
                _ => "the caller's".to_string(),
            },
            Storage::View(of) => format!("a reshape of {}, in its words", name(f, of)),
            Storage::InPlace(of) => format!("continues {} in its words", name(f, of)),
            Storage::Result => match place {
                Place::Persistent(path) => {
                    format!("the successor of `{path}`, which nothing reads any more: built there")
                }
                _ => "a result, built where the caller wants it".to_string(),
            },
            Storage::Frame { first, last } => {
                format!("lives from {} to {}", node(f, first), node(f, last))
            }
            Storage::Absorbed => match value.def {
                ValueDef::Node { node: by, .. } => {
                    format!(
                        "never in memory: another launch does the work of {}",
                        node(f, by.index())
                    )
                }
                ValueDef::Param(_) => "never read".to_string(),
            },
        };
        let is_own =
            matches!(storage, Storage::Frame { .. } | Storage::Parameter | Storage::Result);
        buffers.push(BufferNote {
            value: name(f, id),
            ty: format!("{}{shape:?}", value.ty.dtype),
            bytes: if is_own { bytes(words) } else { 0 },
            offset: match (storage, place) {
                (Storage::Frame { .. }, Place::Frame(offset)) => Some(bytes(*offset)),
                _ => None,
            },
            storage: storage.choice(),
            why,
        });
    }
    for (at, (instance, offset)) in &own.calls {
        let words = layouts.get(instance).map_or(0, |l| l.frame_words);
        buffers.push(BufferNote {
            value: format!("frame of @{}", module.function(instance.0).name),
            ty: String::new(),
            bytes: bytes(words),
            offset: Some(bytes(*offset)),
            storage: "frame",
            why: format!("lives during {}", node(f, *at)),
        });
    }
    let in_frame = buffers.iter().filter(|b| b.offset.is_some());
    let aligned = |bytes: u64| bytes.next_multiple_of((ALIGN_WORDS * WORD_BYTES) as u64);
    let unshared_bytes = in_frame.map(|b| aligned(b.bytes)).sum();
    let decisions = own.declined.iter().map(|(at, why)| {
        let decision = Decision::new("launches", &f.name, node(f, *at), "by itself", why.text());
        decision.about([f.nodes[*at].op.name()])
    });
    FunctionNotes {
        function: f.name.clone(),
        frame_bytes: bytes(own.frame_words),
        unshared_bytes,
        decisions: decisions.collect(),
        buffers,
    }
}
