//! Sessions over one set of weights: they do not see each other, and go on from files.

use super::super::generate::{
    CacheFormat, Finish, Model, SessionKey, SessionOptions, Sessions, Settings, Which, generate_all,
};
use super::*;

fn threads(n: usize) -> SessionOptions {
    SessionOptions { threads: Some(n), ..SessionOptions::default() }
}

fn bits(sessions: &mut Sessions, key: SessionKey, ids: &[u32]) -> Vec<u32> {
    sessions.next_logits(key, ids).unwrap().iter().map(|x| x.to_bits()).collect()
}

#[test]
fn sessions_take_turns_fork_and_are_saved() {
    let store = MemStore::new();
    let result = run_whole(&store, &tiny(&[]));
    let model = Model::open(&store, &result.run, Which::Last).unwrap();
    let mut sessions = Sessions::new(&model, &threads(2)).unwrap();
    let texts: [&[u32]; 3] = [&[1, 2, 3], &[1, 2, 4, 5], &[9]];
    let alone = texts.map(|ids| {
        let key = sessions.open();
        let logits = bits(&mut sessions, key, ids);
        sessions.close(key);
        logits
    });
    let keys = texts.map(|_| sessions.open());
    for _ in 0..2 {
        for ((key, ids), alone) in keys.iter().zip(texts).zip(&alone) {
            assert_eq!(&bits(&mut sessions, *key, ids), alone);
        }
    }
    // A fork of one that is at work, and of one that is put aside.
    for parent in [keys[2], keys[0]] {
        let fork = sessions.fork(parent);
        assert_eq!(bits(&mut sessions, fork, texts[1]), alone[1]);
    }

    let path = Path::new("a.session");
    sessions.save(keys[1], texts[1], &store, path).unwrap();
    let mut others = Sessions::new(&model, &threads(1)).unwrap();
    let (key, ids) = others.load(&store, path).unwrap();
    assert_eq!(ids, texts[1]);
    assert_eq!(bits(&mut others, key, &ids), alone[1]);
    // What is saved again is the same file.
    let bytes = store.read(path).unwrap();
    others.save(key, &ids, &store, Path::new("b.session")).unwrap();
    assert!(store.read(Path::new("b.session")).unwrap() == bytes);

    let code = |sessions: &mut Sessions, path: &Path| {
        let failure = sessions.load(&store, path).map(|_| ()).unwrap_err();
        failure.diagnostics()[0].code.clone()
    };
    store.write(path, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(code(&mut others, path), "session::file");
    let longer = run_whole(&store, &tiny(&["training.max_steps=5"]));
    let other = Model::open(&store, &longer.run, Which::Last).unwrap();
    let mut others = Sessions::new(&other, &SessionOptions::default()).unwrap();
    assert_eq!(code(&mut others, Path::new("b.session")), "session::model");
}

#[test]
fn one_of_several_texts_is_cancelled_between_tokens() {
    let store = MemStore::new();
    let result = run_whole(&store, &tiny(&[]));
    let model = Model::open(&store, &result.run, Which::Last).unwrap();
    let prompts = ["a", "b", "ab", "abc"].map(String::from);
    // Nothing ends by itself, and what could become the stop string is held back.
    let eos = model.tokenizer.roles().eos.unwrap();
    let sampling =
        llmc_runtime::Sampling { logit_bias: [(eos, -1e9)].into(), seed: 3, ..Default::default() };
    let stop = vec!["no text has this in it".to_string()];
    let settings = Settings { stop, ..Settings::new(9, sampling) };
    let said = |enough: Option<(usize, usize)>| {
        let mut batch = model.batch(2, &threads(1)).unwrap();
        let mut calls = [0; 4];
        let mut each = |number: usize, _: &str| {
            calls[number] += 1;
            enough != Some((number, calls[number]))
        };
        generate_all(&mut batch, &model.tokenizer, &prompts, &settings, &mut each).unwrap()
    };
    let all = said(None);
    assert!(all.iter().all(|text| text.finish == Finish::Length));
    for number in 0..prompts.len() {
        let some = said(Some((number, 4)));
        for (at, (text, whole)) in some.iter().zip(&all).enumerate() {
            match at == number {
                true => assert_eq!((text.finish, text.new_tokens), (Finish::Cancelled, 4)),
                false => assert_eq!(text, whole),
            }
        }
    }
}

#[test]
fn a_session_with_a_narrow_cache_goes_on_from_its_file_alone() {
    let store = MemStore::new();
    let result = run_whole(&store, &tiny(&[]));
    let model = Model::open(&store, &result.run, Which::Last).unwrap();
    let ids = [1, 2, 3, 4, 5, 6, 7];
    let mut seen = Vec::new();
    for (cache, name) in CacheFormat::ALL {
        let options = SessionOptions { cache, ..threads(2) };
        let mut sessions = Sessions::new(&model, &options).unwrap();
        let key = sessions.open();
        let logits = bits(&mut sessions, key, &ids);
        assert!(!seen.contains(&logits), "{name}");
        let path = Path::new("a.session");
        sessions.save(key, &ids[..6], &store, path).unwrap();
        let mut others = Sessions::new(&model, &options).unwrap();
        let (key, text) = others.load(&store, path).unwrap();
        assert_eq!(text, ids[..6]);
        assert_eq!(bits(&mut others, key, &ids), logits, "{name}");
        if let Some((other, _)) = CacheFormat::ALL.iter().find(|(other, _)| *other != cache) {
            let options = SessionOptions { cache: *other, ..threads(1) };
            let mut others = Sessions::new(&model, &options).unwrap();
            let failure = others.load(&store, path).map(|_| ()).unwrap_err();
            assert_eq!(failure.diagnostics()[0].code, "session::cache");
        }
        seen.push(logits);
    }
}
