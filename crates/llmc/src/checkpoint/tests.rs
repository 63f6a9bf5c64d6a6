//! Every crash prefix, every failing operation, every damage.

use super::*;
use crate::store::{Fault, FaultStore, FsStore, MemStore, RecordingStore};
use std::io::ErrorKind;

const RUN: &str = "runs/abc";

fn run() -> &'static Path {
    Path::new(RUN)
}

/// A checkpoint of three files whose bytes depend on `tag`.
fn save_tag(store: &dyn Store, step: u64, tag: &str) -> Result<Checkpoint, StoreError> {
    let weights = format!("weights {tag}");
    let write = |out: &mut dyn Write| {
        out.write_all(b"moments ")?;
        out.write_all(tag.as_bytes())
    };
    let state = format!("{{\"step\":{step},\"tag\":\"{tag}\"}}");
    let files = [
        ("weights.safetensors", Content::Bytes(weights.as_bytes())),
        ("optimizer.safetensors", Content::Write(&write)),
        ("state.json", Content::Bytes(state.as_bytes())),
    ];
    save(store, run(), step, &files)
}

/// The tag of the newest whole checkpoint, after checking that all its files
/// carry it.
fn newest_tag(source: &dyn Source) -> Option<(u64, String)> {
    let (checkpoint, _) = load_latest_whole(source, run()).unwrap();
    let checkpoint = checkpoint?;
    let text = |name| String::from_utf8(checkpoint.read(source, name).unwrap()).unwrap();
    let tag = text("weights.safetensors").strip_prefix("weights ").unwrap().to_string();
    assert_eq!(text("optimizer.safetensors"), format!("moments {tag}"));
    assert_eq!(text("state.json"), format!("{{\"step\":{},\"tag\":\"{tag}\"}}", checkpoint.step));
    Some((checkpoint.step, tag))
}

/// Checks every crash state from `from` to `to`: the newest whole checkpoint is
/// one of `allowed`.
fn check_crashes(
    store: &RecordingStore,
    from: usize,
    to: usize,
    allowed: &[Option<(u64, &str)>],
) -> usize {
    let mut n_states = 0;
    for after in from..=to {
        store.each_crash_state(after, |state| {
            n_states += 1;
            let newest = newest_tag(&state.disk);
            let newest = newest.as_ref().map(|(step, tag)| (*step, tag.as_str()));
            assert!(allowed.contains(&newest), "{newest:?} {}", state.what);
        });
    }
    n_states
}

#[test]
fn every_crash_prefix_leaves_a_whole_checkpoint() {
    let store = RecordingStore::new();
    crate::store::create_dir_all(&store, run()).unwrap();
    save_tag(&store, 100, "a").unwrap();
    let first = store.position();
    save_tag(&store, 200, "b").unwrap();
    let second = store.position();
    let removed = prune(&store, run(), Keep { last: 1, best: vec![] }).unwrap();
    assert_eq!(removed, [100]);
    let end = store.position();

    let mut n = check_crashes(&store, 0, first, &[None, Some((100, "a"))]);
    n += check_crashes(&store, first, first, &[Some((100, "a"))]);
    n += check_crashes(&store, first, second, &[Some((100, "a")), Some((200, "b"))]);
    n += check_crashes(&store, second, end, &[Some((200, "b"))]);
    assert!(n > 1000, "only {n} crash states");
}

#[test]
fn every_crash_while_a_step_is_saved_again_leaves_one_of_the_two() {
    let store = RecordingStore::new();
    save_tag(&store, 100, "a").unwrap();
    let first = store.position();
    save_tag(&store, 100, "b").unwrap();
    let second = store.position();
    check_crashes(&store, first, second, &[Some((100, "a")), Some((100, "b"))]);
    check_crashes(&store, second, second, &[Some((100, "b"))]);
    assert_eq!(list(&store, run()).unwrap().len(), 1);
}

