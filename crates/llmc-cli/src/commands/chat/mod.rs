//! `llmc chat`: a conversation in the terminal, or over a pipe.
//!
//! On a terminal replies come token by token, Ctrl-C stops one and keeps the conversation. From a pipe
//! each line is a turn and replies are plain text; with `--json` each is an event.

mod input;
mod slash;

use super::{DONE, open_model, session_options};
use crate::args::Chat as Args;
use crate::format::{Align, bytes, table};
use crate::output::{Output, say};
use crate::progress::INTERRUPTED;
use input::{Input, Turn};
use llmc::pipeline::Failure;
use llmc::pipeline::chat::{Chat, ChatTemplate, Origin};
use llmc::pipeline::generate::{CacheFormat, Finish, Generated, Model, Settings, Speculating};
use llmc::store::FsStore;
use llmc_base::Diagnostic;
use llmc_runtime::Session;
use serde_json::json;
use slash::Slash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Ctrl-C on a terminal is noted: it stops a reply, and between replies, where the line editor does not see it, it
/// is answered before the next line. A second one before anybody looked ends the process, as any does elsewhere.
fn catch_interrupt(is_terminal: bool) -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::SeqCst) || !is_terminal {
            std::process::exit(INTERRUPTED.into());
        }
    })
    .map_err(|e| Diagnostic::error("llmc::signal", format!("cannot catch Ctrl-C: {e}")))?;
    Ok(stop)
}

/// A conversation while it goes on.
struct Talk<'a> {
    chat: Chat<'a>,
    session: Session,
    /// The format of its KV cache.
    cache: CacheFormat,
    settings: Settings,
    /// Whether Ctrl-C was pressed and nobody looked yet.
    stop: Arc<AtomicBool>,
    is_terminal: bool,
    totals: Totals,
}

/// What all replies together took.
#[derive(Default)]
struct Totals {
    replies: u64,
    new_tokens: usize,
    /// Tokens of the last text, its reply included.
    text_tokens: usize,
    seconds: f64,
    /// Tokens that were proposed, and those of them that the model chose.
    proposed: u64,
    accepted: u64,
}

/// `llmc chat`.
pub fn chat(args: &Args, out: &mut Output) -> Result<u8, Failure> {
    let model = open_model(&args.model)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs() as i64);
    let tokenizer = &model.tokenizer;
    let template = match &args.template {
        Some(file) => ChatTemplate::read(&FsStore, file, tokenizer, now)?,
        None => ChatTemplate::find(&FsStore, &model.tokenizer_folder, tokenizer, now)?,
    };
    let settings = Settings {
        stop: args.stop.clone(),
        speculate: args.speculate.into(),
        ..Settings::new(args.tokens, args.sampling.sampling())
    };
    let problems = settings.sampling.check();
    if !problems.is_empty() {
        return Err(problems.into());
    }
    let mut chat = Chat::new(tokenizer, template);
    if let Some(file) = &args.load {
        chat.load(&FsStore, file)?;
    }
    if args.system.is_some() {
        chat.set_system(args.system.clone());
    }
    let session = model.session(&session_options(&args.model)?)?;
    let mut input = Input::open()?;
    let is_terminal = input.is_terminal();
    let stop = catch_interrupt(is_terminal)?;
    greet(&model, &chat, is_terminal, out);
    let totals = Totals::default();
    let cache = args.model.kv_cache_dtype;
    let mut talk = Talk { chat, session, cache, settings, stop, is_terminal, totals };
    let mut code = DONE;
    const HOW_TO_LEAVE: &str = "(/quit or Ctrl-D leaves)";
    loop {
        if talk.stop.swap(false, Ordering::SeqCst) {
            say(HOW_TO_LEAVE);
        }
        let line = match input.next()? {
            Turn::End => break,
            Turn::Dropped => {
                say(HOW_TO_LEAVE);
                continue;
            }
            Turn::Said(line) => line,
        };
        match talk.turn(&line, out) {
            Ok(true) => {}
            Ok(false) => break,
            // A person sees it and goes on; a script learns of the first failure by the exit code.
            Err(failure) => {
                out.failure(&failure.diagnostics());
                if !is_terminal && code == DONE {
                    code = failure.exit_code();
                }
            }
        }
        if !out.flush() {
            break;
        }
    }
    Ok(code)
}

/// Says which model this is and how it was asked to talk.
fn greet(model: &Model, chat: &Chat, is_terminal: bool, out: &mut Output) {
    let origin = match &chat.template().origin {
        Origin::File(path) => Some(path.display().to_string()),
        Origin::Plain => None,
    };
    if out.is_json {
        return out.json_line(&json!({
            "event": "start", "step": model.checkpoint.step, "template": origin,
        }));
    }
    match origin {
        Some(path) => out.note(&format!("chat template: {path}")),
        None => out.note(
            "this model has no chat template: the conversation is one running text that it continues",
        ),
    }
    if is_terminal {
        out.note("/help lists the commands; Ctrl-C stops a reply, Ctrl-D leaves; `\\` at the end of a line, or \"\"\" around several, makes one message of them");
    }
}

