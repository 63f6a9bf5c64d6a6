//! The page is whole, self-contained and safe, whatever the data.

use super::html::{duration, grouped, scaled, significant};
use super::*;
use crate::metrics::{SampleRecord, TrainRecord, ValidationRecord};

/// A run of `n_steps` with a falling, noisy loss; the same bits every time.
fn data(n_steps: u64) -> ReportData {
    let mut state = 7u64;
    let mut noise = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f64 / (1u64 << 24) as f64 - 0.5
    };
    let mut records = Vec::new();
    for step in 1..=n_steps {
        let t = step as f64 / n_steps as f64;
        let warm_up = (step as f64 / (n_steps as f64 * 0.05)).min(1.0);
        let smooth = 1.62 + 3.9 * (-9.0 * t).exp() + 0.9 * (-1.8 * t).exp();
        records.push(Record::Train(TrainRecord {
            step,
            tokens: step * 8192,
            loss: smooth + 0.5 * noise(),
            lr: 1e-3 * warm_up * (0.1 + 0.9 * (0.5 + 0.5 * (t * std::f64::consts::PI).cos())),
            grad_norm: 0.5 + 2.5 * (-12.0 * t).exp() + 0.3 * noise(),
            tokens_per_s: 61_000.0 + 4_000.0 * noise(),
            elapsed_s: step as f64 * 0.13,
            is_skipped: false,
            is_overflow: false,
            loss_scale: None,
        }));
        if step % (n_steps / 10).max(1) == 0 {
            records.push(Record::Validation(ValidationRecord {
                step,
                loss: smooth + 0.06,
                bits_per_byte: smooth * 0.8,
                ema_loss: None,
            }));
        }
        if step % (n_steps / 3).max(1) == 0 {
            records.push(Record::Sample(SampleRecord {
                step,
                prompt: "def read_lines(".into(),
                text: "self, path):\n    with open(path) as f:\n        for line in f:\n            yield line.strip()\n".into(),
            }));
        }
    }
    let hash = |text: &str| Hash::of_bytes(text.as_bytes());
    let dimension = |name: &str, value: &str, rule: &str| Dimension {
        name: name.into(),
        value: value.into(),
        rule: rule.into(),
    };
    let row = |name: &str, path: &str, has_recipe: bool| HashRow {
        name: name.into(),
        path: path.into(),
        recipe: has_recipe.then(|| hash(path)),
        content: hash(name),
    };
    ReportData {
        name: "quickstart-python".into(),
        description: "A decoder of 1.3 million parameters, trained on the Python standard library, predicts code that it has never seen.".into(),
        status: RunStatus::Complete,
        status_note: None,
        recipe: hash("recipe"),
        summary: Summary {
            bits_per_byte: Some(1.482),
            baselines: vec![
                Baseline { name: "5-gram".into(), bits_per_byte: 2.071 },
                Baseline { name: "gzip -9".into(), bits_per_byte: 2.346 },
            ],
            parameters: Some(1_312_896),
            tokens_seen: n_steps * 8192,
            tokens_per_s: Some(61_234.0),
            seconds: Some(118.4),
            steps: n_steps,
            steps_planned: n_steps,
        },
        records,
        plan: None,
        spec_toml: "# A small model of Python code.\n[model]\ntemplate = \"decoder_only\"\ntarget_params = 1_300_000\nhidden_size = { min = 64, multiple_of = 32 }\nactivation = \"swiglu\"\ntie_embeddings = true\n\n[dataset]\nfiles = [\"lib/**/*.py\"]  # text, UTF-8\n\n[training]\nlr = 1e-3\nmax_steps = 900\n".into(),
        dimensions: vec![
            dimension("hidden_size", "128", "closest to target_params in multiples of 32"),
            dimension("num_layers", "6", "depth to width ratio nearest to that of the family"),
            dimension("num_heads", "4", "hidden_size / head_dim"),
            dimension("head_dim", "32", "default for a width below 256"),
            dimension("intermediate_size", "352", "8/3 of hidden_size, up to a multiple of 32"),
            dimension("vocab_size", "1024", "written in the spec"),
        ],
        hashes: vec![
            row("spec", "spec.toml", true),
            row("corpus", "lib", false),
            row("tokenizer", "tokenizer", true),
            row("data", "data", true),
            row("checkpoint", "checkpoints/step-000900", true),
        ],
        machine: Some(Machine {
            os: "Debian GNU/Linux 12 (bookworm)".into(),
            kernel: "Linux 6.1.0".into(),
            architecture: "x86_64".into(),
            cpu: "Example Processor 2.3 GHz".into(),
            instruction_sets: ["avx2", "avx512f", "fma"].map(String::from).to_vec(),
            physical_cores: Some(2),
            usable_cores: 2,
            memory_bytes: 24 << 30,
            ..Machine::default()
        }),
        tool: Tool { name: "llmc".into(), version: "0.1.0".into(), numerics_version: 1 },
        next_steps: vec![
            NextStep {
                text: "Let it write.".into(),
                command: "llmc generate runs/quickstart --prompt \"def main(\"".into(),
            },
            NextStep {
                text: "Train it for longer.".into(),
                command: "llmc resume runs/quickstart --set training.max_steps=2000".into(),
            },
            NextStep {
                text: "Check every byte of this run against its hashes.".into(),
                command: "llmc verify runs/quickstart".into(),
            },
        ],
    }
}

