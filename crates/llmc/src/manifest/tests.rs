//! A small run, and every way in which it can differ from its manifest.

use super::*;
use crate::checkpoint::{self, Content};
use crate::store::{Complete, Fault, FaultStore, MemStore, commit_folder, create_dir_all};

fn run() -> &'static Path {
    Path::new("runs/abc")
}

fn hash(text: &str) -> Hash {
    Hash::of_bytes(text.as_bytes())
}

fn parts(text: &str) -> RecipeParts {
    RecipeParts { training: hash(text), text: hash("corpus"), parent: None }
}

/// A finished run of one input and five outputs.
fn finished_run() -> MemStore {
    let store = MemStore::new();
    create_dir_all(&store, run()).unwrap();
    create_dir_all(&store, Path::new("corpus/sub")).unwrap();
    let files = [
        ("corpus/a.txt", "some text"),
        ("corpus/sub/b.txt", "more text"),
        ("runs/abc/spec.toml", "[model]\n"),
        ("runs/abc/model.ir", "module @m {}\n"),
        ("runs/abc/metrics.jsonl", ""),
        ("runs/abc/report.html", "<html>"),
        ("runs/abc/events.out.tfevents.1.host", "events"),
    ];
    for (path, text) in files {
        store.write(Path::new(path), text.as_bytes()).unwrap();
    }
    let tokenizer = commit_folder(&store, &run().join("tokenizer"), |folder| {
        folder.bytes("tokenizer.json", b"{}").map(drop)
    });
    let tokenizer: Complete = tokenizer.map_err(|e: StoreError| e).unwrap();
    let data = commit_folder(&store, &run().join("data"), |folder| {
        folder.bytes("shards/0.bin", &[1, 2, 3])?;
        folder.bytes("ledger.json", b"[]").map(drop)
    });
    let data: Complete = data.map_err(|e: StoreError| e).unwrap();
    let weights = [("weights.safetensors", Content::Bytes(b"weights"))];
    let saved = checkpoint::save(&store, run(), 200, &weights).unwrap();

    let output = |name, kind, path| Artifact::output(&store, run(), name, kind, path).unwrap();
    let artifacts = vec![
        output("spec", Kind::Spec, "spec.toml").recipe(hash("spec")),
        output("model", Kind::Ir, "model.ir").made_from(["spec"]).proved_by(["model.ir"]),
        Artifact::input(&store, "corpus", Kind::Text, "corpus").unwrap(),
        Artifact::committed("tokenizer", Kind::Tokenizer, "tokenizer", &tokenizer)
            .made_from(["spec", "corpus"]),
        Artifact::committed("data", Kind::Data, "data", &data).made_from(["corpus", "tokenizer"]),
        Artifact::committed(
            "checkpoint",
            Kind::Checkpoint,
            "checkpoints/step-000200",
            &saved.complete,
        )
        .made_from(["spec", "data"])
        .proved_by(["weights.safetensors"]),
    ];
    let manifest = Manifest::new(
        parts("recipe"),
        RunStatus::Complete,
        artifacts,
        Observations {
            values: BTreeMap::from([("seconds".to_string(), 1.5.into())]),
            ..Observations::default()
        },
    );
    manifest.unwrap().write(&store, run()).unwrap();
    store
}

/// Damages a finished run; the problems as lines.
fn check(damage: impl Fn(&MemStore), expected: &[&str]) -> VerifyReport {
    let store = finished_run();
    damage(&store);
    let report = verify(&store, run()).unwrap();
    let lines: Vec<String> = report.problems.iter().map(Problem::to_string).collect();
    assert_eq!(lines, expected);
    report
}

fn at(path: &str) -> std::path::PathBuf {
    run().join(path)
}

#[test]
fn a_finished_run_verifies() {
    let report = check(|_| {}, &[]);
    assert!(report.outputs_are_whole() && report.inputs_are_unchanged());
    let all = ["spec", "model", "corpus", "tokenizer", "data", "checkpoint"];
    assert_eq!(report.verified, all);
    assert_eq!(report.n_files, 8);
    let observed = ["events.out.tfevents.1.host", "manifest.json", "metrics.jsonl", "report.html"];
    assert_eq!(report.observations, observed);
}

