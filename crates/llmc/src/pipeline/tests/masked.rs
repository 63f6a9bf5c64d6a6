//! Runs over prompts with completions and over conversations.

use super::super::chat::ChatTemplate;
use super::super::data::{read_tokenizer, to_train_batch};
use super::super::generate::{Model, WeightFormat, Which};
use super::super::held_out::held_out_loss;
use super::super::project::build_model;
use super::super::quantize::{Work, quantize};
use super::super::rerun::{rerun, resume};
use super::super::why::why;
use super::*;
use crate::checkpoint;
use crate::manifest::verify;
use llmc_data::dataset::Split;
use llmc_data::pack::{self, IGNORE_INDEX};
use llmc_runtime::{Engine, Isa};

const FILE: &str = "corpus/d.jsonl";

/// Sums of letters, each as a prompt with its completion.
fn with_sums(store: &MemStore) {
    let letters = ["a", "b", "ab", "ba", "aab", "bab"];
    let mut text = String::new();
    for a in letters {
        for b in letters {
            text += &format!("{{\"prompt\": \"{a}+{b}=\", \"completion\": \"{a}{b}\"}}\n");
        }
    }
    create_dir_all(store, Path::new("corpus")).unwrap();
    store.write(Path::new(FILE), text.as_bytes()).unwrap();
}

fn sums(changes: &[&str]) -> Project {
    let changes = [&["dataset.format=jsonl"], changes].concat();
    over_files(&format!("[\"{FILE}\"]"), &changes)
}

fn weights(result: &TrainResult) -> (llmc_base::Hash, Option<f64>) {
    (result.weights, result.validation.as_ref().map(|v| v.loss))
}

#[test]
fn neither_threads_nor_micro_batches_nor_instructions_change_a_masked_run() {
    for change in ["training.z_loss=0", "training.z_loss=1e-3", "training.precision=bfloat16"] {
        let mut seen = Vec::new();
        for (micro, threads, isa) in [
            ("4", 1, None),
            ("1", 2, None),
            ("2", 3, Some(Isa::Scalar)),
            ("1", 1, Some(Isa::detect())),
        ] {
            let store = MemStore::new();
            with_sums(&store);
            let micro = format!("training.microbatch_size={micro}");
            let options = TrainOptions { threads: Some(threads), isa, ..options(&store) };
            let project = sums(&[change, &micro]);
            seen.push(weights(&train(&project, &options, &mut Watch::default()).unwrap()));
        }
        assert!(seen.iter().all(|other| *other == seen[0]), "{change}: {seen:?}");
    }
}

#[test]
fn the_loss_is_the_mean_over_the_completions_of_the_batch() {
    let store = MemStore::new();
    with_sums(&store);
    let prepared = prepare(&sums(&[]), &options(&store), &mut Watch::default()).unwrap();
    let split = &prepared.rows.train;
    let rows: Vec<u64> = (0..split.plan.n_rows()).collect();
    let batch = pack::batch(&split.plan, &split.corpus().unwrap(), &rows, 0).unwrap();
    let learned: Vec<u32> = batch.targets.iter().filter_map(|id| u32::try_from(*id).ok()).collect();
    // The completions, each with the end of its text, in the order of the rows.
    let text = prepared.tokenizer.decode(&learned);
    let mut said: Vec<&str> = text.split("<|endoftext|>").filter(|s| !s.is_empty()).collect();
    let documents = prepared.set.split(Split::Train);
    let mut expected: Vec<&str> =
        documents.map(|(_, d)| d.text.split_once('=').unwrap().1).collect();
    said.sort_unstable();
    expected.sort_unstable();
    assert_eq!(said, expected);
    assert_eq!(split.n_targets(), batch.n_targets);
    assert!(
        batch.targets.iter().zip(&batch.weights).all(|(t, w)| (*t == IGNORE_INDEX) == (*w == 0.0))
    );
    // Four rows with different numbers of targets: the step's loss is that of all of them.
    let mut trainer = super::super::prepare::trainer(&prepared, Some(1), None).unwrap();
    let (rows, first) = super::super::data::step_rows(
        prepared.project.resolved.training.as_ref().unwrap(),
        split.plan.n_rows(),
        0,
    );
    let batch = pack::batch(&split.plan, &split.corpus().unwrap(), &rows, 0).unwrap();
    let batch = to_train_batch(batch, first);
    let (nats, n) = trainer.evaluate(&batch).unwrap();
    let report = trainer.step(&batch).unwrap();
    assert_eq!(report.tokens, n);
    assert!((report.loss - nats / n as f64).abs() < 1e-6 * report.loss, "{report:?}");
    // None that counts is no mean.
    let none = llmc_train::Batch {
        weights: vec![0.0; batch.weights.len()],
        targets: vec![IGNORE_INDEX; batch.targets.len()],
        ..batch
    };
    assert_eq!(trainer.evaluate(&none).unwrap(), (0.0, 0));
    let refused = trainer.step(&none).unwrap_err().to_string();
    assert_eq!(refused, "no target of the batch of step 1 counts, so there is no mean loss");
}

