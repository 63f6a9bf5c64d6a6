//! `run_training`: a long call that lets other threads work, tells what it
//! does, and stops on Ctrl-C with a checkpoint.

use crate::convert::{diagnostic, error, not_pickled, to_path};
use crate::ir::{DatasetIR, ModelIR, TokenizerIR, TrainingIR};
use llmc::metrics::{self, Record};
use llmc::pipeline::compile::join;
use llmc::pipeline::{Event, Failure, Observer, TrainOptions, TrainResult, TrainStatus, train};
use llmc::store::FsStore;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Signals are looked at after every step, but not more often than this: taking the
/// interpreter's lock from a busy thread takes milliseconds.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(20);

/// What a training came to.
#[pyclass(frozen, get_all, module = "llm_compiler")]
pub struct TrainingResult {
    /// Recipe of the training: the `fingerprint()` of the `TrainingIR`, where that names its parts.
    training_hash: String,
    /// Recipe of the run: the training's, with the text that was found. Names the folder.
    run_hash: String,
    /// BLAKE3 of the last checkpoint's weights file.
    weights_hash: String,
    /// `complete`, `already_complete` or `interrupted`.
    status: String,
    /// The run directory.
    run: Py<PyAny>,
    /// Paths of what exists, by name.
    artifacts: Py<PyDict>,
    /// Numbers: `loss`, `losses`, `steps`, `tokens`, `parameters`, `validation`.
    metrics: Py<PyDict>,
    /// What happened, one line each.
    logs: Vec<String>,
}

#[pymethods]
impl TrainingResult {
    fn __reduce__(&self) -> PyResult<()> {
        Err(not_pickled("TrainingResult", "pass `result.run`, the path of the run, instead"))
    }

    fn __repr__(&self) -> String {
        format!("<TrainingResult {} {}>", self.status, &self.run_hash[..16])
    }
}

/// Collects log lines, calls back, and looks for signals.
struct Watch {
    callback: Option<Py<PyAny>>,
    logs: Vec<String>,
    log_interval: u64,
    max_steps: u64,
    looked: Instant,
    raised: Option<PyErr>,
}

impl Watch {
    fn line(&self, event: &Event) -> Option<String> {
        match event {
            Event::Stage { name, detail } => Some(format!("{name}: {detail}")),
            Event::Start { step, max_steps, .. } => {
                Some(format!("training: steps {} to {max_steps}", step + 1))
            }
            Event::Step(r) => {
                let is_due = r.step.is_multiple_of(self.log_interval.max(1));
                (is_due || r.step == 1 || r.step == self.max_steps).then(|| {
                    format!(
                        "step {}: loss {:.4}, lr {:.3e}, {} tokens",
                        r.step, r.loss, r.lr, r.tokens
                    )
                })
            }
            Event::Validation(r) => Some(format!(
                "step {}: validation loss {:.4}, {:.4} bits per byte",
                r.step, r.loss, r.bits_per_byte
            )),
            Event::Sample(r) => Some(format!("step {}: sample {:?}", r.step, r.text)),
            Event::Checkpoint { step, .. } => Some(format!("step {step}: checkpoint")),
            Event::Warning(d) => Some(d.to_string()),
        }
    }

