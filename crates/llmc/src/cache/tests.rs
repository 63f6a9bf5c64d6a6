//! Hits, misses, damage and races of the stage cache.

use super::*;
use crate::store::{Fault, FaultStore, MemStore, RecordingStore};
use std::cell::Cell;

fn recipe(text: &str) -> Hash {
    Hash::of_bytes(text.as_bytes())
}

fn fill(text: &'static str) -> impl Fn(&mut FolderWriter) -> Result<(), StoreError> {
    move |folder| {
        folder.bytes("tokenizer.json", text.as_bytes())?;
        folder.bytes("shards/000.bin", &[1, 2, 3])?;
        Ok(())
    }
}

#[test]
fn an_entry_is_built_once_and_then_found() {
    let store = MemStore::new();
    let cache = StageCache::new(&store, "cache");
    let n_built = Cell::new(0);
    for name in ["a", "a", "b", "a"] {
        let cached = cache.get_or_put("tokenizer", &recipe(name), |folder| {
            n_built.set(n_built.get() + 1);
            fill("tok")(folder)
        });
        assert_eq!(cached.unwrap().read(&store, "tokenizer.json").unwrap(), b"tok");
    }
    assert_eq!(n_built.get(), 2);
    let counts = cache.counts()["tokenizer"];
    assert_eq!(counts, StageCounts { hits: 2, misses: 2, damaged: 0, stored: 2 });
    // Another object on the same root finds the same entries.
    let again = StageCache::new(&store, "cache");
    assert!(again.get("tokenizer", &recipe("a")).unwrap().is_some());
    assert!(again.get("shards", &recipe("a")).unwrap().is_none());
}

#[test]
fn a_damaged_entry_is_rebuilt() {
    let store = MemStore::new();
    let cache = StageCache::new(&store, "cache");
    let cached = cache.put("tokenizer", &recipe("a"), fill("good")).unwrap();
    store.write(&cached.path.join("tokenizer.json"), b"bad!").unwrap();
    assert!(cached.read(&store, "tokenizer.json").is_err());
    assert_eq!(cache.get("tokenizer", &recipe("a")).unwrap(), None);
    assert_eq!(cache.counts()["tokenizer"].damaged, 1);
    let rebuilt = cache.get_or_put("tokenizer", &recipe("a"), fill("good")).unwrap();
    assert_eq!(rebuilt, cached);
    // Damage that is found only when storing is replaced as well.
    store.remove_file(&cached.path.join("tokenizer.json")).unwrap();
    cache.put("tokenizer", &recipe("a"), fill("good")).unwrap();
    assert_eq!(cached.read(&store, "tokenizer.json").unwrap(), b"good");
    assert_eq!(store.list(Path::new("cache/tokenizer")).unwrap().len(), 1);
}

#[test]
fn of_two_builders_the_first_wins() {
    let store = MemStore::new();
    let (one, two) = (StageCache::new(&store, "c"), StageCache::new(&store, "c"));
    let cached = one.get_or_put("s", &recipe("a"), |folder| {
        // The other process builds the entry while this one does.
        two.get_or_put("s", &recipe("a"), fill("x"))?;
        fill("x")(folder)
    });
    assert_eq!(cached.unwrap().read(&store, "tokenizer.json").unwrap(), b"x");
    assert_eq!((one.counts()["s"].stored, two.counts()["s"].stored), (0, 1));
    assert_eq!(store.list(Path::new("c/s")).unwrap().len(), 1);
}

#[test]
fn many_threads_share_a_root_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("cache");
    let guard = open_shared(&root).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let cache = StageCache::new(&FsStore, &root);
                for name in ["a", "b", "c", "d"] {
                    let cached = cache.get_or_put("s", &recipe(name), fill("x")).unwrap();
                    assert_eq!(cached.read(&FsStore, "tokenizer.json").unwrap(), b"x");
                }
            });
        }
    });
    assert_eq!(FsStore.list(&root.join("s")).unwrap().len(), 4);
    drop(guard);
}

#[test]
fn a_failing_builder_leaves_nothing() {
    let store = MemStore::new();
    let cache = StageCache::new(&store, "cache");
    let result = cache.get_or_put("s", &recipe("a"), |folder| {
        folder.bytes("half", b"..")?;
        Err(StoreError::new(
            crate::store::Operation::Read,
            Path::new("corpus.txt"),
            ErrorKind::NotFound.into(),
        ))
    });
    assert!(result.unwrap_err().to_string().contains("corpus.txt"));
    assert!(store.list(Path::new("cache/s")).unwrap().is_empty());
}

#[test]
fn a_fault_or_a_crash_never_leaves_a_wrong_hit() {
    for nth in 0..60 {
        let store = FaultStore::new(MemStore::new(), nth, Fault::DiskFull);
        let result = StageCache::new(&store, "c").put("s", &recipe("a"), fill("x"));
        assert_eq!(result.is_err(), store.has_failed());
        let cache = StageCache::new(store.inner(), "c");
        cache.get_or_put("s", &recipe("a"), fill("x")).unwrap();
        assert_eq!(cache.counts()["s"].damaged, 0);
    }
    let store = RecordingStore::new();
    StageCache::new(&store, "c").put("s", &recipe("a"), fill("x")).unwrap();
    for after in 0..=store.position() {
        store.each_crash_state(after, |state| {
            let cache = StageCache::new(&state.disk, "c");
            cache.get("s", &recipe("a")).unwrap();
            assert!(cache.counts()["s"].damaged == 0, "{}", state.what);
        });
    }
}

#[test]
fn leftovers_are_swept_when_nobody_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("cache");
    let leave = || {
        let target = root.join("s").join("x");
        std::mem::forget(stage_folder(&FsStore, &target, fill("x")).unwrap());
    };
    let first = open_shared(&root).unwrap();
    leave();
    // A second user enters while the first is there: nothing is swept.
    let second = open_shared(&root).unwrap();
    assert_eq!(FsStore.list(&root.join("s")).unwrap().len(), 1);
    drop((first, second));
    let _third = open_shared(&root).unwrap();
    assert_eq!(FsStore.list(&root.join("s")).unwrap().len(), 0);
}

#[test]
fn an_entry_is_copied_into_a_run() {
    let store = MemStore::new();
    let cache = StageCache::new(&store, "cache");
    let cached = cache.put("tokenizer", &recipe("a"), fill("tok")).unwrap();
    for _ in 0..2 {
        cached.copy_to(&store, Path::new("runs/r/tokenizer")).unwrap();
    }
    let copied = verify_folder(&store, Path::new("runs/r/tokenizer")).unwrap();
    assert_eq!(copied, cached.complete);
    store.write(&cached.path.join("tokenizer.json"), b"bad").unwrap();
    let error = cached.copy_to(&store, Path::new("runs/s/tokenizer")).unwrap_err();
    assert!(matches!(error, FolderFault::Differs { .. }), "{error}");
    assert!(store.list(Path::new("runs/s")).unwrap().is_empty());
}
