//! `ok` only by a comparison; the JSON form; reading what a checker wrote.

use super::*;

fn comparison(max_rel: f64) -> Comparison {
    Comparison {
        runtimes: vec![Runtime { name: "torch".into(), version: "2.15.0".into() }],
        elements: 64,
        max_abs: max_rel * 2.0,
        max_rel,
        tolerance: REAL_TOLERANCE,
        probe: Hash::of_bytes(b"probe"),
    }
}

fn certificate(checks: Vec<Check>) -> Certificate {
    let files = ["model.safetensors", "model.py"]
        .map(|path| FileHash { path: path.into(), hash: Hash::of_bytes(path.as_bytes()) });
    Certificate { checks, ..Certificate::new("pytorch", Hash::of_bytes(b"model"), files.to_vec()) }
}

#[test]
fn numbers_make_the_status() {
    let status = |max_rel| Check::compared("logits", "real", comparison(max_rel), vec![]).status();
    assert_eq!(status(1e-12), Status::Ok);
    assert_eq!(status(1e-9), Status::Ok);
    assert_eq!(status(1.1e-9), Status::Failed);
    assert_eq!(status(f64::NAN), Status::Failed);
    assert_eq!(status(f64::INFINITY), Status::Failed);
    let nothing = Comparison { elements: 0, ..comparison(0.0) };
    assert_eq!(Check::compared("logits", "real", nothing, vec![]).status(), Status::Failed);
}

#[test]
fn the_whole_is_as_good_as_its_parts() {
    let ok = Check::compared("logits", "real", comparison(0.0), vec![]);
    let failed = Check::failed("logits", "real", "it did not load");
    let not_checked = Check::not_checked("logits", "real", "no torch here");
    assert_eq!(certificate(vec![]).status(), Status::NotChecked);
    assert_eq!(certificate(vec![ok.clone()]).status(), Status::Ok);
    assert_eq!(certificate(vec![ok.clone(), not_checked.clone()]).status(), Status::NotChecked);
    assert_eq!(certificate(vec![ok, not_checked, failed]).status(), Status::Failed);
}

#[test]
fn json_round_trips_and_its_form_is_fixed() {
    let check = Check::not_checked("logits", "real", "no torch here");
    let written = certificate(vec![check]);
    assert_eq!(Certificate::from_json(&written.to_json()).unwrap(), written);
    let source = Hash::of_bytes(b"model");
    let hashes = ["model.py", "model.safetensors"].map(|path| Hash::of_bytes(path.as_bytes()));
    assert_eq!(
        written.to_json(),
        format!(
            r#"{{
  "certificate_version": 1,
  "numerics_version": 1,
  "format": "pytorch",
  "source": "{source}",
  "files": [
    {{
      "path": "model.py",
      "hash": "{}"
    }},
    {{
      "path": "model.safetensors",
      "hash": "{}"
    }}
  ],
  "checks": [
    {{
      "status": "not checked here",
      "quantity": "logits",
      "evaluator": "real",
      "notes": [
        "no torch here"
      ]
    }}
  ]
}}
"#,
            hashes[0], hashes[1]
        )
    );
}

#[test]
fn a_status_that_the_numbers_do_not_make_is_refused() {
    let ok =
        certificate(vec![Check::compared("logits", "real", comparison(0.0), vec![])]).to_json();
    assert!(Certificate::from_json(&ok).is_ok());
    for (from, to) in [
        ("\"ok\"", "\"failed\""),
        ("\"ok\"", "\"not checked here\""),
        ("\"max_rel\": 0.0", "\"max_rel\": 1.0"),
        ("\"elements\": 64", "\"elements\": 0"),
        ("\"comparison\"", "\"comparison_\""),
    ] {
        let forged = ok.replace(from, to);
        assert_ne!(forged, ok);
        assert!(Certificate::from_json(&forged).is_err(), "{to}");
    }
}

#[test]
fn reads_what_the_checker_writes() {
    // As `json.dumps(…, indent=2)` of Python gives it.
    let hash = Hash::of_bytes(b"probe");
    let text = format!(
        r#"{{
  "certificate_version": 1,
  "numerics_version": 1,
  "format": "huggingface",
  "source": "{hash}",
  "files": [],
  "checks": [
    {{
      "status": "ok",
      "quantity": "logits on plain",
      "evaluator": "llmc real evaluator (f64, float casts are the identity)",
      "comparison": {{
        "runtimes": [
          {{
            "name": "transformers",
            "version": "5.23.0"
          }}
        ],
        "elements": 2928,
        "max_abs": 2.942091015256665e-15,
        "max_rel": 1.1185879885161768e-15,
        "tolerance": 1e-09,
        "probe": "{hash}"
      }},
      "notes": []
    }}
  ]
}}
"#
    );
    let read = Certificate::from_json(&text).unwrap();
    assert_eq!(read.status(), Status::Ok);
    assert_eq!(read.checks[0].comparison().unwrap().tolerance, REAL_TOLERANCE);
    assert_eq!(Certificate::from_json(&read.to_json()).unwrap(), read);
}
