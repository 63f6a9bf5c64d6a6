//! Whole tiny runs on a store in memory.

mod best;
mod blocks;
mod changes;
mod codes;
mod content;
mod crashes;
mod data;
mod early;
mod faults;
mod finetune;
mod groups;
mod limits;
mod lora;
mod masked;
mod mup;
mod sessions;
mod spikes;
mod weights;
mod why;
mod writing;

use super::observer::{Event, Observer};
use super::prepare::prepare;
use super::train::{TrainOptions, TrainResult, train};
use super::{Defaults, Failure, Project};
use crate::manifest::Manifest;
use crate::metrics::{self, Record};
use crate::store::{MemStore, Source, Store, create_dir_all};
use llmc_base::Diagnostic;
use llmc_spec::{Format, Goal};
use std::path::Path;

/// A spec that trains in milliseconds.
const TINY: &str = r#"[model]
name = "tiny"
num_layers = 1
hidden_size = 8
num_heads = 2
intermediate_size = 16
vocab_size = 16
context_length = 16

[dataset]
name = "tiny"
domains = ["synthetic"]
languages = { en = 1.0 }
target_tokens = 300
max_length = 16
validation_fraction = 0.2

[tokenizer]
type = "char"
special_tokens = { eos = "<|endoftext|>", unk = "<unk>" }

[optimizer]
lr = 1e-2

[training]
batch_size = 4
max_steps = 6
eval_interval = 2
checkpoint_interval = 2
threads = 1
"#;

/// The tiny spec with changes.
fn tiny(changes: &[&str]) -> Project {
    let changes: Vec<String> = changes.iter().map(|c| c.to_string()).collect();
    let goal = Goal::Training;
    Project::parse(TINY, Format::Toml, "tiny.toml", &changes, goal, Defaults::Record).unwrap().0
}

/// The tiny spec over files, with changes.
fn over_files(paths: &str, changes: &[&str]) -> Project {
    let text = TINY
        .replace("domains = [\"synthetic\"]\n", &format!("paths = {paths}\n"))
        .replace("languages = { en = 1.0 }\ntarget_tokens = 300\n", "");
    let changes: Vec<String> = changes.iter().map(|c| c.to_string()).collect();
    let goal = Goal::Training;
    Project::parse(&text, Format::Toml, "tiny.toml", &changes, goal, Defaults::Record).unwrap().0
}

/// Three files of text; the third has the text of the first.
fn with_text(store: &MemStore) {
    create_dir_all(store, Path::new("corpus/sub")).unwrap();
    for (path, text) in
        [("a.txt", "one two three "), ("sub/b.txt", "four five six "), ("c.txt", "one two three ")]
    {
        store.write(&Path::new("corpus").join(path), text.repeat(30).as_bytes()).unwrap();
    }
}

/// Notes what happens, and may ask to stop.
#[derive(Default)]
struct Watch {
    /// Asks to stop after this step.
    stop_after: Option<u64>,
    /// Asks to stop after the stage of this name.
    stop_after_stage: Option<&'static str>,
    is_stopped: bool,
    checkpoints: Vec<u64>,
    warnings: Vec<Diagnostic>,
    first_step: Option<u64>,
}

impl Observer for Watch {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Stage { name, .. } => self.is_stopped |= self.stop_after_stage == Some(*name),
            Event::Start { step, .. } => self.first_step = Some(*step),
            Event::Step(record) => self.is_stopped |= self.stop_after == Some(record.step),
            Event::Checkpoint { step, .. } => self.checkpoints.push(*step),
            Event::Warning(d) => self.warnings.push((*d).clone()),
            Event::Validation(_) | Event::Sample(_) => {}
        }
    }

    fn is_interrupted(&self) -> bool {
        self.is_stopped
    }
}

/// Options of a run below `runs`.
fn options(store: &dyn Store) -> TrainOptions<'_> {
    let output = Path::new("runs");
    TrainOptions { output, threads: None, isa: None, cache: None, store, parent: None }
}

fn run_with(
    store: &dyn Store,
    project: &Project,
    watch: &mut Watch,
) -> Result<TrainResult, Failure> {
    train(project, &options(store), watch)
}

#[track_caller]
fn run_whole(store: &dyn Store, project: &Project) -> TrainResult {
    run_with(store, project, &mut Watch::default()).unwrap()
}

#[track_caller]
fn stopped_after(store: &dyn Store, project: &Project, step: u64) -> TrainResult {
    let mut watch = Watch { stop_after: Some(step), ..Watch::default() };
    run_with(store, project, &mut watch).unwrap()
}

fn manifest(store: &dyn Store, run: &Path) -> Manifest {
    Manifest::read(store, run).unwrap()
}

#[track_caller]
fn code<T>(result: Result<T, Failure>) -> String {
    result.err().expect("it succeeded").diagnostics()[0].code.clone()
}

#[test]
fn the_scalars_for_tensorboard_are_those_of_the_metrics() {
    use llmc_formats::tensorboard::{Content, read_events};
    let store = MemStore::new();
    let run = run_whole(&store, &tiny(&[])).run;
    let names: Vec<String> = store.list(&run).unwrap().into_iter().map(|e| e.name).collect();
    let file = names.iter().find(|n| n.starts_with("events.out.tfevents.")).unwrap();
    let events = read_events(&store.read(&run.join(file)).unwrap()).unwrap();
    assert_eq!(events[0].content, Content::FileVersion("brain.Event:2".into()));
    let scalar = |tag: &str| -> Vec<(i64, f32)> {
        let of = |content: &Content| match content {
            Content::Scalars(values) => values.iter().find(|v| v.0 == tag).map(|v| v.1),
            _ => None,
        };
        events.iter().filter_map(|e| Some((e.step, of(&e.content)?))).collect()
    };
    let (records, _) = metrics::read(&store, &run).unwrap();
    let losses: Vec<(i64, f32)> = records
        .iter()
        .filter_map(|r| match r {
            Record::Train(r) => Some((r.step as i64, r.loss as f32)),
            _ => None,
        })
        .collect();
    assert_eq!(losses.len(), 6);
    assert_eq!(scalar("train/loss"), losses);
    assert_eq!(scalar("validation/bits_per_byte").len(), 3);
}
