//! Known-answer bytes, round trips, and torn files.

use super::*;

#[test]
fn crc32c_gives_the_answers_of_the_rfc() {
    // RFC 3720, section B.4, and the check value of the CRC catalogue.
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

fn sample() -> Vec<u8> {
    let mut writer = EventWriter::new(Vec::new(), 1.5).unwrap();
    writer.scalars(7, 2.5, &[("train/loss", 0.25), ("train/lr", 1e-3)]).unwrap();
    writer.text(8, 3.5, "sample", "*hello*").unwrap();
    writer.into_inner()
}

#[test]
fn the_version_record_has_the_bytes_tensorflow_writes() {
    let file = EventWriter::new(Vec::new(), 1.5).unwrap().into_inner();
    let mut expected = 24u64.to_le_bytes().to_vec();
    expected.extend([0xa3, 0x7f, 0x4b, 0x22]);
    expected.extend(b"\x09\0\0\0\0\0\0\xf8\x3f\x1a\x0dbrain.Event:2");
    expected.extend(file[36..].iter());
    assert_eq!(file, expected);
    assert_eq!(file.len(), 8 + 4 + 24 + 4);
}

#[test]
fn reads_back_what_it_writes() {
    let events = read_events(&sample()).unwrap();
    assert_eq!(
        events,
        [
            Event {
                wall_time: 1.5,
                step: 0,
                content: Content::FileVersion("brain.Event:2".to_string())
            },
            Event {
                wall_time: 2.5,
                step: 7,
                content: Content::Scalars(vec![
                    ("train/loss".to_string(), 0.25),
                    ("train/lr".to_string(), 1e-3)
                ])
            },
            Event {
                wall_time: 3.5,
                step: 8,
                content: Content::Text { tag: "sample".to_string(), text: "*hello*".to_string() }
            },
        ]
    );
}

#[test]
fn every_torn_or_altered_file_is_found_out() {
    let file = sample();
    let starts: Vec<usize> = std::iter::once(0)
        .chain(records(&file).scan(0, |at, record| {
            *at += record.unwrap().len() + 16;
            Some(*at)
        }))
        .collect();
    for len in 0..file.len() {
        let whole = starts.contains(&len);
        assert_eq!(read_events(&file[..len]).is_ok(), whole, "{len} bytes");
    }
    for at in 0..file.len() {
        let mut altered = file.clone();
        altered[at] ^= 0x10;
        assert!(read_events(&altered).is_err(), "byte {at}");
    }
}