#[test]
fn a_crash_can_be_followed_by_a_save_and_a_prune() {
    let store = RecordingStore::new();
    save_tag(&store, 100, "a").unwrap();
    let first = store.position();
    save_tag(&store, 100, "b").unwrap();
    for after in first..=store.position() {
        store.each_crash_state(after, |state| {
            save_tag(&state.disk, 100, "c").unwrap();
            assert_eq!(newest_tag(&state.disk), Some((100, "c".into())), "{}", state.what);
            prune(&state.disk, run(), Keep { last: 3, best: vec![] }).unwrap();
            let left = state.disk.list(&run().join(FOLDER)).unwrap();
            assert_eq!(left.len(), 1, "{left:?} {}", state.what);
        });
    }
}

#[test]
fn the_same_content_saved_again_changes_nothing() {
    let store = MemStore::new();
    let one = save_tag(&store, 100, "a").unwrap();
    let two = save_tag(&store, 100, "a").unwrap();
    assert_eq!(one, two);
    assert_eq!(store.list(&run().join(FOLDER)).unwrap().len(), 1);
}

#[test]
fn a_full_disk_loses_no_earlier_checkpoint_and_leaves_no_rubbish() {
    for tag in ["b", "a"] {
        for nth in 0..100 {
            let disk = MemStore::new();
            save_tag(&disk, 100, "a").unwrap();
            let step = if tag == "a" { 100 } else { 200 };
            let store = FaultStore::new(disk, nth, Fault::DiskFull);
            let saved = save_tag(&store, step, tag);
            if !store.has_failed() {
                saved.unwrap();
                continue;
            }
            assert!(saved.as_ref().is_err_and(StoreError::is_disk_full), "{nth}");
            let disk = store.inner();
            let tags = newest_tag(disk).unwrap();
            assert!(tags == (100, "a".into()) || tags == (step, tag.into()), "{nth} {tags:?}");
            let names = disk.list(&run().join(FOLDER)).unwrap();
            assert!(names.iter().all(|e| !e.name.contains(".tmp-")), "{nth} {names:?}");
            assert!(names.iter().any(|e| e.name == "step-000100"), "{nth} {names:?}");
        }
    }
}

#[test]
fn any_single_error_or_abort_leaves_one_of_the_two() {
    for fault in [Fault::Abort, Fault::Once(ErrorKind::PermissionDenied), Fault::DiskFull] {
        for nth in 0..100 {
            let disk = MemStore::new();
            save_tag(&disk, 100, "a").unwrap();
            let store = FaultStore::new(disk, nth, fault);
            // The same step with other content: the most delicate case.
            let saved = save_tag(&store, 100, "b");
            let (_, tag) = newest_tag(store.inner()).unwrap();
            assert!(tag == "b" || (tag == "a" && saved.is_err()), "{fault:?} {nth} {tag}");
            save_tag(store.inner(), 100, "c").unwrap();
            assert_eq!(store.inner().list(&run().join(FOLDER)).unwrap().len(), 1);
            assert!(saved.is_ok() || store.has_failed());
        }
    }
}

#[test]
fn a_torn_checkpoint_is_reported_and_skipped() {
    type Damage<'a> = &'a dyn Fn(&MemStore, &Path);
    let damage: [(&str, Damage); 4] = [
        ("marker `COMPLETE` is missing", &|s, f| s.remove_file(&f.join(COMPLETE)).unwrap()),
        ("`weights.safetensors` differs", &|s, f| {
            s.write(&f.join("weights.safetensors"), b"weights B").unwrap();
        }),
        ("`optimizer.safetensors` differs", &|s, f| {
            s.append(&f.join("optimizer.safetensors"), b"\0").unwrap();
        }),
        ("`state.json` is missing", &|s, f| s.remove_file(&f.join("state.json")).unwrap()),
    ];
    for (message, damage) in damage {
        let store = MemStore::new();
        save_tag(&store, 100, "a").unwrap();
        save_tag(&store, 200, "b").unwrap();
        damage(&store, &folder(run(), 200));
        let (checkpoint, diagnostics) = load_latest_whole(&store, run()).unwrap();
        assert_eq!(checkpoint.unwrap().step, 100);
        assert_eq!(diagnostics.len(), 1);
        assert_eq!(diagnostics[0].code, "checkpoint::torn");
        assert!(diagnostics[0].message.contains(message), "{}", diagnostics[0]);
        assert!(diagnostics[0].labels[0].span.file.ends_with("step-000200"));
        // Asking for the torn one by name is an error; saving it again heals it.
        assert_eq!(load_step(&store, run(), 200).unwrap_err()[0].code, "checkpoint::torn");
        save_tag(&store, 200, "b").unwrap();
        assert_eq!(newest_tag(&store), Some((200, "b".into())));
    }
}

