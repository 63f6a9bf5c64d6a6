//! A conversation as a text to learn from: what the assistant says is learned, the rest is read.
//!
//! A template with `{% generation %}` says itself what the assistant says. From any other it is seen
//! by writing the conversation up to each reply: what stands before the reply, with the prompt for
//! it, is what a chat would give the model, and what is added by the reply is what the model would
//! have to say.

use super::template::{ChatTemplate, Message};
use llmc_base::Diagnostic;
use llmc_data::dataset::{ASSISTANT, MaskedText};
use std::ops::Range;

/// The text of a conversation, and what of it is learned.
///
/// Errors: those of [`ChatTemplate::render`]; `chat::not_learnable` if the template does not tell
/// where a reply stands.
pub fn masked(template: &ChatTemplate, messages: &[Message]) -> Result<MaskedText, Diagnostic> {
    let (text, marks) = template.render_marked(messages, false)?;
    let replies: Vec<usize> =
        (0..messages.len()).filter(|i| messages[*i].role == ASSISTANT).collect();
    let spans = match marks.is_empty() {
        false => marked(&marks),
        true => added(template, messages, &replies, &text)?,
    };
    let is_in_order = spans.is_sorted_by(|a, b| a.end <= b.start)
        && spans.iter().all(|span| span.start <= span.end && text.get(span.clone()).is_some());
    // What a template keeps of a reply stands in its span.
    let has_replies = spans.len() == replies.len()
        && spans.iter().zip(&replies).all(|(span, i)| {
            let said = text.get(span.clone()).unwrap_or_default().trim();
            let content = messages[*i].content.trim();
            !text.contains(content) || said.contains(content)
        });
    if !is_in_order || !has_replies {
        return Err(unclear("its marks of generation are not around the assistant's messages"));
    }
    let cuts = spans.into_iter().flat_map(|span| [span.start, span.end]).collect();
    Ok(MaskedText { text, cuts })
}

/// The spans between marks.
fn marked(marks: &[usize]) -> Vec<Range<usize>> {
    // An odd mark makes a span that ends nowhere, and is refused.
    marks.chunks(2).map(|pair| pair[0]..pair.get(1).copied().unwrap_or(usize::MAX)).collect()
}

/// What each reply adds to the text before it.
fn added(
    template: &ChatTemplate,
    messages: &[Message],
    replies: &[usize],
    text: &str,
) -> Result<Vec<Range<usize>>, Diagnostic> {
    let mut spans = Vec::new();
    for &i in replies {
        let before = template.render(&messages[..i], true)?;
        let after = template.render(&messages[..=i], false)?;
        if !text.starts_with(&after) || !after.starts_with(&before) {
            return Err(unclear(&format!("it writes `messages[{i}]` otherwise once more follows")));
        }
        spans.push(before.len()..after.len());
    }
    Ok(spans)
}

fn unclear(what: &str) -> Diagnostic {
    let message = format!("the chat template does not tell what the assistant says: {what}");
    Diagnostic::error("chat::not_learnable", message).help(
        "put `{% generation %}` and `{% endgeneration %}` around what the assistant says in the template",
    )
}
