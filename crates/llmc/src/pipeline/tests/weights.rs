//! Generation from weights in narrow formats.

use super::super::emit::emit;
use super::super::generate::{Model, SessionOptions, Which};
use super::super::quantize::{Work, quantize};
use super::super::runs::find_model as find;
use super::*;
use llmc_base::Hash;
use llmc_formats::safetensors::{DType, Data, SafeTensors, TensorSource, to_bytes};
use llmc_passes::{CacheFormat, WeightFormat};
use llmc_runtime::Isa;

/// A model whose rows are whole blocks but for the ones of the second matrix of the MLP.
const WIDE: [&str; 4] = [
    "model.hidden_size=64",
    "model.num_heads=2",
    "model.intermediate_size=80",
    "training.max_steps=2",
];

/// The simplest way to run one.
const ONE_THREAD: SessionOptions = SessionOptions {
    threads: Some(1),
    isa: None,
    cache: CacheFormat::F32,
    prefix_bytes: None,
    weight_cache: None,
};

/// A trained model.
fn model(changes: &[&str]) -> Model {
    let (store, project) = (MemStore::new(), tiny(&[&WIDE[..], changes].concat()));
    let run = run_whole(&store, &project).run;
    Model::open(&store, &run, Which::Last).unwrap()
}

/// The bits of the logits after each prefix of a text: prefilled, then decoded token by token.
fn logits(model: &Model, threads: usize, isa: Option<Isa>) -> Vec<Vec<u32>> {
    let mut session = model
        .session(&SessionOptions { threads: Some(threads), isa, ..Default::default() })
        .unwrap();
    let ids: Vec<u32> = (0..14).map(|i| (i * 7 + 3) % 11).collect();
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect();
    (1..=ids.len()).map(|n| bits(session.next_logits(&ids[..n]).unwrap())).collect()
}

