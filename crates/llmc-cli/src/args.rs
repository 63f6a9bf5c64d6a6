//! The arguments of every command: one place, and the manual that `--help` prints.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use llmc::pipeline::emit;
use llmc::pipeline::generate::{CacheFormat, WeightFormat};
use llmc::pipeline::quickstart::STEPS;
use llmc_runtime::Sampling;
use std::path::PathBuf;

/// Exit codes, as `llmc --help` states them.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the work failed: a file, the disk, a number that is not finite
  2  the command line is wrong: an argument, a run that is not there, `LLMC_ISA`
  3  the spec (with what `--set` changes) or another input file is wrong or missing
  4  a check failed: `verify`, `rerun`, `runs diff` found a difference, or a run's own account of
     itself (manifest.json, spec.toml) is damaged or gone
  130  interrupted; where steps were done a checkpoint was written, and `llmc resume` continues

Environment:
  NO_COLOR      no colours
  LLMC_CACHE    folder of the stage cache (default: the user's cache folder)
  LLMC_STATE    folder of what was typed in `llmc chat` (default: the user's state folder)
  LLMC_ISA      scalar, avx2, avx512 or neon instead of the best one; the bits are the same

First steps:
  llmc quickstart              train a small model on this machine's own Python library
  llmc new my-model            write a spec to start from
  llmc check my-model.toml     find every problem in it
  llmc train my-model.toml     solve, build, train";

/// A compiler for language models: one spec in, artifacts that are shown to be the same model out.
#[derive(Parser)]
#[command(
    name = "llmc",
    version,
    after_long_help = EXIT_CODES,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Print JSON for programs: one document, or one event per line while something is trained.
    #[arg(long, global = true)]
    pub json: bool,
    /// Say less: only results and errors.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Every command.
#[derive(Subcommand)]
pub enum Command {
    /// Train a small code model on this machine's own Python library, in about two minutes.
    ///
    /// Solves the dimensions, trains a tokenizer, trains the model with a live progress line,
    /// compares held-out bits per byte with gzip -9 and a 5-gram model, generates a sample and
    /// verifies every hash. Without a Python library it trains on the generated corpus.
    #[command(
        after_help = "Examples:\n  llmc quickstart\n  llmc quickstart --steps 50 --output /tmp/first"
    )]
    Quickstart(Quickstart),
    /// Write a spec to start from.
    #[command(
        after_help = "Examples:\n  llmc new my-model\n  llmc new my-model --params 10M --data 'corpus/**/*.txt'"
    )]
    New(New),
    /// Find every problem in a spec.
    #[command(
        after_help = "Examples:\n  llmc check model.toml\n  llmc check model.toml --explicit\n  llmc check model.toml --set model.num_heads=7"
    )]
    Check(SpecArgs),
    /// Solve the dimensions of a spec and say why.
    ///
    /// The result is the closest integer solution in the documented lattice (docs/solver.md), with
    /// up to five alternatives. If there is none: a minimal set of constraints that clash, and the nearest change that helps.
    #[command(
        after_help = "Examples:\n  llmc solve model.toml\n  llmc solve model.toml --set model.target_params=125M --json"
    )]
    Solve(SpecArgs),
    /// Count parameters, FLOPs per token and KV-cache bytes of a spec's model.
    #[command(
        after_help = "Examples:\n  llmc count model.toml\n  llmc count model.toml --set model.num_layers=24 --json"
    )]
    Count(SpecArgs),
    /// Predict memory, work, time and disk of a training, before anything of it is allocated.
    ///
    /// Memory and FLOPs are read off the plans that the training executes. Times come from a calibration of
    /// this machine, which takes a few seconds once and is kept in the cache, by processor, threads and
    /// instruction set. Of text only the lengths of its files are looked at.
    #[command(
        after_help = "Examples:\n  llmc plan model.toml\n  llmc plan model.toml --set training.microbatch_size=2 --json\n  llmc plan model.toml --recalibrate"
    )]
    Plan(PlanArgs),
    /// Say why the engine does what it does: kernels, fusions, recomputation, memory.
    ///
    /// For a step of training and for the decoding of a token: every launch with the ops that it came from, its
    /// kernel and the way that it takes, its work and its share; what was fused or kept, and why; where every value
    /// lives. Times are those of the calibration that `llmc plan` made; without one, shares are of FLOPs.
    #[command(
        after_help = "Examples:\n  llmc explain model.toml\n  llmc explain model.toml attention\n  llmc explain model.toml memory --set training.gradient_checkpointing=block\n  llmc explain 1f0c6b decode --weights q8_0\n  llmc explain model.toml --json"
    )]
    Explain(Explain),
    /// Print the IR of a spec's model after any stage.
    #[command(
        after_help = "Examples:\n  llmc ir model.toml\n  llmc ir model.toml --after autodiff\n  llmc ir model.toml --after legalise --function layer\n  llmc ir my.ir --after cse"
    )]
    Ir(Ir),
    /// Draw a function of the IR as SVG or DOT.
    #[command(
        after_help = "Examples:\n  llmc graph model.toml -o layer.svg --function layer\n  llmc graph model.toml --format dot | dot -Tpdf > model.pdf"
    )]
    Graph(Graph),
    /// Train tokenizers, encode and decode text.
    #[command(
        subcommand,
        disable_help_subcommand = true,
        after_help = "Examples:\n  llmc tokenizer train model.toml -o tokenizer.json\n  llmc tokenizer encode tokenizer.json 'def main():'\n  llmc tokenizer decode tokenizer.json 12 45 7"
    )]
    Tokenizer(Tokenizer),
    /// Build and show datasets.
    #[command(
        subcommand,
        disable_help_subcommand = true,
        after_help = "Examples:\n  llmc data build model.toml\n  llmc data show model.toml --count 3"
    )]
    Data(Data),
    /// Train the model of a spec.
    ///
    /// A complete run of the same recipe is verified and returned, not repeated; an interrupted one
    /// goes on where it stopped. Ctrl-C writes a checkpoint.
    #[command(
        after_help = "Examples:\n  llmc train model.toml\n  llmc train model.toml --set training.lr=3e-4 --set training.max_steps=500\n  llmc train model.toml --threads 1 --output runs\n  llmc train other.toml --from 1f0c6b@best"
    )]
    Train(Train),
    /// Go on with an interrupted run, or give a finished one more steps.
    #[command(
        after_help = "Examples:\n  llmc resume runs/1f0c6b2a9d3e4f50\n  llmc resume 1f0c6b --steps 2000"
    )]
    Resume(Resume),
    /// Continue a text with a trained model.
    #[command(
        after_help = "Examples:\n  llmc generate --prompt 'def main'\n  llmc generate 1f0c6b --prompt 'import ' --tokens 200 --temperature 0.7 --seed 3\n  llmc generate exports/huggingface --prompts prompts.txt --batch 8 --json"
    )]
    Generate(Generate),
    /// Talk with a trained model.
    ///
    /// Messages become a text by the model's chat template (docs/chat.md); a model without one gets the
    /// conversation as one running text. From a pipe each line is a turn. `/help` lists the commands.
    #[command(
        after_help = "Examples:\n  llmc chat\n  llmc chat 1f0c6b --system 'Answer in one word.' --temperature 0.3\n  echo 'Hello' | llmc chat 1f0c6b"
    )]
    Chat(Chat),
    /// List, show and compare runs.
    #[command(
        subcommand,
        disable_help_subcommand = true,
        after_help = "Examples:\n  llmc runs list\n  llmc runs show 1f0c6b\n  llmc runs diff 1f0c6b 93ab01"
    )]
    Runs(Runs),
    /// Recompute every hash of a run and compare.
    ///
    /// Spec, program, tokenizer, data, checkpoints, exports and the text that was trained on are
    /// hashed. Metrics, events, log and report are observations: they are listed, and enter no hash.
    #[command(
        after_help = "Examples:\n  llmc verify runs/1f0c6b2a9d3e4f50\n  llmc verify 1f0c6b --json"
    )]
    Verify(RunArg),
    /// Execute a run again from its spec and compare the final weights bit for bit.
    ///
    /// It works in a folder of its own, which is removed again; the run itself is left as it is.
    #[command(after_help = "Examples:\n  llmc rerun 1f0c6b\n  llmc rerun 1f0c6b --threads 1")]
    Rerun(Rerun),
    /// Execute a step of a run again and say what it did: documents, gradient norms, the first number
    /// that is not finite.
    ///
    /// It starts from the nearest checkpoint before the step, or from the start of the run, and writes nothing.
    #[command(after_help = "Examples:\n  llmc why 1f0c6b --step 250\n  llmc why 1f0c6b --json")]
    Why(Why),
    /// Export a run's model to another format, with a certificate.
    #[command(
        after_help = "Examples:\n  llmc emit 1f0c6b --to pytorch\n  llmc emit 1f0c6b --to huggingface -o my-model"
    )]
    Emit(Emit),
    /// Write a run's model with its weights in 16, 8 or 4 bits, and say what it costs in loss.
    ///
    /// `llmc generate FOLDER` uses what is written, without the run.
    #[command(
        after_help = "Examples:\n  llmc quantize 1f0c6b --to q8_0\n  llmc quantize 1f0c6b --to q4_k -o my-model-q4"
    )]
    Quantize(Quantize),
    /// Say what this machine has: cores, instruction sets, memory, Python, compilers, torch.
    #[command(after_help = "Examples:\n  llmc doctor\n  llmc doctor --json")]
    Doctor,
    /// Print the help of a command.
    #[command(after_help = "Examples:\n  llmc help\n  llmc help train\n  llmc help runs diff")]
    Help {
        /// The command, e.g. `runs diff`; all of them without it.
        command: Vec<String>,
    },
}