    fn tell(&self, py: Python<'_>, callback: &Py<PyAny>, event: &Event) -> PyResult<()> {
        let dict = PyDict::new(py);
        match event {
            Event::Stage { name, detail } => {
                dict.set_item("event", "stage")?;
                dict.set_item("name", name)?;
                dict.set_item("detail", detail)?;
            }
            Event::Start { run, step, max_steps, tokens_per_step } => {
                dict.set_item("event", "start")?;
                dict.set_item("run", to_path(py, run)?)?;
                dict.set_item("step", step)?;
                dict.set_item("max_steps", max_steps)?;
                dict.set_item("tokens_per_step", tokens_per_step)?;
            }
            Event::Step(r) => {
                dict.set_item("event", "step")?;
                dict.set_item("step", r.step)?;
                dict.set_item("max_steps", self.max_steps)?;
                dict.set_item("tokens", r.tokens)?;
                dict.set_item("loss", r.loss)?;
                dict.set_item("lr", r.lr)?;
                dict.set_item("grad_norm", r.grad_norm)?;
                dict.set_item("tokens_per_s", r.tokens_per_s)?;
                dict.set_item("elapsed_s", r.elapsed_s)?;
                dict.set_item("is_skipped", r.is_skipped)?;
                dict.set_item("is_overflow", r.is_overflow)?;
                dict.set_item("loss_scale", r.loss_scale)?;
            }
            Event::Validation(r) => {
                dict.set_item("event", "validation")?;
                dict.set_item("step", r.step)?;
                dict.set_item("loss", r.loss)?;
                dict.set_item("bits_per_byte", r.bits_per_byte)?;
                dict.set_item("ema_loss", r.ema_loss)?;
            }
            Event::Sample(r) => {
                dict.set_item("event", "sample")?;
                dict.set_item("step", r.step)?;
                dict.set_item("prompt", &r.prompt)?;
                dict.set_item("text", &r.text)?;
            }
            Event::Checkpoint { step, path } => {
                dict.set_item("event", "checkpoint")?;
                dict.set_item("step", step)?;
                dict.set_item("path", to_path(py, path)?)?;
            }
            Event::Warning(d) => {
                dict.set_item("event", "warning")?;
                dict.set_item("diagnostic", diagnostic(py, d)?)?;
            }
        }
        callback.call1(py, (dict,)).map(|_| ())
    }
}

impl Observer for Watch {
    fn event(&mut self, event: &Event) {
        if let Event::Start { max_steps, .. } = event {
            self.max_steps = *max_steps;
        }
        let line = self.line(event);
        self.logs.extend(line);
        // Between stages a signal is looked for whatever the time: the next may take long.
        let is_stage = matches!(event, Event::Stage { .. });
        let is_due = is_stage || self.looked.elapsed() >= SIGNAL_INTERVAL;
        if self.raised.is_some() || (self.callback.is_none() && !is_due) {
            return;
        }
        let raised = Python::attach(|py| {
            if let Some(callback) = &self.callback {
                self.tell(py, callback, event)?;
            }
            py.check_signals()
        });
        self.raised = raised.err();
        self.looked = Instant::now();
    }

    fn is_interrupted(&self) -> bool {
        self.raised.is_some()
    }
}

/// Trains: from compiled sections to a run directory below `output_root`.
///
/// The same run in the same folder is not repeated: an interrupted one goes on, a complete one is
/// verified and returned.
#[pyfunction]
#[pyo3(signature = (training_ir, model_ir, dataset_ir, tokenizer_ir, output_root, progress=None, threads=None))]
#[allow(clippy::too_many_arguments)] // Keyword arguments of Python.
pub fn run_training(
    py: Python<'_>,
    training_ir: &TrainingIR,
    model_ir: &ModelIR,
    dataset_ir: &DatasetIR,
    tokenizer_ir: &TokenizerIR,
    output_root: PathBuf,
    progress: Option<Py<PyAny>>,
    threads: Option<usize>,
) -> PyResult<TrainingResult> {
    let (project, warnings) =
        join(&training_ir.0, &model_ir.model.compiled, &dataset_ir.0, &tokenizer_ir.0)
            .map_err(|e| error(py, &e))?;
    let mut watch = Watch {
        callback: progress,
        logs: warnings.iter().map(ToString::to_string).collect(),
        log_interval: project.resolved.training.as_ref().map_or(1, |t| t.log_interval),
        max_steps: 0,
        looked: Instant::now(),
        raised: None,
    };
    let (result, records) = py.detach(|| {
        let options = TrainOptions {
            output: &output_root,
            threads,
            isa: None,
            cache: None,
            store: &FsStore,
            parent: None,
        };
        let result = train(&project, &options, &mut watch);
        let records = result.as_ref().map(|r| metrics::read(&FsStore, &r.run));
        let records = records.ok().transpose().map(|found| found.map_or(Vec::new(), |f| f.0));
        (result, records)
    });
    let (result, records) = match (result, records) {
        (Ok(result), Ok(records)) => (result, records),
        (Err(failure), _) => {
            let raised = watch.raised.map(|raised| interrupted_early(py, raised, &failure));
            return Err(raised.unwrap_or_else(|| error(py, &failure)));
        }
        (_, Err(e)) => return Err(error(py, &Failure::Store(e))),
    };
    if let Some(raised) = &watch.raised {
        return Err(interrupted(py, raised, &result));
    }
    python_result(py, result, &records, watch.logs)
}

