//! Sessions give the bits of the whole text, however it came to them: piece by piece, in a batch with
//! others, several guessed tokens at once, or from a state that was saved.

use llmc_base::Hash;
use llmc_ir::Module;
use llmc_ir::sample::{Fill, filled};
use llmc_ir::{DType, TensorType};
use llmc_passes::{CacheFormat, narrow_cache};
use llmc_runtime::{
    Batch, Engine, Isa, SequenceId, Session, SessionError, SessionState, StateError,
};
use llmc_spec::{DimExprs, Goal, from_json, resolve};
use serde_json::{Value, json};

pub(crate) const VOCAB: usize = 19;
pub(crate) const CONTEXT: usize = 24;

/// A model with these fields besides its dims.
pub(crate) fn module(fields: &Value) -> Module {
    let mut model = json!({
        "name": "tiny", "template": "decoder_only", "num_layers": 2, "hidden_size": 16,
        "num_heads": 4, "intermediate_size": 24, "vocab_size": VOCAB, "context_length": CONTEXT,
    });
    let extra = fields.as_object().expect("an object").clone();
    model.as_object_mut().expect("an object").extend(extra);
    let (spec, _) = from_json(&json!({ "model": model }), &[]);
    let count = |a: &llmc_spec::Architecture| llmc_model::parameter_polynomial(a).expect("builds");
    let resolved = resolve(&spec.expect("parses"), Goal::Model, &count).expect("resolves");
    let resolved = resolved.model.expect("there");
    llmc_model::build(&resolved.architecture, &DimExprs::from(&resolved.dims)).expect("builds")
}

pub(crate) fn modules() -> Vec<Module> {
    [
        json!({"attention": "gqa", "num_kv_heads": 2, "positional_encoding": "rope"}),
        json!({
            "attention": "sliding_window", "sliding_window_size": 5, "num_kv_heads": 1,
            "positional_encoding": "learned", "norm": "layernorm",
        }),
    ]
    .iter()
    .map(module)
    .flat_map(|module| {
        // In every format of the cache.
        CacheFormat::ALL.map(|(format, _)| narrow_cache(&module, format).expect("rewrites"))
    })
    .collect()
}