/// A spec and changes to it.
#[derive(Args)]
pub struct SpecArgs {
    /// The spec: .toml, .yaml, .yml or .json.
    pub spec: PathBuf,
    /// Override a field, e.g. `training.lr=3e-4`; recorded with the spec; may be repeated.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub set: Vec<String>,
    /// Refuse every value that the spec does not write.
    #[arg(long)]
    pub explicit: bool,
}

/// `llmc quickstart`.
#[derive(Args)]
pub struct Quickstart {
    /// Folder of the runs.
    #[arg(long, short, default_value = "runs")]
    pub output: PathBuf,
    /// Steps to train.
    #[arg(long, default_value_t = STEPS, value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: u64,
    /// Override a field of the built-in spec.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub set: Vec<String>,
    /// Threads; without it what the spec says, or one per core. The result is the same bit for bit.
    #[arg(long)]
    pub threads: Option<usize>,
}

/// `llmc new`.
#[derive(Args)]
pub struct New {
    /// Name of the model; the file is NAME.toml.
    pub name: String,
    /// Target number of parameters, e.g. 10M.
    #[arg(long, default_value = "5M")]
    pub params: String,
    /// Files, folder or glob of text to train on; the generated corpus without it.
    #[arg(long)]
    pub data: Vec<String>,
    /// Write over an existing file.
    #[arg(long)]
    pub force: bool,
}