#[test]
fn observations_are_free_to_change() {
    let report = check(
        |s| {
            s.append(&at("metrics.jsonl"), b"more").unwrap();
            s.remove_file(&at("report.html")).unwrap();
            s.write(&at("lock"), b"").unwrap();
        },
        &[],
    );
    assert!(report.outputs_are_whole());
}

#[test]
fn every_file_that_differs_is_named() {
    let expected = |path: &str, from: &str, to: &str| {
        format!("`{path}` differs: expected {}, found {}", hash(from).short(), hash(to).short())
    };
    let report = check(
        |s| s.write(&at("spec.toml"), b"[modem]\n").unwrap(),
        &[&expected("spec.toml", "[model]\n", "[modem]\n")],
    );
    assert!(!report.outputs_are_whole());
    assert_eq!(report.verified, ["model", "corpus", "tokenizer", "data", "checkpoint"]);
    check(
        |s| s.write(&at("data/shards/0.bin"), &[1, 2, 4]).unwrap(),
        &[&expected("data/shards/0.bin", "\u{1}\u{2}\u{3}", "\u{1}\u{2}\u{4}")],
    );
    check(
        |s| s.write(&at("checkpoints/step-000200/weights.safetensors"), b"weightz").unwrap(),
        &[&expected("checkpoints/step-000200/weights.safetensors", "weights", "weightz")],
    );
    let report = check(
        |s| s.write(Path::new("corpus/sub/b.txt"), b"less").unwrap(),
        &[&expected("corpus/sub/b.txt", "more text", "less")],
    );
    assert!(report.outputs_are_whole() && !report.inputs_are_unchanged());
    assert_eq!(Diagnostic::from(&report.problems[0]).severity, llmc_base::Severity::Warning);
}

#[test]
fn missing_and_extra_files_are_named() {
    let report = check(
        |s| {
            s.remove_file(&at("data/ledger.json")).unwrap();
            s.write(&at("data/shards/1.bin"), b"").unwrap();
            s.write(&at("notes.txt"), b"").unwrap();
            s.remove_file(Path::new("corpus/a.txt")).unwrap();
        },
        &[
            "`corpus/a.txt` is missing",
            "`data/ledger.json` is missing",
            "`data/shards/1.bin` is extra: nothing says that it belongs here",
            "`notes.txt` is extra: nothing says that it belongs here",
        ],
    );
    assert_eq!(report.problems[2].artifact.as_deref(), Some("data"));
    assert_eq!(report.problems[3].artifact, None);
    let codes: Vec<String> = report.problems.iter().map(|p| Diagnostic::from(p).code).collect();
    assert_eq!(codes, ["verify::missing", "verify::missing", "verify::extra", "verify::extra"]);
    let only_extra = check(
        |s| s.write(&at("notes.txt"), b"").unwrap(),
        &["`notes.txt` is extra: nothing says that it belongs here"],
    );
    assert!(only_extra.outputs_are_whole());
}

#[test]
fn markers_are_checked() {
    check(
        |s| s.remove_file(&at("checkpoints/step-000200/COMPLETE")).unwrap(),
        &["`checkpoints/step-000200/COMPLETE` is missing"],
    );
    check(
        |s| s.write(&at("tokenizer/COMPLETE"), b"{").unwrap(),
        &[
            "`tokenizer/COMPLETE` the marker `COMPLETE` is damaged: EOF while parsing an object at line 1 column 1",
        ],
    );
}

