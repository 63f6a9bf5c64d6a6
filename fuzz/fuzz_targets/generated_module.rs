//! Every generated module verifies, round-trips as text, and passes every pass.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llmc_ir::{generate, text, verify};

fuzz_target!(|data: &[u8]| {
    let module = generate::module(data);
    assert!(verify::verify(&module).is_empty());
    assert_eq!(text::parse(&text::print(&module)).expect("printed text parses"), module);
    for pass in llmc_passes::PASSES.iter().filter(|pass| pass.name != "autodiff") {
        let after = (pass.run)(&module).expect("a pass takes every verified module");
        assert!(verify::verify(&after).is_empty(), "after `{}`", pass.name);
    }
});
