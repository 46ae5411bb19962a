//! Text for terminals, which what comes from outside must not steer.

use std::fmt::Display;

/// The text on one line: what could end it, move the cursor or reorder the text is escaped.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_direction(c) {
            line.extend(c.escape_debug());
        } else {
            line.push(c);
        }
    }
    line
}

/// Characters that reorder the text around them.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text in the rendition that the parameters of an SGR sequence (ECMA-48) name.
pub(crate) fn painted(text: &str, sgr: impl Display) -> String {
    format!("\x1b[{sgr}m{text}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_on_a_line_steers_the_terminal() {
        assert_eq!(one_line("a\nb\u{1b}[2J\u{9b}"), "a\\nb\\u{1b}[2J\\u{9b}");
        assert_eq!(one_line("\u{200f}\u{202e}\u{2066}"), "\\u{200f}\\u{202e}\\u{2066}");
        assert_eq!(one_line("größe \"x\" 名前"), "größe \"x\" 名前");
    }
}
