//! Stop strings in text that comes in pieces.

/// Lets text through up to the first of the stop strings, holding back what may still become one.
pub struct StopText {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl StopText {
    /// Watches for `stops`; an empty one never matches.
    pub fn new(stops: &[String]) -> Self {
        StopText {
            stops: stops.iter().filter(|s| !s.is_empty()).cloned().collect(),
            held: String::new(),
            stopped: false,
        }
    }

    /// Whether a stop string has come; no text follows it.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Takes a piece of text; gives what certainly comes before any stop string.
    pub fn push(&mut self, piece: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let waiting = self.held.split_off(self.held.len() - self.possible_start());
        std::mem::replace(&mut self.held, waiting)
    }

    /// At the end of the text: what was held back and became no stop string.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end of the held text that a stop string could begin with.
    fn possible_start(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0).saturating_sub(1);
        let starts = self.held.char_indices().map(|(at, _)| at).filter(|at| self.held.len() - at <= longest);
        let mut lengths =
            starts.filter(|&at| self.stops.iter().any(|stop| stop.starts_with(&self.held[at..])));
        lengths.next().map_or(0, |at| self.held.len() - at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stops: &[&str], pieces: &[&str], want: &[&str], stopped: bool) {
        let stops: Vec<String> = stops.iter().map(|&s| s.to_owned()).collect();
        let mut text = StopText::new(&stops);
        let mut got: Vec<String> = pieces.iter().map(|piece| text.push(piece)).collect();
        got.push(text.finish());
        assert_eq!(got, want, "{pieces:?} with {stops:?} must be let through like this");
        assert_eq!(text.stopped(), stopped, "{pieces:?} with {stops:?}");
    }

    #[test]
    fn text_is_let_through_up_to_the_first_stop_string() {
        check(&[], &["a", "b"], &["a", "b", ""], false);
        check(&[""], &["a"], &["a", ""], false);
        check(&["END"], &["say END now"], &["say ", ""], true);
        check(&["b", "ab"], &["xab"], &["x", ""], true);
        check(&["END"], &["END"], &["", ""], true);
    }

    #[test]
    fn a_stop_string_is_found_across_pieces() {
        check(&["END"], &["sE", "N", "D x", "more"], &["s", "", "", "", ""], true);
        check(&["\n\nUser:"], &["hi\n", "\nUs", "er: x"], &["hi", "", "", ""], true);
        check(&["aab"], &["aa", "ab"], &["", "a", ""], true);
    }

    #[test]
    fn what_becomes_no_stop_string_comes_later_or_at_the_end() {
        check(&["END"], &["E", "N", "x"], &["", "", "ENx", ""], false);
        check(&["END"], &["sEN"], &["s", "EN"], false);
        check(&["né"], &["n", "e"], &["", "ne", ""], false);
        check(&["éé"], &["xé", "y"], &["x", "éy", ""], false);
    }
}
