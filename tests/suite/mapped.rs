//! Weights that lie in a file give the bits of weights in memory of one's own.

use crate::sessions::{CONTEXT, VOCAB, alone, batch, bits, modules, session, text};
use llmc_runtime::{Batch, Engine, MappedFile, Session, SessionError};
use std::path::PathBuf;

/// A file with these bytes.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("llmc-{}-{name}", std::process::id()));
    std::fs::write(&path, bytes).expect("written");
    path
}

fn engine() -> Engine {
    Engine::new(2, None).expect("available")
}

#[test]
fn mapped_weights_are_the_weights() {
    for (at, module) in modules().iter().enumerate() {
        let own = session(module);
        let path = file(&format!("block-{at}"), own.weight_block());
        let open = || MappedFile::open(&path).expect("there");
        let mut mapped = Session::new(module, CONTEXT, engine()).expect("plans");
        mapped.map_weights(open()).expect("fits");
        for weight in own.weights() {
            assert_eq!(mapped.weight_bytes(&weight).ok(), own.weight_bytes(&weight).ok());
            let refused = mapped.weight_bytes_mut(&weight).map(|_| ()).expect_err("is mapped");
            assert!(matches!(refused, SessionError::Fixed(path) if path == weight));
        }
        assert!(mapped.weight_block() == own.weight_block());

        // One token, then pieces for which memory has to grow, and back.
        for (length, n) in [(1, 1), (3, 1), (20, 17), (CONTEXT + 9, 2), (4, 4)] {
            let ids = text(1, length);
            let got = bits(mapped.last_logits(&ids, n).expect("runs"));
            assert_eq!(got[(n - 1) * VOCAB..], alone(module, &ids), "{length} {n}");
        }
        // Mapped once more, what was cached is forgotten.
        mapped.map_weights(open()).expect("fits");
        assert!(mapped.text().is_empty());
        assert_eq!(bits(mapped.next_logits(&[1, 2]).expect("runs")), alone(module, &[1, 2]));

        // A batch has the same block.
        let mut several = Batch::new(module, 3, CONTEXT, engine()).expect("plans");
        assert!(batch(module, 3, 1).weight_block() == own.weight_block());
        several.map_weights(open()).expect("fits");
        for seed in [1, 2] {
            several.join(&text(seed, 9)).expect("has room");
        }
        let said = several.next_logits().expect("runs");
        assert_eq!(bits(&said[1].1), alone(module, &text(2, 9)));

        let short = file(&format!("short-{at}"), &own.weight_block()[..40]);
        let refused = mapped.map_weights(MappedFile::open(&short).expect("there"));
        assert!(matches!(refused, Err(SessionError::Block { found: 40, .. })));
        assert_eq!(bits(mapped.next_logits(&[1, 2, 3]).expect("runs")), alone(module, &[1, 2, 3]));
        for path in [path, short] {
            std::fs::remove_file(path).expect("there");
        }
    }
}