#[test]
fn checkpoints_that_came_later_are_held_against_their_marker() {
    let later = |s: &MemStore| {
        let files = [("weights.safetensors", Content::Bytes(b"later"))];
        checkpoint::save(s, run(), 300, &files).unwrap();
    };
    let report = check(later, &[]);
    assert_eq!(report.verified.last().unwrap(), "checkpoints/step-000300");
    check(
        |s| {
            later(s);
            s.remove_file(&at("checkpoints/step-000300/weights.safetensors")).unwrap();
        },
        &["`checkpoints/step-000300` is not whole: the file `weights.safetensors` is missing"],
    );
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused() {
    let edited = |from: &str, to: &str| {
        let store = finished_run();
        let text = store.read_text(&at(FILE)).unwrap();
        assert!(text.contains(from), "{text}");
        store.write(&at(FILE), text.replacen(from, to, 1).as_bytes()).unwrap();
        verify(&store, run()).unwrap_err()
    };
    let weights = hash("[model]\n").to_string();
    let forged = edited(&weights, &hash("other").to_string());
    assert_eq!(forged.code, "manifest::damaged");
    assert!(forged.message.ends_with("its hashes do not fit its artifacts"));
    let other = edited(&hash("corpus").to_string(), &hash("other").to_string());
    assert!(other.message.ends_with("its recipe does not fit its parts"), "{}", other.message);
    assert!(edited("\"version\": 2", "\"version\": 9").message.contains("its version is 9"));
    assert!(edited("{", "").message.contains("damaged"));
    let missing = verify(&MemStore::new(), run()).unwrap_err();
    assert_eq!(missing.code, "manifest::missing");
}

#[test]
fn the_graph_is_checked() {
    let store = finished_run();
    let spec = || Artifact::output(&store, run(), "spec", Kind::Spec, "spec.toml").unwrap();
    let codes = |artifacts| {
        let made = Manifest::new(parts(""), RunStatus::Failed, artifacts, Observations::default());
        made.map(drop).map_err(|d| d.into_iter().map(|d| d.code).collect::<Vec<_>>())
    };
    assert_eq!(codes(vec![spec()]), Ok(()));
    let twice = ["manifest::duplicate", "manifest::duplicate"].map(String::from).to_vec();
    assert_eq!(codes(vec![spec(), spec()]), Err(twice));
    let order = vec!["manifest::order".to_string()];
    assert_eq!(codes(vec![spec().made_from(["spec"])]), Err(order.clone()));
    assert_eq!(codes(vec![spec().made_from(["data"])]), Err(order));
    let proof = vec!["manifest::proof".to_string()];
    assert_eq!(codes(vec![spec().proved_by(["spec.toml"])]), Ok(()));
    assert_eq!(codes(vec![spec().proved_by(["spec.yaml"])]), Err(proof));
}

#[test]
fn the_content_hash_covers_recipe_and_proofs_and_nothing_else() {
    let store = finished_run();
    let base = Manifest::read(&store, run()).unwrap();
    let made = |change: &dyn Fn(&mut Manifest)| {
        let mut m = base.clone();
        change(&mut m);
        Manifest::new(m.recipe_of, m.status, m.artifacts, m.observations).unwrap()
    };
    let with = |change: &dyn Fn(&mut Manifest)| made(change).content;
    assert_eq!(with(&|_| {}), base.content);
    assert_eq!(with(&|m| m.observations.values.clear()), base.content);
    assert_eq!(with(&|m| m.observations.machine = Some(Machine::default())), base.content);
    // The spec's text, the corpus, the marker and the accounts prove nothing.
    let [spec, model, corpus, data, checkpoint] = [0, 1, 2, 4, 5];
    assert_eq!(with(&|m| m.artifacts[spec].content = hash("x")), base.content);
    assert_eq!(with(&|m| m.artifacts[corpus].path = "elsewhere".into()), base.content);
    assert_eq!(with(&|m| m.artifacts[data].from.clear()), base.content);
    assert_ne!(with(&|m| m.artifacts[model].content = hash("x")), base.content);
    let weights = |m: &mut Manifest| {
        let files = m.artifacts[checkpoint].files.as_mut().unwrap();
        files[0].hash = hash("x");
    };
    assert_ne!(with(&weights), base.content);
    assert_ne!(with(&|m| m.recipe_of = parts("another")), base.content);
    assert_ne!(with(&|m| drop(m.artifacts.pop())), base.content);
    // The listing covers all that is listed.
    let listing = |change: &dyn Fn(&mut Manifest)| made(change).listing;
    assert_eq!(listing(&|m| m.artifacts[corpus].path = "elsewhere".into()), base.listing);
    assert_ne!(listing(&|m| m.artifacts[spec].path = "elsewhere".into()), base.listing);
    assert_ne!(listing(&|m| m.artifacts[spec].content = hash("x")), base.listing);
    assert_ne!(listing(&|m| m.artifacts[3].from.clear()), base.listing);
}

#[test]
fn a_recipe_is_over_all_its_parts() {
    let base = parts("a");
    let others = [
        RecipeParts { training: hash("b"), ..base },
        RecipeParts { text: hash("b"), ..base },
        RecipeParts { parent: Some(hash("b")), ..base },
        RecipeParts { training: base.text, text: base.training, parent: None },
    ];
    others.iter().for_each(|other| assert_ne!(other.hash(), base.hash(), "{other:?}"));
}

/// Puts an export into a run: a model, a probe, a certificate that speaks of the model.
fn export(store: &MemStore, with_certificate: bool) {
    use llmc_codegen::certificate::{Certificate, FileHash};
    let file = FileHash { path: "model.py".into(), hash: hash("model") };
    let text = Certificate::new("pytorch", hash("weights"), vec![file]).to_json();
    create_dir_all(store, &at("exports")).unwrap();
    let written = commit_folder(store, &at("exports/pytorch"), |folder| {
        folder.bytes("model.py", b"model")?;
        folder.bytes("probe.safetensors", b"probe")?;
        match with_certificate {
            true => folder.bytes("certificate.json", text.as_bytes()).map(drop),
            false => Ok(()),
        }
    });
    written.map_err(|e: StoreError| e).unwrap();
}

#[test]
fn exports_are_held_against_their_certificate() {
    let report = check(|s| export(s, true), &[]);
    assert_eq!(report.verified.last().unwrap(), "exports/pytorch");
    let differs = |file: &str, text: &str| {
        let found = hash("other").short();
        format!("`exports/pytorch/{file}` differs: expected {}, found {found}", hash(text).short())
    };
    let changed = |file: &'static str| {
        move |s: &MemStore| {
            export(s, true);
            s.write(&at(&format!("exports/pytorch/{file}")), b"other").unwrap();
        }
    };
    let report = check(changed("model.py"), &[&differs("model.py", "model")]);
    assert_eq!(report.problems[0].artifact.as_deref(), Some("exports/pytorch"));
    // A changed export is a difference, but no damage to the run.
    assert!(!report.outputs_are_whole() && report.damage().is_none());
    check(changed("probe.safetensors"), &[&differs("probe.safetensors", "probe")]);
    check(
        |s| export(s, false),
        &[
            "`exports/pytorch/certificate.json` is no certificate: cannot open `runs/abc/exports/pytorch/certificate.json`: entity not found",
        ],
    );
    // A file that is there besides, and a certificate that says other hashes than the marker.
    let forged = |s: &MemStore| {
        export(s, true);
        let path = at("exports/pytorch/certificate.json");
        let text = s.read_text(&path).unwrap();
        let text = text.replace(&hash("model").to_string(), &hash("other").to_string());
        s.write(&path, text.as_bytes()).unwrap();
        s.write(&at("exports/pytorch/model.py"), b"other").unwrap();
    };
    check(forged, &[&differs("model.py", "model")]);
    check(
        |s| {
            export(s, true);
            s.write(&at("exports/pytorch/notes.txt"), b"").unwrap();
        },
        &["`exports/pytorch/notes.txt` is extra: nothing says that it belongs here"],
    );
}

