//! The stages before training: what they read, what they keep, where they stop.

use super::*;
use crate::cache::StageCache;
use crate::store::EntryKind;

#[test]
fn a_warning_is_told_again_when_the_stage_is_cached() {
    let store = MemStore::new();
    with_text(&store);
    let project = over_files(r#"["corpus"]"#, &["dataset.target_tokens=100000"]);
    let cache = StageCache::new(&store, "cache");
    let told = || {
        let options = TrainOptions { cache: Some(&cache), ..options(&store) };
        let mut watch = Watch::default();
        let prepared = prepare(&project, &options, &mut watch).unwrap();
        (watch.warnings, prepared.set.inputs, prepared.rows.content)
    };
    let first = told();
    let codes: Vec<&str> = first.0.iter().map(|d| d.code.as_str()).collect();
    assert!(codes.contains(&"dataset::below_target"), "{codes:?}");
    assert_eq!(told(), first);
    assert_eq!(cache.counts()["dataset"].hits, 1);
}

#[test]
fn every_byte_is_read_from_the_store() {
    let store = MemStore::new();
    with_text(&store);
    let project = over_files(r#"["corpus/**/*.txt"]"#, &[]);
    let prepared = prepare(&project, &options(&store), &mut Watch::default()).unwrap();
    let paths: Vec<&str> = prepared.set.inputs.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(paths, ["corpus/a.txt", "corpus/c.txt", "corpus/sub/b.txt"]);
    let missing = over_files(r#"["corpus/none.txt"]"#, &[]);
    let result = prepare(&missing, &options(&store), &mut Watch::default());
    assert_eq!(code(result.map(drop)), "source::unreadable");
}

#[test]
fn a_request_to_stop_is_heard_after_every_stage() {
    for stage in ["dataset", "tokenizer", "rows", "model"] {
        let store = MemStore::new();
        let mut watch = Watch { stop_after_stage: Some(stage), ..Watch::default() };
        let failure = run_with(&store, &tiny(&[]), &mut watch).unwrap_err();
        assert_eq!(failure.exit_code(), 130);
        let text = failure.to_string();
        assert!(text.contains(&format!("after `{stage}`")), "{text}");
        assert_eq!(store.kind(Path::new("runs")).unwrap(), None::<EntryKind>);
    }
}
