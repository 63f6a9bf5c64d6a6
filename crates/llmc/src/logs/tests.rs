//! Lines go in and come out.

use super::*;
use crate::store::MemStore;

#[test]
fn lines_come_back_in_order_one_per_call() {
    let (store, run) = (MemStore::new(), Path::new(""));
    assert!(read(&store, run).unwrap().is_empty());
    append(&store, run, "first\n").unwrap();
    append(&store, run, "two\nlines").unwrap();
    store.append(Path::new(FILE), b"torn \xff").unwrap();
    assert_eq!(read(&store, run).unwrap(), ["first", "two lines", "torn \u{fffd}"]);
}
