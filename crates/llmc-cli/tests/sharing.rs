//! Two processes with one model share its weights: the pages of the file in the cache are there once.

#![cfg(target_os = "linux")]
// The whole program is a test; helpers panic on purpose.
#![allow(clippy::unwrap_used)]

mod common;

use common::Place;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// A chat that has replied once and waits.
struct Waiting(Child);

impl Waiting {
    fn start(place: &Place, args: &[&str]) -> Waiting {
        let args = [&["chat", "-n", "2", "--json"], args].concat();
        let mut child = place.command(&args).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(b"a\n").unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("\"reply\"")));
        Waiting(child)
    }

    /// KiB of a field of `/proc/PID/smaps`, over the mappings whose line contains `name`.
    fn kib(&self, name: &str, field: &str) -> u64 {
        let path = format!("/proc/{}/smaps", self.0.id());
        let (mut is_wanted, mut sum) = (false, 0);
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let mut words = line.split_whitespace();
            let first = words.next().unwrap_or_default();
            if !first.ends_with(':') {
                is_wanted = line.contains(name);
            } else if is_wanted && first.strip_suffix(':') == Some(field) {
                sum += words.next().unwrap().parse::<u64>().unwrap();
            }
        }
        sum
    }

    /// KiB of memory of its own.
    fn anonymous(&self) -> u64 {
        self.kib("", "Anonymous")
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The only file of packed weights.
fn block(cache: &Path) -> PathBuf {
    let mut entries = std::fs::read_dir(cache.join("weights")).unwrap();
    let entry = entries.next().unwrap().unwrap().path();
    assert!(entries.next().is_none());
    entry.join("block.bin")
}

#[test]
fn two_processes_share_the_weights() {
    let place = Place::new();
    let wide = ["model.hidden_size=256", "model.intermediate_size=1024", "training.max_steps=1"];
    let set = wide.iter().flat_map(|change| ["--set", change]);
    let args: Vec<&str> = ["train", "tiny.toml", "--quiet"].into_iter().chain(set).collect();
    place.llmc(&args).code(0);

    let own = Waiting::start(&place, &["--no-mmap"]);
    let [first, second] = [(); 2].map(|()| Waiting::start(&place, &[]));
    let size = std::fs::metadata(block(&place.path().join("cache"))).unwrap().len() / 1024;
    assert!(size > 3000, "{size} KiB");
    for process in [&first, &second] {
        let of = |field: &str| process.kib("block.bin", field);
        // All of it is in memory, none of it a copy, and nearly all is another process's too.
        assert!(of("Rss") * 10 >= size * 9, "{} of {size} KiB", of("Rss"));
        assert!(of("Shared_Clean") * 10 >= size * 9, "{} of {size} KiB", of("Shared_Clean"));
        assert_eq!((of("Anonymous"), of("Private_Dirty"), of("Shared_Dirty")), (0, 0, 0));
    }
    // So the second one takes less memory by the weights than one that has them for itself.
    let saved = own.anonymous().saturating_sub(second.anonymous());
    assert!(saved * 10 >= size * 8, "{saved} of {size} KiB");
    assert_eq!(own.kib("block.bin", "Rss"), 0);
}

#[test]
fn a_damaged_file_of_weights_is_made_anew() {
    let place = Place::new();
    place.llmc(&["train", "tiny.toml", "--quiet"]).code(0);
    let text = |more: &[&str]| {
        let args = [&["generate", "--prompt", "a", "-n", "12", "--json"], more].concat();
        place.llmc(&args).code(0).json()["text"].clone()
    };
    let expected = text(&["--no-mmap"]);
    assert!(!place.path().join("cache/weights").exists());
    assert_eq!(text(&[]), expected);
    let file = block(&place.path().join("cache"));
    let whole = std::fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    damaged.iter_mut().step_by(4).for_each(|byte| *byte ^= 0x55);
    for bytes in [&damaged[..], &whole[..100], &[]] {
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(text(&[]), expected);
        assert!(std::fs::read(&file).unwrap() == whole);
    }
}
