//! Validation and samples during a run, and what follows from a held-out loss: which checkpoints are
//! the best, and whether the run ends early.

use super::data::{self, PackedSplit};
use super::failure::Failure;
use super::generate::continue_text;
use super::observer::{Event, Observer};
use super::prepare::Prepared;
use super::session::Session;
use super::state::{CheckpointState, Exact, Patience};
use crate::metrics::{Record, SampleRecord, ValidationRecord};
use llmc_data::dataset::Split;
use llmc_data::pack;
use llmc_runtime::Sampling;
use llmc_spec::{EarlyStopping, TrainingConfig};
use llmc_train::Trainer;

/// Loss over the held-out rows. Returns whether it is among the best that are kept.
pub(super) fn validate(
    session: &mut Session,
    observer: &mut dyn Observer,
) -> Result<bool, Failure> {
    let prepared = session.prepared;
    let Some(split) = &prepared.rows.validation else { return Ok(false) };
    let training = session.training()?;
    let limit = training.eval_batches.map(|n| n * training.batch_size);
    let measure =
        |trainer: &mut Trainer| held_out(trainer, prepared, split, training.batch_size, limit);
    let (nats, targets, bytes) = measure(&mut session.trainer)?;
    if targets == 0 {
        return Ok(false);
    }
    let mut ema_loss = None;
    if training.ema.is_some() {
        session.trainer.swap_ema()?;
        let averaged = measure(&mut session.trainer);
        session.trainer.swap_ema()?;
        ema_loss = Some(averaged?.0 / targets as f64);
    }
    let record = ValidationRecord {
        step: session.state.step,
        loss: nats / targets as f64,
        bits_per_byte: nats / std::f64::consts::LN_2 / bytes.max(1) as f64,
        ema_loss,
    };
    observer.event(&Event::Validation(&record));
    session.events.validation(&record);
    let state = &mut session.state;
    let is_best = rank(state, training.best_checkpoints, record.step, record.loss);
    wait(&mut state.patience, &training.early_stopping, record.loss);
    session.keep(Record::Validation(record))?;
    Ok(is_best)
}

/// Puts a loss in its place among the best `k`; whether it has one. The earlier of two equals is
/// the better.
fn rank(state: &mut CheckpointState, k: u64, step: u64, loss: f64) -> bool {
    let mut best: Vec<(u64, f64)> =
        state.best.into_iter().chain(state.also_best.drain(..)).collect();
    let at = best.iter().position(|(_, other)| loss < *other).unwrap_or(best.len());
    if !loss.is_nan() {
        best.insert(at, (step, loss));
    }
    best.truncate(usize::try_from(k).unwrap_or(usize::MAX));
    let mut best = best.into_iter();
    state.best = best.next();
    state.also_best = best.collect();
    state.best_steps().any(|kept| kept == step)
}

/// Counts the validations since the last one that was lower by more than `min_delta`.
fn wait(patience: &mut Option<Patience>, rule: &EarlyStopping, loss: f64) {
    if rule.patience.is_none() {
        return;
    }
    match patience {
        Some(seen) if loss < seen.best.0 - rule.min_delta => {
            *seen = Patience { best: Exact(loss), stale: 0 };
        }
        Some(seen) => seen.stale += 1,
        None => *patience = Some(Patience { best: Exact(loss), stale: 0 }),
    }
}

/// Whether so many validations have brought nothing that the run ends.
pub(super) fn is_out_of_patience(state: &CheckpointState, training: &TrainingConfig) -> bool {
    let waited = state.patience.as_ref().zip(training.early_stopping.patience);
    waited.is_some_and(|(seen, patience)| seen.stale >= patience)
}

/// Continues every prompt. The text is a function of weights, prompt and seed.
pub(super) fn sample(
    session: &mut Session,
    training: &TrainingConfig,
    observer: &mut dyn Observer,
) -> Result<(), Failure> {
    for prompt in &training.sample_prompts {
        let sampling = Sampling { seed: training.seed, ..Sampling::default() };
        let trainer = &mut session.trainer;
        let text = continue_text(
            &mut |ids| Ok(trainer.next_logits(ids)?.to_vec()),
            &session.prepared.tokenizer,
            prompt,
            training.sample_tokens,
            &sampling,
            &mut |_| true,
        )?;
        let record = SampleRecord { step: session.state.step, prompt: prompt.clone(), text };
        observer.event(&Event::Sample(&record));
        session.keep(Record::Sample(record))?;
    }
    Ok(())
}

/// Nats, targets and text bytes of the held-out rows (all of them, or the first `limit`).
fn held_out(
    trainer: &mut Trainer,
    prepared: &Prepared,
    split: &PackedSplit,
    batch_size: u64,
    limit: Option<u64>,
) -> Result<(f64, u64, u64), Failure> {
    let corpus = split.corpus()?;
    let n_rows = split.plan.n_rows();
    let n_used = limit.map_or(n_rows, |limit| limit.min(n_rows));
    let (mut nats, mut targets, mut at) = (0.0, 0, 0);
    while at < n_used {
        let rows: Vec<u64> = (at..(at + batch_size).min(n_used)).collect();
        at += rows.len() as u64;
        let batch = pack::batch(&split.plan, &corpus, &rows, 0)?;
        let (loss, n) = trainer.evaluate(&data::to_train_batch(batch, 0))?;
        nats += loss;
        targets += n;
    }
    // Bytes of the part that was scored: all of it, or its share by targets.
    let all = prepared.set.learned_bytes(Split::Validation);
    let bytes = match n_used == n_rows {
        true => all,
        false => (all as f64 * targets as f64 / split.n_targets().max(1) as f64) as u64,
    };
    Ok((nats, targets, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_ranked_by_loss_and_then_by_step() {
        let mut state = CheckpointState::default();
        let kept: Vec<bool> = [(1, 5.0), (2, 4.0), (3, 4.0), (4, f64::NAN), (5, 6.0), (6, 1.0)]
            .map(|(step, loss)| rank(&mut state, 2, step, loss))
            .into();
        assert_eq!(kept, [true, true, true, false, false, true]);
        assert_eq!((state.best, state.also_best.clone()), (Some((6, 1.0)), vec![(2, 4.0)]));
        assert!(!rank(&mut state, 1, 7, 2.0));
        assert_eq!(state.best_steps().collect::<Vec<_>>(), [6]);
    }

    #[test]
    fn patience_counts_validations_without_a_lower_loss() {
        let rule = EarlyStopping { patience: Some(2), min_delta: 0.5 };
        let mut patience = None;
        let stale: Vec<u64> = [3.0, 2.6, 2.4, 2.0, 1.8, f64::NAN]
            .map(|loss| {
                wait(&mut patience, &rule, loss);
                patience.as_ref().map_or(0, |p| p.stale)
            })
            .into();
        // Lower by more than 0.5: 2.4 than 3.0, and 1.8 than 2.4.
        assert_eq!(stale, [0, 1, 0, 1, 0, 1]);
        let off = EarlyStopping { patience: None, min_delta: 0.0 };
        let mut patience = None;
        wait(&mut patience, &off, 1.0);
        assert_eq!(patience, None);
    }
}
