//! Known bytes, round trips, and hostile files.

use super::*;
use proptest::prelude::*;

fn source<'a>(name: &'a str, shape: &'a [usize], data: &'a [f32]) -> TensorSource<'a> {
    TensorSource { name, dtype: DType::F32, shape, data: Data::F32(data) }
}

/// A file around any header and data.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.extend(data);
    out
}

fn refuse(header: &str, data_len: usize, message: &str) {
    let error = SafeTensors::parse(&file(header, &vec![0; data_len])).unwrap_err();
    assert_eq!(error.to_string(), message, "{header}");
}

#[test]
fn the_bytes_are_those_of_the_reference_implementation() {
    // `safetensors.numpy.save({"b": f32[2], "a": f32[1], "i": i64[1]}, {"format": "pt"})`, 0.8.0.
    let tensors = [
        source("b", &[2], &[1.0, 2.0]),
        source("a", &[1], &[0.5]),
        TensorSource { name: "i", dtype: DType::I64, shape: &[1], data: Data::I64(&[7]) },
    ];
    let metadata = Metadata::from([("format".to_string(), "pt".to_string())]);
    let header = concat!(
        r#"{"__metadata__":{"format":"pt"},"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"#,
        r#""a":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"#,
        r#""b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}      "#
    );
    let mut data = 7i64.to_le_bytes().to_vec();
    [0.5f32, 1.0, 2.0].iter().for_each(|x| data.extend(x.to_le_bytes()));
    let bytes = to_bytes(&tensors, &metadata).unwrap();
    assert_eq!(bytes, file(header, &data));
}

#[test]
fn order_of_the_tensors_given_does_not_matter() {
    let (a, b) = (source("a", &[1], &[1.0]), source("b", &[0, 3], &[]));
    let metadata = Metadata::from([("z".into(), "1".into()), ("a".into(), "\"2\"".into())]);
    let bytes = to_bytes(&[a, b], &metadata).unwrap();
    assert_eq!(bytes, to_bytes(&[b, a], &metadata).unwrap());
    let read = SafeTensors::parse(&bytes).unwrap();
    assert_eq!(read.metadata(), &metadata);
    assert_eq!(read.tensor("b").unwrap().info.shape, [0, 3]);
}

#[test]
fn streaming_equals_memory_beyond_one_buffer() {
    let values: Vec<f32> = (0..50_000).map(|i| i as f32).collect();
    let tensors = [source("x", &[50, 1000], &values)];
    let mut streamed = Vec::new();
    write_to(&mut streamed, &tensors, &Metadata::new()).unwrap();
    assert_eq!(streamed, to_bytes(&tensors, &Metadata::new()).unwrap());
    assert_eq!(
        SafeTensors::parse(&streamed).unwrap().tensor("x").unwrap().to_f32().unwrap(),
        values
    );
}

#[test]
fn reads_every_float_exactly() {
    let check = |dtype, bytes: &[u8], expected: f64| {
        let shape = [1];
        let source = TensorSource { name: "x", dtype, shape: &shape, data: Data::Bytes(bytes) };
        let bytes = to_bytes(&[source], &Metadata::new()).unwrap();
        let read = SafeTensors::parse(&bytes).unwrap();
        assert_eq!(read.tensor("x").unwrap().to_f64().unwrap(), [expected]);
    };
    check(DType::F64, &0.1f64.to_le_bytes(), 0.1);
    check(DType::F32, &0.1f32.to_le_bytes(), f64::from(0.1f32));
    check(DType::F16, &[0x00, 0x3e], 1.5);
    check(DType::Bf16, &[0xc0, 0xbf], -1.5);
    let source =
        TensorSource { name: "x", dtype: DType::Bool, shape: &[2], data: Data::Bytes(&[1, 0]) };
    let bytes = to_bytes(&[source], &Metadata::new()).unwrap();
    let read = SafeTensors::parse(&bytes).unwrap();
    assert_eq!(read.tensor("x").unwrap().to_i64().unwrap(), [1, 0]);
    assert_eq!(
        read.tensor("x").unwrap().to_f64().unwrap_err().to_string(),
        "tensor `x` has dtype BOOL, which cannot be read as f64"
    );
    assert_eq!(read.tensor("y").unwrap_err().to_string(), "there is no tensor `y`");
}