/// `llmc ir`.
#[derive(Args)]
pub struct Ir {
    /// A spec, or a file of IR text (.ir).
    pub file: PathBuf,
    /// Override a field of the spec.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub set: Vec<String>,
    /// Stage or pass after which to print; `--after help` lists them.
    #[arg(long, default_value = "build")]
    pub after: String,
    /// Print only this function.
    #[arg(long)]
    pub function: Option<String>,
}

/// `llmc graph`.
#[derive(Args)]
pub struct Graph {
    /// A spec, or a file of IR text (.ir).
    pub file: PathBuf,
    /// Override a field of the spec.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub set: Vec<String>,
    /// Stage or pass after which to draw; `--after help` lists them.
    #[arg(long, default_value = "build")]
    pub after: String,
    /// The function to draw.
    #[arg(long, default_value = "forward")]
    pub function: String,
    /// Picture or graph description; by default what the output's name says, or svg.
    #[arg(long)]
    pub format: Option<GraphFormat>,
    /// File to write: .svg, .dot or .gv; standard output without it.
    #[arg(long, short)]
    pub output: Option<PathBuf>,
}

/// Formats of `llmc graph`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// A self-contained picture.
    Svg,
    /// Graphviz.
    Dot,
}

/// `llmc tokenizer …`.
#[derive(Subcommand)]
pub enum Tokenizer {
    /// Train the tokenizer of a spec on its dataset.
    #[command(after_help = "Example:\n  llmc tokenizer train model.toml -o tokenizer.json")]
    Train {
        /// Spec and overrides.
        #[command(flatten)]
        spec: SpecArgs,
        /// File to write.
        #[arg(long, short, default_value = "tokenizer.json")]
        output: PathBuf,
    },
    /// Encode text to ids.
    #[command(
        after_help = "Examples:\n  llmc tokenizer encode 1f0c6b 'def main():'\n  llmc tokenizer encode tokenizer.json - < file.txt"
    )]
    Encode {
        /// A run, or a tokenizer.json that llmc wrote.
        tokenizer: String,
        /// The text; `-` reads standard input.
        text: String,
    },
    /// Decode ids to text.
    #[command(after_help = "Example:\n  llmc tokenizer decode tokenizer.json 12 45 7")]
    Decode {
        /// A run, or a tokenizer.json that llmc wrote.
        tokenizer: String,
        /// The ids, as `llmc tokenizer encode` prints them.
        #[arg(required = true)]
        ids: Vec<u32>,
    },
}

