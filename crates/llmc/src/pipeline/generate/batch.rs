//! Many prompts over one set of weights: a text joins the batch as soon as another has ended.

use super::super::failure::Failure;
use super::{Generated, Settings, Text, prompt_ids};
use llmc_data::tokenizer::Tokenizer;
use llmc_runtime::Batch;
use std::collections::BTreeMap;

/// Continues each prompt, as many at once as the batch has room for. Each text is what it is alone, whatever the
/// others are. `each` gets the number of a prompt and what its new token adds to the text, which may be nothing, and
/// may stop that text between two tokens by returning false.
///
/// Errors: `sampling::*` for values out of range; `generate::empty` for any of the prompts, before anything
/// is generated.
pub fn generate_all(
    batch: &mut Batch,
    tokenizer: &Tokenizer,
    prompts: &[String],
    settings: &Settings,
    each: &mut dyn FnMut(usize, &str) -> bool,
) -> Result<Vec<Generated>, Failure> {
    let internal = |e: llmc_runtime::SessionError| Failure::Internal(e.to_string());
    let mut waiting = Vec::new();
    for (number, prompt) in prompts.iter().enumerate().rev() {
        let ids = prompt_ids(tokenizer, prompt)?;
        waiting.push((number, Text::new(ids, settings)?));
    }
    let mut active = BTreeMap::new();
    let mut done = BTreeMap::new();
    loop {
        while !batch.is_full()
            && let Some((number, text)) = waiting.pop()
        {
            if text.is_finished() {
                done.insert(number, text.into_generated());
                continue;
            }
            let id = batch.join(text.ids()).map_err(internal)?;
            active.insert(id, (number, text));
        }
        if active.is_empty() {
            break;
        }
        for (id, logits) in batch.next_logits().map_err(internal)? {
            let Some((number, mut text)) = active.remove(&id) else { continue };
            let mut piece = text.push(tokenizer, &logits);
            if !each(number, &piece) {
                text.cancel();
            }
            if !text.is_finished() {
                if let Some(token) = text.ids().last() {
                    batch.push(id, *token).map_err(internal)?;
                }
                active.insert(id, (number, text));
                continue;
            }
            batch.leave(id).map_err(internal)?;
            piece = text.close();
            if !piece.is_empty() {
                each(number, &piece);
            }
            done.insert(number, text.into_generated());
        }
    }
    Ok(done.into_values().collect())
}
