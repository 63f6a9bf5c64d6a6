//! Names, dtypes and exact values of a probe.

use super::*;
use llmc_formats::safetensors::SafeTensors;

#[test]
fn a_probe_holds_inputs_and_outputs_exactly() {
    let tokens = Tensor::i32(&[1, 2], &[3, 4]).unwrap();
    let logits = Tensor::floats(IrDType::F32, &[2], vec![0.1, -1e-300]).unwrap();
    let bytes = to_bytes(&[("tokens", &tokens)], &[("logits", &logits)]).unwrap();
    let read = SafeTensors::parse(&bytes).unwrap();
    assert_eq!(read.tensor("input.0.tokens").unwrap().to_i64().unwrap(), [3, 4]);
    assert_eq!(read.tensor("output.0.logits").unwrap().to_f64().unwrap(), [0.1, -1e-300]);
    assert_eq!(bytes, to_bytes(&[("tokens", &tokens)], &[("logits", &logits)]).unwrap());
}

#[test]
fn the_checker_speaks_of_the_same_version_and_tolerance() {
    use crate::certificate::{CERTIFICATE_VERSION, REAL_TOLERANCE};
    assert!(CHECKER.contains(&format!("CERTIFICATE_VERSION = {CERTIFICATE_VERSION}\n")));
    assert!(CHECKER.contains(&format!("TOLERANCE = {REAL_TOLERANCE:?}\n")));
}
