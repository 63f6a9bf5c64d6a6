//! `llmc quickstart`: a small code model on the machine's own Python library.
//!
//! Real text, nothing downloaded. Where there is no Python library, the generated corpus takes
//! its place; the numbers then say little about language, and the text says so.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Steps of the quickstart: about two minutes on two cores.
pub const STEPS: u64 = 800;

/// The built-in spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quickstart {
    /// The spec as TOML, ready to be saved and changed.
    pub spec: String,
    /// What it trains on, in a few words.
    pub text: String,
    /// Whether the text is real.
    pub is_real_text: bool,
}

/// The folder of the Python standard library, from the first Python that answers.
pub fn python_library() -> Option<PathBuf> {
    let program = "import sysconfig; print(sysconfig.get_paths()['stdlib'])";
    for python in ["python3", "python"] {
        let output = Command::new(python)
            .args(["-I", "-c", program])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        let Ok(output) = output else { continue };
        let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        if output.status.success() && path.join("os.py").is_file() {
            return Some(path);
        }
    }
    None
}

/// The spec for a Python library, or for the generated corpus.
pub fn spec(library: Option<&Path>, steps: Option<u64>) -> Quickstart {
    let steps = steps.unwrap_or(STEPS);
    let (dataset, text, is_real_text) = match library.and_then(Path::to_str) {
        Some(library) => {
            let quoted = library.replace('\\', "/");
            let dataset = format!(
                "paths = [{quoted:?}]\n\
                 extensions = [\"py\"]\n\
                 exclude = [\"**/test/**\", \"**/tests/**\", \"**/site-packages/**\", \"**/lib2to3/**\"]\n\
                 invalid_utf8 = \"skip\"\n\
                 validation_fraction = 0.05\n"
            );
            (dataset, format!("the Python library in {library}"), true)
        }
        None => {
            let dataset = "domains = [\"synthetic\"]\n\
                           languages = { en = 1.0 }\n\
                           target_tokens = 400_000\n\
                           min_length = 40\n\
                           max_length = 400\n\
                           validation_fraction = 0.05\n";
            (dataset.to_string(), "the generated corpus (no Python was found)".to_string(), false)
        }
    };
    let spec = format!(
        "# Written by `llmc quickstart`: a small code model. Change it and run `llmc train` on it.\n\
         [model]\n\
         name = \"quickstart\"\n\
         template = \"decoder_only\"\n\
         target_params = \"1.5M\"\n\
         num_layers = 4\n\
         vocab_size = {vocab}\n\
         context_length = 256\n\
         attention = \"gqa\"\n\
         activation = \"swiglu\"\n\
         norm = \"rmsnorm\"\n\
         positional_encoding = \"rope\"\n\
         tie_embeddings = true\n\
         \n\
         [dataset]\n\
         name = \"quickstart\"\n\
         {dataset}\
         \n\
         [tokenizer]\n\
         type = \"byte_bpe\"\n\
         special_tokens = {{ eos = \"<|endoftext|>\" }}\n\
         \n\
         [optimizer]\n\
         type = \"muon\"\n\
         lr = 4e-3\n\
         weight_decay = 0.1\n\
         max_grad_norm = 1.0\n\
         \n\
         [training]\n\
         batch_size = 8\n\
         microbatch_size = 8\n\
         max_steps = {steps}\n\
         schedule = {{ type = \"cosine\", warmup_steps = {warmup}, min_lr_ratio = 0.1 }}\n\
         eval_interval = {eval}\n\
         sample_prompt = \"def \"\n\
         sample_tokens = 96\n",
        // The generated corpus has few words: it has no use for more tokens.
        vocab = if is_real_text { 4096 } else { 512 },
        warmup = (steps / 20).max(1).min(steps.saturating_sub(1)),
        eval = (steps / 2).max(1),
    );
    Quickstart { spec, text, is_real_text }
}
