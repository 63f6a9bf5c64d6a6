//! The stages before training: what they read, what they keep, where they stop.

use super::super::data::documents;
use super::*;
use crate::cache::StageCache;
use crate::store::{Entry, EntryKind, StoreError};
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// A source whose file has other text every time it is read.
struct Restless(MemStore, AtomicUsize);

impl Source for Restless {
    fn open(&self, path: &Path) -> Result<Box<dyn Read + Send>, StoreError> {
        let n = self.1.fetch_add(1, Ordering::SeqCst);
        self.0.write(path, format!("some words {n} ").repeat(30).as_bytes())?;
        self.0.open(path)
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>, StoreError> {
        self.0.list(path)
    }

    fn kind(&self, path: &Path) -> Result<Option<EntryKind>, StoreError> {
        self.0.kind(path)
    }

    fn file_len(&self, path: &Path) -> Result<u64, StoreError> {
        self.0.file_len(path)
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_cached_as_what_it_was() {
    let files = Restless(MemStore::new(), AtomicUsize::new(0));
    create_dir_all(&files.0, Path::new("corpus")).unwrap();
    files.0.write(Path::new("corpus/a.txt"), b"").unwrap();
    let store = MemStore::new();
    let cache = StageCache::new(&store, "cache");
    let project = over_files(r#"["corpus"]"#, &[]);
    let config = project.resolved.dataset.as_ref().unwrap();
    let (set, _) = documents(config, None, &files, Some(&cache)).unwrap();
    assert!(set.documents[0].text.starts_with("some words 1 "));
    assert_eq!(cache.counts()["dataset"].stored, 0);
}