/// What stopped the run before its first step; Ctrl-C says that there is nothing to go on with.
fn interrupted_early(py: Python<'_>, raised: PyErr, failure: &Failure) -> PyErr {
    let is_interrupt = raised.is_instance_of::<PyKeyboardInterrupt>(py);
    match failure {
        Failure::Interrupted(place) if is_interrupt => {
            PyKeyboardInterrupt::new_err(format!("stopped {place}; nothing was trained"))
        }
        _ => raised,
    }
}

/// What stopped the run; Ctrl-C says where the run is and how to go on.
fn interrupted(py: Python<'_>, raised: &PyErr, result: &TrainResult) -> PyErr {
    if !raised.is_instance_of::<PyKeyboardInterrupt>(py) {
        return raised.clone_ref(py);
    }
    let run = result.run.display();
    PyKeyboardInterrupt::new_err(match result.status {
        TrainStatus::Interrupted => format!(
            "stopped after step {}; the checkpoint is in {run}; run_training with the same arguments goes on from there",
            result.step
        ),
        _ => format!("the run in {run} was complete by then"),
    })
}

/// Files and folders of a run, by the name under which `artifacts` has them.
const ARTIFACTS: [(&str, &str); 10] = [
    ("spec", "spec.toml"),
    ("solution", "solution.json"),
    ("model_ir", "model.ir"),
    ("tokenizer", "tokenizer/tokenizer.json"),
    ("data", "data"),
    ("manifest", llmc::manifest::FILE),
    ("metrics", metrics::FILE),
    ("report", llmc::report::FILE),
    ("logs", llmc::logs::FILE),
    ("checkpoints", llmc::checkpoint::FOLDER),
];

fn artifacts<'py>(py: Python<'py>, run: &Path, step: u64) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("run", to_path(py, run)?)?;
    for (name, file) in ARTIFACTS {
        let path = run.join(file);
        if path.exists() {
            dict.set_item(name, to_path(py, &path)?)?;
        }
    }
    let checkpoint = llmc::checkpoint::folder(run, step);
    if checkpoint.exists() {
        let weights = checkpoint.join(llmc::pipeline::train::WEIGHTS);
        dict.set_item("checkpoint", to_path(py, &checkpoint)?)?;
        dict.set_item("weights", to_path(py, &weights)?)?;
    }
    Ok(dict)
}

fn python_result(
    py: Python<'_>,
    result: TrainResult,
    records: &[Record],
    logs: Vec<String>,
) -> PyResult<TrainingResult> {
    let losses = PyList::empty(py);
    let mut tokens = 0;
    for record in records {
        if let Record::Train(r) = record {
            losses.append(r.loss)?;
            tokens = r.tokens;
        }
    }
    let validation = match &result.validation {
        Some(v) => {
            let dict = PyDict::new(py);
            dict.set_item("step", v.step)?;
            dict.set_item("loss", v.loss)?;
            dict.set_item("bits_per_byte", v.bits_per_byte)?;
            Some(dict)
        }
        None => None,
    };
    let metrics = PyDict::new(py);
    metrics.set_item("loss", result.loss)?;
    metrics.set_item("losses", losses)?;
    metrics.set_item("steps", result.step)?;
    metrics.set_item("tokens", tokens)?;
    metrics.set_item("parameters", result.parameters)?;
    metrics.set_item("validation", validation)?;
    let status = match result.status {
        TrainStatus::Complete => "complete",
        TrainStatus::AlreadyComplete => "already_complete",
        TrainStatus::Interrupted => "interrupted",
    };
    Ok(TrainingResult {
        training_hash: result.recipe_of.training.to_string(),
        run_hash: result.recipe.to_string(),
        weights_hash: result.weights.to_string(),
        status: status.to_string(),
        artifacts: artifacts(py, &result.run, result.step)?.unbind(),
        run: to_path(py, &result.run)?.unbind(),
        metrics: metrics.unbind(),
        logs,
    })
}
