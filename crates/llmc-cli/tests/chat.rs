//! `llmc chat` over a pipe, with a model that has learned nothing.

// The whole program is a test; helpers panic on purpose.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Place, Said};
use std::io::Write;
use std::process::Stdio;

const TEMPLATE: &str = "{% for m in messages %}{% if m.content == 'bad' %}{{ raise_exception('no') }}{% endif %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]";

/// What a chat says to these lines.
fn chat(place: &Place, args: &[&str], lines: &str) -> Said {
    let mut command = place.command(&[&["chat", "--temperature", "0", "-n", "6"], args].concat());
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_chat_over_a_pipe_is_a_turn_a_line() {
    let place = Place::new();
    place.llmc(&["train", "tiny.toml", "--quiet"]).code(0);
    place.write("chat.jinja", TEMPLATE);

    // Without a template the conversation is one text, as `generate` continues it.
    let said = chat(&place, &[], "Hello").code(0);
    assert!(said.err.contains("no chat template"), "{}", said.err);
    let generated =
        place.llmc(&["generate", "--prompt", "Hello", "-n", "6", "--temperature", "0", "--json"]);
    let text = generated.json()["text"].as_str().unwrap().to_string();
    assert_eq!(said.out, format!("{text}\n"));

    let json = ["--template", "chat.jinja", "--json"];
    let lines = "Hello\n\nHow?\n/undo\nWhere?\n/regen\n/save c.json\n/stats\n/quit\nnever";
    let said = chat(&place, &json, lines).code(0);
    let events = said.lines();
    assert_eq!(events[0]["template"], "chat.jinja");
    let replies: Vec<&str> = events.iter().filter_map(|e| e["text"].as_str()).collect();
    assert_eq!(replies.len(), 4);
    assert_eq!(replies[2], replies[3], "greedy");
    let stats = said.event("stats");
    assert_eq!((stats["messages"].as_u64(), stats["replies"].as_u64()), (Some(4), Some(4)));
    assert_eq!(stats["context"], 32);
    assert_eq!(stats["kv_cache_dtype"], "f32");
    let (used, all) = (&stats["kv_cache_bytes"], &stats["kv_cache_reserved_bytes"]);
    assert!(used.as_u64() > Some(0) && used.as_u64() <= all.as_u64());
    for dtype in ["bf16", "int8"] {
        let args = [&json[..], &["--kv-cache-dtype", dtype]].concat();
        let said = chat(&place, &args, "Hello\n/stats").code(0);
        let stats = said.event("stats");
        assert_eq!(stats["kv_cache_dtype"], dtype);
        let narrow = stats["kv_cache_reserved_bytes"].as_f64().unwrap();
        assert!(narrow <= 0.5 * all.as_f64().unwrap(), "{stats}");
        let said = chat(&place, &["--kv-cache-dtype", dtype], "Hello\n/stats").code(0);
        assert!(said.err.contains("KV cache") && said.err.contains(dtype), "{}", said.err);
    }

    // What was saved goes on, and says the same to the same.
    let saved: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(place.path().join("c.json")).unwrap())
            .unwrap();
    assert_eq!(saved["messages"][2]["content"], "Where?");
    assert_eq!(saved["messages"][3]["content"], replies[3]);
    let again = chat(&place, &[&json[..], &["--load", "c.json"]].concat(), "/regen\n").code(0);
    assert_eq!(again.event("reply")["text"], replies[3]);

    // Proposals change no reply.
    let speculating = chat(&place, &[&json[..], &["--speculate", "4"]].concat(), lines).code(0);
    let found: Vec<serde_json::Value> = speculating.lines();
    let found: Vec<&str> = found.iter().filter_map(|e| e["text"].as_str()).collect();
    assert_eq!(found, replies);

    // A line that fails is told, the rest goes on, and the exit code says so.
    let said = chat(&place, &json[..2], "/nothing\nbad\nHello\n").code(2);
    assert!(said.err.contains("/nothing") && said.err.contains("refuses"), "{}", said.err);
    assert_eq!(said.out.lines().count(), 1);

    let said = chat(&place, &["--template", "tiny.toml"], "a\n/set temperature -1\n").code(2);
    assert!(said.err.contains("temperature"), "{}", said.err);
    chat(&place, &["--template", "none.jinja"], "").code(1);
    chat(&place, &["--load", "tiny.toml"], "").code(3);
}

#[test]
fn an_export_keeps_the_chat_template() {
    let place = Place::new();
    place.llmc(&["train", "tiny.toml", "--quiet", "-o", "runs"]).code(0);
    let listed = place.llmc(&["runs", "list", "--json"]).json();
    let run = listed["runs"][0]["path"].as_str().unwrap().to_string();
    place.write(&format!("{run}/tokenizer/chat_template.jinja"), TEMPLATE);
    let asked = "Hello\n";
    let expected = chat(&place, &[&run, "--json"], asked).code(0).event("reply");
    place.llmc(&["emit", &run, "--to", "huggingface", "-o", "out", "--quiet"]).code(0);
    let said = chat(&place, &["out", "--json"], asked).code(0);
    assert_eq!(said.event("start")["template"], "out/chat_template.jinja");
    assert_eq!(said.event("reply"), expected);
}
