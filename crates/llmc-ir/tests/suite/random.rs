//! Properties of random modules and random texts.

use llmc_ir::text::{PrintOptions, parse, print, print_with};
use llmc_ir::{account, generate, hash, verify};
use proptest::prelude::*;

/// Everything that must hold for a good module.
fn check(module: &llmc_ir::Module) {
    let text = print(module);
    let findings = verify::verify(module);
    assert!(findings.is_empty(), "{findings:?}\n{text}");
    let parsed = parse(&text).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    assert_eq!(&parsed, module, "{text}");
    let plain = print_with(module, PrintOptions { fold: false, origins: true });
    let parsed = parse(&plain).unwrap_or_else(|errors| panic!("{errors:?}\n{plain}"));
    assert_eq!(&parsed, module, "{plain}");
    let bare = print_with(module, PrintOptions { fold: true, origins: false });
    let parsed = parse(&bare).unwrap_or_else(|errors| panic!("{errors:?}\n{bare}"));
    assert_eq!(hash::module_hash(&parsed), hash::module_hash(module), "{bare}");
    let renamed = renamed(module);
    assert_eq!(hash::module_hash(&renamed), hash::module_hash(module), "{text}");
    let again = parse(&print(&renamed)).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    assert_eq!(again, renamed, "{text}");
    for id in 0..module.functions.len() as u32 {
        let id = llmc_ir::FuncId(id);
        account::work(module, id).expect("a small module");
        account::parameter_count(module, id);
    }
}

/// The same functions with other names of inner values, other numbers, and no origins.
fn renamed(module: &llmc_ir::Module) -> llmc_ir::Module {
    let mut module = module.clone();
    module.name = "renamed".to_string();
    module.origins.truncate(1);
    for function in &mut module.functions {
        let last = function.values.len() as u32 - 1;
        let flip = |v: &mut llmc_ir::ValueId| v.0 = last - v.0;
        for (i, value) in function.values.iter_mut().enumerate() {
            if matches!(value.def, llmc_ir::ValueDef::Node { .. }) {
                value.name = (i % 2 == 0).then(|| format!("new{i}"));
            }
        }
        function.values.reverse();
        function.params.iter_mut().for_each(|p| flip(&mut p.value));
        for node in &mut function.nodes {
            node.operands.iter_mut().chain(&mut node.results).for_each(flip);
            node.origin = llmc_ir::OriginId(0);
        }
        function.results.iter_mut().for_each(|r| flip(&mut r.value));
    }
    module
}

/// What must hold for any text: no panic, and what parses prints back to itself.
fn check_text(text: &str) {
    if let Ok(module) = parse(text) {
        verify::verify(&module);
        let printed = print(&module);
        let again = parse(&printed).unwrap_or_else(|errors| panic!("{errors:?}\n{printed}"));
        // A NaN differs from itself.
        if module == module.clone() {
            assert_eq!(again, module, "{printed}");
        }
    }
}

