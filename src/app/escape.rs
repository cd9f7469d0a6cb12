//! What strangers write, made safe for a terminal.
//!
//! Entry type: [`Shown`]. The rule it keeps: no character reaches the terminal that moves the
//! cursor, hides text or turns its direction; one line stays one line.

use std::fmt::{self, Display, Write};

/// A stranger's text, as it may be shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_char(' ')?,
                c if is_harmful(c) => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

fn is_harmful(character: char) -> bool {
    match character {
        // Line and paragraph separators, and what changes the direction of text.
        '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}' => true,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        // Invisible: no width, or a tag that carries text nobody sees.
        '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}' => true,
        _ => character.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_cannot_move_the_cursor_nor_forge_a_line() {
        let shown = Shown("\u{1b}[2Jhi\r\n[lobby] alice: \u{9b}31m\u{202e}").to_string();
        assert_eq!(
            shown,
            "\\u{1b}[2Jhi\\u{d}\\n[lobby] alice: \\u{9b}31m\\u{202e}"
        );
        assert_eq!(Shown("grüße 👩‍🚀").to_string(), "grüße 👩‍🚀");
    }
}
