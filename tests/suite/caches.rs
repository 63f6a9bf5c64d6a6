//! A KV cache in a narrow format: a session with one is the whole forward pass whose keys and values are
//! rounded as the cache rounds them, bit for bit, whatever the threads and the instruction set.

use crate::sessions::{CONTEXT, VOCAB, alone, bits, module, modules, text, weight};
use llmc_base::Hash;
use llmc_ir::eval::{EvalOptions, Mode, Tensor, run};
use llmc_ir::{DType, Module, account};
use llmc_passes::{CacheFormat, narrow_cache, round_keys_and_values};
use llmc_runtime::{Batch, Engine, Isa, Session, SessionState, StateError};
use serde_json::json;
use std::collections::BTreeMap;

/// Models whose caches have rows of 16, of 4, and of 3 elements for each token.
fn plain() -> Vec<Module> {
    [
        json!({"attention": "gqa", "num_kv_heads": 2, "hidden_size": 32, "positional_encoding": "rope"}),
        json!({
            "attention": "sliding_window", "sliding_window_size": 5, "num_kv_heads": 1,
            "positional_encoding": "learned", "norm": "layernorm",
        }),
        json!({
            "attention": "gqa", "num_kv_heads": 1, "hidden_size": 12, "positional_encoding": "learned",
        }),
    ]
    .iter()
    .map(module)
    .collect()
}

/// Logits [T, V] of `@forward` on the evaluator, with keys and values rounded.
fn forward(module: &Module, format: CacheFormat, ids: &[u32]) -> Vec<u32> {
    let module = round_keys_and_values(module, format).expect("rewrites");
    let entry = module.find("forward").expect("there");
    let types: BTreeMap<String, _> =
        account::weights(&module, entry).into_iter().map(|w| (w.path, w.ty)).collect();
    let lookup = |path: &str| {
        let shape = types.get(path)?.concrete()?;
        let mut values = vec![0.0; shape.iter().product()];
        weight(path, &mut values);
        Tensor::floats(DType::F32, &shape, values.into_iter().map(f64::from).collect()).ok()
    };
    let ints = |values: Vec<i64>| Tensor::ints(DType::I32, &[1, ids.len()], values).expect("fits");
    let tokens = ints(ids.iter().map(|id| i64::from(*id)).collect());
    let positions = ints((0..ids.len() as i64).collect());
    let inputs = [tokens, positions, ints(vec![0; ids.len()])];
    let options = EvalOptions::new(Mode::Rounded);
    let done = run(&module, entry, &inputs, &lookup, &BTreeMap::new(), &options).expect("runs");
    let logits = done.outputs[0].as_floats().expect("floats");
    logits.iter().map(|x| (*x as f32).to_bits()).collect()
}

fn filled_session(module: &Module, engine: Engine) -> Session {
    let mut session = Session::new(module, CONTEXT, engine).expect("plans");
    for path in session.weights() {
        weight(&path, session.weight_mut(&path).expect("placed"));
    }
    session
}

#[test]
fn a_session_is_the_forward_pass_with_rounded_keys_and_values() {
    let ids = text(1, 17);
    for module in plain() {
        let mut seen = Vec::new();
        for (format, name) in CacheFormat::ALL {
            let want = forward(&module, format, &ids);
            assert!(!seen.contains(&want), "{name} rounds");
            let narrow = narrow_cache(&module, format).expect("rewrites");
            for isa in Isa::available() {
                for threads in [1, 3] {
                    let engine = Engine::new(threads, Some(isa)).expect("available");
                    let mut session = filled_session(&narrow, engine);
                    // In pieces of several lengths, back, and on again.
                    for (length, n) in [(7, 1), (8, 1), (12, 4), (17, 5), (5, 2), (6, 1), (17, 9)] {
                        let got = session.last_logits(&ids[..length], n).expect("runs");
                        let want = &want[(length - n) * VOCAB..length * VOCAB];
                        assert!(bits(got) == want, "{name}, {isa:?}, {threads}: {n} of {length}");
                    }
                }
            }
            seen.push(want);
        }
    }
}

#[test]
fn only_what_is_needed_is_stored() {
    let module = &plain()[0];
    // Two layers, keys and values, two heads of 8 elements.
    for (format, token) in [
        (CacheFormat::F32, 4 * 4 * 16),
        (CacheFormat::Bf16, 4 * 2 * 16),
        (CacheFormat::Int8, 4 * (16 + 8)),
    ] {
        let narrow = narrow_cache(module, format).expect("rewrites");
        let mut session = filled_session(&narrow, Engine::new(1, None).expect("available"));
        session.next_logits(&text(0, 9)).expect("runs");
        let bytes = session.cache_bytes();
        assert_eq!((bytes.used, bytes.reserved), (9 * token, CONTEXT as u64 * token), "{format:?}");
        assert_eq!(session.state().cache_bytes() as u64, bytes.used);
    }
}

#[test]
fn rows_that_are_not_whole_words_do_not_touch() {
    let module = &plain()[2];
    for (format, _) in CacheFormat::ALL {
        let narrow = narrow_cache(module, format).expect("rewrites");
        // A context whose rows of 23 · 3 bytes are not whole words.
        let mut batch =
            Batch::new(&narrow, 3, 23, Engine::new(2, None).expect("available")).expect("plans");
        for path in batch.weights() {
            weight(&path, batch.weight_mut(&path).expect("placed"));
        }
        let texts = [text(0, 23), text(1, 22), text(0, 11)];
        for ids in &texts {
            batch.join(ids).expect("has room");
        }
        let said = batch.next_logits().expect("runs");
        for ((_, logits), ids) in said.iter().zip(&texts) {
            assert_eq!(bits(logits), alone(&narrow, ids), "{format:?}");
        }
    }
}

#[test]
fn a_state_is_refused_by_another_format() {
    let model = Hash::of_bytes(b"model");
    let [wide, half, byte] = CacheFormat::ALL.map(|(format, _)| {
        let narrow = narrow_cache(&plain()[0], format).expect("rewrites");
        filled_session(&narrow, Engine::new(1, None).expect("available"))
    });
    for (mut from, mut to, [found, expected]) in [
        (wide, half, [DType::F32, DType::Bf16]),
        (
            byte,
            filled_session(&plain()[0], Engine::new(1, None).expect("available")),
            [DType::I8, DType::F32],
        ),
    ] {
        from.next_logits(&[1, 2, 3]).expect("runs");
        let bytes = from.state().to_bytes(&model);
        let state = SessionState::from_bytes(&bytes, &model).expect("is whole");
        assert_eq!(to.set_state(&state), Err(StateError::Cache { expected, found }));
    }
}

#[test]
fn other_functions_stay_as_they_are() {
    for module in plain() {
        for (format, name) in CacheFormat::ALL {
            let narrow = narrow_cache(&module, format).expect("rewrites");
            assert_eq!(llmc_ir::verify::verify(&narrow), vec![]);
            for (before, after) in module.functions.iter().zip(&narrow.functions) {
                let is_cached = before.name == "layer_cached" && format != CacheFormat::F32;
                assert_eq!(before != after, is_cached, "{name} of @{}", before.name);
            }
            // A narrow cache is what is asked for already.
            let again = narrow_cache(&narrow, CacheFormat::Int8).expect("rewrites");
            assert_eq!(again == narrow, format != CacheFormat::F32);
        }
    }
    assert_eq!(modules().len(), 6);
}
