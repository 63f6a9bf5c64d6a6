//! The `/` commands of a chat: names, help, parsing.

use llmc::pipeline::generate::Settings;
use llmc_base::Diagnostic;
use std::path::PathBuf;
use std::str::FromStr;

/// What a line that starts with `/` asks for.
#[derive(Debug, PartialEq)]
pub enum Slash {
    /// The list of commands.
    Help,
    /// Show the settings, or change one.
    Set(Option<(String, String)>),
    /// Set the system prompt, or remove it.
    System(Option<String>),
    /// Forget the conversation.
    Reset,
    /// Reply once more.
    Regen,
    /// Take the last exchange back.
    Undo,
    /// Write the conversation.
    Save(PathBuf),
    /// Read a conversation.
    Load(PathBuf),
    /// Tokens, speed, room.
    Stats,
    /// Leave.
    Quit,
}

/// Every command with its arguments and meaning, as `/help` prints them.
pub const COMMANDS: [(&str, &str, &str); 10] = [
    ("/help", "", "this list"),
    ("/set", "NAME VALUE", "change a setting; without a name show them all"),
    ("/system", "TEXT", "set the system prompt; without a text remove it"),
    ("/reset", "", "forget the conversation, not the system prompt"),
    ("/regen", "", "reply once more, with the next seed"),
    ("/undo", "", "take the last message and its reply back"),
    ("/save", "FILE", "write the conversation to a file"),
    ("/load", "FILE", "go on with a conversation from a file"),
    ("/stats", "", "tokens, speed, room in the context, memory of the KV cache"),
    ("/quit", "", "leave; so does Ctrl-D"),
];

/// Names of what `/set` changes.
pub const SETTINGS: [&str; 12] = [
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "tokens",
    "stop",
    "speculate",
];

/// Most tokens that are proposed at a time, as `--speculate` has it.
const MAX_SPECULATION: usize = 64;