#[test]
fn an_unknown_step_is_answered_with_the_known_ones() {
    let store = MemStore::new();
    let none = load_step(&store, run(), 7).unwrap_err();
    assert!(none[0].to_string().contains("no checkpoint yet"), "{}", none[0]);
    save_tag(&store, 100, "a").unwrap();
    save_tag(&store, 200, "b").unwrap();
    let unknown = load_step(&store, run(), 150).unwrap_err();
    assert_eq!(unknown[0].code, "checkpoint::unknown_step");
    assert!(unknown[0].to_string().contains("100, 200"), "{}", unknown[0]);
    assert_eq!(load_step(&store, run(), 100).unwrap().step, 100);
}

fn steps(store: &dyn Store) -> Vec<u64> {
    list(store, run()).unwrap().into_iter().map(|l| l.step).collect()
}

#[test]
fn prune_keeps_the_newest_and_the_best() {
    let store = MemStore::new();
    for step in [100, 200, 300, 400, 500] {
        save_tag(&store, step, "x").unwrap();
    }
    let keep = Keep { last: 2, best: vec![200] };
    assert_eq!(prune(&store, run(), keep.clone()).unwrap(), [100, 300]);
    assert_eq!(steps(&store), [200, 400, 500]);
    assert_eq!(prune(&store, run(), keep.clone()).unwrap(), [0u64; 0]);
    assert_eq!(prune(&store, run(), Keep { last: 0, best: vec![] }).unwrap(), [200, 400]);
    assert_eq!(steps(&store), [500]);
}

#[test]
fn prune_never_removes_the_only_whole_checkpoint() {
    let store = MemStore::new();
    for step in [100, 200, 300] {
        save_tag(&store, step, "x").unwrap();
    }
    // Same length, other bytes: only a full reading finds it.
    store.write(&folder(run(), 300).join("weights.safetensors"), b"weights y").unwrap();
    store.remove_file(&folder(run(), 200).join(COMPLETE)).unwrap();
    assert_eq!(prune(&store, run(), Keep { last: 1, best: vec![] }).unwrap(), [0u64; 0]);
    assert_eq!(newest_tag(&store), Some((100, "x".into())));
    store.remove_file(&folder(run(), 100).join(COMPLETE)).unwrap();
    assert_eq!(prune(&store, run(), Keep { last: 1, best: vec![] }).unwrap(), [0u64; 0]);
    assert_eq!(steps(&store), [100, 200, 300]);
}

#[test]
fn steps_sort_as_numbers_and_other_names_are_left_alone() {
    let store = MemStore::new();
    for step in [2_000_000, 999_999, 5] {
        save_tag(&store, step, "x").unwrap();
    }
    for name in ["step-7", "step-abcdef", "notes", "step-+00001"] {
        store.create_dir(&run().join(FOLDER).join(name)).unwrap();
    }
    assert_eq!(steps(&store), [5, 999_999, 2_000_000]);
    assert_eq!(prune(&store, run(), Keep { last: 1, best: vec![] }).unwrap(), [5, 999_999]);
    assert!(store.exists(&run().join(FOLDER).join("notes")).unwrap());
}

#[test]
fn it_works_on_the_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let files = [("w", Content::Bytes(b"abc")), ("dir/s", Content::Bytes(b""))];
    save(&FsStore, folder.path(), 1, &files).unwrap();
    save(&FsStore, folder.path(), 2, &files).unwrap();
    prune(&FsStore, folder.path(), Keep { last: 1, best: vec![] }).unwrap();
    let (checkpoint, _) = load_latest_whole(&FsStore, folder.path()).unwrap();
    let checkpoint = checkpoint.unwrap();
    assert_eq!(checkpoint.step, 2);
    assert_eq!(checkpoint.read(&FsStore, "w").unwrap(), b"abc");
    assert_eq!(list(&FsStore, folder.path()).unwrap().len(), 1);
}
