//! No text makes the IR parser or verifier panic, and what parses prints and parses back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llmc_ir::{text, verify};

fuzz_target!(|data: &[u8]| {
    let Ok(input) = std::str::from_utf8(data) else { return };
    let Ok(module) = text::parse(input) else { return };
    let findings = verify::verify(&module);
    if findings.is_empty() {
        let printed = text::print(&module);
        assert_eq!(text::parse(&printed).expect("printed text parses"), module);
    }
});
