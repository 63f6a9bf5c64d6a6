//! Where the turns of a chat come from: a line editor on a terminal, else the lines of a pipe.

use super::slash::{COMMANDS, SETTINGS};
use crate::environment;
use crate::output::say;
use llmc::pipeline::Failure;
use llmc_base::Diagnostic;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Cmd, Config, Context, Editor, Helper, KeyCode, KeyEvent, Modifiers};
use std::io::{BufRead, IsTerminal, stdin, stdout};
use std::path::{Path, PathBuf};

/// Lines of history that are kept.
const MAX_HISTORY: usize = 1000;
/// Opens and closes a message of several lines.
const FENCE: &str = "\"\"\"";

/// Where turns come from.
pub enum Input {
    /// A person.
    Terminal(Box<Terminal>),
    /// Lines of standard input.
    Pipe,
}

/// A line editor with a history.
pub struct Terminal {
    editor: Editor<Manners, DefaultHistory>,
    history: Option<PathBuf>,
}

/// What came.
#[derive(Debug, PartialEq)]
pub enum Turn {
    /// A message or a command.
    Said(String),
    /// Ctrl-C on a line, which is thrown away.
    Dropped,
    /// Nothing more.
    End,
}

impl Input {
    /// A line editor if a person types and reads, else the lines of standard input.
    pub fn open() -> Result<Input, Failure> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return Ok(Input::Pipe);
        }
        let config = Config::builder()
            .max_history_size(MAX_HISTORY)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(|e| failed(&e))?;
        let mut editor = Editor::with_config(config.build()).map_err(|e| failed(&e))?;
        editor.set_helper(Some(Manners));
        editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), Cmd::Newline);
        let history = environment::state_folder().and_then(|folder| history_file(&folder));
        if let Some(path) = history.as_deref().filter(|path| path.exists())
            && let Err(e) = editor.load_history(path)
        {
            say(&format!("the history `{}` cannot be read: {e}", path.display()));
        }
        Ok(Input::Terminal(Box::new(Terminal { editor, history })))
    }

    /// Whether a person types.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Input::Terminal(_))
    }

    /// The next turn.
    ///
    /// Errors: `chat::stdin` for what is not UTF-8 text, or a terminal that fails.
    pub fn next(&mut self) -> Result<Turn, Failure> {
        match self {
            Input::Pipe => {
                let mut line = String::new();
                match stdin().lock().read_line(&mut line) {
                    Ok(0) => Ok(Turn::End),
                    Ok(_) => Ok(Turn::Said(line.trim_end_matches(['\n', '\r']).to_string())),
                    Err(e) => {
                        let message = format!("cannot read standard input: {e}");
                        let d = Diagnostic::error("chat::stdin", message);
                        Err(d.help("it must be UTF-8 text, a turn a line").into())
                    }
                }
            }
            Input::Terminal(terminal) => terminal.next(),
        }
    }
}

impl Terminal {
    fn next(&mut self) -> Result<Turn, Failure> {
        match self.editor.readline("> ") {
            Ok(line) => {
                if !line.trim().is_empty() {
                    self.remember(&line);
                }
                Ok(Turn::Said(unfenced(&line)))
            }
            Err(ReadlineError::Interrupted) => Ok(Turn::Dropped),
            Err(ReadlineError::Eof) => Ok(Turn::End),
            Err(e) => Err(failed(&e)),
        }
    }

    /// Adds a line to the history and its file. A history that cannot be written is no reason to stop.
    fn remember(&mut self, line: &str) {
        let added = self.editor.add_history_entry(line).unwrap_or(false);
        if let (true, Some(path)) = (added, &self.history)
            && let Err(e) = self.editor.append_history(path)
        {
            say(&format!("the history `{}` cannot be written: {e}", path.display()));
            self.history = None;
        }
    }
}

fn failed(error: &ReadlineError) -> Failure {
    let message = format!("the terminal does not work: {error}");
    Diagnostic::error("chat::stdin", message).help("pipe the turns in, one a line").into()
}

/// The file of the history; its folder is made for this user alone.
fn history_file(folder: &Path) -> Option<PathBuf> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).ok()?;
    Some(folder.join("chat_history"))
}

/// Whether a message goes on in the next line: after a `\` at the end, or within `"""`.
fn is_open(text: &str) -> bool {
    match text.trim_start().strip_prefix(FENCE) {
        Some(rest) => !rest.trim_end().ends_with(FENCE),
        None => text.ends_with('\\'),
    }
}

/// The message without the signs that held its lines together.
fn unfenced(text: &str) -> String {
    if let Some(inner) = text.trim().strip_prefix(FENCE).and_then(|t| t.strip_suffix(FENCE)) {
        return inner.trim_matches('\n').to_string();
    }
    text.replace("\\\n", "\n")
}

/// What the editor knows of chats: where messages end, and the names of commands and settings.
struct Manners;

impl Helper for Manners {}
impl Hinter for Manners {
    type Hint = String;
}
impl Highlighter for Manners {}

impl Validator for Manners {
    fn validate(&self, ctx: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        match is_open(ctx.input()) {
            true => Ok(ValidationResult::Incomplete),
            false => Ok(ValidationResult::Valid(None)),
        }
    }
}

impl Completer for Manners {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(completions(&line[..at]))
    }
}

/// Where the word before the cursor starts, and what it can become.
fn completions(line: &str) -> (usize, Vec<String>) {
    let (start, names): (usize, Vec<&str>) = match line.strip_prefix("/set ") {
        Some(_) => ("/set ".len(), SETTINGS.to_vec()),
        None => (0, COMMANDS.iter().map(|(name, ..)| *name).collect()),
    };
    let word = &line[start..];
    let fits = |name: &&str| line.starts_with('/') && name.starts_with(word);
    (start, names.into_iter().filter(fits).map(|name| format!("{name} ")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_several_lines_end_where_their_signs_say() {
        let check = |text: &str, open: bool, message: &str| {
            assert_eq!((is_open(text), unfenced(text).as_str()), (open, message), "{text:?}");
        };
        check("one", false, "one");
        check("one\\\ntwo", false, "one\ntwo");
        check("\"\"\"\na\nb\n\"\"\"", false, "a\nb");
        check("\"\"\"a\"\"\" ", false, "a");
        check("say \"\"\"", false, "say \"\"\"");
        assert!(is_open("one\\") && is_open("\"\"\"") && is_open("\"\"\"a\nb"));
    }

    #[test]
    fn names_are_completed() {
        assert_eq!(completions("/re"), (0, vec!["/reset ".to_string(), "/regen ".to_string()]));
        assert_eq!(completions("/set temp"), (5, vec!["temperature ".to_string()]));
        assert_eq!(completions("hello").1, Vec::<String>::new());
        assert_eq!(completions("/set top_k 4").1, Vec::<String>::new());
    }
}