#[test]
fn a_masked_run_is_interrupted_repeated_explained_and_verified() {
    let store = MemStore::new();
    with_sums(&store);
    let whole = run_whole(&store, &sums(&[]));
    assert_eq!(verify(&store, &whole.run).unwrap().problems, []);
    let proved = manifest(&store, &whole.run);
    let data = proved.artifact("data").unwrap().files.as_ref().unwrap();
    assert!(data.iter().any(|f| f.path == "train/targets.mask"), "{data:?}");
    let again = rerun(&store, &whole.run, Path::new("s"), None, None, &mut Watch::default());
    assert!(again.unwrap().is_same());
    let found = why(&store, &whole.run, Some(3), None, None, &mut Watch::default()).unwrap();
    assert_eq!(found.is_as_recorded, Some(true));
    assert!(found.documents.iter().all(|d| d.source == FILE));

    let other = MemStore::new();
    with_sums(&other);
    let part = stopped_after(&other, &sums(&[]), 3);
    let options = options(&other);
    let resumed = resume(&part.run, None, options, &mut Watch::default()).unwrap();
    assert_eq!((weights(&resumed), resumed.content), (weights(&whole), whole.content));
    // All learned is another run.
    let all = run_whole(&store, &sums(&["dataset.train_on_prompt=true"]));
    assert_ne!(all.recipe, whole.recipe);
    assert!(!store.exists(&all.run.join("data/train/targets.mask")).unwrap());
}

#[test]
fn held_out_text_is_counted_by_what_is_learned_of_it() {
    let store = MemStore::new();
    with_sums(&store);
    let cache = crate::cache::StageCache::new(&store, "cache");
    let mut seen = Vec::new();
    for _ in 0..2 {
        let options = TrainOptions { cache: Some(&cache), ..options(&store) };
        let prepared = prepare(&sums(&[]), &options, &mut Watch::default()).unwrap();
        seen.push((prepared.rows.content, prepared.set.documents, prepared.set.inputs));
    }
    assert_eq!(seen[0], seen[1], "built, and from the cache");
    let result = run_whole(&store, &sums(&[]));
    let found = result.validation.unwrap();
    let held_out = seen[0].1.iter().filter(|d| d.split == Split::Validation);
    let learned: usize = held_out.clone().map(|d| d.text.split_once('=').unwrap().1.len()).sum();
    let targets = learned + held_out.count();
    let nats = found.loss * targets as f64;
    let bits = nats / std::f64::consts::LN_2 / learned as f64;
    assert!((found.bits_per_byte - bits).abs() < 1e-9 * bits, "{found:?} {bits}");
    // The same loss from the files of the run.
    let data = result.run.join("data");
    let split = super::super::data::read_held_out(&store, &data).unwrap().unwrap();
    let module = build_model(sums(&[]).model().unwrap()).unwrap();
    let last = checkpoint::load_step(&store, &result.run, 6).unwrap();
    let bytes = last.read(&store, "weights.safetensors").unwrap();
    let engine = Engine::new(1, None).unwrap();
    let own = held_out_loss(&module, (&bytes, Path::new("w")), &split, None, engine);
    let own = own.unwrap().unwrap();
    assert_eq!(own.tokens, targets as u64);
    assert!((own.loss - found.loss).abs() < 1e-6 * own.loss, "{own:?} {found:?}");
    // The rivals read all of the text, so they are not compared.
    let manifest = manifest(&store, &result.run);
    assert!(manifest.observations.values["baselines"]["gzip"].is_null());
}