/// The model with every matrix rounded to bf16, still in f32.
fn rounded(model: Model) -> Model {
    let parsed = SafeTensors::parse(&model.weights).unwrap();
    let tensors: Vec<(String, Vec<usize>, Vec<f32>)> = parsed
        .tensors()
        .map(|t| {
            let mut values = t.to_f32().unwrap();
            if t.info.shape.len() == 2 {
                // Just under half a step more, and what is cut off gone.
                let round = |bits: u32| (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
                values.iter_mut().for_each(|x| *x = f32::from_bits(round(x.to_bits())));
            }
            (t.info.name.clone(), t.info.shape.clone(), values)
        })
        .collect();
    let sources: Vec<TensorSource> = tensors
        .iter()
        .map(|(name, shape, values)| TensorSource {
            name,
            dtype: DType::F32,
            shape,
            data: Data::F32(values),
        })
        .collect();
    let weights = to_bytes(&sources, parsed.metadata()).unwrap();
    Model { weights_hash: Hash::of_bytes(&weights), weights: weights.into(), ..model }
}

#[test]
fn bf16_weights_give_the_bits_of_f32_weights_that_are_rounded() {
    for changes in
        [&[][..], &["model.tie_embeddings=false"], &["model.positional_encoding=\"learned\""]]
    {
        let packed = model(changes).with_weights(WeightFormat::Bf16).unwrap();
        let session = packed.session(&ONE_THREAD).unwrap();
        let n_packed = session
            .weights()
            .iter()
            .filter(|path| session.weight_view(path).unwrap().dtype == llmc_ir::DType::Bf16)
            .count();
        assert!(n_packed >= 8, "{n_packed} matrices are packed");
        let expected = logits(&rounded(model(changes)), 1, None);
        assert_ne!(expected, logits(&model(changes), 1, None));
        assert_eq!(expected, logits(&packed, 1, None));
        assert_eq!(expected, logits(&packed, 3, Some(Isa::Scalar)));
    }
}

#[test]
fn f32_weights_in_panels_give_the_bits_of_plain_ones() {
    let model = model(&[]);
    let engine = llmc_runtime::Engine::new(2, None).unwrap();
    let mut plain = llmc_runtime::Session::new(&model.module, 16, engine).unwrap();
    let parsed = SafeTensors::parse(&model.weights).unwrap();
    for path in plain.weights() {
        let values = parsed.tensor(&path).unwrap().to_f32().unwrap();
        plain.weight_mut(&path).unwrap().copy_from_slice(&values);
    }
    let packed = model.session(&ONE_THREAD).unwrap();
    let view = |s: &llmc_runtime::Session, path: &str| s.weight_view(path).unwrap().shape.len();
    let path = "layers.0.attention.q.weight";
    assert_eq!((view(&plain, path), view(&packed, path)), (2, 3));
    for (n, expected) in logits(&model, 1, None).into_iter().enumerate() {
        let ids: Vec<u32> = (0..=n as u32).map(|i| (i * 7 + 3) % 11).collect();
        let got = plain.next_logits(&ids).unwrap();
        assert!(got.iter().map(|x| x.to_bits()).eq(expected));
    }
}

#[test]
fn quantised_weights_give_the_same_bits_everywhere_and_nearly_the_f32_logits() {
    // A matrix of whole super-blocks beside narrower ones.
    let super_blocks: &[&str] = &["model.intermediate_size=256"];
    let formats: [(WeightFormat, &[&str], f32); 5] = [
        (WeightFormat::Q8, &[], 0.03),
        (WeightFormat::Q4, &[], 0.3),
        (WeightFormat::Q4K, super_blocks, 0.25),
        (WeightFormat::Int4(32), &[], 0.25),
        (WeightFormat::Int4(64), &[], 0.3),
    ];
    for (format, changes, limit) in formats {
        let exact = logits(&model(changes), 1, None);
        let packed = model(changes).with_weights(format).unwrap();
        let got = logits(&packed, 1, None);
        for isa in Isa::available() {
            for threads in [1, 3] {
                assert_eq!(got, logits(&packed, threads, Some(isa)), "{format:?} {isa:?}");
            }
        }
        // Each prefix anew: prefilled as a whole instead of token by token.
        let ids: Vec<u32> = (0..14).map(|i| (i * 7 + 3) % 11).collect();
        for n in 1..=ids.len() {
            let mut session = packed.session(&ONE_THREAD).unwrap();
            let whole = session.next_logits(&ids[..n]).unwrap();
            assert!(whole.iter().map(|x| x.to_bits()).eq(got[n - 1].iter().copied()));
        }
        let off = |a: &[u32], b: &[u32]| {
            let pairs = a.iter().zip(b).map(|(a, b)| (f32::from_bits(*a), f32::from_bits(*b)));
            let (mut off, mut all) = (0.0, 0.0);
            pairs.for_each(|(a, b)| (off, all) = (off + (a - b) * (a - b), all + a * a));
            (off / all).sqrt()
        };
        let worst = exact.iter().zip(&got).map(|(a, b)| off(a, b)).fold(0.0, f32::max);
        assert!(worst > 0.0 && worst < limit, "{format:?}: {worst}");
    }
}

#[test]
fn rows_that_are_not_whole_blocks_are_bf16_and_the_head_of_4_bits_has_8() {
    use llmc_ir::DType::{Bf16, F16, F32, I4, I8, U8};
    let session = |format| {
        let model = model(&[]).with_weights(format).unwrap();
        model.session(&ONE_THREAD).unwrap()
    };
    let dtype = |format, path: &str| session(format).weight_view(path).map(|v| v.dtype);
    let wide = model(&["model.intermediate_size=256"]).with_weights(WeightFormat::Q4K).unwrap();
    let wide = wide.session(&ONE_THREAD).unwrap();
    let down = wide.weights().iter().find(|n| n.ends_with("down.weight")).cloned().unwrap();
    for (suffix, dtype) in
        [("", I4), ("_scale", U8), ("_min", U8), ("_super_scale", F16), ("_super_min", F16)]
    {
        let view = wide.weight_view(&format!("{down}{suffix}"));
        assert_eq!(view.map(|v| v.dtype), Some(dtype), "{suffix}");
        // Filled, and by what quantising gives.
        let bytes = wide.weight_bytes(&format!("{down}{suffix}")).unwrap();
        assert!(bytes.iter().any(|b| *b != 0), "{suffix}");
    }
    let names = session(WeightFormat::Q4).weights();
    let of = |part: &str| names.iter().find(|n| n.contains(part)).cloned().unwrap();
    let (down, query) = (of("down"), of("layers.0.attention.q"));
    let (embedding, norm) = (of("embed"), of("norm"));
    assert_eq!(dtype(WeightFormat::Q4, &down), Some(Bf16));
    assert_eq!(dtype(WeightFormat::Q4, &query), Some(I4));
    assert_eq!(dtype(WeightFormat::Q4, &embedding), Some(I8));
    assert_eq!(dtype(WeightFormat::Q8, &query), Some(I8));
    assert_eq!(dtype(WeightFormat::Q8, &format!("{query}_scale")), Some(F16));
    assert_eq!(dtype(WeightFormat::Q8, &norm), Some(F32));
}

#[test]
fn a_quantised_folder_stands_alone_and_says_what_it_costs() {
    let (store, project) = (MemStore::new(), tiny(&WIDE));
    let run = run_whole(&store, &project).run;
    let model = Model::open(&store, &run, Which::Last).unwrap();
    let work = Work { threads: Some(2), isa: None };
    let recorded = metrics::read(&store, &run).unwrap().0;
    let recorded = recorded.iter().rev().find_map(|r| match r {
        Record::Validation(v) => Some(v.loss),
        _ => None,
    });
    for (_, name) in WeightFormat::ALL.into_iter().filter(|(f, _)| *f != WeightFormat::F32) {
        let format = WeightFormat::parse(name).unwrap();
        let folder = run.join("exports").join(name);
        let done = quantize(&store, (&run, &model), format, &folder, work).unwrap();
        let (before, after) = (done.before.unwrap(), done.after.unwrap());
        assert!((before.loss - recorded.unwrap()).abs() < 1e-5, "{before:?}, {recorded:?}");
        assert_eq!(before.tokens, after.tokens);
        assert!(after.loss != before.loss && (after.loss - before.loss).abs() < 0.1, "{done:?}");
        assert!(done.bytes_after < done.bytes_before * 6 / 10);
        // The same bits as from the f32 weights, without them.
        let alone = MemStore::new();
        create_dir_all(&alone, &folder).unwrap();
        for entry in store.list(&folder).unwrap() {
            let file = folder.join(&entry.name);
            alone.write(&file, &store.read(&file).unwrap()).unwrap();
        }
        let opened = Model::open(&alone, &folder, Which::Last).unwrap();
        let there = Model::open(&store, &run, Which::Last).unwrap().with_weights(format).unwrap();
        assert_eq!(logits(&opened, 1, None), logits(&there, 2, None), "{name}");
        assert_eq!(find(&alone, Path::new("runs"), folder.to_str()).unwrap(), folder);
        // It is what it is.
        let again = quantize(&store, (&run, &model), format, &folder, work);
        assert_eq!(code(again), "quantize::exists");
        let other = Path::new("other");
        assert_eq!(
            code(quantize(&alone, (&folder, &opened), format, other, work)),
            "quantize::twice"
        );
        let exported =
            emit(&alone, &opened, crate::pipeline::emit::find("pytorch").unwrap(), other);
        assert_eq!(code(exported), "emit::quantized");
        assert_eq!(code(opened.with_weights(WeightFormat::F32)), "generate::weights");
        let bytes = alone.read(&folder.join("model.safetensors")).unwrap();
        alone.write(&folder.join("model.safetensors"), &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(code(Model::open(&alone, &folder, Which::Last)), "run::damaged");
    }
    let same = quantize(&store, (&run, &model), WeightFormat::F32, Path::new("f32"), work);
    assert_eq!(code(same), "quantize::f32");
    assert_eq!(crate::manifest::verify(&store, &run).unwrap().problems, []);
}
