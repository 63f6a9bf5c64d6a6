//! Templates against what `transformers` makes of them; conversations with a model that repeats itself.

use super::*;
use crate::pipeline::generate::Finish;
use crate::store::{MemStore, Source, Store};
use llmc_data::tokenizer::{TokenizerConfig, TokenizerKind, train};
use llmc_runtime::Sampling;

const CHATML: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// The core of Llama 2's: rules, exceptions, Python's methods.
const LLAMA: &str = "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}";

fn tokenizer() -> Tokenizer {
    let mut config = TokenizerConfig::new(TokenizerKind::Char, None);
    config.special_tokens.unk = Some("<unk>".to_string());
    config.special_tokens.bos = Some("<s>".to_string());
    config.special_tokens.eos = Some("</s>".to_string());
    train(&config, &["abcdefghijklmnopqrstuvwxyz \n.!"], 1).unwrap()
}

fn template(text: &str) -> Result<ChatTemplate, Failure> {
    let store = MemStore::default();
    store.write(Path::new("chat.jinja"), text.as_bytes()).unwrap();
    ChatTemplate::read(&store, Path::new("chat.jinja"), &tokenizer(), 1_721_952_000)
}

fn messages(all: &[(&str, &str)]) -> Vec<Message> {
    all.iter().map(|(role, content)| Message::new(role, content)).collect()
}

#[track_caller]
fn check(text: &str, all: &[(&str, &str)], expected: &str) {
    assert_eq!(template(text).unwrap().render(&messages(all), true).unwrap(), expected);
}