/// `llmc data …`.
#[derive(Subcommand)]
pub enum Data {
    /// Read, clean, split and count the dataset of a spec.
    #[command(
        after_help = "Examples:\n  llmc data build model.toml\n  llmc data build model.toml --json"
    )]
    Build(SpecArgs),
    /// Show documents of a spec's dataset.
    #[command(after_help = "Example:\n  llmc data show model.toml --count 3")]
    Show {
        /// Spec and overrides.
        #[command(flatten)]
        spec: SpecArgs,
        /// How many documents.
        #[arg(long, default_value_t = 5)]
        count: usize,
    },
}

/// `llmc train`.
#[derive(Args)]
pub struct Train {
    /// Spec and overrides.
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Fine-tune: start from the weights of a run, with its tokenizer; RUN@STEP or RUN@best takes another
    /// checkpoint than the last. Moments, steps and schedule start anew.
    #[arg(long, value_name = "RUN[@STEP]")]
    pub from: Option<String>,
    /// Show the training on the whole terminal: curve, speed, memory, predicted end; `q` writes a
    /// checkpoint and stops.
    #[arg(long)]
    pub tui: bool,
    /// Folder of the runs.
    #[arg(long, short, default_value = "runs")]
    pub output: PathBuf,
    /// Threads; without it what the spec says, or one per core. The result is the same bit for bit.
    #[arg(long)]
    pub threads: Option<usize>,
}

/// `llmc plan`.
#[derive(Args)]
pub struct PlanArgs {
    /// Spec and overrides.
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Threads; without it what the spec says, or one per core.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Measure this machine again, and keep that.
    #[arg(long)]
    pub recalibrate: bool,
    /// Never measure: without a calibration in the cache no times are predicted.
    #[arg(long, conflicts_with = "recalibrate")]
    pub no_calibrate: bool,
}

/// `llmc explain`.
#[derive(Args)]
pub struct Explain {
    /// A spec, or a run: its folder or the start of its name.
    #[arg(value_name = "SPEC|RUN")]
    pub of: String,
    /// All of one part: training, decode, decisions, memory, an op, a kernel, a function or a value.
    pub what: Option<String>,
    /// Override a field of the spec.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub set: Vec<String>,
    /// Threads; without it what the spec says, or one per core.
    #[arg(long)]
    pub threads: Option<usize>,
    /// The format of the weights that decode.
    #[arg(long, value_name = "FORMAT", value_parser = weight_formats())]
    pub weights: Option<WeightFormat>,
    /// Folder of the runs.
    #[arg(long, default_value = "runs")]
    pub runs: PathBuf,
}

/// A run.
#[derive(Args)]
pub struct RunArg {
    /// Folder of the run, the start of its name below the folder of the runs, or nothing for the
    /// latest.
    pub run: Option<String>,
    /// Folder of the runs.
    #[arg(long, default_value = "runs")]
    pub runs: PathBuf,
}

/// `llmc resume`.
#[derive(Args)]
pub struct Resume {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// Train up to this step in all: a new run, which starts from this one's last checkpoint.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: Option<u64>,
    /// Show the training on the whole terminal, as `llmc train --tui` does.
    #[arg(long)]
    pub tui: bool,
    /// Threads; without it what the spec says, or one per core. The result is the same bit for bit.
    #[arg(long)]
    pub threads: Option<usize>,
}

