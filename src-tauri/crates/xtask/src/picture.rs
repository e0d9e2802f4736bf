//! `picture`: draws what a terminal shows as `docs/demo.svg`, for the README: `modelforge demo | cargo xtask picture`.

use std::{env, fmt::Write, io};

use anyhow::{Context, Result, ensure};
use types::files;

use crate::process::{root, say};

const PATH: &str = "docs/demo.svg";

/// Pixels: of a character, of a line, around the text, at the top for the frame of a window.
const CHARACTER: f64 = 8.4;
const LINE: usize = 19;
const MARGIN: usize = 18;
const TOP: usize = 44;

const PLAIN: &str = "#d6d9e0";
const RIGHT: &str = "#7fd08a";

pub fn run(arguments: &[String]) -> Result<()> {
    ensure!(arguments.is_empty(), "picture reads what it draws from standard input");
    let text = io::read_to_string(io::stdin()).context("cannot read standard input")?;
    ensure!(!text.trim().is_empty(), "there is nothing to draw; use `modelforge demo | cargo xtask picture`");
    let home = env::home_dir().map(|home| home.display().to_string());
    files::write(
        &root().join(PATH),
        draw("modelforge demo", &without_home(&text, home.as_deref())).as_bytes(),
    )?;
    say(&format!("wrote {PATH}"));
    Ok(())
}

/// The text with the home folder of whoever made the picture as `~`.
fn without_home(text: &str, home: Option<&str>) -> String {
    match home.filter(|home| home.len() > 1) {
        Some(home) => text.replace(home, "~"),
        None => text.to_owned(),
    }
}

fn draw(command: &str, text: &str) -> String {
    let command = format!("$ {command}");
    let lines: Vec<&str> = std::iter::once(command.as_str()).chain(text.trim_end().lines()).collect();
    let columns = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let width = (columns as f64 * CHARACTER).ceil() as usize + 2 * MARGIN;
    let height = TOP + lines.len() * LINE + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"A terminal that shows {}\">\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"10\" fill=\"#16181d\"/>\n",
        escaped(command.trim_start_matches("$ "))
    );
    for (i, colour) in ["#e0605e", "#dfb04a", "#5cb85c"].iter().enumerate() {
        let x = MARGIN + 4 + 20 * i;
        let _ = writeln!(svg, "<circle cx=\"{x}\" cy=\"21\" r=\"6\" fill=\"{colour}\"/>");
    }
    svg.push_str(
        "<g font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" \
         font-size=\"14\" xml:space=\"preserve\">\n",
    );
    let mut colour = PLAIN;
    for (i, line) in lines.iter().enumerate() {
        colour = colour_of(line, colour);
        if line.trim().is_empty() {
            continue;
        }
        let y = TOP + i * LINE + 14;
        // A fixed length keeps columns in line whatever font there is.
        let length = line.chars().count() as f64 * CHARACTER;
        let _ = writeln!(
            svg,
            "<text x=\"{MARGIN}\" y=\"{y}\" fill=\"{colour}\" textLength=\"{length:.1}\">{}</text>",
            escaped(line)
        );
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// What is right is green up to the next blank line, rules between the parts are faint, as in a terminal.
fn colour_of(line: &str, before: &'static str) -> &'static str {
    match line.trim_start() {
        text if text.starts_with("right:") || text.starts_with("after ") => RIGHT,
        text if before == RIGHT && !text.is_empty() => RIGHT,
        text if text.starts_with("---") => "#5a606c",
        text if text.starts_with("$ ") => "#8ab4f8",
        _ => PLAIN,
    }
}

fn escaped(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .map(|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_every_line_and_nothing_of_the_machine_it_was_made_on() {
        let home = "/users/mia";
        let svg = draw(
            "modelforge demo",
            &without_home("a <b> & \"c\"\n\n  folder  /users/mia/models\u{1b}\n", Some(home)),
        );
        assert!(svg.contains("a &lt;b&gt; &amp; &quot;c&quot;"), "text must stay text: {svg}");
        assert!(
            svg.contains("  folder  ~/models<"),
            "the home folder is `~` and control characters are gone: {svg}"
        );
        assert_eq!(svg.matches("<text").count(), 3, "one text a line that is not blank, and the command");
        assert!(svg.ends_with("</svg>\n"), "the picture must be whole");
    }
}
