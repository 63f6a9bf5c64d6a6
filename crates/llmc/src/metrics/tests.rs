//! Records go in and come out, over crashes and resumes.

use super::*;
use crate::store::{MemStore, RecordingStore};

fn train(step: u64, loss: f64) -> Record {
    Record::Train(TrainRecord {
        step,
        tokens: step * 32,
        loss,
        lr: 1e-3,
        grad_norm: 0.5,
        tokens_per_s: 1000.0,
        elapsed_s: step as f64,
        is_skipped: false,
        is_overflow: false,
        loss_scale: None,
    })
}

fn some_records() -> Vec<Record> {
    vec![
        train(1, 4.25),
        train(2, 0.1 + 0.2),
        Record::Validation(ValidationRecord {
            step: 2,
            loss: 4.0,
            bits_per_byte: 2.5,
            ema_loss: None,
        }),
        Record::Sample(SampleRecord {
            step: 2,
            prompt: "def ".into(),
            text: "f():\n\t\"é\"".into(),
        }),
        train(3, 3.0),
    ]
}

fn write_all(store: &dyn Store, records: &[Record]) {
    let mut writer = MetricsWriter::create(store, Path::new("")).unwrap();
    records.iter().for_each(|record| writer.record(record).unwrap());
}

#[test]
fn a_line_is_stable_and_readable() {
    let store = MemStore::new();
    write_all(&store, &some_records()[..3]);
    assert_eq!(
        store.read_text(Path::new(FILE)).unwrap().lines().collect::<Vec<_>>(),
        [
            r#"{"kind":"train","step":1,"tokens":32,"loss":4.25,"lr":0.001,"grad_norm":0.5,"tokens_per_s":1000.0,"elapsed_s":1.0}"#,
            r#"{"kind":"train","step":2,"tokens":64,"loss":0.30000000000000004,"lr":0.001,"grad_norm":0.5,"tokens_per_s":1000.0,"elapsed_s":2.0}"#,
            r#"{"kind":"validation","step":2,"loss":4.0,"bits_per_byte":2.5}"#,
        ]
    );
}

#[test]
fn records_round_trip_bit_for_bit() {
    let store = MemStore::new();
    write_all(&store, &some_records());
    let (records, diagnostics) = read(&store, Path::new("")).unwrap();
    assert_eq!(records, some_records());
    assert!(diagnostics.is_empty());
}

#[test]
fn numbers_that_json_lacks_round_trip() {
    let store = MemStore::new();
    write_all(&store, &[train(1, f64::INFINITY), train(2, f64::NEG_INFINITY), train(3, f64::NAN)]);
    let (records, _) = read(&store, Path::new("")).unwrap();
    assert_eq!(records[..2], [train(1, f64::INFINITY), train(2, f64::NEG_INFINITY)]);
    assert!(matches!(&records[2], Record::Train(r) if r.loss.is_nan()));
}

#[test]
fn a_resumed_run_goes_on_after_its_checkpoint() {
    let store = MemStore::new();
    write_all(&store, &some_records());
    store.append(Path::new(FILE), b"{\"kind\":\"train\",\"st").unwrap();
    let (mut writer, kept) = MetricsWriter::resume(&store, Path::new(""), 2).unwrap();
    assert_eq!(kept, some_records()[..4]);
    writer.record(&train(3, 2.5)).unwrap();
    writer.sync().unwrap();
    let (records, diagnostics) = read(&store, Path::new("")).unwrap();
    assert_eq!(records[..4], some_records()[..4]);
    assert_eq!(records[4..], [train(3, 2.5)]);
    assert!(diagnostics.is_empty());
}

#[test]
fn a_run_without_metrics_can_be_resumed() {
    let store = MemStore::new();
    assert!(read(&store, Path::new("")).unwrap().0.is_empty());
    let (mut writer, kept) = MetricsWriter::resume(&store, Path::new(""), 0).unwrap();
    assert!(kept.is_empty());
    writer.record(&train(1, 1.0)).unwrap();
    drop(writer);
    assert_eq!(read(&store, Path::new("")).unwrap().0, [train(1, 1.0)]);
}

#[test]
fn damaged_lines_are_named_and_skipped() {
    let store = MemStore::new();
    write_all(&store, &some_records()[..1]);
    store.append(Path::new(FILE), b"nonsense\n\xff\xfe\n").unwrap();
    let whole = serde_json::to_string(&train(2, 1.0)).unwrap();
    store.append(Path::new(FILE), format!("{whole}\n{whole}").as_bytes()).unwrap();
    let (records, diagnostics) = read(&store, Path::new("")).unwrap();
    assert_eq!(records, [train(1, 4.25), train(2, 1.0)]);
    let lines: Vec<&str> = diagnostics.iter().map(|d| &d.message[..6]).collect();
    assert_eq!(lines, ["line 2", "line 3", "line 5"]);
    assert!(diagnostics[2].message.ends_with("it is cut"));
}

#[test]
fn synced_records_survive_every_crash() {
    let store = RecordingStore::new();
    let run = Path::new("");
    write_atomic(&store, Path::new(FILE), b"").unwrap();
    let (mut writer, _) = MetricsWriter::resume(&store, run, 0).unwrap();
    writer.record(&train(1, 1.0)).unwrap();
    writer.sync().unwrap();
    let synced = store.position();
    writer.record(&train(2, 2.0)).unwrap();
    writer.flush().unwrap();
    MetricsWriter::resume(&store, run, 1).unwrap();
    for after in synced..=store.position() {
        store.each_crash_state(after, |state| {
            let (records, _) = read(&state.disk, run).unwrap();
            assert_eq!(records.first(), Some(&train(1, 1.0)), "{}", state.what);
        });
    }
}