/// Elements that have no end tag.
const VOID: [&str; 4] = ["meta", "path", "!doctype", "i"];

/// Fails unless every element ends where it should.
fn check_nesting(page: &str) {
    let style = page.find("</style>").unwrap();
    let script = page.rfind("<script>").unwrap();
    let body = &page[style + "</style>".len()..script];
    let mut open: Vec<&str> = Vec::new();
    for tag in body.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap();
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if VOID.contains(&name) {
            continue;
        }
        match tag.starts_with('/') {
            true if name == "head" => assert!(open.is_empty(), "{open:?}"),
            true => assert_eq!(open.pop(), Some(name), "in {tag}"),
            false => open.push(name),
        }
    }
    assert_eq!(open, ["body"]);
}

#[test]
fn every_part_is_on_the_page() {
    let page = render(&data(900));
    for text in [
        "<title>quickstart-python · llmc run</title>",
        "complete",
        "Held-out bits per byte",
        "28 % fewer than 5-gram, 37 % fewer than gzip -9.",
        "1.31</b> million",
        "1 min 58 s",
        "<h3>Loss</h3>",
        "<h3>Learning rate</h3>",
        "<h3>Gradient norm</h3>",
        "<h3>Throughput</h3>",
        "step 900",
        "def read_lines(",
        "intermediate_size",
        "up to a multiple of 32",
        "checkpoints/step-000900",
        "Example Processor",
        "llmc verify runs/quickstart",
        "numerics version 1",
    ] {
        assert!(page.contains(text), "`{text}` is not on the page");
    }
    check_nesting(&page);
}

#[test]
fn nothing_is_loaded_from_anywhere() {
    let page = render(&data(900));
    for text in ["http:", "https:", "src=", "<link", "@import", "url(", "fetch(", "//cdn"] {
        assert!(!page.contains(text), "`{text}` is on the page");
    }
    for link in page.split("href=\"").skip(1) {
        assert!(link.starts_with('#'));
    }
}

#[test]
fn it_is_a_function_of_its_data() {
    assert_eq!(render(&data(50)), render(&data(50)));
    let json = serde_json::to_string(&data(50)).unwrap();
    let back: ReportData = serde_json::from_str(&json).unwrap();
    assert_eq!(render(&back), render(&data(50)));
}

