//! The header declares what the library exports, parameter by parameter.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

const HEADER: &str = include_str!("../include/llmc_kernels.h");
const SOURCES: [&str; 3] = [
    include_str!("../src/status.rs"),
    include_str!("../src/context.rs"),
    include_str!("../src/functions.rs"),
];

/// Rust types and what C calls them.
const TYPES: [(&str, &str); 16] = [
    ("usize", "size_t"),
    ("i32", "int32_t"),
    ("f32", "float"),
    ("*const f32", "const float *"),
    ("*mut f32", "float *"),
    ("*const u16", "const uint16_t *"),
    ("*mut u16", "uint16_t *"),
    ("*const i8", "const int8_t *"),
    ("*mut i8", "int8_t *"),
    ("*const u8", "const uint8_t *"),
    ("*mut u8", "uint8_t *"),
    ("*const i32", "const int32_t *"),
    ("*const c_char", "const char *"),
    ("*const Context", "const llmc_context *"),
    ("*mut Context", "llmc_context *"),
    ("*mut *mut Context", "llmc_context **"),
];

/// A signature: what it returns, then types and names of its parameters.
type Signature = Vec<String>;

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn in_c(ty: &str) -> String {
    let found = TYPES.iter().find(|(rust, _)| *rust == ty);
    found.unwrap_or_else(|| panic!("`{ty}` has no C type here")).1.to_string()
}

/// Every `extern "C"` function of the sources.
fn exported() -> BTreeMap<String, Signature> {
    let mut all = BTreeMap::new();
    for source in SOURCES {
        for part in source.split("extern \"C\" fn ").skip(1) {
            let (name, rest) = part.split_once('(').unwrap();
            let (params, rest) = rest.split_once(')').unwrap();
            let result = rest.split_once('{').unwrap().0.trim();
            let mut signature = vec![match result.strip_prefix("->") {
                Some(ty) => in_c(ty.trim()),
                None => "void".to_string(),
            }];
            for param in params.split(',').map(str::trim).filter(|p| !p.is_empty()) {
                let (name, ty) = param.split_once(':').unwrap();
                signature.push(format!("{} {}", in_c(ty.trim()), name.trim_end_matches('_')));
            }
            all.insert(name.to_string(), signature);
        }
    }
    all
}

/// Every function that the header declares.
fn declared() -> BTreeMap<String, Signature> {
    let mut text = HEADER.to_string();
    while let Some((before, after)) = text.clone().split_once("/*") {
        text = format!("{before}{}", after.split_once("*/").unwrap().1);
    }
    let lines = text.lines().filter(|l| !l.starts_with('#')).collect::<Vec<_>>().join("\n");
    let mut all = BTreeMap::new();
    for declaration in lines.split(';').map(words).filter(|d| d.contains('(')) {
        let (head, params) = declaration.split_once('(').unwrap();
        // The type and the name stand apart behind the last blank or star.
        let apart = |text: &str| {
            let at = text.rfind([' ', '*']).unwrap() + 1;
            (text[..at].trim().to_string(), text[at..].to_string())
        };
        let (result, name) = apart(head.trim_start_matches("extern \"C\" { "));
        let mut signature = vec![result];
        for param in params.trim_end_matches(')').split(',').map(str::trim) {
            if param != "void" {
                let (ty, name) = apart(param);
                signature.push(format!("{ty} {name}"));
            }
        }
        all.insert(name, signature);
    }
    all
}

#[test]
fn the_header_is_what_the_library_exports() {
    let (exported, declared) = (exported(), declared());
    assert!(exported.len() > 15, "{exported:#?}");
    assert_eq!(exported, declared);
}

#[test]
fn the_statuses_have_their_numbers() {
    use llmc_kernels_c::Status::*;
    let all = [
        ("OK", Ok),
        ("POINTER", Pointer),
        ("DIMENSION", Dimension),
        ("INDEX", Index),
        ("MEMORY", Memory),
        ("ISA", Isa),
        ("INTERNAL", Internal),
    ];
    for (name, status) in all {
        let line = format!("LLMC_{name} = {}", status as i32);
        assert!(HEADER.contains(&line), "{line}");
    }
}