/// `llmc generate`.
#[derive(Args)]
pub struct Generate {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Text to continue; `-` reads it from standard input.
    #[arg(long, short, default_value = "", allow_hyphen_values = true)]
    pub prompt: String,
    /// A file of prompts, one a line, instead of one prompt; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "logprobs", "speculate"])]
    pub prompts: Option<PathBuf>,
    /// How many of the prompts to continue at once; every text is what it is alone.
    #[arg(long, value_name = "N", default_value_t = 8, requires = "prompts")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch: u16,
    /// Most tokens to add.
    #[arg(long, short = 'n', default_value_t = 128)]
    pub tokens: u64,
    /// How tokens are chosen.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// End the text before this; may be repeated.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Also show the logarithm of each token's probability, and those of so many likely others.
    #[arg(long, value_name = "N")]
    pub logprobs: Option<usize>,
    /// Propose up to K tokens at a time from the text itself and check them in one pass; the text is the
    /// same, sooner where it repeats itself.
    #[arg(long, value_name = "K", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u16).range(..=64))]
    pub speculate: u16,
}

/// `llmc chat`.
#[derive(Args)]
pub struct Chat {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// What the conversation begins with.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub system: Option<String>,
    /// A chat template instead of the model's: a file of Jinja, or a tokenizer_config.json.
    #[arg(long, value_name = "FILE")]
    pub template: Option<PathBuf>,
    /// Go on with a conversation that `/save` wrote.
    #[arg(long, value_name = "FILE")]
    pub load: Option<PathBuf>,
    /// Most tokens of a reply.
    #[arg(long, short = 'n', default_value_t = 256)]
    pub tokens: u64,
    /// How tokens are chosen.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// End a reply before this; may be repeated.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Propose up to K tokens at a time from the text itself and check them in one pass; replies are the
    /// same, sooner where they repeat what was said.
    #[arg(long, value_name = "K", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u16).range(..=64))]
    pub speculate: u16,
}

/// Which model a text is made with.
#[derive(Args)]
pub struct ModelArgs {
    /// The run, export or quantised folder.
    #[command(flatten)]
    pub run: RunArg,
    /// Use the checkpoint with the lowest validation loss instead of the last.
    #[arg(long)]
    pub best: bool,
    /// Use the moving average of the weights, of a run with `training.ema`.
    #[arg(long)]
    pub ema: bool,
    /// Round the weights of linear maps and embeddings to 16, 8 or 4 bits: less to read per token. Without it
    /// they are as the run, the export or the quantised folder has them.
    #[arg(long, value_name = "FORMAT", value_parser = weight_formats())]
    pub weights: Option<WeightFormat>,
    /// How the KV cache holds keys and values: bf16 takes half the memory of f32, int8 (with a scale for each
    /// position and head) about a quarter. They are rounded, so texts may differ from those with f32.
    #[arg(long, value_name = "DTYPE", default_value = "f32", value_parser = cache_formats())]
    pub kv_cache_dtype: CacheFormat,
    /// Read the weights into memory of this process. Without it they are packed once, kept in the cache folder
    /// (`LLMC_CACHE`) and mapped, so that processes share them and later ones start faster.
    #[arg(long)]
    pub no_mmap: bool,
}

/// How tokens are chosen.
#[derive(Args)]
pub struct SamplingArgs {
    /// Divides the logits; 0 always takes the most likely token.
    #[arg(long, default_value_t = 0.8, allow_hyphen_values = true)]
    pub temperature: f32,
    /// Only this many of the most likely tokens; 0 takes all.
    #[arg(long, default_value_t = 40)]
    pub top_k: usize,
    /// Only the most likely tokens that together reach this probability.
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f32,
    /// Only tokens at least this share as likely as the most likely one.
    #[arg(long, default_value_t = 0.0)]
    pub min_p: f32,
    /// Only the tokens whose surprise is nearest to the entropy, until they reach this probability.
    #[arg(long, default_value_t = 1.0)]
    pub typical_p: f32,
    /// Divides (or multiplies, below 0) the logits of tokens that the text has; 1 changes nothing.
    #[arg(long, default_value_t = 1.0)]
    pub repetition_penalty: f32,
    /// Taken from a logit for each time that its token was generated.
    #[arg(long, default_value_t = 0.0, allow_hyphen_values = true)]
    pub frequency_penalty: f32,
    /// Taken from a logit once if its token was generated.
    #[arg(long, default_value_t = 0.0, allow_hyphen_values = true)]
    pub presence_penalty: f32,
    /// Added to the logit of a token, e.g. 42=-100; may be repeated.
    #[arg(long, value_name = "ID=BIAS", value_parser = logit_bias)]
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same text.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl SamplingArgs {
    /// As the runtime takes it.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            repetition_penalty: self.repetition_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            logit_bias: self.logit_bias.iter().copied().collect(),
            seed: self.seed,
        }
    }
}

