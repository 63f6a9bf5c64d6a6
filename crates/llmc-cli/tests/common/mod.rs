//! Runs the binary in a folder of its own, with a stage cache of its own.
#![allow(dead_code)]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A spec that trains in a fraction of a second.
pub const TINY: &str = r#"[model]
name = "tiny"
template = "decoder_only"
num_layers = 2
hidden_size = 16
num_heads = 2
intermediate_size = 32
vocab_size = 300
context_length = 32
tie_embeddings = true

[dataset]
domains = ["synthetic"]
languages = { en = 1.0 }
target_tokens = 2000
min_length = 10
max_length = 40
validation_fraction = 0.1

[tokenizer]
type = "byte_bpe"
special_tokens = { eos = "<|endoftext|>" }

[optimizer]
type = "adamw"
lr = 3e-3

[training]
batch_size = 4
max_steps = 8
eval_interval = 4
checkpoint_interval = 3
log_interval = 1
sample_tokens = 4
"#;

/// What a command said.
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Asserts the exit code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// The one document that it printed.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e} in:\n{}", self.out))
    }

    /// The documents that it printed, one per line.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        let parse = |l: &str| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e} in {l}"));
        self.out.lines().map(parse).collect()
    }

    /// The last event of this kind.
    #[track_caller]
    pub fn event(&self, kind: &str) -> Value {
        let found = self.lines().into_iter().rfind(|v| v["event"] == kind);
        found.unwrap_or_else(|| panic!("no `{kind}` in:\n{}", self.out))
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Said {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A folder to work in.
pub struct Place {
    folder: TempDir,
}

impl Place {
    /// With `tiny.toml` in it.
    pub fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        place.write("tiny.toml", TINY);
        place
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    /// The command, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llmc"));
        command
            .args(args)
            .current_dir(self.path())
            .env("LLMC_CACHE", self.path().join("cache"))
            .env_remove("LLMC_ISA")
            .env_remove("NO_COLOR")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// What the command says.
    pub fn llmc(&self, args: &[&str]) -> Said {
        self.command(args).output().unwrap().into()
    }
}
