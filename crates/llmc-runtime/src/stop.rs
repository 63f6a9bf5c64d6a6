//! Stop strings: a text ends before the first of them, wherever the pieces of the text are cut.

/// Watches a text that comes in pieces.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    /// The end of the text that may be the beginning of a stop string.
    held: String,
}

impl StopStrings {
    /// Watches for these; empty strings stop nothing.
    pub fn new(stops: impl IntoIterator<Item = String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        StopStrings { stops, held: String::new() }
    }

    /// Takes a piece; gives what certainly belongs to the text, and whether a stop string was met.
    pub fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        let first = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = first {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let kept = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - kept);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What was held back, at the end of the text.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes of the longest end of `text` that begins `stop` and is not all of it.
fn overlap(text: &str, stop: &str) -> usize {
    let starts = stop.char_indices().map(|(at, _)| at).skip(1).filter(|at| *at <= text.len());
    starts.filter(|at| text.ends_with(&stop[..*at])).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text that comes out, and whether it was stopped.
    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut watch = StopStrings::new(stops.iter().map(|s| s.to_string()));
        let mut text = String::new();
        for piece in pieces {
            let (out, is_stopped) = watch.push(piece);
            text.push_str(&out);
            if is_stopped {
                return (text, true);
            }
        }
        (text + &watch.finish(), false)
    }

    #[test]
    fn the_text_ends_before_the_first_stop_string_however_it_is_cut() {
        let text = "one\n\ntwo ###end";
        for cut in 0..=text.len() {
            let (a, b) = text.split_at(cut);
            assert_eq!(run(&["###", "\n\n"], &[a, b]), ("one".to_string(), true));
        }
        let bytes: Vec<String> = text.chars().map(String::from).collect();
        let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
        assert_eq!(run(&["###e"], &bytes), ("one\n\ntwo ".to_string(), true));
    }

    #[test]
    fn what_only_began_like_a_stop_string_is_given() {
        assert_eq!(run(&["<|end|>"], &["a <|", "en", " b <|e"]), ("a <|en b <|e".into(), false));
        assert_eq!(run(&["ééa"], &["é", "éb", "é"]), ("éébé".into(), false));
        assert_eq!(run(&[""], &["a"]), ("a".into(), false));
        assert_eq!(run(&["aab"], &["aaa", "b"]), ("a".into(), true));
    }
}
