//! Records of JSON lines: what is learned of them, and what is wrong with a line.

use super::*;
use crate::source::MemorySource;

fn config() -> DatasetConfig {
    let paths = vec!["d.jsonl".to_string()];
    DatasetConfig { paths, format: Format::Jsonl, ..DatasetConfig::default() }
}

/// A line per message, `role: text`; what the assistant says is learned.
fn render(messages: &[Message]) -> Result<MaskedText, Diagnostic> {
    let mut made = MaskedText::default();
    for Message { role, content } in messages {
        if role == "robot" {
            return Err(Diagnostic::error("chat::refused", "no robots").help("speak yourself"));
        }
        made.text += &format!("{role}: ");
        if role == ASSISTANT {
            made.cuts.push(made.text.len());
        }
        made.text += &format!("{content}\n");
        if role == ASSISTANT {
            made.cuts.push(made.text.len());
        }
    }
    Ok(made)
}

fn read(config: &DatasetConfig, text: &str) -> Result<Dataset, Vec<Diagnostic>> {
    let source = MemorySource::new([("d.jsonl", text)]);
    build_with(config, &source, Some(&render)).map(|(dataset, _)| dataset)
}

fn parts(document: &Document) -> Vec<(&str, bool)> {
    document.parts().collect()
}

const LINES: &str = r#"{"text": "all of it"}

{"prompt": "2 + 2 =", "completion": " 4", "id": 7}
{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}, {"role": "user", "content": "bye"}]}
"#;

#[test]
fn completions_and_what_the_assistant_says_are_learned() {
    let dataset = read(&config(), LINES).unwrap();
    let [text, pair, chat] = dataset.documents.as_slice() else { panic!("three records") };
    assert_eq!(parts(text), [("all of it", true)]);
    assert_eq!(parts(pair), [("2 + 2 =", false), (" 4", true)]);
    let said = [("user: hi\nassistant: ", false), ("hello\n", true), ("user: bye\n", false)];
    assert_eq!(parts(chat), said);
    assert_eq!([text, pair, chat].map(Document::learned_bytes), [9, 2, 6]);
    assert_eq!([text, pair, chat].map(|d| d.is_rendered), [false, false, true]);
    assert_eq!([text, pair, chat].map(|d| d.index), [0, 1, 2]);
    let all = DatasetConfig { trains_on_prompt: true, ..config() };
    let all = read(&all, LINES).unwrap();
    assert_eq!(parts(&all.documents[1]), [("2 + 2 = 4", true)]);
    assert_ne!(all.content_hash, dataset.content_hash);
    assert_ne!(all.recipe_hash, dataset.recipe_hash);
}

#[test]
fn what_is_learned_is_part_of_a_document() {
    let lines = "{\"prompt\": \"a b\", \"completion\": \" c\"}\n{\"prompt\": \"a\", \"completion\": \" b c\"}\n{\"text\": \"a b c\"}";
    let dataset = read(&config(), lines).unwrap();
    assert_eq!(dataset.documents.len(), 3, "equal texts, but three lessons");
    let plain = crate::dataset::build(
        &DatasetConfig { paths: vec!["t".into()], ..DatasetConfig::default() },
        &MemorySource::new([("t", "a b c")]),
    );
    assert_eq!(plain.unwrap().0.documents[0].hash, dataset.documents[2].hash);
}

#[test]
fn long_texts_are_cut_and_long_records_left_out() {
    let asked = DatasetConfig { max_length: Some(2), ..config() };
    let dataset = read(&asked, LINES).unwrap();
    let found: Vec<_> = dataset.documents.iter().map(|d| (d.index, d.text.as_str())).collect();
    assert_eq!(found, [(0, "all of "), (1, "it")]);
    assert_eq!(dataset.ledger.sources[0].too_long, 2);
    let empty = "{\"prompt\": \"why?\", \"completion\": \" \"}\n{\"text\": \"x\"}";
    let dataset = read(&config(), empty).unwrap();
    assert_eq!((dataset.documents.len(), dataset.ledger.sources[0].empty), (1, 1));
}

#[test]
fn a_bad_line_is_named_with_what_is_wrong() {
    for (line, code, message, help) in [
        ("{\"text\": }", "dataset::record", "this is no JSON: expected value", "a line is"),
        ("[1]", "dataset::record", "this is a list, expected an object", "a line is"),
        ("{\"question\": 1}", "dataset::record", "has `question`, but neither", "a line is"),
        ("{\"prompt\": \"a\"}", "dataset::record", "has no `completion`", "a line is"),
        ("{\"prompt\": 1, \"completion\": \"\"}", "dataset::record", "`prompt` is a number", ""),
        ("{\"text\": \"a\", \"messages\": []}", "dataset::record", "more than one kind", ""),
        (
            "{\"messages\": [{\"role\": \"user\"}]}",
            "dataset::record",
            "`messages[0]`: the record has no `content`",
            "",
        ),
        (
            "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}",
            "dataset::record",
            "nothing to learn",
            "leave",
        ),
        (
            "{\"messages\": [{\"role\": \"robot\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}",
            "chat::refused",
            "no robots",
            "speak yourself",
        ),
    ] {
        let text = format!("{{\"text\": \"fine\"}}\n\n{line}\n");
        let found = read(&config(), &text).unwrap_err();
        let [d] = found.as_slice() else { panic!("{line}: {found:?}") };
        assert_eq!(d.code, code, "{line}");
        assert!(
            d.message.starts_with("`d.jsonl`, line 3: ") && d.message.contains(message),
            "{d:?}"
        );
        assert!(d.help.as_deref().unwrap().starts_with(help), "{d:?}");
        let span = &d.labels[0].span;
        assert_eq!((span.file.as_str(), span.line), ("d.jsonl", Some(3)));
        assert!(text[span.start..].starts_with(&line[span.column.unwrap() - 1..]), "{span:?}");
    }
    let many = "x\n".repeat(30);
    let found = read(&config(), &many).unwrap_err();
    assert_eq!(found.len(), 9);
    assert_eq!(found[8].message, "`d.jsonl`: 22 more lines cannot be read");
}

#[test]
fn conversations_need_a_template_and_lines_their_format() {
    let source = MemorySource::new([("d.jsonl", LINES)]);
    let found = build(&config(), &source).unwrap_err();
    assert_eq!(found[0].code, "dataset::no_chat_template");
    assert!(found[0].message.contains("line 4"));
    let text = DatasetConfig { format: Format::Text, ..config() };
    let found = build(&text, &source).unwrap_err();
    assert_eq!(found[0].code, "dataset::format_not_supported");
    assert!(found[0].help.as_deref().unwrap().contains("format = \"jsonl\""));
}
