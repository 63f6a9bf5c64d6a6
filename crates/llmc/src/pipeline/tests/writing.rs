//! Checkpoints that are written while the training goes on.

use super::*;
use crate::checkpoint;
use crate::manifest::verify;
use crate::store::{Entry, EntryKind, Operation, StoreError};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// What happens to the weights of a checkpoint on their way to the disk.
#[derive(Clone, Copy, PartialEq)]
enum Weights {
    /// They wait until so many steps are done.
    WaitFor(u64),
    /// Those of this step do not get there.
    Fail(u64),
}

/// A store on which writing takes as long as it is told.
struct Slow {
    inner: MemStore,
    weights: Weights,
    steps: Mutex<u64>,
    stepped: Condvar,
    /// Writes that gave up waiting.
    late: Mutex<u64>,
}

impl Slow {
    fn new(weights: Weights) -> Self {
        let (steps, late) = (Mutex::new(0), Mutex::new(0));
        Slow { inner: MemStore::new(), weights, steps, stepped: Condvar::new(), late }
    }

    fn before(&self, path: &Path) -> Result<(), StoreError> {
        let text = path.display().to_string();
        if !text.contains("weights.safetensors") {
            return Ok(());
        }
        match self.weights {
            Weights::Fail(step) if text.contains(&format!("step-{step:06}")) => {
                Err(StoreError::new(Operation::Write, path, io::ErrorKind::StorageFull.into()))
            }
            Weights::WaitFor(steps) if text.contains("step-000002") => {
                let seen = self.steps.lock().unwrap();
                let limit = Duration::from_secs(20);
                let wait = self.stepped.wait_timeout_while(seen, limit, |seen| *seen < steps);
                *self.late.lock().unwrap() += u64::from(wait.unwrap().1.timed_out());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Source for Slow {
    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, StoreError> {
        self.inner.open(path)
    }
    fn list(&self, path: &Path) -> Result<Vec<Entry>, StoreError> {
        self.inner.list(path)
    }
    fn kind(&self, path: &Path) -> Result<Option<EntryKind>, StoreError> {
        self.inner.kind(path)
    }
    fn file_len(&self, path: &Path) -> Result<u64, StoreError> {
        self.inner.file_len(path)
    }
}

impl Store for Slow {
    fn create_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.inner.create_dir(path)
    }
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        self.before(path)?;
        self.inner.write(path, bytes)
    }
    fn append(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        self.inner.append(path, bytes)
    }
    fn sync_file(&self, path: &Path) -> Result<(), StoreError> {
        self.inner.sync_file(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        self.inner.rename(from, to)
    }
    fn sync_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.inner.sync_dir(path)
    }
    fn remove_file(&self, path: &Path) -> Result<(), StoreError> {
        self.inner.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> Result<(), StoreError> {
        self.inner.remove_dir_all(path)
    }
}

/// Tells the store of steps, and notes them with the checkpoints that were told.
struct Steps<'a> {
    store: &'a Slow,
    told: Vec<String>,
}

impl Observer for Steps<'_> {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Step(record) => {
                self.told.push(format!("step {}", record.step));
                *self.store.steps.lock().unwrap() = record.step;
                self.store.stepped.notify_all();
            }
            Event::Checkpoint { step, .. } => self.told.push(format!("checkpoint {step}")),
            _ => {}
        }
    }
}

fn run_on(store: &Slow, settings: &[&str]) -> (Result<TrainResult, Failure>, Vec<String>) {
    let mut steps = Steps { store, told: Vec::new() };
    let result = run_with(store, &tiny(settings), &mut steps);
    (result, steps.told)
}

fn run_with(
    store: &dyn Store,
    project: &Project,
    observer: &mut dyn Observer,
) -> Result<TrainResult, Failure> {
    train(project, &options(store), observer)
}

#[test]
fn steps_go_on_while_a_checkpoint_is_written_and_the_next_one_waits() {
    let keep = ["training.keep_checkpoints=9", "training.keep_best=false"];
    let expected = run_whole(&MemStore::new(), &tiny(&keep));
    // The weights of step 2 do not get through before step 4 is done.
    let store = Slow::new(Weights::WaitFor(4));
    let (result, told) = run_on(&store, &keep);
    assert_eq!(*store.late.lock().unwrap(), 0, "the training waited for the disk");
    let result = result.unwrap();
    assert_eq!((result.content, result.weights), (expected.content, expected.weights));
    let at = |what: &str| told.iter().position(|t| t == what).unwrap();
    assert!(
        at("checkpoint 2") > at("step 4") && at("checkpoint 4") > at("checkpoint 2"),
        "{told:?}"
    );
    assert_eq!(told.last().unwrap(), "checkpoint 6");
    assert_eq!(verify(&store, &result.run).unwrap().problems, []);
    let kept: Vec<u64> =
        checkpoint::list(&store, &result.run).unwrap().iter().map(|l| l.step).collect();
    assert_eq!(kept, [2, 4, 6]);
}

#[test]
fn what_goes_wrong_beside_the_training_ends_it_and_leaves_whole_checkpoints() {
    for (step, left) in [(2, None), (4, Some(2)), (6, Some(4))] {
        let store = Slow::new(Weights::Fail(step));
        let (result, told) = run_on(&store, &["training.keep_best=false"]);
        let failure = result.unwrap_err();
        assert!(failure.diagnostics()[0].code.starts_with("store::"), "{failure}");
        assert_eq!(failure.exit_code(), 1);
        assert!(!told.contains(&format!("checkpoint {step}")), "{told:?}");
        let run: PathBuf =
            super::super::runs::list(&store, Path::new("runs")).unwrap()[0].path.clone();
        let newest = checkpoint::load_latest_whole(&store, &run).unwrap();
        assert_eq!((newest.0.map(|c| c.step), newest.1.len()), (left, 0));
        // On a disk that works again the run ends in the same bits.
        let project = tiny(&["training.keep_best=false"]);
        let result = run_with(&store.inner, &project, &mut Watch::default()).unwrap();
        assert_eq!(result.content, run_whole(&MemStore::new(), &project).content);
    }
}

#[test]
fn a_store_that_wants_order_gets_it() {
    use crate::store::{Fault, FaultStore, RecordingStore};
    assert!(FaultStore::new(MemStore::new(), 0, Fault::Abort).is_ordered());
    assert!(RecordingStore::default().is_ordered());
    assert!(!MemStore::new().is_ordered() && !crate::store::FsStore.is_ordered());
}
