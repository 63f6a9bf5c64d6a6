//! Known-answer bytes from the protobuf encoding guide, and hostile messages.

use super::*;

fn read(bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>, Error> {
    fields(bytes).collect()
}

#[test]
fn writes_the_bytes_of_the_encoding_guide() {
    let mut message = Writer::new();
    message.varint(1, 150);
    assert_eq!(message.finish(), [0x08, 0x96, 0x01]);
    let mut message = Writer::new();
    message.bytes(2, "testing");
    assert_eq!(message.finish(), b"\x12\x07testing");
    let mut inner = Writer::new();
    inner.varint(1, 150);
    let mut outer = Writer::new();
    outer.message(3, &inner);
    assert_eq!(outer.finish(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
    let mut negative = Writer::new();
    negative.varint(1, -2i64 as u64);
    assert_eq!(negative.finish(), [8, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
}

#[test]
fn reads_back_what_it_writes() {
    let mut message = Writer::new();
    message.varint(1, u64::MAX).double(2, -0.5).float(16, 1.5).bytes(3, [7, 8]);
    assert_eq!(
        read(&message.finish()).unwrap(),
        [
            (1, Value::Varint(u64::MAX)),
            (2, Value::Fixed64((-0.5f64).to_bits())),
            (16, Value::Fixed32(1.5f32.to_bits())),
            (3, Value::Bytes(&[7, 8])),
        ]
    );
}

#[test]
fn refuses_what_is_no_message() {
    assert_eq!(read(&[0x08]), Err(Error::Truncated { at: 0 }));
    assert_eq!(read(&[0x08, 1, 0x0a, 5, 1]), Err(Error::Truncated { at: 2 }));
    assert_eq!(read(&[0x09, 1, 2]), Err(Error::Truncated { at: 0 }));
    assert_eq!(read(&[0x0b]), Err(Error::Key { at: 0, number: 1, wire: 3 }));
    assert_eq!(read(&[0x00]), Err(Error::Key { at: 0, number: 0, wire: 0 }));
    let mut long = vec![0x08];
    long.extend([0xff; 9]);
    long.push(2);
    assert_eq!(read(&long), Err(Error::Varint { at: 1 }));
    let huge = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert_eq!(read(&huge), Err(Error::Truncated { at: 0 }));
}
