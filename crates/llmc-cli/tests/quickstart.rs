//! The quickstart where there is no Python. That it beats gzip and a 5-gram model on real text takes
//! minutes: `make quickstart-test`.
#![allow(clippy::unwrap_used)]

mod common;

use common::Place;

#[test]
fn quickstart_learns_from_generated_text_where_there_is_no_python() {
    let place = Place::new();
    // No interpreter is found where the search path is empty.
    let output = place.command(&["quickstart", "--json", "--steps", "3"]).env("PATH", "").output();
    let said = common::Said::from(output.unwrap()).code(0);
    assert_eq!(said.event("baselines")["is_real_text"], false);
    assert_eq!(said.event("result")["status"], "complete");
    assert_eq!(said.event("verified")["ok"], true);
}