/// `llmc runs …`.
#[derive(Subcommand)]
pub enum Runs {
    /// List the runs of a folder.
    #[command(after_help = "Example:\n  llmc runs list --json")]
    List {
        /// Folder of the runs.
        #[arg(long, default_value = "runs")]
        runs: PathBuf,
    },
    /// Show one run: spec, dimensions, losses, hashes, files.
    #[command(after_help = "Example:\n  llmc runs show 1f0c6b")]
    Show(RunArg),
    /// Compare two runs: what differs in the spec, and from which step on the losses differ.
    #[command(after_help = "Example:\n  llmc runs diff 1f0c6b 93ab01")]
    Diff {
        /// The first run: a folder, or the start of its name.
        a: String,
        /// The second run, likewise.
        b: String,
        /// Folder of the runs.
        #[arg(long, default_value = "runs")]
        runs: PathBuf,
    },
}

/// `llmc rerun`.
#[derive(Args)]
pub struct Rerun {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// Threads; without it what the spec says, or one per core. The result is the same bit for bit.
    #[arg(long)]
    pub threads: Option<usize>,
}

/// `llmc why`.
#[derive(Args)]
pub struct Why {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// The step, from 1; without it the one at which the run failed.
    #[arg(long)]
    pub step: Option<u64>,
    /// Threads; without it what the spec says, or one per core. The result is the same bit for bit.
    #[arg(long)]
    pub threads: Option<usize>,
}

/// `llmc emit`.
#[derive(Args)]
pub struct Emit {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// Target format.
    #[arg(long, value_parser = formats())]
    pub to: &'static emit::Format,
    /// Folder to write; `exports/<format>` in the run without it, with `-ema` for the average.
    #[arg(long, short)]
    pub output: Option<PathBuf>,
    /// Use the moving average of the weights, of a run with `training.ema`.
    #[arg(long)]
    pub ema: bool,
}

/// `llmc quantize`.
#[derive(Args)]
pub struct Quantize {
    /// The run.
    #[command(flatten)]
    pub run: RunArg,
    /// The format of the weights.
    #[arg(long, value_name = "FORMAT", value_parser = weight_formats())]
    pub to: WeightFormat,
    /// Folder to write; `exports/<format>` in the run without it.
    #[arg(long, short)]
    pub output: Option<PathBuf>,
    /// Use the checkpoint with the lowest validation loss instead of the last.
    #[arg(long)]
    pub best: bool,
}

/// `ID=BIAS` of `--logit-bias`.
fn logit_bias(text: &str) -> Result<(u32, f32), String> {
    let parts = text
        .split_once('=')
        .and_then(|(id, bias)| Some((id.trim().parse().ok()?, bias.trim().parse().ok()?)));
    parts.ok_or_else(|| "expected a token id, `=` and a number, like 42=-100".to_string())
}

/// Formats of `llmc emit`, from the list that `llmc` keeps.
fn formats() -> impl TypedValueParser<Value = &'static emit::Format> {
    let value = |format: &emit::Format| PossibleValue::new(format.name).help(format.summary);
    PossibleValuesParser::new(emit::FORMATS.iter().map(value))
        .try_map(|name| emit::find(&name).ok_or_else(|| format!("`{name}` is no format")))
}

/// Formats of weights, from the list that `llmc` keeps.
fn weight_formats() -> impl TypedValueParser<Value = WeightFormat> {
    PossibleValuesParser::new(WeightFormat::ALL.map(|(_, name)| name))
        .try_map(|name| WeightFormat::parse(&name).ok_or_else(|| format!("`{name}` is no format")))
}

/// Formats of the KV cache, from the list that `llmc` keeps.
fn cache_formats() -> impl TypedValueParser<Value = CacheFormat> {
    PossibleValuesParser::new(CacheFormat::ALL.map(|(_, name)| name))
        .try_map(|name| CacheFormat::parse(&name).ok_or_else(|| format!("`{name}` is no format")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name());
                let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains(path.trim()), "`{path}` has no example of itself");
                check(sub, &path);
            }
        }
        check(&Cli::command(), "llmc");
    }
}
