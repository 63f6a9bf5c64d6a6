//! Packed weights in the user's cache: made once, checked whenever they are taken, and without a cache made each
//! time.

use super::super::generate::{Model, SessionOptions, WeightFormat, Which};
use super::*;
use crate::cache::StageCache;
use crate::store::{FsStore, Source};
use llmc_runtime::MappedFile;
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

fn model() -> Model {
    let store = MemStore::new();
    let run = run_whole(&store, &tiny(&["model.hidden_size=64"])).run;
    Model::open(&store, &run, Which::Last).unwrap()
}

fn with_cache(folder: &Path) -> SessionOptions {
    SessionOptions {
        threads: Some(2),
        weight_cache: Some(folder.to_path_buf()),
        ..SessionOptions::default()
    }
}

/// The bits of the logits behind a text, and whether the weights can still be filled: they are not mapped.
fn said(model: &Model, options: &SessionOptions) -> (Vec<u32>, bool) {
    let mut session = model.session(options).unwrap();
    let logits = session.next_logits(&[1, 2, 3, 4, 5]).unwrap();
    let bits = logits.iter().map(|x| x.to_bits()).collect();
    let first = session.weights()[0].clone();
    (bits, session.weight_bytes_mut(&first).is_ok())
}

/// Files of blocks.
fn blocks(folder: &Path) -> Vec<PathBuf> {
    let stage = folder.join("weights");
    let entries = FsStore.list(&stage).unwrap();
    entries.into_iter().map(|entry| stage.join(entry.name).join("block.bin")).collect()
}

#[test]
fn weights_are_packed_once_and_mapped() {
    let (model, folder) = (model(), tempfile::tempdir().unwrap());
    let options = with_cache(folder.path());
    let expected = said(&model, &SessionOptions::default());
    assert!(expected.1, "without a cache they are in memory of our own");
    for _ in 0..2 {
        assert_eq!(said(&model, &options), (expected.0.clone(), false));
        assert_eq!(blocks(folder.path()).len(), 1);
    }
    // It is the same block for a batch and for a narrow KV cache.
    let mut batch = model.batch(2, &options).unwrap();
    batch.join(&[1, 2, 3, 4, 5]).unwrap();
    let logits = batch.next_logits().unwrap().remove(0).1;
    assert!(logits.iter().map(|x| x.to_bits()).eq(expected.0));
    for (cache, _) in super::super::generate::CacheFormat::ALL {
        let narrow = SessionOptions { cache, ..options.clone() };
        let own = SessionOptions { weight_cache: None, ..narrow.clone() };
        assert_eq!(said(&model, &narrow).0, said(&model, &own).0);
    }
    assert_eq!(blocks(folder.path()).len(), 1);
    // Another one for weights in another format.
    let packed = model.with_weights(WeightFormat::Q8).unwrap();
    let expected = said(&packed, &SessionOptions::default()).0;
    assert_eq!(said(&packed, &options), (expected, false));
    assert_eq!(blocks(folder.path()).len(), 2);
}

#[test]
fn a_damaged_block_is_noticed_and_made_anew() {
    let (model, folder) = (model(), tempfile::tempdir().unwrap());
    let options = with_cache(folder.path());
    let expected = said(&model, &options);
    let file = blocks(folder.path()).remove(0);
    let whole = std::fs::read(&file).unwrap();
    let damages: [&dyn Fn(); 5] = [
        &|| {
            let mut bytes = whole.clone();
            bytes[whole.len() / 2] ^= 1;
            std::fs::write(&file, bytes).unwrap();
        },
        &|| std::fs::write(&file, &whole[..whole.len() - 64]).unwrap(),
        &|| std::fs::write(&file, [&whole[..], &[0; 4]].concat()).unwrap(),
        &|| std::fs::remove_file(&file).unwrap(),
        &|| std::fs::write(file.with_file_name("COMPLETE"), "{}").unwrap(),
    ];
    for (at, damage) in damages.iter().enumerate() {
        damage();
        assert_eq!(said(&model, &options), expected, "{at}");
        assert!(std::fs::read(&file).unwrap() == whole, "{at}");
    }
}

#[test]
fn without_a_cache_the_weights_are_in_memory_of_our_own() {
    let (model, folder) = (model(), tempfile::tempdir().unwrap());
    let expected = said(&model, &SessionOptions::default());
    // A file where the folder should be.
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(said(&model, &with_cache(&file.join("cache"))), expected);
    assert_eq!(said(&model.in_own_memory(), &SessionOptions::default()), expected);
}

#[test]
fn only_the_newest_blocks_stay() {
    let folder = tempfile::tempdir().unwrap();
    let cache = StageCache::new(&FsStore, folder.path());
    let key = |n: u8| llmc_base::Hash::of_bytes(&[n]);
    let mut mapped = Vec::new();
    for n in [3, 0, 4, 1, 2] {
        let stored = cache.put::<crate::store::StoreError>("weights", &key(n), |out| {
            out.bytes("block.bin", &[n; 100]).map(|_| ())
        });
        let path = stored.unwrap().path;
        let stored = SystemTime::UNIX_EPOCH + Duration::from_secs(n.into());
        File::open(path.join("COMPLETE")).unwrap().set_modified(stored).unwrap();
        mapped.push((n, MappedFile::open(&path.join("block.bin")).unwrap()));
    }
    for (n, bytes, left) in
        [(5, 500, &[0, 1, 2, 3, 4][..]), (9, 499, &[1, 2, 3, 4]), (2, 500, &[3, 4]), (2, 9, &[4])]
    {
        cache.keep_newest("weights", n, bytes).unwrap();
        let there = (0..5).filter(|n| cache.get("weights", &key(*n)).unwrap().is_some());
        assert_eq!(there.collect::<Vec<u8>>(), left);
        assert_eq!(blocks(folder.path()).len(), left.len());
    }
    // What goes stays with who has mapped it.
    for (n, file) in mapped {
        assert_eq!(file.bytes(), [n; 100]);
    }
}
