//! μP: at the base width nothing changes, and from there on activations and logits change by as much per
//! step whatever the width.

use super::*;
use llmc_ir::eval::{EvalOptions, Mode, Tensor, run as evaluate};
use llmc_ir::{DType, Module};
use llmc_spec::{DimExprs, ResolvedModel};

const BASE: u64 = 32;

/// Four heads, which grow with the model.
fn model(width: u64, mup: Option<u64>) -> Value {
    let mut model = json!({
        "vocab_size": 32, "context_length": 8, "num_layers": 2, "hidden_size": width, "num_heads": 4,
        "num_kv_heads": 2, "intermediate_size": 2 * width, "activation": "swiglu", "norm": "rmsnorm",
        "tie_embeddings": true, "init_std": 0.1,
    });
    if let Some(base) = mup {
        model["parametrization"] = json!("mup");
        model["mup"] = json!({ "base_hidden_size": base, "base_head_dim": base / 4 });
    }
    model
}

fn trainer(model: Value, optimizer: &str, lr: f64) -> (Trainer, ResolvedModel) {
    let schedule = json!({ "type": "constant", "warmup_steps": 0 });
    let training = json!({ "batch_size": 4, "max_steps": 6, "schedule": schedule });
    let mut setup = Setup::new(model, training, 2, None);
    let spec = json!({"optimizer": {"type": optimizer, "lr": lr, "max_grad_norm": "none"}});
    let spec = from_json(&spec, &[]).0.expect("good");
    let resolved = resolve(&spec, Goal::Written, &|_| unreachable!("no model"));
    setup.resolved.optimizer = resolved.expect("good").optimizer;
    let model = setup.resolved.model.clone().expect("there is a model");
    (setup.trainer(), model)
}

fn built(model: &ResolvedModel) -> Module {
    llmc_model::build(&model.architecture, &DimExprs::from(&model.dims)).expect("builds")
}

#[test]
fn at_the_base_nothing_differs() {
    for optimizer in ["adamw", "sgd", "muon", "lion"] {
        let run = |mup| {
            let (trainer, resolved) = trainer(model(BASE, mup), optimizer, 1e-2);
            (built(&resolved), super::run(trainer, 3, 4))
        };
        let (standard, base) = (run(None), run(Some(BASE)));
        assert!(standard == base, "{optimizer}");
        assert_ne!(standard.1, run(Some(BASE / 2)).1, "{optimizer}");
    }
}

#[test]
fn hidden_matrices_start_smaller_the_wider_they_are() {
    let deviation = |trainer: &Trainer, path: &str| {
        let values = trainer.tensor(path).expect("placed").1;
        let squares: f64 = values.iter().map(|x| f64::from(*x).powi(2)).sum();
        (squares / values.len() as f64).sqrt()
    };
    let (standard, _) = trainer(model(128, None), "adamw", 1e-2);
    let (mup, _) = trainer(model(128, Some(BASE)), "adamw", 1e-2);
    for parameter in standard.parameters() {
        let path = &parameter.path;
        let ratio = deviation(&standard, path) / deviation(&mup, path);
        let want = if parameter.ty.rank() == 2 && path.starts_with("layers.") { 2.0 } else { 1.0 };
        assert!((ratio - want).abs() < 1e-6, "{path}: {ratio}");
    }
}

/// The residual stream after the last layer, over a fixed row.
fn activations(trainer: &Trainer, module: &Module, model: &ResolvedModel) -> Vec<f64> {
    let width = model.dims.hidden_size as usize;
    let embedding = trainer.tensor("embedding.weight").expect("placed").1;
    let row = |id: usize| embedding[id * width..(id + 1) * width].iter().map(|x| f64::from(*x));
    let values = [3, 1, 4, 1, 5, 9, 2, 6].into_iter().flat_map(row).collect();
    let mut x = Tensor::floats(DType::F32, &[1, 8, width], values).expect("fits");
    let ints = |f: fn(i64) -> i64| Tensor {
        dtype: DType::I32,
        shape: vec![1, 8],
        data: llmc_ir::eval::Data::Int((0..8).map(f).collect()),
    };
    let layer = module.find("layer").expect("there are layers");
    for at in 0..model.dims.num_layers {
        let weight = |path: &str| {
            let (shape, values) = trainer.tensor(&format!("layers.{at}.{path}")).ok()?;
            Tensor::floats(DType::F32, shape, values.iter().map(|x| f64::from(*x)).collect()).ok()
        };
        let inputs = [x, ints(|i| i), ints(|_| 0)];
        let options = EvalOptions::new(Mode::Rounded);
        let found = evaluate(module, layer, &inputs, &weight, &BTreeMap::new(), &options);
        x = found.expect("runs").outputs.remove(0);
    }
    x.as_floats().expect("floats").to_vec()
}

/// Root mean square of how far the activations and the logits move in three steps.
fn moves(width: u64, mup: Option<u64>, optimizer: &str, lr: f64) -> [f64; 2] {
    let (mut trainer, resolved) = trainer(model(width, mup), optimizer, lr);
    let module = built(&resolved);
    let look = |trainer: &mut Trainer| {
        let ids = [3, 1, 4, 1, 5, 9, 2, 6];
        let logits = trainer.next_logits(&ids).expect("runs");
        let logits: Vec<f64> = logits.iter().map(|x| f64::from(*x)).collect();
        [activations(trainer, &module, &resolved), logits]
    };
    let before = look(&mut trainer);
    for _ in 0..3 {
        trainer.step(&batch(0, 4, 8)).expect("finite");
    }
    let after = look(&mut trainer);
    [0, 1].map(|i| {
        let squares = after[i].iter().zip(&before[i]).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        (squares / after[i].len() as f64).sqrt()
    })
}

/// The coordinate check of Yang et al. 2022, appendix D.1.
#[test]
fn steps_move_activations_and_logits_as_far_at_every_width() {
    for (optimizer, lr) in [("adamw", 4e-3), ("lion", 4e-3), ("muon", 2e-2), ("sgd", 0.05)] {
        let at = |mup| [32, 64, 128, 256].map(|width| moves(width, mup, optimizer, lr));
        let (mup, standard) = (at(Some(BASE)), at(None));
        assert_eq!(mup[0], standard[0]);
        for i in [0, 1] {
            let (least, most) = mup.iter().fold((f64::INFINITY, 0f64), |(least, most), moves| {
                (least.min(moves[i]), most.max(moves[i]))
            });
            assert!(most < 2.5 * least, "{optimizer}: {mup:?}");
        }
        let [first, .., last] = standard;
        assert!(last[0] > 10.0 * first[0] && last[1] > 3.0 * first[1], "{optimizer}: {standard:?}");
    }
}