#[test]
fn every_text_from_outside_is_escaped() {
    let evil = "</script><script>alert(1)</script>\"'&\u{1b}";
    let mut data = data(3);
    data.name = evil.into();
    data.description = evil.into();
    data.status_note = Some(evil.into());
    data.summary.baselines[0].name = evil.into();
    data.spec_toml = format!("[{evil}]\n# {evil}\nkey = {evil}\n{evil} = 1\nx = \"{evil}\n");
    data.dimensions.push(Dimension { name: evil.into(), value: evil.into(), rule: evil.into() });
    let content = data.recipe;
    data.hashes.push(HashRow { name: evil.into(), path: evil.into(), recipe: None, content });
    data.machine.as_mut().unwrap().cpu = evil.into();
    data.tool.version = evil.into();
    data.next_steps.push(NextStep { text: evil.into(), command: evil.into() });
    let sample = SampleRecord { step: 3, prompt: evil.into(), text: evil.into() };
    data.records.push(Record::Sample(sample));
    let page = render(&data);
    assert!(!page.contains("<script>alert"));
    assert_eq!(page.matches("<script>").count(), 1);
    assert!(!page.contains('\u{1b}'));
    check_nesting(&page);
}

#[test]
fn a_plan_stands_beside_the_run() {
    use crate::pipeline::plan::{Compared, PlanCheck};
    let mut data = data(3);
    assert!(!render(&data).contains("Predicted and actual"));
    let step_s = Compared { predicted: 0.0105, actual: 0.0100 };
    let growth = Compared { predicted: f64::from(3 << 20), actual: f64::from(4 << 20) };
    data.plan = Some(PlanCheck { step_s, peak_growth: Some(growth) });
    let page = render(&data);
    check_nesting(&page);
    for text in ["Predicted and actual", "10.5 ms", "+5.0 %", "3.0 MiB", "4.0 MiB", "-25.0 %"] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn runs_with_little_to_show_are_shown() {
    let mut empty = data(0);
    empty.status = RunStatus::Failed;
    empty.status_note = Some("the loss at step 1 is not finite".into());
    empty.summary = Summary { steps_planned: 10, ..Summary::default() };
    (empty.machine, empty.spec_toml) = (None, String::new());
    empty.dimensions.clear();
    empty.hashes.clear();
    empty.next_steps.clear();
    let page = render(&empty);
    check_nesting(&page);
    assert!(page.contains("the loss at step 1 is not finite") && page.contains("of 10 planned"));
    assert!(!page.contains("<section"));

    let mut one = data(1);
    if let Record::Train(record) = &mut one.records[0] {
        record.tokens_per_s = f64::INFINITY;
    }
    let page = render(&one);
    check_nesting(&page);
    assert!(page.contains("<h3>Loss</h3>") && !page.contains("<h3>Throughput</h3>"));
    assert!(!page.contains("NaN") && !page.contains("inf,"));
}

#[test]
fn losses_that_are_not_finite_are_counted_not_drawn() {
    let mut data = data(40);
    for record in data.records.iter_mut().rev().take(6) {
        if let Record::Train(record) = record {
            record.loss = f64::NAN;
        }
    }
    let page = render(&data);
    assert!(page.contains("4 steps had a loss that is not finite"), "{page}");
    assert!(!page.contains("NaN"));
}

#[test]
fn a_spike_does_not_flatten_the_gradient_norm() {
    let mut data = data(200);
    if let Record::Train(record) = &mut data.records[0] {
        record.grad_norm = 5000.0;
    }
    assert!(render(&data).contains("The axis is cut: the peak is 5000 at step 1."));
}

#[test]
fn long_runs_stay_small() {
    let page = render(&data(50_000));
    assert!(page.len() < 500_000, "{} bytes", page.len());
}

#[test]
fn smoothing_keeps_lines_and_removes_noise() {
    let flat: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i), 3.0)).collect();
    let smooth = series::smooth(&flat).unwrap();
    assert!(smooth.iter().all(|p| (p.1 - 3.0).abs() < 1e-12));
    let line: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i), 2.0 * f64::from(i))).collect();
    let smooth = series::smooth(&line).unwrap();
    assert!(smooth.iter().zip(&line).all(|(s, p)| (s.1 - p.1).abs() < 1e-9));
    let noisy: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i), f64::from(i % 2))).collect();
    let smooth = series::smooth(&noisy).unwrap();
    assert!(smooth[10..90].iter().all(|p| (p.1 - 0.5).abs() < 0.1));
    assert!(series::smooth(&flat[..10]).is_none());
}