#[test]
fn refuses_hostile_files_by_name_and_values() {
    let f32 = |name: &str, shape: &str, begin: u64, end: u64| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
    };
    let one = |entry: String| format!("{{{entry}}}");
    let two = |a: String, b: String| format!("{{{a},{b}}}");
    refuse(
        &two(f32("a", "[2]", 0, 8), f32("b", "[2]", 4, 12)),
        12,
        "tensor `b` begins at 4, before `a` ends at 8",
    );
    refuse(
        &two(f32("a", "[1]", 0, 4), f32("b", "[1]", 8, 12)),
        12,
        "bytes 4..8 of the data belong to no tensor",
    );
    refuse(&one(f32("a", "[1]", 0, 4)), 5, "bytes 4..5 of the data belong to no tensor");
    refuse("{}", 1, "bytes 0..1 of the data belong to no tensor");
    refuse(&one(f32("a", "[2]", 0, 8)), 4, "tensor `a` lies at 0..8, the data has 4 bytes");
    refuse(&one(f32("a", "[2]", 8, 0)), 8, "tensor `a` lies at 8..0, the data has 8 bytes");
    refuse(&one(f32("a", "[3]", 0, 8)), 8, "tensor `a` F32[3] has 8 bytes, its shape needs 12");
    refuse(
        &one(f32("a", "[4294967296,4294967296]", 0, 0)),
        0,
        "tensor `a` F32[4294967296, 4294967296] is too large to count",
    );
    refuse(&two(f32("a", "[1]", 0, 4), f32("a", "[1]", 4, 8)), 8, "tensor `a` is there twice");
    refuse(
        r#"{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}"#,
        1,
        "tensor `a` has unknown dtype `F8_E4M3`",
    );
    refuse(
        r#"{"__metadata__":{},"__metadata__":{}}"#,
        0,
        "the header is malformed: `__metadata__` is there twice at line 1 column 37",
    );
    refuse(" {}", 0, "the header is malformed: it does not start with `{`");
    for header in [
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}"#,
        r#"{"__metadata__":{"a":1}}"#,
        "{",
    ] {
        let error = SafeTensors::parse(&file(header, &[0; 4])).unwrap_err();
        assert!(matches!(error, Error::Header { .. }), "{header}: {error}");
    }
    let deep = "[".repeat(100_000);
    let error = SafeTensors::parse(&file(&format!("{{\"a\":{deep}"), &[])).unwrap_err();
    assert!(matches!(error, Error::Header { .. }), "{error}");
}

#[test]
fn refuses_lengths_beyond_the_file() {
    assert_eq!(
        SafeTensors::parse(&[1, 2]).unwrap_err().to_string(),
        "the file has 2 bytes, its header needs 8"
    );
    let mut short = 100u64.to_le_bytes().to_vec();
    short.extend(b"{}");
    assert_eq!(
        SafeTensors::parse(&short).unwrap_err().to_string(),
        "the file has 10 bytes, its header needs 108"
    );
    assert_eq!(
        SafeTensors::parse(&u64::MAX.to_le_bytes()).unwrap_err(),
        Error::HeaderTooLarge { bytes: u64::MAX }
    );
}

#[test]
fn refuses_to_write_what_it_would_not_read() {
    let refuse = |tensors: &[TensorSource<'_>], message: &str| {
        let mut out = Vec::new();
        let error = write_to(&mut out, tensors, &Metadata::new()).unwrap_err();
        assert_eq!((error.to_string().as_str(), out.len()), (message, 0));
    };
    let a = source("a", &[1], &[1.0]);
    refuse(&[a, a], "tensor `a` is there twice");
    refuse(&[source("__metadata__", &[1], &[1.0])], "a tensor may not be named `__metadata__`");
    refuse(&[source("a", &[3], &[1.0])], "tensor `a` F32[3] has 4 bytes, its shape needs 12");
    refuse(
        &[TensorSource { dtype: DType::I32, ..a }],
        "tensor `a` I32[1] has 4 bytes, its shape needs 4",
    );
}

proptest! {
    #[test]
    fn any_tensors_round_trip(
        tensors in proptest::collection::btree_map(".{0,12}", (0..13usize, proptest::collection::vec(0..4usize, 0..4)), 0..8),
        metadata in proptest::collection::btree_map(".{0,4}", ".{0,8}", 0..3),
    ) {
        prop_assume!(!tensors.contains_key("__metadata__"));
        let owned: Vec<_> = tensors.iter().enumerate().map(|(i, (name, (dtype, shape)))| {
            let dtype = DType::ALL[*dtype].0;
            let bytes = vec![i as u8; shape.iter().product::<usize>() * dtype.bytes()];
            (name, dtype, shape, bytes)
        }).collect();
        let sources: Vec<_> = owned.iter().map(|(name, dtype, shape, bytes)| {
            TensorSource { name, dtype: *dtype, shape, data: Data::Bytes(bytes) }
        }).collect();
        let bytes = to_bytes(&sources, &metadata).unwrap();
        let read = SafeTensors::parse(&bytes).unwrap();
        prop_assert_eq!(read.metadata(), &metadata);
        prop_assert_eq!(read.tensors().count(), owned.len());
        for (name, dtype, shape, bytes) in &owned {
            let view = read.tensor(name).unwrap();
            prop_assert_eq!((view.info.dtype, &view.info.shape, view.data), (*dtype, *shape, &bytes[..]));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64), header in "[{}\\[\\]\":,a-c0-9]{0,60}") {
        let _ = SafeTensors::parse(&bytes);
        let _ = SafeTensors::parse(&file(&format!("{{{header}"), &bytes));
    }
}
