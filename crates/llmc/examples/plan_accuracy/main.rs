//! How well `llmc plan` predicts: random specs, predicted and measured growth of the resident memory and
//! step time, with median and worst error.
//!
//! `cargo run --release -p llmc --example plan_accuracy [NUMBER OF SPECS]`, on a machine that does nothing else.
//! Every spec is trained for a few seconds in a process of its own, so that memory of one is not left to the next.
//! The machine is calibrated anew before every ten specs. Reading the resident memory takes Linux.

mod specs;

use llmc::calibration::{self, MachineCalibration};
use llmc::machine;
use llmc::pipeline::plan::{PlanOptions, plan};
use llmc::pipeline::{Defaults, Failure, Project};
use llmc::store::FsStore;
use llmc_runtime::{Engine, Isa};
use llmc_spec::{Format, Goal, TrainingConfig};
use llmc_train::{Batch, Modules, Trainer, differentiate, optim};
use std::process::Command;
use std::time::{Duration, Instant};

/// Specs without an argument.
const SPECS: u64 = 30;

/// Specs per calibration.
const PER_CALIBRATION: u64 = 10;

/// How long steps are timed.
const TIMED: Duration = Duration::from_millis(1500);

/// The argument that makes a process train one spec.
const ONE: &str = "--one";

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some(ONE) => one(args.get(2).ok_or("which spec?")?.parse()?),
        Some(n) => all(n.parse()?),
        None => all(SPECS),
    }
}

fn project(n: u64) -> Result<Project, Failure> {
    let (text, name) = (specs::spec(n, 4), format!("random-{n}.toml"));
    let defaults = Defaults::Record;
    Ok(Project::parse(&text, Format::Toml, &name, &[], Goal::Training, defaults)?.0)
}

/// Predicts, has measured and compares.
fn all(n_specs: u64) -> Outcome<()> {
    let options = PlanOptions {
        threads: std::thread::available_parallelism().ok().map(usize::from),
        isa: None,
    };
    let threads = options.threads.unwrap_or(1);
    let (mut memory, mut time) = (Vec::new(), Vec::new());
    let mut calibration = MachineCalibration::default();
    println!(
        "spec  layers  hidden  length   growth MiB predicted  measured  error   step ms predicted  measured  error"
    );
    for n in 0..n_specs {
        if n % PER_CALIBRATION == 0 {
            let start = Instant::now();
            calibration = calibration::measure(options.isa(), threads, None, &mut |_, _| {})?;
            println!("calibrated in {:.1} s", start.elapsed().as_secs_f64());
        }
        let project = project(n)?;
        let planned = plan(&project, &options, Some(&calibration), &FsStore)?;
        let output = Command::new(std::env::current_exe()?).args([ONE, &n.to_string()]).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        let said = String::from_utf8(output.stdout)?;
        let [growth, step] = said.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(format!("spec {n} said `{said}`").into());
        };
        let (growth, step): (f64, f64) = (growth.parse()?, step.parse()?);
        let predicted = planned.time.as_ref().map_or(0.0, |t| t.step_s);
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let (growth_error, step_error) =
            (planned.memory.peak_growth as f64 - growth, predicted / step - 1.0);
        let dims = project.model()?.dims;
        println!(
            "{n:>4}  {:>6}  {:>6}  {:>6}   {:>20.1}  {:>8.1}  {:>+5.1}   {:>17.2}  {:>8.2}  {:>+5.1} %",
            dims.num_layers,
            dims.hidden_size,
            dims.context_length,
            mib(planned.memory.peak_growth as f64),
            mib(growth),
            mib(growth_error),
            predicted * 1e3,
            step * 1e3,
            step_error * 100.0,
        );
        // The bar is the larger of 3 % and 4 MiB: 1 is just at it.
        memory.push(growth_error.abs() / (0.03 * growth).max(f64::from(4 << 20)));
        time.push(step_error.abs() * 100.0);
    }
    for (name, errors, unit) in
        [("growth of memory, of max(3 %, 4 MiB)", memory, "times"), ("step time", time, "%")]
    {
        let mut errors = errors;
        errors.sort_by(f64::total_cmp);
        let worst = errors.last().copied().unwrap_or(0.0);
        let median = errors.get(errors.len() / 2).copied().unwrap_or(0.0);
        println!("{name}: median error {median:.2} {unit}, worst {worst:.2} {unit}");
    }
    Ok(())
}

/// Trains one spec and prints the growth of the resident memory in bytes and the median step in seconds.
fn one(n: u64) -> Outcome<()> {
    let project = project(n)?;
    let resolved = &project.resolved;
    let section = "the spec has every section";
    let training: &TrainingConfig = resolved.training.as_ref().ok_or(section)?;
    let optimizer = resolved.optimizer.as_ref().ok_or(section)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let model = project.model()?;
    let module = project.build()?;
    let gradient = differentiate(&module, optimizer, training, threads)?;
    let modules = Modules {
        model: &module,
        gradient: &gradient,
        parameters: optim::parameters(&gradient, "grad")?,
        n_layers: model.dims.num_layers,
        init: model.architecture.init,
    };
    let resident = "the resident memory of this process is not to be read";
    let (before, _) = machine::resident_bytes(&FsStore).ok_or(resident)?;
    let mut trainer =
        Trainer::new(modules, optimizer, training, Engine::new(threads, Some(Isa::detect()))?)?;
    let batch = batch(training, model.dims.vocab_size);
    let mut steps = Vec::new();
    let start = Instant::now();
    while steps.len() < 6 || (start.elapsed() < TIMED && steps.len() < 2000) {
        let began = Instant::now();
        trainer.step(&batch)?;
        steps.push(began.elapsed().as_secs_f64());
    }
    trainer.evaluate(&batch)?;
    trainer.next_logits(&[1, 2, 3])?;
    let (_, peak) = machine::resident_bytes(&FsStore).ok_or(resident)?;
    // The first steps touch memory that was never touched before.
    let mut steady = steps.split_off(2);
    steady.sort_by(f64::total_cmp);
    println!("{} {}", peak.saturating_sub(before), steady[steady.len() / 2]);
    Ok(())
}

/// Rows of one document each.
fn batch(training: &TrainingConfig, vocab: u64) -> Batch {
    let (rows, length) = (training.batch_size as usize, training.sequence_length as usize);
    let n = rows * length;
    let id = |i: usize| ((i.wrapping_mul(2_654_435_761) >> 7) as u64 % vocab) as i32;
    Batch {
        first_sample: 0,
        rows,
        tokens: (0..n).map(id).collect(),
        positions: (0..n).map(|i| (i % length) as i32).collect(),
        segments: vec![0; n],
        targets: (1..=n).map(id).collect(),
        weights: vec![1.0; n],
    }
}
