//! Final weights under load: every optimiser and precision, every cut of the batch, every number of threads and
//! every instruction set of this machine give one hash.
//!
//! Everyday tests take every 23rd combination; `LLMC_EXACTNESS=1` (`make exactness`) takes all.

use super::*;

/// Whether the long version is asked for.
fn is_long() -> bool {
    std::env::var_os("LLMC_EXACTNESS").is_some()
}

const OPTIMIZERS: [&str; 4] = ["adamw", "muon", "lion", "sgd"];
const PRECISIONS: [&str; 2] = ["float32", "bfloat16"];
/// Every micro-batch of a batch of 6: 6, 3, 2 and 1 of them are accumulated.
const MICRO_BATCHES: [u64; 4] = [1, 2, 3, 6];
const THREADS: [usize; 5] = [1, 2, 3, 5, 8];
const CHECKPOINTING: [&str; 2] = ["none", "block"];
/// Everyday tests take one of so many: prime to every number of choices, so each choice has its turn.
const THINNING: usize = 23;

fn trainer(
    optimizer: &str,
    [precision, checkpointing]: [&str; 2],
    micro: u64,
    threads: usize,
    isa: Isa,
) -> Trainer {
    let training = json!({
        "batch_size": 6, "microbatch_size": micro, "max_steps": 6, "precision": precision,
        "gradient_checkpointing": checkpointing, "ema": 0.9, "grad_clip": 0.5,
    });
    let mut setup = Setup::new(llama(), training, threads, Some(isa));
    let spec = json!({"optimizer": {"type": optimizer, "lr": 1e-2}});
    let spec = from_json(&spec, &[]).0.expect("good");
    let resolved = resolve(&spec, Goal::Written, &|_| unreachable!("no model"));
    setup.resolved.optimizer = resolved.expect("good").optimizer;
    setup.trainer()
}

#[test]
fn every_way_to_train_gives_one_hash() {
    let step_by = if is_long() { 1 } else { THINNING };
    let isas: Vec<Isa> = Isa::available().collect();
    let (mut at, mut compared) = (0, 0);
    for optimizer in OPTIMIZERS {
        for precision in PRECISIONS {
            let how = [precision, "none"];
            let reference = run(trainer(optimizer, how, 6, 1, Isa::Scalar), 4, 6);
            for micro in MICRO_BATCHES {
                for threads in THREADS {
                    for isa in &isas {
                        for checkpointing in CHECKPOINTING {
                            at += 1;
                            if at % step_by != 0 {
                                continue;
                            }
                            let how = [precision, checkpointing];
                            let other = run(trainer(optimizer, how, micro, threads, *isa), 4, 6);
                            compared += 1;
                            assert!(
                                other == reference,
                                "{optimizer} {precision}, micro-batch {micro}, {threads} threads, \
                                 {isa:?}, checkpointing {checkpointing}"
                            );
                        }
                    }
                }
            }
        }
    }
    assert_eq!(compared, at / step_by);
}
