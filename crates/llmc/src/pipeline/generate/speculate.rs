//! N-gram speculation (prompt lookup): the text proposes its own continuation.
//!
//! Where the end of the text has occurred before, what followed there is proposed, and one pass over the
//! cache gives the logits of every proposed token. Tokens are then chosen as always, each from the
//! logits of the text before it, and the rest of a proposal is dropped at the first token that differs. The choice is a pure function of
//! logits and text, and the logits are the bits of one token at a time, so the text is the same
//! with and without, greedy or drawn.
//!
//! Source: Saxena 2023, prompt lookup decoding; verification: Leviathan et al. 2023, arXiv:2211.17192,
//! whose rule of acceptance is not needed where the draw itself is repeated.

use super::super::failure::Failure;
use super::{Generated, Settings, Speaker, Text};
use llmc_data::tokenizer::Tokenizer;
use llmc_runtime::Session;
use serde::Serialize;

/// Longest end of the text that is looked up; longer ones are tried first.
const LONGEST: usize = 4;
/// Shortest one: a single token says too little of what follows.
const SHORTEST: usize = 2;

/// What came of proposals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Speculation {
    /// Tokens that were proposed.
    pub proposed: u64,
    /// Those that the model chose as well.
    pub accepted: u64,
    /// Passes through the model.
    pub passes: u64,
}

/// Up to `most` tokens that followed the latest other occurrence of the longest end of `ids`. Where that
/// reaches the end of the text it goes on with what is proposed: a text that repeats itself goes on doing so.
pub fn propose(ids: &[u32], most: usize) -> Vec<u32> {
    for n in (SHORTEST..=LONGEST).rev() {
        let Some(before) = ids.len().checked_sub(n) else { continue };
        let end = &ids[before..];
        let Some(at) = ids[..ids.len() - 1].windows(n).rposition(|window| window == end) else {
            continue;
        };
        let mut out: Vec<u32> = Vec::with_capacity(most);
        for i in at + n..at + n + most {
            out.push(if i < ids.len() { ids[i] } else { out[i - ids.len()] });
        }
        return out;
    }
    Vec::new()
}

/// A session that proposes up to [`Settings::speculate`] tokens at a time; with 0 it takes them one by one.
pub struct Speculating<'a> {
    session: &'a mut Session,
    /// What came of all proposals so far.
    pub counts: Speculation,
}

impl<'a> Speculating<'a> {
    /// Over a session, which goes on from what its text has in common with the prompt.
    pub fn new(session: &'a mut Session) -> Self {
        Speculating { session, counts: Speculation::default() }
    }
}

impl Speaker for Speculating<'_> {
    fn speak(
        &mut self,
        tokenizer: &Tokenizer,
        prompt: Vec<u32>,
        settings: &Settings,
        each: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Generated, Failure> {
        let Speculating { session, counts } = self;
        let mut text = Text::new(prompt, settings)?;
        while !text.is_finished() {
            // Behind the window, and behind the end, nothing can be checked.
            let room = session.room(text.ids().len()).min(text.tokens_left().saturating_sub(1));
            let most = settings.speculate.min(room);
            let proposal = propose(text.ids(), most);
            let all = [text.ids(), &proposal].concat();
            let logits = session.last_logits(&all, proposal.len() + 1);
            let logits = logits.map_err(|e| Failure::Internal(e.to_string()))?;
            counts.passes += 1;
            counts.proposed += proposal.len() as u64;
            let width = logits.len() / (proposal.len() + 1);
            for (at, logits) in logits.chunks_exact(width.max(1)).enumerate() {
                let piece = text.push(tokenizer, logits);
                if !each(&piece) {
                    text.cancel();
                }
                let is_accepted = !text.has_ended() && text.ids().last() == proposal.get(at);
                counts.accepted += u64::from(is_accepted);
                if !is_accepted || text.is_finished() {
                    break;
                }
            }
        }
        let piece = text.close();
        if !piece.is_empty() {
            each(&piece);
        }
        Ok(text.into_generated())
    }
}

#[cfg(test)]
mod tests {
    use super::propose;

    #[test]
    fn the_latest_longest_repetition_is_proposed() {
        let check = |ids: &[u32], most: usize, expected: &[u32]| {
            assert_eq!(propose(ids, most), expected, "{ids:?}");
        };
        check(&[], 4, &[]);
        check(&[1, 2, 3], 4, &[]);
        check(&[1, 2, 9, 8, 1, 2], 3, &[9, 8, 1]);
        check(&[1, 2, 9, 8, 1, 2], 1, &[9]);
        // The later of two, and the longer before the later.
        check(&[1, 2, 7, 1, 2, 8, 1, 2], 1, &[8]);
        check(&[5, 1, 2, 7, 1, 2, 8, 5, 1, 2], 1, &[7]);
        // What repeats itself goes on.
        check(&[4, 4, 4], 3, &[4, 4, 4]);
        check(&[1, 2, 1, 2, 1, 2], 5, &[1, 2, 1, 2, 1]);
        check(&[1, 2, 9, 1, 2], 0, &[]);
    }
}