/// Pieces of the grammar.
const WORDS: &[&str] = &[
    "module",
    "@m",
    "{",
    "}",
    "fn",
    "composite",
    "@f",
    "(",
    ")",
    "->",
    "%x",
    "%0",
    "%1",
    ":",
    "f32",
    "[",
    "]",
    "B",
    "4",
    ",",
    "=",
    "return",
    "repeat",
    "i",
    "in",
    "0",
    "..",
    "3",
    "reversed",
    "with",
    "weight",
    "state",
    "\"w.0\"",
    "symbol",
    ">=",
    "multiple_of",
    "origins",
    "from",
    "call",
    "add",
    "neg",
    "rms_norm",
    "constant",
    "dtype",
    "dims",
    "<",
    ">",
    "value",
    "scope",
    "\"a.{i}\"",
    "1.5",
    "-",
    "+",
    "*",
    "#",
    "as",
    "\n",
    "true",
    "inf",
    "NaN",
    "reshape",
    "slice",
    "axis",
    "starts",
    "limits",
    "strides",
    "gather",
    "dot",
    "9223372036854775807",
    "if",
    "then",
    "scan",
    "body",
    "//",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generated_modules_are_clean_and_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check(&generate::module(&bytes));
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        check_text(&text);
        check_text(&format!("module @m {{ {text} }}"));
    }

    #[test]
    fn arbitrary_tokens_never_panic(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..120)) {
        check_text(&words.join(" "));
        check_text(&format!("module @m {{ fn @f(%x: f32[B, 4]) -> (y: f32[B, 4]) {{\n{}\nreturn %x }} }}", words.join(" ")));
    }

    #[test]
    fn mutated_text_never_panics(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        edits in proptest::collection::vec((any::<u16>(), 0usize..12, proptest::sample::select(WORDS)), 1..6),
    ) {
        let mut text = print(&generate::module(&bytes));
        for (at, len, word) in edits {
            let mut start = usize::from(at) % (text.len() + 1);
            while !text.is_char_boundary(start) {
                start -= 1;
            }
            let mut end = (start + len).min(text.len());
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.replace_range(start..end.max(start), word);
        }
        check_text(&text);
    }
}

/// The generator reaches what the properties are about.
#[test]
fn generated_modules_are_rich() {
    let mut all = String::new();
    let mut state = 1u32;
    for _ in 0..300 {
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let bytes: Vec<u8> = (0..120).map(|_| byte()).collect();
        all += &print(&generate::module(&bytes));
    }
    for part in [
        "repeat",
        "reversed",
        "scan(",
        "while(",
        "if(",
        "composite",
        " state ",
        "from",
        "origins",
        "softmax",
        "%named",
    ] {
        assert!(all.contains(part), "no `{part}`");
    }
}

/// Every sample of every op with one attribute replaced by an extreme value: refused or accepted,
/// never a panic.
#[test]
fn extreme_attributes_never_panic() {
    let extremes = [
        "-1",
        "0",
        "7",
        "9223372036854775807",
        "-9223372036854775808",
        "inf",
        "NaN",
        "-0.0",
        "true",
        "[]",
        "[0]",
        "[0, 0]",
        "[-1]",
        "[9223372036854775807]",
        "[NaN]",
        "<>",
        "<0>",
        "<-1>",
        "<B>",
        "<B, B*B>",
        "f64",
        "bool",
        "i4",
        "add",
        "\"\"",
        "@f",
    ];
    for (name, samples) in llmc_ir::Op::all_samples() {
        let good = samples
            .good
            .into_iter()
            .map(|s| (s.op, s.operands.into_iter().map(|(ty, _)| ty).collect()));
        let bad = samples.bad.into_iter().map(|s| (s.op, s.operands));
        for (op, types) in good.chain(bad).collect::<Vec<(llmc_ir::Op, Vec<llmc_ir::TensorType>)>>()
        {
            let params: Vec<String> =
                types.iter().enumerate().map(|(i, ty)| format!("%x{i}: {ty}")).collect();
            let operands: Vec<String> = (0..types.len()).map(|i| format!("%x{i}")).collect();
            let attrs = op.attrs();
            for replaced in 0..attrs.len() {
                for extreme in extremes {
                    let attrs: Vec<String> = attrs
                        .iter()
                        .enumerate()
                        .map(|(i, (name, value))| match i == replaced {
                            true => format!("{name} = {extreme}"),
                            false => format!("{name} = {value}"),
                        })
                        .collect();
                    for n_targets in 1..4 {
                        let targets: Vec<String> =
                            (0..n_targets).map(|i| format!("%y{i}")).collect();
                        check_text(&format!(
                            "module @m {{\n symbol B >= 1\n fn @f({}) -> () {{\n{} = {name}({}) {{{}}}\n return\n }}\n}}",
                            params.join(", "),
                            targets.join(", "),
                            operands.join(", "),
                            attrs.join(", "),
                        ));
                    }
                }
            }
        }
    }
}