#[test]
fn conversations_are_learned_by_their_template_which_the_run_keeps() {
    let store = MemStore::new();
    let line = r#"{"messages": [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "ba"}]}"#;
    let other = line.replace("ab", "bb");
    create_dir_all(&store, Path::new("corpus")).unwrap();
    store.write(Path::new(FILE), format!("{line}\n{other}\n").as_bytes()).unwrap();
    let chatml = [
        "dataset.chat_template=chatml",
        "tokenizer.special_tokens.additional=[\"<|im_start|>\", \"<|im_end|>\"]",
    ];
    let run = run_whole(&store, &sums(&chatml)).run;
    let prepared = prepare(&sums(&chatml), &options(&store), &mut Watch::default()).unwrap();
    let document = &prepared.set.documents[0];
    let parts: Vec<_> = document.parts().collect();
    let read = "<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(parts, [(read, false), ("ba<|im_end|>", true), ("\n", false)]);
    let folder = run.join("tokenizer");
    let tokenizer = read_tokenizer(&store, &folder).unwrap();
    let found = ChatTemplate::find(&store, &folder, &tokenizer, 0).unwrap();
    assert!(!found.is_plain());
    let asked = found.render(&[super::super::chat::Message::new("user", "ab")], true).unwrap();
    assert_eq!(asked, read, "a chat asks as it was taught");
    assert_eq!(verify(&store, &run).unwrap().problems, []);

    let model = Model::open(&store, &run, Which::Last).unwrap();
    let narrow = Path::new("narrow");
    quantize(&store, (&run, &model), WeightFormat::Bf16, narrow, Work::default()).unwrap();
    assert!(!ChatTemplate::find(&store, narrow, &tokenizer, 0).unwrap().is_plain());

    // A template in a file is an input of the run.
    let text = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}";
    store.write(Path::new("corpus/t.jinja"), text.as_bytes()).unwrap();
    let by_file = sums(&["dataset.chat_template=corpus/t.jinja"]);
    let run = run_whole(&store, &by_file).run;
    let inputs = manifest(&store, &run).artifact("text").unwrap().files.clone().unwrap();
    assert!(inputs.iter().any(|f| f.path == "corpus/t.jinja"), "{inputs:?}");
    store.write(Path::new("corpus/t.jinja"), text.replace("m.c", " m.c").as_bytes()).unwrap();
    let again = rerun(&store, &run, Path::new("s"), None, None, &mut Watch::default());
    assert_eq!(code(again), "rerun::changed");

    // Without one, and with one that is not there.
    let prepare =
        |changes: &[&str]| prepare(&sums(changes), &options(&store), &mut Watch::default());
    assert_eq!(code(prepare(&[]).map(drop)), "dataset::no_chat_template");
    assert_eq!(code(prepare(&["dataset.chat_template=none.jinja"]).map(drop)), "chat::template");
    let refusing = "{{ raise_exception('never') }}";
    store.write(Path::new("corpus/t.jinja"), refusing.as_bytes()).unwrap();
    let failure = prepare(&["dataset.chat_template=corpus/t.jinja"]).map(drop).unwrap_err();
    let d = &failure.diagnostics()[0];
    assert_eq!(d.code, "chat::refused");
    assert!(d.message.starts_with("`corpus/d.jsonl`, line 1: "), "{}", d.message);
}