#[test]
fn templates_give_what_transformers_gives() {
    check(
        CHATML,
        &[("system", "Be kind."), ("user", "Hi")],
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    );
    check(
        LLAMA,
        &[("system", "S"), ("user", " a "), ("assistant", "b"), ("user", "c")],
        "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\n a [/INST] b </s><s>[INST] c [/INST]",
    );
    // Blocks are trimmed; Python's methods; loop controls; JSON as Python writes it.
    check(
        "{%- for m in messages %}\n    {%- if loop.index0 == 1 %}{% break %}{% endif %}\n  {% set parts = m.content.split('-') %}\n  {{ parts[-1].upper() }}\n{% endfor %}\n{{ {'a': [1, 'é<']} | tojson }}",
        &[("user", "x-y"), ("user", "z")],
        "  Y\n{\"a\": [1, \"é<\"]}",
    );
    check("{{ messages[0] | tojson }}", &[("user", "a")], r#"{"role": "user", "content": "a"}"#);
    check("{{ strftime_now('%d %b %Y') }}", &[], "26 Jul 2024");
    check(
        "{% for m in messages %}{%- generation -%} {{ m.content }} {%- endgeneration %}{% endfor %}",
        &[("user", "a")],
        "a",
    );
}

#[test]
fn hostile_templates_end_as_errors() {
    let fails = |text: &str, code: &str, part: &str| {
        let failure = match template(text) {
            Ok(t) => Failure::from(t.render(&messages(&[("user", "a")]), true).unwrap_err()),
            Err(failure) => failure,
        };
        let found = failure.diagnostics();
        assert_eq!(found[0].code, code, "{text}");
        assert!(found[0].message.contains(part), "{}", found[0].message);
    };
    fails("{{ raise_exception('no tools') }}", "chat::refused", "no tools");
    fails(
        "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}",
        "chat::template",
        "steps",
    );
    fails(
        "{% for a in range(90000) %}{{ 'abcdefgh' * 1000 }}{% endfor %}",
        "chat::template",
        "bytes",
    );
    fails("{{ 'a' * 99999999999 }}", "chat::template", "too large");
    fails("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "chat::template", "recursion");
    fails("{% include '/etc/passwd' %}", "chat::template", "line 1");
    fails("{% for %}", "chat::template", "line 1");
    fails(&"a".repeat(1 << 21), "chat::template", "bytes");
    fails("{{ messages[0].content.__class__.__mro__ }}", "chat::template", "undefined");
}

#[test]
fn a_template_is_found_beside_the_tokenizer() {
    let store = MemStore::default();
    store.create_dir(Path::new("t")).unwrap();
    let find = || ChatTemplate::find(&store, Path::new("t"), &tokenizer(), 0);
    let said = |t: &ChatTemplate| t.render(&messages(&[("user", "a")]), true).unwrap();
    assert!(find().unwrap().is_plain());
    let config = Path::new("t/tokenizer_config.json");
    store.write(config, br#"{"eos_token": "</s>"}"#).unwrap();
    assert!(find().unwrap().is_plain());
    let named = r#"{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}"#;
    store.write(config, named.as_bytes()).unwrap();
    assert_eq!(said(&find().unwrap()), "D");
    store.write(config, br#"{"chat_template": "{{ eos_token }}!"}"#).unwrap();
    assert_eq!(said(&find().unwrap()), "</s>!");
    store.write(Path::new("t/chat_template.jinja"), b"J").unwrap();
    assert_eq!(said(&find().unwrap()), "J");
    store.write(config, br#"{"chat_template": 3}"#).unwrap();
    let read = ChatTemplate::read(&store, config, &tokenizer(), 0);
    assert_eq!(read.unwrap_err().diagnostics()[0].code, "chat::template");
}

/// A model that says `text` after any prompt, then ends; keeps the ids that it was asked with.
fn says<'a>(
    tokenizer: &'a Tokenizer,
    text: &str,
    asked: &'a mut Vec<String>,
) -> impl FnMut(&[u32]) -> Result<Vec<f32>, Failure> + 'a {
    let script = tokenizer.encode(text);
    let mut at = 0;
    move |ids| {
        if at == 0 {
            asked.push(tokenizer.decode(ids));
        }
        let next = script.get(at).copied().or(tokenizer.roles().eos).unwrap();
        at += 1;
        let mut logits = vec![0.0; tokenizer.vocab_size() as usize];
        logits[next as usize] = 5.0;
        Ok(logits)
    }
}

fn greedy() -> Settings {
    Settings::new(50, Sampling { temperature: 0.0, ..Sampling::default() })
}

#[test]
fn a_conversation_goes_on_back_and_into_a_file() {
    let tokenizer = tokenizer();
    let mut asked = Vec::new();
    let mut chat = Chat::new(&tokenizer, template(LLAMA).unwrap());
    let mut say = |chat: &mut Chat, text: &str, reply: &str| {
        let mut next = says(&tokenizer, reply, &mut asked);
        chat.say(&mut next, text, &greedy(), &mut |_| true).unwrap()
    };
    assert_eq!(say(&mut chat, "one", "two").finish, Finish::EndOfText);
    assert_eq!(say(&mut chat, "three", "four").text, "four");
    assert!(chat.undo());
    say(&mut chat, "five", "six");
    let mut next = says(&tokenizer, "seven", &mut asked);
    assert_eq!(chat.regenerate(&mut next, &greedy(), &mut |_| true).unwrap().text, "seven");
    drop(next);
    let contents: Vec<&str> = chat.turns().iter().map(|m| m.content.as_str()).collect();
    assert_eq!(contents, ["one", "two", "five", "seven"]);
    // The template writes bos itself; it is not there twice.
    assert!(asked[1].starts_with("<s>") && !asked[1].starts_with("<s><s>"), "{}", asked[1]);
    assert_eq!(asked[2], asked[3]);

    let store = MemStore::default();
    chat.set_system(Some("be short".to_string()));
    chat.save(&store, Path::new("c.json")).unwrap();
    let mut other = Chat::new(&tokenizer, template(LLAMA).unwrap());
    other.load(&store, Path::new("c.json")).unwrap();
    assert_eq!(other.messages(), chat.messages());
    let torn = store.read(Path::new("c.json")).unwrap();
    store.write(Path::new("c.json"), &torn[..torn.len() / 2]).unwrap();
    let failure = other.load(&store, Path::new("c.json")).unwrap_err();
    assert_eq!(failure.diagnostics()[0].code, "chat::file");
    assert_eq!(other.messages(), chat.messages());
}

#[test]
fn a_reply_that_is_stopped_stays_and_an_error_changes_nothing() {
    let tokenizer = tokenizer();
    let mut asked = Vec::new();
    let mut chat = Chat::new(&tokenizer, template(LLAMA).unwrap());
    let mut next = says(&tokenizer, "abcdef", &mut asked);
    let mut n = 0;
    let mut each = |_: &str| {
        n += 1;
        n < 3
    };
    let reply = chat.say(&mut next, "x", &greedy(), &mut each).unwrap();
    assert_eq!((reply.finish, chat.turns()[1].content.as_str()), (Finish::Cancelled, "abc"));
    drop(next);
    let mut fails = |_: &[u32]| Err(Failure::Internal("gone".to_string()));
    assert!(chat.say(&mut fails, "y", &greedy(), &mut |_| true).is_err());
    assert!(chat.regenerate(&mut fails, &greedy(), &mut |_| true).is_err());
    assert_eq!(chat.turns().len(), 2);
}

#[test]
fn without_a_template_the_conversation_is_one_text() {
    let tokenizer = tokenizer();
    let mut asked = Vec::new();
    let mut chat = Chat::new(&tokenizer, ChatTemplate::plain());
    for (text, reply) in [("once", " upon"), ("a time", "!")] {
        let mut next = says(&tokenizer, reply, &mut asked);
        chat.say(&mut next, text, &greedy(), &mut |_| true).unwrap();
    }
    assert_eq!(asked, ["<s>once", "<s>once upon\na time"]);
}

/// The parts of a conversation that a model learns from.
fn learned(text: &str, all: &[(&str, &str)]) -> Result<(String, Vec<String>), Diagnostic> {
    let made = masked(&template(text).unwrap(), &messages(all))?;
    let learned = made.parts().filter(|(_, is_learned)| *is_learned);
    let learned = learned.map(|(part, _)| part.to_string()).collect();
    Ok((made.text, learned))
}

#[test]
fn what_the_assistant_says_is_learned() {
    let talk = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")];
    // What each reply adds: from the prompt for it to the next message.
    let (text, said) = learned(CHATML, &talk).unwrap();
    assert_eq!(said, ["b<|im_end|>\n", "d<|im_end|>\n"]);
    assert_eq!(text, template(CHATML).unwrap().render(&messages(&talk), false).unwrap());
    let (_, said) = learned(LLAMA, &talk).unwrap();
    assert_eq!(said, [" b </s>", " d </s>"]);
    // What the template marks, also where it strips and trims.
    let marked = "{%- for m in messages %}\n{{ m.role }}:\n  {%- if m.role == 'assistant' %}\n    {%- generation -%} {{ m.content | trim }}; {%- endgeneration -%}\n{% else %} {{ m.content }}{% endif %}\n{% endfor %}";
    let (text, said) = learned(marked, &[("user", "é"), ("assistant", " b ")]).unwrap();
    assert_eq!((text.as_str(), said), ("user: éassistant:b;", vec!["b;".to_string()]));
}

#[test]
fn a_template_that_hides_where_a_reply_stands_is_refused() {
    let talk = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")];
    let only_last = "{% for m in messages %}{% if loop.last or m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}";
    let backwards = "{% for m in messages | reverse %}{{ m.content }}{% endfor %}";
    let around_all =
        "{% generation %}{% for m in messages %}{{ m.content }}{% endfor %}{% endgeneration %}";
    let elsewhere = "{% for m in messages %}{% if m.role == 'user' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}";
    let open = "{% for m in messages %}{% generation %}{{ m.content }}{% endfor %}";
    for text in [only_last, backwards, around_all, elsewhere, open] {
        assert_eq!(learned(text, &talk).unwrap_err().code, "chat::not_learnable", "{text}");
    }
    let refused = learned("{{ raise_exception('no') }}", &talk).unwrap_err();
    assert_eq!(refused.code, "chat::refused");
}
