//! What the screen of a training shows, and how it is drawn: no terminal and no clock in here.

use super::series::{Series, range};
use crate::format::{bytes, duration, grouped, short};
use llmc::metrics::{TrainRecord, ValidationRecord};
use llmc::pipeline::Event;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph, Sparkline};
use std::collections::VecDeque;

/// Messages that are kept.
const MAX_MESSAGES: usize = 50;

/// Columns of the numbers beside the curve.
const NUMBERS_WIDTH: u16 = 34;

/// What is known of a training.
#[derive(Clone, Debug, Default)]
pub struct Dashboard {
    run: String,
    max_steps: u64,
    tokens_per_step: u64,
    /// When steps began, in seconds, and how many were done before.
    began: Option<(f64, u64)>,
    last: Option<TrainRecord>,
    validation: Option<ValidationRecord>,
    loss: Series,
    held_out: Series,
    speed: Series,
    n_skipped: u64,
    messages: VecDeque<String>,
    /// Seconds since the start of the command.
    pub now_s: f64,
    /// Bytes of the process in memory.
    pub memory: Option<u64>,
    /// Whether it ends after this step.
    pub is_stopping: bool,
}

impl Dashboard {
    /// Takes note of an event at `self.now_s`.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Stage { name, detail } => self.say(format!("{name}: {detail}")),
            Event::Start { run, step, max_steps, tokens_per_step } => {
                self.run = run.display().to_string();
                (self.max_steps, self.tokens_per_step) = (*max_steps, *tokens_per_step);
                self.began = Some((self.now_s, *step));
                if *step > 0 {
                    self.say(format!("going on from step {step}"));
                }
            }
            Event::Step(record) => {
                self.loss.push(record.step, record.loss);
                self.speed.push(record.step, record.tokens_per_s);
                if let Some(why) = record.why_skipped() {
                    self.n_skipped += 1;
                    self.say(format!("step {}: skipped {why}", record.step));
                }
                self.last = Some((*record).clone());
            }
            Event::Validation(record) => {
                self.held_out.push(record.step, record.loss);
                self.say(format!("step {}: held out loss {:.4}", record.step, record.loss));
                self.validation = Some((*record).clone());
            }
            Event::Sample(record) => {
                let text = format!("{}{}", record.prompt, record.text).replace('\n', "⏎");
                self.say(format!("step {}: {text}", record.step));
            }
            Event::Checkpoint { step, .. } => self.say(format!("step {step}: checkpoint")),
            Event::Warning(d) => self.say(d.to_string()),
        }
    }

    /// Adds a message.
    pub fn say(&mut self, text: String) {
        self.messages.push_back(text.trim().replace('\n', " "));
        if self.messages.len() > MAX_MESSAGES {
            self.messages.pop_front();
        }
    }

    /// Seconds until the last step at the speed so far; `None` before the first.
    fn seconds_left(&self) -> Option<f64> {
        let ((began, before), last) = (self.began?, self.last.as_ref()?);
        let done = last.step.saturating_sub(before).max(1);
        let left = self.max_steps.saturating_sub(last.step);
        Some((self.now_s - began).max(0.0) / done as f64 * left as f64)
    }

    /// Draws everything that fits.
    pub fn draw(&self, frame: &mut Frame) {
        let rows = Layout::vertical([
            Constraint::Length(3),
            Constraint::Min(8),
            Constraint::Length(4),
            Constraint::Length(6),
            Constraint::Length(1),
        ]);
        let [top, middle, speed, messages, bottom] = rows.areas(frame.area());
        let columns = Layout::horizontal([Constraint::Min(20), Constraint::Length(NUMBERS_WIDTH)]);
        let [curve, numbers] = columns.areas(middle);
        self.progress(frame, top);
        self.curve(frame, curve);
        self.numbers(frame, numbers);
        self.throughput(frame, speed);
        self.messages(frame, messages);
        let keys = match self.is_stopping {
            true => "finishing this step and writing a checkpoint; q again stops at once",
            false => "q or Ctrl-C: write a checkpoint and stop",
        };
        frame.render_widget(Paragraph::new(keys).style(dim()), bottom);
    }

    fn progress(&self, frame: &mut Frame, area: Rect) {
        let step =
            self.last.as_ref().map_or(self.began.map_or(0, |(_, before)| before), |r| r.step);
        let title = if self.run.is_empty() { "reading the data" } else { &self.run };
        let share = if self.max_steps == 0 { 0.0 } else { step as f64 / self.max_steps as f64 };
        let end = self.seconds_left().map(|left| format!(", ends in {}", duration(left)));
        let label = format!("step {step}/{}{}", self.max_steps, end.unwrap_or_default());
        let gauge = Gauge::default()
            .block(Block::bordered().title(format!(" llmc {title} ")))
            .gauge_style(Style::new().fg(Color::Cyan))
            .ratio(share.clamp(0.0, 1.0))
            .label(label);
        frame.render_widget(gauge, area);
    }

    fn curve(&self, frame: &mut Frame, area: Rect) {
        let (loss, held_out) = (self.loss.points(), self.held_out.points());
        let [low, high] = range(&[loss, held_out]);
        let first = self.began.map_or(0, |(_, before)| before) as f64;
        let last = (self.max_steps as f64).max(first + 1.0);
        let curve = |name, points, color, kind| {
            let set = Dataset::default().name(name).data(points).marker(Marker::Braille);
            set.graph_type(kind).style(Style::new().fg(color))
        };
        let sets = vec![
            curve("loss", loss, Color::Cyan, GraphType::Line),
            curve("held out", held_out, Color::Yellow, GraphType::Line),
        ];
        let labels = |values: [String; 2]| values.map(Span::raw);
        let chart = Chart::new(sets)
            .block(Block::bordered().title(" loss, nats per token "))
            .x_axis(
                Axis::default()
                    .bounds([first, last])
                    .labels(labels([first, last].map(|x| grouped(x as u64))))
                    .style(dim()),
            )
            .y_axis(
                Axis::default()
                    .bounds([low, high])
                    .labels(labels([low, high].map(|y| format!("{y:.2}"))))
                    .style(dim()),
            );
        frame.render_widget(chart, area);
    }

    fn numbers(&self, frame: &mut Frame, area: Rect) {
        let mut lines = Vec::new();
        let mut row = |name: &str, value: String| {
            let name = Span::styled(format!("{name:<14}"), dim());
            lines.push(Line::from(vec![name, Span::raw(value)]));
        };
        if let Some(last) = &self.last {
            row("loss", format!("{:.4}", last.loss));
        }
        if let Some(v) = &self.validation {
            row("held out", format!("{:.4} at step {}", v.loss, v.step));
            row("bits per byte", format!("{:.4}", v.bits_per_byte));
            if let Some(loss) = v.ema_loss {
                row("of average", format!("{loss:.4}"));
            }
        }
        if let Some(last) = &self.last {
            row("learning rate", format!("{:.2e}", last.lr));
            row("gradient norm", format!("{:.3}", last.grad_norm));
            if let Some(scale) = last.loss_scale {
                row("loss scale", format!("{scale}"));
            }
            row("tokens", grouped(last.tokens));
            row("tokens/s", short(last.tokens_per_s));
        }
        if self.n_skipped > 0 {
            row("skipped", grouped(self.n_skipped));
        }
        if let Some(memory) = self.memory {
            row("memory", bytes(memory));
        }
        row("elapsed", duration(self.now_s));
        if let Some(left) = self.seconds_left() {
            row("predicted end", format!("in {}", duration(left)));
        }
        frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" now ")), area);
    }

    fn throughput(&self, frame: &mut Frame, area: Rect) {
        let width = usize::from(area.width.saturating_sub(2));
        let points = self.speed.points();
        let shown = &points[points.len().saturating_sub(width)..];
        let bars: Vec<u64> = shown.iter().map(|p| p.1.max(0.0) as u64).collect();
        let line = Sparkline::default()
            .block(Block::bordered().title(" tokens/s "))
            .style(Style::new().fg(Color::Green))
            .data(&bars);
        frame.render_widget(line, area);
    }

    fn messages(&self, frame: &mut Frame, area: Rect) {
        let n = usize::from(area.height.saturating_sub(2));
        let first = self.messages.len().saturating_sub(n);
        let lines: Vec<Line> =
            self.messages.iter().skip(first).map(|m| Line::raw(m.as_str())).collect();
        let block = Block::bordered().title(" messages ");
        frame.render_widget(Paragraph::new(lines).block(block), area);
    }
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}