#[test]
fn damage_is_a_file_of_the_run() {
    let report = check(
        |s| {
            s.write(Path::new("corpus/a.txt"), b"other").unwrap();
            s.write(&at("aaa.txt"), b"").unwrap();
            s.remove_file(&at("spec.toml")).unwrap();
        },
        &[
            "`aaa.txt` is extra: nothing says that it belongs here",
            &format!(
                "`corpus/a.txt` differs: expected {}, found {}",
                hash("some text").short(),
                hash("other").short()
            ),
            "`spec.toml` is missing",
        ],
    );
    assert_eq!(report.damage().unwrap().path, "spec.toml");
}

#[test]
fn the_file_is_stable_and_round_trips() {
    let (one, two) = (finished_run(), finished_run());
    let text = one.read_text(&at(FILE)).unwrap();
    assert_eq!(text, two.read_text(&at(FILE)).unwrap());
    let manifest = Manifest::read(&one, run()).unwrap();
    manifest.write(&one, run()).unwrap();
    assert_eq!(text, one.read_text(&at(FILE)).unwrap());
    assert_eq!(manifest.artifact("corpus").unwrap().length, 18);
    let keys: Vec<String> = serde_json::from_str::<serde_json::Map<_, _>>(&text)
        .unwrap()
        .into_iter()
        .map(|(key, _): (String, serde_json::Value)| key)
        .collect();
    let expected = "version recipe recipe_of content listing status tool artifacts observations";
    assert_eq!(keys.join(" "), expected);
}