#[test]
fn thinning_keeps_ends_and_extremes() {
    let mut points: Vec<(f64, f64)> = (0..10_000).map(|i| (f64::from(i), 1.0)).collect();
    points[4321].1 = 9.0;
    points[8765].1 = -9.0;
    let thin = series::thin(&points);
    assert!(thin.len() <= 1002 && thin.windows(2).all(|w| w[0].0 < w[1].0));
    assert!(thin.contains(&(4321.0, 9.0)) && thin.contains(&(8765.0, -9.0)));
    assert_eq!((thin[0].0, thin[thin.len() - 1].0), (0.0, 9999.0));
}

#[test]
fn ranges_end_at_round_numbers() {
    let ticks = |low, high, n| series::nice_range(low, high, n).2;
    assert_eq!(ticks(0.0, 10.0, 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
    assert_eq!(ticks(1.3, 6.2, 5), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    assert_eq!(ticks(0.0, 0.001, 2), [0.0, 0.0005, 0.001]);
    let (low, high, _) = series::nice_range(5.0, 5.0, 4);
    assert!(low < 5.0 && high > 5.0);
    assert_eq!(series::inner_ticks(1.0, 900.0, 6), [200.0, 400.0, 600.0, 800.0]);
}

#[test]
fn numbers_read_well() {
    assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    assert_eq!(scaled(2_608), ("2,608".into(), ""));
    assert_eq!(scaled(12_345), ("12.3".into(), "thousand"));
    assert_eq!(scaled(7_372_800), ("7.37".into(), "million"));
    assert_eq!(scaled(405_853_388_800), ("406".into(), "billion"));
    let times = [0.0123, 1.0, 59.94, 59.96, 118.4, 3600.0, 11_100.0].map(duration);
    assert_eq!(
        times,
        ["12 ms", "1.0 s", "59.9 s", "1 min 0 s", "1 min 58 s", "1 h 0 min", "3 h 5 min"]
    );
    let numbers = [0.0, 1.0, 0.30000000000000004, 1234.5678, 1e-5, 3.0e-7, 2e16];
    assert_eq!(
        numbers.map(|v| significant(v, 4)),
        ["0", "1", "0.3", "1235", "1e-5", "3e-7", "2e16"]
    );
}

#[test]
fn toml_is_coloured_and_otherwise_unchanged() {
    let text = "# note\n[model]\na.b = \"x # y\\\" z\" # why\nn = [1, -2.5e3]\nodd line\n";
    let html = toml::highlight(text);
    assert!(html.contains("<span class=\"t-string\">&quot;x # y\\&quot; z&quot;</span>"), "{html}");
    assert!(html.contains("<span class=\"t-comment\"># why</span>"));
    assert!(html.contains("<span class=\"t-table\">[model]</span>"));
    let mut plain = String::new();
    let mut is_tag = false;
    for c in html.chars() {
        match c {
            '<' => is_tag = true,
            '>' => is_tag = false,
            c if !is_tag => plain.push(c),
            _ => {}
        }
    }
    assert_eq!(plain.replace("&quot;", "\""), text.trim_end());
}

#[test]
fn the_loss_tells_of_spikes_and_of_the_average() {
    let mut data = data(40);
    let plain = render(&data);
    assert!(!plain.contains("were spikes") && !plain.contains("moving average"));
    for record in &mut data.records {
        match record {
            Record::Train(r) => r.is_skipped = r.step % 20 == 0,
            Record::Validation(r) => r.ema_loss = Some(1.25),
            Record::Sample(_) => {}
        }
    }
    let page = render(&data);
    assert!(page.contains("2 steps were spikes and changed nothing."));
    assert!(page.contains("The moving average of the weights ends at a held-out loss of 1.25"));
}
