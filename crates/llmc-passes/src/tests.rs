//! Small cases of every pass: text in, text out.

use crate::{
    CacheFormat, Pass, WeightFormat, cse, dce, find, inline, legalise, narrow_cache, pack_panels,
    pack_weights, pack_weights_explained, round_keys_and_values, simplify,
};
use llmc_ir::text::{parse_and_verify, print};
use llmc_ir::{Module, Op};

/// A module from the text of its functions.
pub(crate) fn module(functions: &str) -> Module {
    let text = format!("module @test {{\n  symbol B >= 1\n{functions}\n}}\n");
    parse_and_verify("", &text).unwrap_or_else(|e| panic!("{e:#?}\n{text}"))
}

/// The nodes of the last function after a pass, a line each.
fn check(
    pass: impl Fn(&Module) -> Result<Module, llmc_base::Diagnostic>,
    text: &str,
    expect: &str,
) {
    let new = pass(&module(text)).unwrap();
    assert_eq!(llmc_ir::verify::verify(&new), vec![]);
    let printed = print(&new);
    let last = &printed[printed.rfind("fn @").unwrap()..];
    let lines = last.lines().map(str::trim).filter(|l| l.starts_with('%') && l.contains(" = "));
    let ends = last.lines().map(str::trim).filter(|l| l.starts_with("return"));
    // Types follow from the ops; the interesting part is what stays.
    let lines = lines.map(|l| l.rsplit_once(" : ").map_or(l, |(node, _)| node));
    let got: Vec<&str> = lines.chain(ends).collect();
    let want: Vec<&str> = expect.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    assert_eq!(got, want, "\n{printed}");
}

#[test]
fn dce_drops_what_nothing_uses() {
    check(
        dce,
        "fn @f(%x: f32[B]) -> (y: f32[B]) {
            %a = exp(%x) : f32[B]
            %b = sin(%a) : f32[B]
            return %a
        }",
        "%a = exp(%x)
         return %a",
    );
}

#[test]
fn dce_keeps_calls_that_change_state() {
    let text = "fn @count(%x: f32[B], state %n \"n\": f32[B]) -> (y: f32[B], state \"n\": f32[B]) {
            %s = add(%n, %x) : f32[B]
            return %x, %s
        }
        fn @f(%x: f32[B]) -> (y: f32[B]) {
            %a = exp(%x) : f32[B]
            %b = call @count(%a) : f32[B]
            return %x
        }";
    check(
        dce,
        text,
        "%a = exp(%x)
         %b = call @count(%a)
         return %x",
    );
}

#[test]
fn cse_computes_equal_nodes_once() {
    check(
        cse,
        "fn @f(%x: f32[B]) -> (y: f32[B]) {
            %a = exp(%x) : f32[B]
            %b = exp(%x) : f32[B]
            %c = add(%a, %b) : f32[B]
            %d = constant() {dtype = f32, dims = <B>, value = 0.0} : f32[B]
            %e = constant() {dtype = f32, dims = <B>, value = -0.0} : f32[B]
            %g = mul(%c, %d) : f32[B]
            %h = mul(%g, %e) : f32[B]
            return %h
        }",
        "%a = exp(%x)
         %c = add(%a, %a)
         %d = constant() {dtype = f32, dims = <B>, value = 0.0}
         %e = constant() {dtype = f32, dims = <B>, value = -0.0}
         %g = mul(%c, %d)
         %h = mul(%g, %e)
         return %h",
    );
}

/// One operand `%x` f32[B], one constant `%c`, one result `%y`.
fn with_constant(node: &str, value: &str) -> String {
    format!(
        "fn @f(%x: f32[B]) -> (y: f32[B]) {{
            %c = constant() {{dtype = f32, dims = <B>, value = {value}}} : f32[B]
            %y = {node} : f32[B]
            return %y
        }}"
    )
}

