//! The store's contracts: memory answers as the disk does, what is committed
//! survives every crash, and the recorder would notice if it did not.

use super::*;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

fn p(path: &str) -> &Path {
    Path::new(path)
}

/// A small generator; the sequence is fixed by the seed.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }
}

/// One random operation; the answer as text.
fn random_operation(rng: &mut Lcg, store: &dyn Store, root: &Path) -> String {
    let names = ["a", "b", "a/x", "a/y", "b/x", "b/x/deep"];
    let path = root.join(names[rng.below(names.len())]);
    let other = root.join(names[rng.below(names.len())]);
    let bytes = vec![b'0' + rng.below(10) as u8; rng.below(5)];
    let text = |result: Result<String, StoreError>| match result {
        Ok(text) => text,
        // Where several things are wrong, systems differ in which they name.
        Err(e) if matches!(e.operation, Operation::RemoveFile | Operation::Rename) => {
            "error".to_string()
        }
        Err(e) => format!("{:?}", e.kind()),
    };
    let done = |result: Result<(), StoreError>| text(result.map(|()| "done".to_string()));
    match rng.below(10) {
        0 | 1 => done(store.create_dir(&path)),
        2 | 3 => done(store.write(&path, &bytes)),
        4 => done(store.append(&path, &bytes)),
        5 if path.starts_with(&other) || other.starts_with(&path) => "skipped".to_string(),
        5 => done(store.rename(&path, &other)),
        6 => done(store.remove_file(&path)),
        7 => done(store.remove_dir_all(&path)),
        8 => text(store.read(&path).map(|b| String::from_utf8(b).unwrap())),
        _ => text(store.list(&path).map(|entries| format!("{entries:?}"))),
    }
}

#[test]
fn memory_answers_as_the_disk_does() {
    for seed in 0..60 {
        let folder = tempfile::tempdir().unwrap();
        let (disk, memory, recording) = (FsStore, MemStore::new(), RecordingStore::new());
        let (mut r1, mut r2, mut r3) = (Lcg(seed), Lcg(seed), Lcg(seed));
        for step in 0..60 {
            let expected = random_operation(&mut r1, &disk, folder.path());
            assert_eq!(random_operation(&mut r2, &memory, p("")), expected, "{seed} {step}");
            assert_eq!(random_operation(&mut r3, &recording, p("/")), expected, "{seed} {step}");
        }
        assert_eq!(
            hash_folder(&disk, folder.path()).unwrap(),
            hash_folder(&memory, p("")).unwrap()
        );
    }
}

#[test]
fn errors_say_operation_path_and_cause() {
    let error = FsStore.read(p("no/such/file")).unwrap_err();
    assert!(error.to_string().starts_with("cannot read `no/such/file`: "), "{error}");
    let diagnostic = llmc_base::Diagnostic::from(&error);
    assert_eq!(diagnostic.code, "store::missing");
    let full = StoreError::new(Operation::Write, p("f"), ErrorKind::StorageFull.into());
    assert_eq!(llmc_base::Diagnostic::from(&full).code, "store::disk_full");
}

#[test]
fn hashes_are_those_of_b3sum_and_name_every_file() {
    let store = MemStore::new();
    store.create_dir(p("d")).unwrap();
    store.write(p("d/f"), b"llmc").unwrap();
    store.write(p("e"), b"").unwrap();
    let (length, hash) = hash_file(&store, p("d/f")).unwrap();
    assert_eq!((length, hash), (4, llmc_base::Hash::of_bytes(b"llmc")));
    let files = hash_folder(&store, p("")).unwrap();
    assert_eq!(files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["d/f", "e"]);
    let mut reversed = files.clone();
    reversed.reverse();
    assert_eq!(folder_hash(&files), folder_hash(&reversed));
    reversed[0].path = "g".into();
    assert_ne!(folder_hash(&files), folder_hash(&reversed));
}