/// The same values for the same path, whoever asks.
pub(crate) fn weight(path: &str, out: &mut [f32]) {
    let seed = path.bytes().fold(0u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
    let ty = TensorType::new(DType::F32, [out.len() as i64]);
    let values = filled(&ty, Fill::Normal, seed);
    for (x, v) in out.iter_mut().zip(values.as_floats().expect("floats")) {
        *x = *v as f32 * 0.3;
    }
}

pub(crate) fn engine(threads: usize) -> Engine {
    Engine::new(threads, None).expect("available")
}

pub(crate) fn session(module: &Module) -> Session {
    let mut session = Session::new(module, CONTEXT, engine(2)).expect("plans");
    for path in session.weights() {
        weight(&path, session.weight_mut(&path).expect("placed"));
    }
    session
}

pub(crate) fn batch(module: &Module, n_rows: usize, threads: usize) -> Batch {
    let mut batch = Batch::new(module, n_rows, CONTEXT, engine(threads)).expect("plans");
    for path in batch.weights() {
        weight(&path, batch.weight_mut(&path).expect("placed"));
    }
    batch
}

pub(crate) fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

/// What a session says that has seen nothing else.
pub(crate) fn alone(module: &Module, ids: &[u32]) -> Vec<u32> {
    bits(session(module).next_logits(ids).expect("runs"))
}

/// A text whose tokens repeat themselves rarely.
pub(crate) fn text(seed: u32, length: usize) -> Vec<u32> {
    (0..length as u32).map(|i| (i * i * 7 + i * 5 + seed * 11) % VOCAB as u32).collect()
}

#[test]
fn guessed_tokens_have_the_bits_of_one_at_a_time() {
    for module in modules() {
        let mut session = session(&module);
        for (length, n) in [(7, 3), (9, 2), (8, 6), (16, 9), (CONTEXT, 5), (CONTEXT + 4, 4), (5, 5)]
        {
            let ids = text(1, length);
            let got = bits(session.last_logits(&ids, n).expect("runs"));
            let want: Vec<u32> =
                (length - n + 1..=length).flat_map(|end| alone(&module, &ids[..end])).collect();
            assert_eq!(got, want, "{length} {n}");
        }
        // The window moves between these.
        assert!(session.room(CONTEXT) == 0 && session.room(CONTEXT + 1) == CONTEXT / 2 - 1);
        let moved = session.last_logits(&text(1, CONTEXT + 1), 2);
        assert!(matches!(moved, Err(SessionError::Window { n: 2 })));
        assert!(matches!(session.last_logits(&[1], 2), Err(SessionError::Empty)));
    }
}

#[test]
fn sequences_of_a_batch_get_what_they_get_alone() {
    for (module, threads) in modules().iter().zip([1, 2, 3].into_iter().cycle()) {
        let mut batch = batch(module, 3, threads);
        let mut texts: Vec<(SequenceId, Vec<u32>)> = Vec::new();
        let mut waiting: Vec<Vec<u32>> =
            [(0, 4), (0, 9), (1, 6), (2, 1), (1, 11), (3, CONTEXT - 2), (4, 3)]
                .map(|(seed, length)| text(seed, length))
                .into();
        let mut n_steps = 0;
        while !(waiting.is_empty() && texts.is_empty()) {
            while !batch.is_full() && !waiting.is_empty() {
                let ids = waiting.remove(0);
                texts.push((batch.join(&ids).expect("has room"), ids));
            }
            assert_eq!(batch.len(), texts.len());
            let said = batch.next_logits().expect("runs");
            assert!(said.iter().map(|(id, _)| *id).eq(texts.iter().map(|(id, _)| *id)));
            for ((id, logits), (_, ids)) in said.iter().zip(&mut texts) {
                assert_eq!(
                    bits(logits),
                    alone(module, ids),
                    "step {n_steps}, {} tokens",
                    ids.len()
                );
                let next = (bits(logits)[0] % VOCAB as u32 + n_steps) % VOCAB as u32;
                batch.push(*id, next).expect("is there");
                ids.push(next);
            }
            n_steps += 1;
            // They leave from the middle, the front, the end.
            if n_steps.is_multiple_of(3) {
                let (id, _) = texts.remove(n_steps as usize / 3 % texts.len());
                batch.leave(id).expect("is there");
                assert!(matches!(batch.push(id, 0), Err(SessionError::UnknownSequence)));
            }
        }
        assert!(batch.is_empty() && batch.next_logits().expect("runs").is_empty());
        assert!(batch.shared_tokens() >= 3, "a text that begins like another takes its beginning");
        let full: Vec<_> = (0..4).map(|i| batch.join(&[i])).collect();
        assert!(matches!(full[3], Err(SessionError::Full(3))));
    }
}

#[test]
fn no_instruction_set_changes_a_bit() {
    let ids = text(3, 21);
    for module in modules() {
        let want = alone(&module, &ids);
        for isa in Isa::available() {
            let engine = Engine::new(2, Some(isa)).expect("available");
            let mut batch = Batch::new(&module, 5, CONTEXT, engine).expect("plans");
            for path in batch.weights() {
                weight(&path, batch.weight_mut(&path).expect("placed"));
            }
            for seed in [4, 3, 1, 0, 2] {
                batch.join(&text(seed, 21)).expect("has room");
            }
            let said = batch.next_logits().expect("runs");
            assert_eq!(bits(&said[1].1), want, "{isa:?}");
        }
    }
}

#[test]
fn a_state_is_gone_on_from_to_the_bit() {
    let model = Hash::of_bytes(b"model");
    for module in modules() {
        for length in [3, CONTEXT, CONTEXT + 7] {
            let ids = text(2, length);
            let mut first = session(&module);
            first.next_logits(&ids).expect("runs");
            let state = first.state();
            assert_eq!(state.text(), ids);
            let bytes = state.to_bytes(&model);
            let read = SessionState::from_bytes(&bytes, &model).expect("is whole");
            assert_eq!(read.to_bytes(&model), bytes);

            let mut other = session(&module);
            other.next_logits(&text(5, 6)).expect("runs");
            other.set_state(&read).expect("fits");
            for next in [1, 2] {
                let longer = [&ids[..], &[next]].concat();
                assert_eq!(
                    bits(other.next_logits(&longer).expect("runs")),
                    alone(&module, &longer)
                );
                other.set_state(&read).expect("fits");
            }
            // The cache itself is what it was, not only what follows from it.
            assert_eq!(other.state().to_bytes(&model), bytes);

            let wrong = Hash::of_bytes(b"other");
            let refused =
                SessionState::from_bytes(&bytes, &wrong).expect_err("is of another model");
            assert_eq!(refused, StateError::Model { expected: wrong, found: model });
            let mut small = Session::new(&module, CONTEXT / 2, engine(1)).expect("plans");
            assert_eq!(small.set_state(&read), Err(StateError::Shape));
        }
    }
}

#[test]
fn every_torn_or_changed_state_is_refused() {
    let model = Hash::of_bytes(b"model");
    let module = &modules()[1];
    let mut session = session(module);
    session.next_logits(&[1, 2, 3]).expect("runs");
    let bytes = session.state().to_bytes(&model);
    for end in 0..bytes.len() {
        assert!(SessionState::from_bytes(&bytes[..end], &model).is_err(), "{end}");
    }
    for at in (0..bytes.len()).step_by(7) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x40;
        assert!(SessionState::from_bytes(&changed, &model).is_err(), "{at}");
    }
    // Lengths that lie under a checksum that is right.
    for field in 0..4 {
        let mut body = bytes[..bytes.len() - 32].to_vec();
        body[44 + field * 8..52 + field * 8].copy_from_slice(&u64::MAX.to_le_bytes());
        let sum = Hash::of_bytes(&body);
        body.extend_from_slice(&sum.0);
        let read = SessionState::from_bytes(&body, &model);
        let fits = read.and_then(|state| session.set_state(&state));
        assert!(fits.is_err(), "{field}");
    }
}
