//! No text makes the spec parser panic, in any format.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llmc_spec::{Format, parse};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for format in [Format::Toml, Format::Yaml, Format::Json] {
        let (spec, diagnostics) = parse(text, format, "fuzz");
        assert!(spec.is_some() || diagnostics.iter().any(|d| d.is_error()));
    }
});