#[test]
fn the_writer_hashes_what_it_writes_in_pieces() {
    let store = MemStore::new();
    let bytes: Vec<u8> = (0..3_000_001u32).map(|i| (i * 7 % 251) as u8).collect();
    for piece in [1 << 10, 700_001, 1 << 21] {
        let mut writer = StoreWriter::new(&store, "f".into());
        for part in bytes.chunks(piece) {
            writer.write_all(part).unwrap();
        }
        let (length, hash) = writer.finish().unwrap();
        assert_eq!(length, bytes.len() as u64);
        assert_eq!(hash, llmc_base::Hash::of_bytes(&bytes));
        assert!(store.read(p("f")).unwrap() == bytes);
    }
    let (length, _) = StoreWriter::new(&store, "empty".into()).finish().unwrap();
    assert_eq!((length, store.file_len(p("empty")).unwrap()), (0, 0));
}

#[test]
fn the_writer_reports_the_error_of_the_store() {
    let store = FaultStore::new(MemStore::new(), 1, Fault::DiskFull);
    let mut writer = StoreWriter::new(&store, "f".into());
    writer.write_all(&vec![1; 1 << 20]).unwrap();
    assert_eq!(writer.write_all(&vec![1; 1 << 20]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(writer.finish().unwrap_err().is_disk_full());
}

/// All contents of `path` that a crash anywhere in `range` may leave.
fn contents_after_crash(
    store: &RecordingStore,
    range: std::ops::RangeInclusive<usize>,
    path: &str,
) -> BTreeSet<Option<Vec<u8>>> {
    let mut seen = BTreeSet::new();
    for after in range {
        store.each_crash_state(after, |state| {
            seen.insert(state.disk.read(p(path)).ok());
        });
    }
    seen
}

#[test]
fn an_atomic_write_is_old_or_new_after_every_crash() {
    let store = RecordingStore::new();
    write_atomic(&store, p("f"), b"old content").unwrap();
    let old = store.position();
    write_atomic(&store, p("f"), b"new").unwrap();
    let new = store.position();
    let some = |text: &str| Some(text.as_bytes().to_vec());
    assert_eq!(
        contents_after_crash(&store, 0..=old, "f"),
        BTreeSet::from([None, some("old content")])
    );
    assert_eq!(
        contents_after_crash(&store, old..=new, "f"),
        BTreeSet::from([some("old content"), some("new")])
    );
    assert_eq!(contents_after_crash(&store, new..=new, "f"), BTreeSet::from([some("new")]));
}

#[test]
fn many_files_are_each_old_or_new_after_every_crash() {
    let store = RecordingStore::new();
    create_dir_all(&store, p("d")).unwrap();
    write_all_atomic(&store, &[(p("f"), b"old"), (p("d/g"), b"old")]).unwrap();
    let old = store.position();
    write_all_atomic(&store, &[(p("f"), b"new"), (p("d/g"), b"new")]).unwrap();
    let new = store.position();
    let (is_old, is_new) = (Some(b"old".to_vec()), Some(b"new".to_vec()));
    for path in ["f", "d/g"] {
        let seen = contents_after_crash(&store, old..=new, path);
        assert_eq!(seen, BTreeSet::from([is_old.clone(), is_new.clone()]));
        let seen = contents_after_crash(&store, new..=new, path);
        assert_eq!(seen, BTreeSet::from([is_new.clone()]));
    }
    for nth in 0..20 {
        let disk = MemStore::new();
        disk.write(p("f"), b"old").unwrap();
        let store = FaultStore::new(disk, nth, Fault::DiskFull);
        let result = write_all_atomic(&store, &[(p("f"), b"new"), (p("g"), b"new")]);
        assert_eq!(result.is_err(), store.has_failed());
        let disk = store.inner();
        assert!(matches!(disk.read(p("f")).unwrap().as_slice(), b"old" | b"new"));
        assert!(disk.list(p("")).unwrap().iter().all(|e| !e.name.contains(".tmp-")));
    }
}

#[test]
fn syncing_together_works_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<PathBuf> = (0..40).map(|i| folder.path().join(format!("f{i}"))).collect();
    let files: Vec<(&Path, &[u8])> = names.iter().map(|n| (n.as_path(), &b"x"[..])).collect();
    write_all_atomic(&FsStore, &files).unwrap();
    assert_eq!(FsStore.list(folder.path()).unwrap().len(), 40);
    let none = folder.path().join("none");
    let error = FsStore.sync_all(&[names[0].clone(), none], &[]).unwrap_err();
    assert_eq!((error.operation, error.kind()), (Operation::SyncFile, ErrorKind::NotFound));
}

#[test]
fn the_recorder_notices_every_missing_sync() {
    let some = |text: &str| Some(text.as_bytes().to_vec());
    // No sync of the file: the name is there, the content is not.
    let store = RecordingStore::new();
    store.write(p("f.tmp"), b"abcd").unwrap();
    store.rename(p("f.tmp"), p("f")).unwrap();
    store.sync_dir(p("")).unwrap();
    let end = store.position();
    let zeros = Some(vec![0; 4]);
    assert_eq!(
        contents_after_crash(&store, end..=end, "f"),
        BTreeSet::from([some(""), some("ab"), zeros, some("abcd")])
    );
    // No sync of the folder: the new name is lost, before or after the old one.
    let store = RecordingStore::new();
    write_atomic(&store, p("f"), b"old").unwrap();
    store.write(p("f.tmp"), b"new").unwrap();
    store.sync_file(p("f.tmp")).unwrap();
    store.rename(p("f.tmp"), p("f")).unwrap();
    let end = store.position();
    assert_eq!(
        contents_after_crash(&store, end..=end, "f"),
        BTreeSet::from([some("old"), some("new")])
    );
    // Two names without a sync between them arrive in any order.
    let store = RecordingStore::new();
    store.write(p("first"), b"").unwrap();
    store.write(p("second"), b"").unwrap();
    let mut orders = BTreeSet::new();
    store.each_crash_state(store.position(), |state| {
        let names = state.disk.list(p("")).unwrap();
        orders.insert(names.into_iter().map(|e| e.name).collect::<Vec<_>>().join(" "));
    });
    assert_eq!(orders, ["", "first", "first second", "second"].map(String::from).into());
    // Appended bytes never hurt what was synced before.
    let store = RecordingStore::new();
    write_atomic(&store, p("log"), b"one\n").unwrap();
    store.append(p("log"), b"two\n").unwrap();
    let end = store.position();
    contents_after_crash(&store, end..=end, "log")
        .iter()
        .for_each(|content| assert!(content.as_ref().unwrap().starts_with(b"one\n")));
}

fn fill(text: &'static str) -> impl Fn(&mut FolderWriter) -> Result<(), StoreError> {
    move |folder| {
        folder.bytes("a", text.as_bytes())?;
        folder.file("sub/deep/b", |out| write!(out, "{text}{text}"))?;
        folder.bytes("empty", b"")?;
        Ok(())
    }
}

#[test]
fn a_group_leaves_each_part_whole_or_as_it_was() {
    let group = |store: &dyn Store| -> Result<(), StoreError> {
        let mut group = Group::new(store);
        group.file(p("f"), b"new")?;
        group.folder(p("one"), fill("some text"))?;
        group.folder(p("deep/two"), fill("other"))?;
        group.commit()
    };
    let store = RecordingStore::new();
    write_atomic(&store, p("f"), b"old").unwrap();
    let old = store.position();
    group(&store).unwrap();
    let end = store.position();
    let mut n_torn = 0;
    for after in old..=end {
        store.each_crash_state(after, |state| {
            let file = state.disk.read(p("f")).unwrap();
            assert!(matches!(file.as_slice(), b"old" | b"new"), "{}", state.what);
            for folder in ["one", "deep/two"] {
                let is_there = state.disk.exists(p(folder)).unwrap();
                assert!(is_there || after < end, "{}", state.what);
                assert_eq!(verify_folder(&state.disk, p(folder)).is_ok(), is_there);
                n_torn += usize::from(!is_there && file == b"new");
            }
        });
    }
    assert!(n_torn > 0, "the parts are independent of each other");
    for nth in 0..60 {
        for fault in [Fault::DiskFull, Fault::Abort] {
            let disk = MemStore::new();
            disk.write(p("f"), b"old").unwrap();
            let store = FaultStore::new(disk, nth, fault);
            assert_eq!(group(&store).is_err(), store.has_failed());
            let disk = store.inner();
            assert!(matches!(disk.read(p("f")).unwrap().as_slice(), b"old" | b"new"));
            let leaves_nothing = matches!(fault, Fault::DiskFull);
            let names = disk.list(p("")).unwrap();
            assert!(!leaves_nothing || names.iter().all(|e| !is_temporary(&e.name)));
        }
    }
}

#[test]
fn a_folder_is_whole_or_absent_after_every_crash() {
    let store = RecordingStore::new();
    commit_folder(&store, p("runs/one"), fill("some text")).unwrap();
    let end = store.position();
    let mut n_states = 0;
    for after in 0..=end {
        store.each_crash_state(after, |state| {
            n_states += 1;
            let is_there = state.disk.exists(p("runs/one")).unwrap();
            assert!(is_there || after < end, "{}", state.what);
            if is_there {
                let marker = verify_folder(&state.disk, p("runs/one"));
                assert!(marker.is_ok(), "{}: {}", state.what, marker.unwrap_err());
                assert_eq!(marker.unwrap().files.len(), 3);
            }
        });
    }
    assert!(n_states > 500, "{n_states}");
}

#[test]
fn every_damage_of_a_folder_is_named() {
    let fault = |damage: &dyn Fn(&MemStore)| {
        let store = MemStore::new();
        commit_folder(&store, p("d"), fill("text")).unwrap();
        damage(&store);
        verify_folder(&store, p("d")).unwrap_err().to_string()
    };
    assert_eq!(
        fault(&|s| s.remove_file(p("d/COMPLETE")).unwrap()),
        "the marker `COMPLETE` is missing"
    );
    assert_eq!(
        fault(&|s| s.remove_file(p("d/sub/deep/b")).unwrap()),
        "the file `sub/deep/b` is missing"
    );
    let differs = fault(&|s| s.write(p("d/a"), b"texT").unwrap());
    assert!(differs.starts_with("the file `a` differs: expected "), "{differs}");
    let cut = fault(&|s| {
        let marker = s.read(p("d/COMPLETE")).unwrap();
        s.write(p("d/COMPLETE"), &marker[..marker.len() / 2]).unwrap();
    });
    assert!(cut.starts_with("the marker `COMPLETE` is damaged: "), "{cut}");
    let forged = fault(&|s| {
        let marker = s.read_text(p("d/COMPLETE")).unwrap();
        s.write(p("d/COMPLETE"), marker.replace("\"empty\"", "\"other\"").as_bytes()).unwrap();
    });
    assert!(forged.contains("hash does not fit"), "{forged}");
    let nothing = verify_folder(&MemStore::new(), p("d")).unwrap_err().to_string();
    assert_eq!(nothing, "the marker `COMPLETE` is missing");
}

#[test]
fn reading_one_file_checks_it() {
    let store = MemStore::new();
    let marker = commit_folder(&store, p("d"), fill("text")).unwrap();
    assert_eq!(read_verified(&store, p("d"), &marker, "a").unwrap(), b"text");
    store.write(p("d/a"), b"texT").unwrap();
    assert!(matches!(
        read_verified(&store, p("d"), &marker, "a"),
        Err(FolderFault::Differs { .. })
    ));
    assert!(matches!(read_verified(&store, p("d"), &marker, "none"), Err(FolderFault::Missing(_))));
}

#[test]
fn a_mapped_file_is_checked_as_one_that_is_read() {
    let disk = tempfile::tempdir().unwrap();
    let memory = MemStore::new();
    create_dir_all(&memory, disk.path()).unwrap();
    let folder = disk.path().join("d");
    for store in [&FsStore as &dyn Store, &memory] {
        let marker = commit_folder(store, &folder, |out| {
            out.bytes("a", b"text")?;
            out.bytes("empty", b"").map(|_| ())
        });
        let marker = marker.unwrap_or_else(|e: StoreError| panic!("{e}"));
        let map = |file: &str| map_verified(store, &folder, &marker, file);
        let text = map("a").unwrap();
        assert_eq!((&*text, &*map("empty").unwrap()), (&b"text"[..], &b""[..]));
        assert!(matches!(map("none"), Err(FolderFault::Missing(_))));
        assert_eq!(text.into_owned(), Bytes::Owned(b"text".to_vec()));
        store.write(&folder.join("a"), b"texT").unwrap();
        assert!(matches!(map("a"), Err(FolderFault::Differs { .. })));
        store.remove_file(&folder.join("a")).unwrap();
        assert!(matches!(map("a"), Err(FolderFault::Missing(_))));
    }
}

#[test]
fn a_fault_at_any_operation_leaves_no_torn_folder() {
    for fault in [Fault::DiskFull, Fault::Once(ErrorKind::PermissionDenied), Fault::Abort] {
        for nth in 0..100 {
            let store = FaultStore::new(MemStore::new(), nth, fault);
            let result = commit_folder(&store, p("runs/one"), fill("text"));
            if !store.has_failed() {
                result.unwrap();
                continue;
            }
            assert!(result.is_err(), "{fault:?} at {nth} was dropped");
            let disk = store.inner();
            if disk.exists(p("runs/one")).unwrap() {
                verify_folder(disk, p("runs/one")).unwrap();
            }
            if fault != Fault::Abort && disk.exists(p("runs")).unwrap() {
                let left = disk.list(p("runs")).unwrap();
                assert!(left.iter().all(|e| e.name == "one"), "{fault:?} at {nth}: {left:?}");
            }
        }
    }
}

#[test]
fn an_existing_target_is_not_replaced() {
    let store = MemStore::new();
    commit_folder(&store, p("d"), fill("first")).unwrap();
    let error = commit_folder(&store, p("d"), fill("second")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DirectoryNotEmpty);
    let marker = verify_folder(&store, p("d")).unwrap();
    assert_eq!(read_verified(&store, p("d"), &marker, "a").unwrap(), b"first");
    assert_eq!(store.list(p("")).unwrap().len(), 1);
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    let store = MemStore::new();
    for name in ["../x", "/x", "a//b", "", ".", "COMPLETE", "a\\b"] {
        let error = commit_folder(&store, p("d"), |f| f.bytes(name, b"").map(drop)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
    }
    let twice = commit_folder(&store, p("d"), |f| {
        f.bytes("a", b"")?;
        f.bytes("a", b"").map(drop)
    });
    assert_eq!(twice.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn leftovers_are_found_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let root: PathBuf = folder.path().into();
    let staged = stage_folder(&FsStore, &root.join("d"), fill("text")).unwrap();
    std::mem::forget(staged);
    FsStore.write(&temporary_name(&root.join("f")).unwrap(), b"half").unwrap();
    FsStore.write(&root.join("kept"), b"").unwrap();
    assert_eq!(remove_temporaries(&FsStore, &root).unwrap().len(), 2);
    assert_eq!(FsStore.list(&root).unwrap().len(), 1);
}

#[cfg(unix)]
#[test]
fn text_files_pass_over_what_is_no_text() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("sub/.hidden")).unwrap();
    for name in ["a.txt", "sub/b.txt", "sub/.hidden/c.txt", ".d.txt"] {
        std::fs::write(at(name), name).unwrap();
    }
    symlink(at("a.txt"), at("link.txt")).unwrap();
    symlink(at("nothing"), at("dangling.txt")).unwrap();
    // A link to a folder may lead back to itself.
    symlink(folder.path(), at("sub/loop")).unwrap();
    let mut found = FsStore.text_files(folder.path()).unwrap();
    found.sort();
    assert_eq!(found, [at("a.txt"), at("link.txt"), at("sub/b.txt")]);
    let faulty = FaultStore::new(FsStore, 0, Fault::Abort);
    assert_eq!(faulty.text_files(folder.path()).unwrap().len(), 3);
    assert!(FsStore.text_files(&at("none")).is_err());
    assert!(FsStore.modified(&at("a.txt")).is_some() && FsStore.modified(&at("none")).is_none());
}

#[test]
fn text_files_in_memory_are_those_on_the_disk() {
    let store = MemStore::new();
    create_dir_all(&store, Path::new("t/sub/.hidden")).unwrap();
    for name in ["t/a.txt", "t/sub/b.txt", "t/sub/.hidden/c.txt", "t/.d.txt"] {
        store.write(Path::new(name), b"x").unwrap();
    }
    let mut found = store.text_files(Path::new("t")).unwrap();
    found.sort();
    assert_eq!(found, [PathBuf::from("t/a.txt"), PathBuf::from("t/sub/b.txt")]);
}
