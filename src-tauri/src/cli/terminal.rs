//! How things look in a terminal: width, styles, wrapping, numbers and times. Without a terminal it is plain text.

use std::{fmt::Display, io::IsTerminal};

use clap::builder::styling::{AnsiColor, Style};

/// Text that is written fits into this many columns.
pub const WIDTH: usize = 80;

/// Whether standard output shows colours.
pub fn colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    std::io::stdout().is_terminal() && !unwanted && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// A heading.
pub fn bold(text: impl Display) -> String {
    styled(text, Style::new().bold())
}

/// What is beside the point.
pub fn dim(text: impl Display) -> String {
    styled(text, Style::new().dimmed())
}

/// What is right, or trained.
pub fn green(text: impl Display) -> String {
    styled(text, Style::new().fg_color(Some(AnsiColor::Green.into())))
}

fn styled(text: impl Display, style: Style) -> String {
    if colours() { format!("{style}{text}{style:#}") } else { text.to_string() }
}

/// Breaks a text into lines of at most `width` characters, at spaces where there are any.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        let mut length = 0;
        for word in paragraph.split_whitespace() {
            let mut letters: Vec<char> = word.chars().collect();
            if length > 0 && length + 1 + letters.len() > width {
                lines.push(std::mem::take(&mut line));
                length = 0;
            }
            while letters.len() > width {
                lines.push(letters.drain(..width).collect());
            }
            if length > 0 {
                line.push(' ');
                length += 1;
            }
            length += letters.len();
            line.extend(letters);
        }
        lines.push(line);
    }
    if lines.is_empty() {
        lines.push(String::new());
    }
    lines
}

/// Two texts side by side, each in half of the width, as lines.
pub fn side_by_side(left: &str, right: &str) -> Vec<String> {
    let half = (WIDTH - 3) / 2;
    let (left, right) = (wrap(left, half), wrap(right, half));
    let empty = String::new();
    (0..left.len().max(right.len()))
        .map(|i| {
            let (a, b) = (left.get(i).unwrap_or(&empty), right.get(i).unwrap_or(&empty));
            let padding = half.saturating_sub(a.chars().count());
            format!("{a}{:padding$} | {b}", "").trim_end().to_owned()
        })
        .collect()
}

/// A name and its value, in one column each, the value wrapped.
pub fn entry(name: &str, value: impl Display) -> String {
    const NAMES: usize = 16;
    // Paths stay on one line, so that they can be copied.
    format!("  {name:NAMES$}{value}")
}

/// `1,234,567`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `0:07`, `12:34`, `1:02:03`.
pub fn clock(seconds: f64) -> String {
    let all = if seconds.is_finite() && seconds > 0.0 { seconds.round() as u64 } else { 0 };
    let (hours, minutes, seconds) = (all / 3600, all / 60 % 60, all % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// A loss or another small number, in a width that stays the same while it changes.
pub fn small(x: f64) -> String {
    if x != 0.0 && x.abs() < 1e-3 { format!("{x:.2e}") } else { format!("{x:.4}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_asked_and_no_word_is_lost() {
        let long = "x".repeat(100);
        for text in [
            "",
            "one",
            "a few words that do not fit on one line",
            "two\n\nparagraphs",
            long.as_str(),
            "äöü ß",
        ] {
            for width in [5, 17, 38] {
                let lines = wrap(text, width);
                assert!(lines.iter().all(|l| l.chars().count() <= width), "{text:?} in {width}: {lines:?}");
                let letters = |t: &str| t.chars().filter(|c| !c.is_whitespace()).collect::<String>();
                assert_eq!(letters(&lines.concat()), letters(text), "nothing is lost");
            }
        }
    }

    #[test]
    fn columns_fit_the_terminal() {
        let (left, right) = ("a quick brown fox ".repeat(5), "jumps over the lazy dog ".repeat(9));
        let lines = side_by_side(&left, &right);
        assert!(lines.iter().all(|l| l.chars().count() <= WIDTH), "{lines:?}");
        let bars: Vec<_> = lines.iter().filter_map(|l| l.find('|')).collect();
        assert!(bars.iter().all(|&at| at == bars[0]), "the columns are straight: {lines:?}");
    }

    #[test]
    fn numbers_and_times() {
        assert_eq!([0, 999, 1000, 1234567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.0, 7.4, 754.0, 3723.0, f64::NAN].map(clock),
            ["0:00", "0:07", "12:34", "1:02:03", "0:00"]
        );
        assert_eq!([0.5, 0.0000123].map(small), ["0.5000", "1.23e-5"]);
    }
}