/// The command of a line; `None` if it is a message. `//` in front writes a message that starts with `/`.
///
/// Errors: `chat::command` for one that is none, or without what it needs.
pub fn parse(line: &str) -> Result<Option<Slash>, Diagnostic> {
    if !line.starts_with('/') || line.starts_with("//") {
        return Ok(None);
    }
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let wrong =
        |message: String, help: &str| Diagnostic::error("chat::command", message).help(help);
    let file = || match rest {
        "" => Err(wrong(format!("`{name}` needs a file"), &format!("{name} conversation.json"))),
        path => Ok(PathBuf::from(path)),
    };
    let command = match name {
        "/help" | "/?" => Slash::Help,
        "/set" if rest.is_empty() => Slash::Set(None),
        "/set" => {
            let (name, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            Slash::Set(Some((name.to_string(), value.trim().to_string())))
        }
        "/system" => Slash::System((!rest.is_empty()).then(|| rest.to_string())),
        "/reset" => Slash::Reset,
        "/regen" => Slash::Regen,
        "/undo" => Slash::Undo,
        "/save" => Slash::Save(file()?),
        "/load" => Slash::Load(file()?),
        "/stats" => Slash::Stats,
        "/quit" | "/exit" => Slash::Quit,
        _ => {
            let help =
                "`/help` lists the commands; `//` in front writes a message that starts with `/`";
            return Err(wrong(format!("`{name}` is no command"), help));
        }
    };
    let takes_nothing =
        COMMANDS.iter().any(|(known, arguments, _)| *known == name && arguments.is_empty());
    if takes_nothing && !rest.is_empty() {
        return Err(wrong(
            format!("`{name}` takes nothing, not `{rest}`"),
            "`/help` lists the commands",
        ));
    }
    Ok(Some(command))
}

/// Changes a setting.
///
/// Errors: `chat::set` for a name that is none or a value that does not parse, `sampling::*` for one out
/// of range; then nothing changes.
pub fn set(settings: &mut Settings, name: &str, value: &str) -> Result<(), Vec<Diagnostic>> {
    fn read<T: FromStr>(name: &str, value: &str, what: &str) -> Result<T, Vec<Diagnostic>> {
        value.parse().map_err(|_| {
            let message = format!("`{name}` is `{value}`, but must be {what}");
            vec![Diagnostic::error("chat::set", message).help(format!("/set {name} VALUE"))]
        })
    }
    let mut new = settings.clone();
    let sampling = &mut new.sampling;
    let (number, whole) = ("a number", "a whole number from 0 up");
    match name {
        "temperature" => sampling.temperature = read(name, value, number)?,
        "top_k" => sampling.top_k = read(name, value, whole)?,
        "top_p" => sampling.top_p = read(name, value, number)?,
        "min_p" => sampling.min_p = read(name, value, number)?,
        "typical_p" => sampling.typical_p = read(name, value, number)?,
        "repetition_penalty" => sampling.repetition_penalty = read(name, value, number)?,
        "frequency_penalty" => sampling.frequency_penalty = read(name, value, number)?,
        "presence_penalty" => sampling.presence_penalty = read(name, value, number)?,
        "seed" => sampling.seed = read(name, value, whole)?,
        "tokens" => new.max_tokens = read(name, value, whole)?,
        "stop" => new.stop = (!value.is_empty()).then(|| value.to_string()).into_iter().collect(),
        "speculate" => new.speculate = read::<usize>(name, value, whole)?.min(MAX_SPECULATION),
        _ => {
            let message = format!("`{name}` is no setting");
            let help = format!("one of: {}", SETTINGS.join(", "));
            return Err(vec![Diagnostic::error("chat::set", message).help(help)]);
        }
    }
    let problems = new.sampling.check();
    if !problems.is_empty() {
        return Err(problems);
    }
    *settings = new;
    Ok(())
}

/// The settings with their values, in the order of [`SETTINGS`].
pub fn values(settings: &Settings) -> Vec<(&'static str, String)> {
    let sampling = &settings.sampling;
    let values = [
        sampling.temperature.to_string(),
        sampling.top_k.to_string(),
        sampling.top_p.to_string(),
        sampling.min_p.to_string(),
        sampling.typical_p.to_string(),
        sampling.repetition_penalty.to_string(),
        sampling.frequency_penalty.to_string(),
        sampling.presence_penalty.to_string(),
        sampling.seed.to_string(),
        settings.max_tokens.to_string(),
        format!("{:?}", settings.stop.join(", ")),
        settings.speculate.to_string(),
    ];
    SETTINGS.into_iter().zip(values).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use llmc_runtime::Sampling;

    #[test]
    fn lines_are_messages_or_commands() {
        let check =
            |line: &str, expected: Option<Slash>| assert_eq!(parse(line).unwrap(), expected);
        check("hello /set", None);
        check("//set is a command", None);
        check("/help", Some(Slash::Help));
        check("/set", Some(Slash::Set(None)));
        check(
            "/set temperature  0.7 ",
            Some(Slash::Set(Some(("temperature".into(), "0.7".into())))),
        );
        check("/system Be kind. Always.", Some(Slash::System(Some("Be kind. Always.".into()))));
        check("/system", Some(Slash::System(None)));
        check("/save a b.json", Some(Slash::Save("a b.json".into())));
        check("/quit", Some(Slash::Quit));
        for line in ["/none", "/save", "/load ", "/reset now"] {
            assert_eq!(parse(line).unwrap_err().code, "chat::command", "{line}");
        }
        for (name, _, _) in COMMANDS {
            let found = parse(&format!("{name} file")).or_else(|_| parse(name));
            assert!(found.unwrap().is_some(), "{name}");
        }
    }

    #[test]
    fn settings_change_by_name_or_not_at_all() {
        let mut settings = Settings::new(10, Sampling::default());
        for (name, value) in values(&settings) {
            set(&mut settings, name, value.trim_matches('"')).unwrap();
        }
        assert_eq!(settings, Settings::new(10, Sampling::default()));
        set(&mut settings, "temperature", "0.5").unwrap();
        set(&mut settings, "tokens", "7").unwrap();
        assert_eq!((settings.sampling.temperature, settings.max_tokens), (0.5, 7));
        let before = settings.clone();
        for (name, value, code) in [
            ("temperature", "hot", "chat::set"),
            ("temperature", "-1", "sampling::temperature"),
            ("warmth", "1", "chat::set"),
            ("seed", "", "chat::set"),
        ] {
            let found = set(&mut settings, name, value).unwrap_err();
            assert_eq!(found[0].code, code, "{name} {value}");
        }
        assert_eq!(settings, before);
    }
}
