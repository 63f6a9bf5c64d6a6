//! Texts that begin alike read their beginning once, which changes no bit.

use crate::sessions::{CONTEXT, alone, batch, bits, modules, session, text};

/// Texts with the same first 12 tokens, which differ in the next one.
fn alike(n: usize, length: usize) -> Vec<Vec<u32>> {
    let start = text(1, 12);
    (0..n as u32)
        .map(|i| {
            let mut ids = [&start[..], &text(i, length - 12)].concat();
            ids[12] = i;
            ids
        })
        .collect()
}

#[test]
fn a_batch_reads_a_beginning_once() {
    const LENGTH: usize = 15;
    for module in modules() {
        for bytes in [0, 1 << 20] {
            let mut batch = batch(&module, 3, 2);
            batch.keep_prefixes(bytes);
            let mut read = 0;
            // Three at once; then, one by one, those that come after they have left.
            for (round, texts) in
                [&alike(5, LENGTH)[..3], &alike(5, LENGTH)[3..4], &alike(5, LENGTH)[4..]]
                    .iter()
                    .enumerate()
            {
                let ids: Vec<_> =
                    texts.iter().map(|ids| batch.join(ids).expect("has room")).collect();
                let said = batch.next_logits().expect("runs");
                for ((_, logits), ids) in said.iter().zip(*texts) {
                    assert_eq!(bits(logits), alone(&module, ids));
                }
                ids.into_iter().for_each(|id| batch.leave(id).expect("is there"));
                // All of one text, and of others what they have alone.
                read += match (round, bytes) {
                    (0, _) => LENGTH + 2 * (LENGTH - 12),
                    (_, 0) => LENGTH,
                    _ => LENGTH - 12,
                };
                assert_eq!(batch.computed_tokens(), read, "round {round}, {bytes} bytes");
            }
            assert_eq!(batch.shared_tokens(), if bytes == 0 { 24 } else { 48 });
        }
    }
}

#[test]
fn a_beginning_stays_when_the_window_moves_on() {
    for module in modules() {
        let mut batch = batch(&module, 2, 1);
        batch.keep_prefixes(1 << 20);
        let mut ids = text(1, CONTEXT);
        let id = batch.join(&ids).expect("has room");
        for next in 0..3 {
            batch.next_logits().expect("runs");
            batch.push(id, next).expect("is there");
            ids.push(next);
        }
        let before = batch.computed_tokens();
        batch.join(&ids[..CONTEXT - 2]).expect("has room");
        let said = batch.next_logits().expect("runs");
        assert_eq!(bits(&said[0].1), alone(&module, &ids));
        assert_eq!(bits(&said[1].1), alone(&module, &ids[..CONTEXT - 2]));
        assert_eq!(batch.computed_tokens() - before, 2);
    }
}

#[test]
fn a_session_goes_back_to_an_earlier_text() {
    for module in modules() {
        let [a, b] = [text(1, 20), text(2, 22)];
        let mut session = session(&module);
        session.keep_prefixes(1 << 20);
        let mut say = |ids: &[u32], n_read: usize| {
            let before = session.computed_tokens();
            assert_eq!(bits(session.next_logits(ids).expect("runs")), alone(&module, ids));
            assert_eq!(session.computed_tokens() - before, n_read, "{} tokens", ids.len());
        };
        let in_common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
        say(&a, 20);
        say(&b, 22 - in_common);
        // The last token is read for its logits.
        say(&a, 1);
        say(&[&a[..], &[3]].concat(), 1);
        say(&b[..18], 1);
        say(&b, 1);
        say(&[&a[..17], &[9, 9]].concat(), 2);
        // A window that has moved on is another text, and its beginning is found afterwards.
        let long = [&a[..], &text(3, CONTEXT)].concat();
        say(&long, long.len() - CONTEXT);
        say(&a, 1);

        // A state that is gone on from does not lose what was there.
        let state = session.state();
        session.next_logits(&b).expect("runs");
        session.set_state(&state).expect("fits");
        let before = session.computed_tokens();
        assert_eq!(bits(session.next_logits(&b).expect("runs")), alone(&module, &b));
        assert_eq!(session.computed_tokens() - before, 1);
        assert!(session.shared_tokens() > 60);
        // Two texts, of which what they have in common is there once.
        let bytes = session.cache_bytes();
        let tokens = (bytes.kept * CONTEXT as u64).div_ceil(bytes.reserved);
        assert!((42 - in_common as u64..64).contains(&tokens), "{tokens} tokens");
    }
}