#[test]
fn a_full_disk_leaves_the_old_manifest() {
    let disk = finished_run();
    let mut manifest = Manifest::read(&disk, run()).unwrap();
    manifest.status = RunStatus::Failed;
    let store = FaultStore::new(disk, 0, Fault::DiskFull);
    assert!(manifest.write(&store, run()).unwrap_err().is_disk_full());
    assert_eq!(Manifest::read(store.inner(), run()).unwrap().status, RunStatus::Complete);
    assert!(verify(store.inner(), run()).unwrap().problems.is_empty());
}

#[test]
fn the_last_line_of_the_metrics_of_a_killed_run_may_be_cut() {
    let damaged = |status: RunStatus, text: &str| {
        let store = finished_run();
        let mut manifest = Manifest::read(&store, run()).unwrap();
        manifest.status = status;
        manifest.write(&store, run()).unwrap();
        store.write(&at("metrics.jsonl"), text.as_bytes()).unwrap();
        let report = verify(&store, run()).unwrap();
        assert!(report.outputs_are_whole() && report.damage().is_none());
        report.observations_damaged.len()
    };
    assert_eq!(damaged(RunStatus::Unfinished, "{\"kind\":"), 0);
    assert_eq!(damaged(RunStatus::Unfinished, "{}\n{\"kind\":"), 1);
    assert_eq!(damaged(RunStatus::Complete, "{\"kind\":"), 1);
}

#[test]
fn an_input_is_looked_for_where_the_run_was_started() {
    let store = finished_run();
    let mut manifest = Manifest::read(&store, run()).unwrap();
    let values = &mut manifest.observations.values;
    values.insert(TEXT_FOLDER.to_string(), "there".into());
    manifest.write(&store, run()).unwrap();
    create_dir_all(&store, Path::new("there")).unwrap();
    store.rename(Path::new("corpus"), Path::new("there/corpus")).unwrap();
    let report = verify(&store, run()).unwrap();
    assert_eq!((report.inputs(), report.problems), (Inputs::Unchanged, vec![]));
    // Other text here does not hide it; other text there is told.
    create_dir_all(&store, Path::new("corpus")).unwrap();
    store.write(Path::new("corpus/a.txt"), b"other").unwrap();
    assert_eq!(verify(&store, run()).unwrap().inputs(), Inputs::Unchanged);
    store.remove_dir_all(Path::new("corpus")).unwrap();
    store.write(Path::new("there/corpus/a.txt"), b"other").unwrap();
    assert_eq!(verify(&store, run()).unwrap().inputs(), Inputs::Changed);
    store.remove_dir_all(Path::new("there")).unwrap();
    let report = verify(&store, run()).unwrap();
    assert_eq!(report.inputs(), Inputs::NotFound);
    assert!(report.outputs_are_whole());
}