#[test]
fn simplify_drops_only_what_is_neutral_in_every_bit() {
    for (node, value) in [
        ("mul(%x, %c)", "1.0"),
        ("mul(%c, %x)", "1.0"),
        ("div(%x, %c)", "1.0"),
        ("sub(%x, %c)", "0.0"),
        ("add(%x, %c)", "-0.0"),
        ("add(%c, %x)", "-0.0"),
    ] {
        check(simplify, &with_constant(node, value), "return %x");
    }
    for (node, value) in [
        ("add(%x, %c)", "0.0"),
        ("sub(%x, %c)", "-0.0"),
        ("sub(%c, %x)", "0.0"),
        ("mul(%x, %c)", "0.0"),
        ("mul(%x, %c)", "-1.0"),
        ("div(%c, %x)", "1.0"),
    ] {
        let constant = format!("%c = constant() {{dtype = f32, dims = <B>, value = {value}}}");
        check(
            simplify,
            &with_constant(node, value),
            &format!("{constant}\n%y = {node}\nreturn %y"),
        );
    }
}

#[test]
fn simplify_folds_constants_that_both_evaluators_agree_on() {
    let text = |value: &str| {
        format!(
            "fn @f(%x: f32[B]) -> (y: f32[B]) {{
                %a = constant() {{dtype = f32, value = {value}}} : f32[]
                %b = neg(%a) : f32[]
                %c = mul(%b, %b) : f32[]
                %d = broadcast(%c) {{dims = <B>}} : f32[B]
                %y = mul(%x, %d) : f32[B]
                return %y
            }}"
        )
    };
    check(
        simplify,
        &text("3.0"),
        "%d = constant() {dtype = f32, dims = <B>, value = 9.0}
         %y = mul(%x, %d)
         return %y",
    );
    // 0.1² rounded once differs from f32(0.1)² rounded: the product stays, the negation folds.
    check(
        simplify,
        &text("0.1"),
        "%b = constant() {dtype = f32, value = -0.1}
         %c = mul(%b, %b)
         %d = broadcast(%c) {dims = <B>}
         %y = mul(%x, %d)
         return %y",
    );
}

#[test]
fn simplify_merges_views() {
    check(
        simplify,
        "fn @f(%x: f32[B, 2, 3]) -> (y: f32[3, 2, B]) {
            %a = reshape(%x) {dims = <B, 6>} : f32[B, 6]
            %b = reshape(%a) {dims = <B, 3, 2>} : f32[B, 3, 2]
            %c = transpose(%b) {perm = [2, 0, 1]} : f32[2, B, 3]
            %d = transpose(%c) {perm = [2, 0, 1]} : f32[3, 2, B]
            %e = transpose(%d) {perm = [0, 1, 2]} : f32[3, 2, B]
            return %e
        }",
        "%b = reshape(%x) {dims = <B, 3, 2>}
         %d = transpose(%b) {perm = [1, 2, 0]}
         return %d",
    );
    check(
        simplify,
        "fn @f(%x: f32[3]) -> (y: f32[B, 3]) {
            %a = reshape(%x) {dims = <1, 3>} : f32[1, 3]
            %b = reshape(%a) {dims = <3>} : f32[3]
            %c = broadcast(%b) {dims = <2, 3>, axes = [1]} : f32[2, 3]
            %d = broadcast(%c) {dims = <B, 2, 3>, axes = [1, 2]} : f32[B, 2, 3]
            %e = slice(%d) {starts = <0, 0, 0>, limits = <B, 1, 3>} : f32[B, 1, 3]
            %g = reshape(%e) {dims = <B, 3>} : f32[B, 3]
            return %g
        }",
        "%d = broadcast(%x) {dims = <B, 2, 3>, axes = [2]}
         %e = slice(%d) {starts = <0, 0, 0>, limits = <B, 1, 3>}
         %g = reshape(%e) {dims = <B, 3>}
         return %g",
    );
}