impl Talk<'_> {
    /// One line: a message or a command. False if it was the last.
    fn turn(&mut self, line: &str, out: &mut Output) -> Result<bool, Failure> {
        if line.trim().is_empty() {
            return Ok(true);
        }
        match slash::parse(line)? {
            None => {
                let text = if line.starts_with("//") { &line[1..] } else { line };
                self.reply(Some(text), out)?;
            }
            Some(Slash::Quit) => return Ok(false),
            Some(command) => self.command(command, out)?,
        }
        Ok(true)
    }

    /// Replies to a message, or to the last one once more.
    fn reply(&mut self, message: Option<&str>, out: &mut Output) -> Result<(), Failure> {
        let started = Instant::now();
        let Talk { chat, session, settings, stop, .. } = self;
        let is_json = out.is_json;
        let mut speaker = Speculating::new(session);
        let mut each = |piece: &str| {
            let is_read = is_json || (out.text(piece) && out.flush());
            is_read && !stop.load(Ordering::SeqCst)
        };
        let replied = match message {
            Some(text) => chat.say(&mut speaker, text, settings, &mut each),
            None => chat.regenerate(&mut speaker, settings, &mut each),
        };
        // What came while there was a reply was meant for it.
        stop.store(false, Ordering::SeqCst);
        let counts = speaker.counts;
        let reply = replied?;
        self.totals.proposed += counts.proposed;
        self.totals.accepted += counts.accepted;
        self.totals.replies += 1;
        self.totals.new_tokens += reply.new_tokens;
        self.totals.text_tokens = reply.prompt_tokens + reply.new_tokens;
        self.totals.seconds += started.elapsed().as_secs_f64();
        self.end(&reply, out);
        Ok(())
    }

    /// What follows a reply.
    fn end(&self, reply: &Generated, out: &mut Output) {
        if out.is_json {
            return out.json_line(&json!({
                "event": "reply", "text": reply.text, "finish": reply.finish,
                "prompt_tokens": reply.prompt_tokens, "new_tokens": reply.new_tokens,
            }));
        }
        out.text("\n");
        match reply.finish {
            Finish::Length if self.is_terminal => {
                out.line(out.dim("(as long as `tokens` allows; /set tokens N)"));
            }
            Finish::Cancelled if self.is_terminal => out.line(out.dim("(stopped)")),
            _ => {}
        }
    }

    fn command(&mut self, command: Slash, out: &mut Output) -> Result<(), Failure> {
        match command {
            Slash::Help => {
                let row = |(name, arguments, what): &(&str, &str, &str)| {
                    vec![format!("{name} {arguments}"), what.to_string()]
                };
                let rows: Vec<Vec<String>> = slash::COMMANDS.iter().map(row).collect();
                table(&[Align::Left; 2], &rows).iter().for_each(|line| out.note(line));
            }
            Slash::Set(None) => {
                let rows: Vec<Vec<String>> = slash::values(&self.settings)
                    .into_iter()
                    .map(|(name, value)| vec![name.to_string(), value])
                    .collect();
                table(&[Align::Left; 2], &rows).iter().for_each(|line| out.note(line));
            }
            Slash::Set(Some((name, value))) => slash::set(&mut self.settings, &name, &value)?,
            Slash::System(text) => self.chat.set_system(text),
            Slash::Reset => self.chat.reset(),
            Slash::Undo => {
                if !self.chat.undo() {
                    let message = "there is nothing to take back";
                    return Err(Diagnostic::error("chat::nothing", message)
                        .help("say something")
                        .into());
                }
            }
            Slash::Regen => {
                self.settings.sampling.seed = self.settings.sampling.seed.wrapping_add(1);
                self.reply(None, out)?;
            }
            Slash::Save(path) => {
                self.chat.save(&FsStore, &path)?;
                out.note(&format!("wrote {}", path.display()));
            }
            Slash::Load(path) => {
                self.chat.load(&FsStore, &path)?;
                out.note(&format!("{} messages", self.chat.messages().len()));
            }
            Slash::Stats => self.stats(out),
            // Handled where the loop is.
            Slash::Quit => {}
        }
        Ok(())
    }

    fn stats(&self, out: &mut Output) {
        let totals = &self.totals;
        let speed = totals.new_tokens as f64 / totals.seconds.max(1e-9);
        let (capacity, cache) = (self.session.capacity(), self.session.cache_bytes());
        if out.is_json {
            return out.json_line(&json!({
                "event": "stats", "messages": self.chat.messages().len(), "replies": totals.replies,
                "new_tokens": totals.new_tokens, "seconds": totals.seconds,
                "text_tokens": totals.text_tokens, "context": capacity,
                "proposed": totals.proposed, "accepted": totals.accepted,
                "kv_cache_dtype": self.cache.name(), "kv_cache_bytes": cache.used,
                "kv_cache_reserved_bytes": cache.reserved, "kv_cache_kept_bytes": cache.kept,
            }));
        }
        let rows = [
            ("messages", self.chat.messages().len().to_string()),
            ("new tokens", format!("{} in {} replies", totals.new_tokens, totals.replies)),
            ("speed", format!("{speed:.1} tokens/s, prompts included")),
            (
                "context",
                format!("{} tokens of text, the model sees up to {capacity}", totals.text_tokens),
            ),
            (
                "KV cache",
                format!(
                    "{}: {} of {} in use, {} of earlier texts",
                    self.cache.name(),
                    bytes(cache.used),
                    bytes(cache.reserved),
                    bytes(cache.kept)
                ),
            ),
        ];
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|(name, value)| vec![name.to_string(), value]).collect();
        table(&[Align::Left; 2], &rows).iter().for_each(|line| out.note(line));
    }
}