#[test]
fn inline_gives_weights_their_absolute_paths() {
    let text = "fn @scale(%x: f32[B], weight %w \"w\": f32[B]) -> (y: f32[B]) {
            %y = mul(%x, %w) : f32[B]
            return %y
        }
        fn @pair(%x: f32[B]) -> (y: f32[B]) {
            %a = call @scale(%x) {scope = \"a\"} : f32[B]
            %b = call @scale(%a) {scope = \"b\"} : f32[B]
            return %b
        }
        fn @f(%x: f32[4]) -> (y: f32[4]) {
            %a = call @pair(%x) {scope = \"left\"} : f32[4]
            %b = call @pair(%a) {scope = \"right\"} : f32[4]
            %c = call @pair(%b) {scope = \"left\"} : f32[4]
            return %c
        }";
    let flat = inline(&module(text)).unwrap();
    assert_eq!(flat.functions.len(), 1);
    let paths: Vec<&str> = flat.functions[0].weights().map(|(path, _)| path).collect();
    assert_eq!(paths, ["left.a.w", "left.b.w", "right.a.w", "right.b.w"]);
    assert!(flat.functions[0].nodes.iter().all(|n| n.op.name() == "binary"));
    assert_eq!(llmc_ir::verify::verify(&flat), vec![]);
}

#[test]
fn legalise_keeps_what_the_target_keeps() {
    let text = "fn @f(%x: f32[B, 4], %w: f32[4]) -> (y: f32[B, 4]) {
            %a = rms_norm(%x, %w) {eps = 1e-5} : f32[B, 4]
            %b = relu(%a) : f32[B, 4]
            return %b
        }";
    check(
        |m| legalise(m, &|op| matches!(op, Op::RmsNorm(_))),
        text,
        "%a = rms_norm(%x, %w) {eps = 1e-5}
         %3 = constant() {dtype = f32, dims = <B, 4>, value = 0.0}
         %b = max(%a, %3)
         return %b",
    );
}

#[test]
fn passes_have_names() {
    let names: Vec<&str> = crate::PASSES.iter().map(|p: &Pass| p.name).collect();
    assert_eq!(names, ["autodiff", "fuse", "inline", "simplify", "cse", "dce", "legalise"]);
    assert!(names.iter().all(|name| find(name).is_some()));
    assert!(find("no such pass").is_none());
}

#[test]
fn pack_weights_changes_what_is_only_multiplied_by_everywhere() {
    let text = "fn @layer(%x: f32[B, 64], weight %q \"q\": f32[48, 64], weight %b \"b\": f32[48],
               weight %odd \"odd\": f32[5, 48]) -> (y: f32[B, 5]) {
            %h = linear(%x, %q, %b) : f32[B, 48]
            %y = linear(%h, %odd) : f32[B, 5]
            return %y
        }
        fn @main(%ids: i32[B], weight %e \"e\": f32[7, 64], weight %both \"both\": f32[5, 5])
               -> (y: f32[B, 5], z: f32[5, 5], l: f32[B, 7]) {
            %x = embedding(%e, %ids) : f32[B, 64]
            %l = linear(%x, %e) : f32[B, 7]
            %h = call @layer(%x) {scope = \"layers.0\"} : f32[B, 5]
            %y = linear(%h, %both) : f32[B, 5]
            %z = exp(%both) : f32[5, 5]
            return %y, %z, %l
        }";
    let with = |format| move |module: &Module| pack_weights(module, format);
    check(
        with(WeightFormat::Bf16),
        text,
        "%x = packed_embedding(%e, %ids) {rows = 7}
         %l = packed_linear(%x, %e) {outputs = 7}
         %h = call @layer(%x) {scope = \"layers.0\"}
         %y = linear(%h, %both)
         %z = exp(%both)
         return %y, %z, %l",
    );
    check(
        with(WeightFormat::Q4),
        text,
        "%x = quantized_embedding(%e, %e_scale, %ids) {rows = 7}
         %l = quantized_linear(%x, %e, %e_scale) {outputs = 7}
         %h = call @layer(%x) {scope = \"layers.0\"}
         %y = linear(%h, %both)
         %z = exp(%both)
         return %y, %z, %l",
    );
    let weights = |format| -> Vec<String> {
        let module = pack_weights(&module(text), format).unwrap();
        let f = module.function(module.find("layer").unwrap());
        f.weights().map(|(path, value)| format!("{path} {}", f.ty(value))).collect()
    };
    assert_eq!(
        weights(WeightFormat::Bf16),
        ["b f32[48]", "q bf16[3, 64, 16]", "odd bf16[1, 48, 16]"]
    );
    // 48 is no multiple of 32.
    let odd = "odd bf16[1, 48, 16]";
    assert_eq!(
        weights(WeightFormat::Q4),
        ["b f32[48]", "q i4[3, 8, 16, 4, 2]", "q_scale f16[3, 2, 16]", odd]
    );
    assert_eq!(weights(WeightFormat::Q8)[1], "q i8[3, 16, 16, 4]");
    // Groups, and a width that is no whole group of 128: blocks of 32 instead.
    let grouped = |groups: usize| {
        let beside = |suffix: &str| format!("q_{suffix} f16[3, {groups}, 16]");
        [
            "b f32[48]".into(),
            "q i4[3, 8, 16, 4, 2]".into(),
            beside("scale"),
            beside("min"),
            odd.into(),
        ]
    };
    assert_eq!(weights(WeightFormat::Int4(64)), grouped(1));
    assert_eq!(weights(WeightFormat::Int4(128)), grouped(2));
    assert_eq!(weights(WeightFormat::Q4K), grouped(2));
    let wide = "fn @main(%ids: i32[B], %x: f32[B, 512], weight %e \"e\": f32[7, 256], weight %w \"w\": f32[20, 512])
               -> (y: f32[B, 256], z: f32[B, 20]) {
            %y = embedding(%e, %ids) : f32[B, 256]
            %z = call @inner(%x) {scope = \"\"} : f32[B, 20]
            return %y, %z
        }";
    let wide = format!(
        "fn @inner(%x: f32[B, 512], weight %w \"w\": f32[20, 512]) -> (z: f32[B, 20]) {{
            %z = linear(%x, %w) : f32[B, 20]
            return %z
        }}
        {}",
        wide.replace(", weight %w \"w\": f32[20, 512]", "")
    );
    let mut log = Vec::new();
    let packed = pack_weights_explained(&module(&wide), WeightFormat::Q4K, &mut log).unwrap();
    let f = packed.function(packed.find("inner").unwrap());
    let types: Vec<String> = f.weights().map(|(p, v)| format!("{p} {}", f.ty(v))).collect();
    assert_eq!(
        types,
        [
            "w i4[2, 64, 16, 4, 2]",
            "w_scale u8[2, 16, 16]",
            "w_min u8[2, 16, 16]",
            "w_super_scale f16[2, 2, 16]",
            "w_super_min f16[2, 2, 16]"
        ]
    );
    let told: Vec<&str> = log.iter().map(|d| d.choice).collect();
    assert_eq!(told, ["4-bit panels in super-blocks", "8-bit panels"]);
    assert!(log[1].why.contains("embedding"), "{}", log[1].why);
    assert_eq!(pack_weights(&module(text), WeightFormat::F32).unwrap(), module(text));
    let panels = pack_panels(&module(text)).unwrap();
    let f = panels.function(panels.find("layer").unwrap());
    let types: Vec<String> = f.weights().map(|(_, value)| f.ty(value).to_string()).collect();
    assert_eq!(types, ["f32[48]", "f32[3, 64, 16]", "f32[1, 48, 16]"]);
    // A function that computes otherwise with the path keeps it as it is for all.
    let other = format!(
        "{text}
        fn @other(weight %q \"q\": f32[48, 64]) -> (y: f32[48, 64]) {{
            %y = exp(%q) : f32[48, 64]
            return %y
        }}"
    );
    let kept = pack_weights(&module(&other), WeightFormat::Q8).unwrap();
    let f = kept.function(kept.find("layer").unwrap());
    assert_eq!(f.ty(f.weights().next().unwrap().1).to_string(), "f32[48, 64]");
}

/// Keys and values that are appended and attended over; `more` are nodes of `@f` behind that.
fn cached(more: &str) -> String {
    let cache = "f32[B, 8, 1, 4]";
    format!(
        "fn @f(%q: f32[B, 2, 1, 4], %k: f32[B, 2, 1, 4], %v: f32[B, 2, 1, 4], %s: i32[B],
               state %ks \"k_cache\": {cache}, state %vs \"v_cache\": {cache})
               -> (o: f32[B, 2, 1, 4], state \"k_cache\": {cache}, state \"v_cache\": {cache}) {{
            %kn = update_slice(%ks, %k, %s) {{axis = 1}} : {cache}
            %vn = update_slice(%vs, %v, %s) {{axis = 1}} : {cache}
            %o = attention(%q, %kn, %vn, %s) {{causal = true, cached = true}} : f32[B, 2, 1, 4]
            {more}
            return %o, %kn, %vn
        }}"
    )
}

#[test]
fn keys_and_values_are_rounded_as_they_are_appended() {
    let narrow = |format| move |m: &Module| narrow_cache(m, format);
    check(
        narrow(CacheFormat::Bf16),
        &cached(""),
        "%6 = cast(%k) {dtype = bf16}
         %kn = update_slice(%k_cache, %6, %s) {axis = 1}
         %8 = cast(%v) {dtype = bf16}
         %vn = update_slice(%v_cache, %8, %s) {axis = 1}
         %o = attention(%q, %kn, %vn, %s) {causal = true, cached = true}
         return %o, %kn, %vn",
    );
    check(
        narrow(CacheFormat::Int8),
        &cached(""),
        "%8, %9 = quantize_rows(%k)
         %kn = update_slice(%k_cache, %8, %s) {axis = 1}
         %11 = update_slice(%k_scale_cache, %9, %s) {axis = 1}
         %12, %13 = quantize_rows(%v)
         %vn = update_slice(%v_cache, %12, %s) {axis = 1}
         %15 = update_slice(%v_scale_cache, %13, %s) {axis = 1}
         %o = attention(%q, %kn, %vn, %s, %11, %15) {causal = true, cached = true}
         return %o, %kn, %vn, %11, %15",
    );
}

#[test]
fn a_cache_that_is_used_otherwise_stays_with_its_sibling() {
    // The values are looked at by another op, so the keys stay as well.
    let text = cached("%w = exp(%vn) : f32[B, 8, 1, 4]");
    let before = module(&text);
    for (format, _) in CacheFormat::ALL {
        assert_eq!(narrow_cache(&before, format).unwrap(), before);
    }
}

#[test]
fn rounded_keys_and_values_are_what_a_cache_holds() {
    check(
        |m| round_keys_and_values(m, CacheFormat::Bf16),
        "fn @f(%q: f32[B, 2, 1, 4], %k: f32[B, 3, 1, 4], %v: f32[B, 3, 1, 4]) -> (o: f32[B, 2, 1, 4]) {
            %o = attention(%q, %k, %v) {causal = true} : f32[B, 2, 1, 4]
            return %o
        }",
        "%3 = cast(%k) {dtype = bf16}
         %4 = cast(%3) {dtype = f32}
         %5 = cast(%v) {dtype = bf16}
         %6 = cast(%5) {dtype = f32}
         %o = attention(%q, %4, %6) {causal = true}
         return %o",
    );
}
