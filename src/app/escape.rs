//! Escapes text of strangers for a terminal.
//!
//! Entry types: [`Escaped`] for texts, [`Quoted`] for names. The rules they keep: no character reaches the terminal
//! that moves the cursor, hides text, turns its direction or has no shape of its own; one line stays one line, of
//! bounded length; and a name cannot be confused with the text around it.
//!
//! The classes of characters are Unicode's, through `icu_properties`. Joiners and variation selectors are kept where a
//! script or an emoji needs them (RFC 5892, appendix A, and UTS #51), and are shown as numbers elsewhere.

use std::fmt::{self, Display, Write};
use std::iter::Peekable;
use std::str::Chars;

use icu_properties::props::{
    CanonicalCombiningClass, DefaultIgnorableCodePoint, Emoji, EmojiModifier, ExtendedPictographic,
    GeneralCategory, JoiningType, PrependedConcatenationMark,
};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Maximum number of characters of a text that are shown: some screens full.
const MAX_SHOWN: usize = 2000;
/// Maximum number of characters of a name that are shown.
const MAX_NAME: usize = 48;
/// Maximum number of marks above and below one letter: Hebrew with accents has five.
const MAX_MARKS: usize = 6;
/// Maximum number of blanks in a row: more of them would push the rest onto a line of its own, where it could look like
/// another person's.
const MAX_BLANKS: usize = 16;

const ZWNJ: char = '\u{200c}';
const ZWJ: char = '\u{200d}';
const TEXT_STYLE: char = '\u{fe0e}';
const EMOJI_STYLE: char = '\u{fe0f}';

/// A stranger's text, as it may be shown: at most [`MAX_SHOWN`] characters, then `…`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

/// A stranger's name for something, as it may be shown: as it is if it has letters, digits, single spaces and
/// `-_.+/#` alone, in quotes otherwise, and in either case at most [`MAX_NAME`] characters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut writer = Writer::new(f, MAX_SHOWN);
        match writer.write(self.0)? {
            true => Ok(()),
            false => f.write_char('…'),
        }
    }
}

impl Escaped<'_> {
    /// Whether the whole text is shown.
    pub(crate) fn is_whole(&self) -> bool {
        // A short text need not be gone through: nothing is longer than `\u{10ffff}`.
        self.0.len() <= MAX_SHOWN / 10
            || Writer::new(&mut Nowhere, MAX_SHOWN).write(self.0) == Ok(true)
    }
}

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain(self.0) {
            return f.write_str(self.0);
        }
        f.write_char('"')?;
        let mut writer = Writer::new(f, MAX_NAME);
        writer.is_quoted = true;
        let is_whole = writer.write(self.0)?;
        f.write_str(if is_whole { "\"" } else { "…\"" })
    }
}

fn is_plain(name: &str) -> bool {
    let is_plain = |c: char| {
        (c.is_alphanumeric() && !is_harmful(c))
            || matches!(c, '-' | '_' | '.' | '+' | '/' | '#' | ' ')
    };
    !name.is_empty()
        && name.chars().count() <= MAX_NAME
        && name.chars().all(is_plain)
        && name.trim() == name
        && !name.contains("  ")
}

/// A writer that discards its input.
struct Nowhere;

impl Write for Nowhere {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        Ok(())
    }
}

/// Writes a text character by character.
struct Writer<'w, W> {
    out: &'w mut W,
    /// Characters that may still be written.
    left: usize,
    /// Whether `"` and `\` are escaped as well.
    is_quoted: bool,
    /// The character before, and the last one that is no mark.
    last: Option<char>,
    base: Option<char>,
    /// Marks since then.
    marks: usize,
}

impl<'w, W: Write> Writer<'w, W> {
    fn new(out: &'w mut W, most: usize) -> Writer<'w, W> {
        Writer {
            out,
            left: most,
            is_quoted: false,
            last: None,
            base: None,
            marks: 0,
        }
    }

    /// Writes `text` up to the limit; whether that was all of it.
    fn write(&mut self, text: &str) -> Result<bool, fmt::Error> {
        let mut chars = text.chars().peekable();
        while let Some(character) = chars.next() {
            if self.left == 0 {
                return Ok(false);
            }
            self.write_one(character, &mut chars)?;
        }
        Ok(true)
    }

    fn write_one(&mut self, character: char, chars: &mut Peekable<Chars<'_>>) -> fmt::Result {
        match character {
            '"' | '\\' if self.is_quoted => self.put_text(&format!("\\{character}"))?,
            '!'..='~' => self.put(character)?,
            '\n' => return self.write_number("\\n"),
            blank if is_blank(blank) => return self.write_blanks(blank, chars),
            mark if is_mark(mark) && self.base.is_some() => return self.write_mark(mark, chars),
            ZWNJ | ZWJ if self.needs_joiner(character, chars.peek().copied()) => {
                self.put(character)?;
            }
            TEXT_STYLE | EMOJI_STYLE if self.last.is_some_and(has::<Emoji>) => {
                self.put(character)?;
                self.last = Some(character);
                return Ok(());
            }
            // Mongolian letters choose among their forms by a selector.
            '\u{180b}'..='\u{180d}' | '\u{180f}' if self.last.is_some_and(is_mongolian) => {
                self.put(character)?;
            }
            c if is_harmful(c) || is_mark(c) => {
                return self.write_number(&format!("\\u{{{:x}}}", u32::from(c)));
            }
            c => self.put(c)?,
        }
        self.last = Some(character);
        self.base = Some(character);
        self.marks = 0;
        Ok(())
    }

    /// Writes the number of a character; it joins nothing and carries no marks.
    fn write_number(&mut self, text: &str) -> fmt::Result {
        (self.last, self.base) = (None, None);
        self.put_text(text)
    }

    /// Writes a run of blanks, or how long it is.
    fn write_blanks(&mut self, first: char, chars: &mut Peekable<Chars<'_>>) -> fmt::Result {
        let blank = |c: char| if c == '\t' { ' ' } else { c };
        let mut run = String::from(blank(first));
        let mut count = 1;
        while let Some(next) = chars.next_if(|c| is_blank(*c)) {
            count += 1;
            if count <= MAX_BLANKS {
                run.push(blank(next));
            }
        }
        match count <= MAX_BLANKS {
            true => self.put_text(&run)?,
            false => self.put_text(&format!(" [{count} blanks] "))?,
        }
        (self.last, self.base) = (Some(' '), Some(' '));
        self.marks = 0;
        Ok(())
    }

    /// Writes a mark, or how many more there are than a letter has.
    fn write_mark(&mut self, mark: char, chars: &mut Peekable<Chars<'_>>) -> fmt::Result {
        if self.marks < MAX_MARKS {
            self.marks += 1;
            self.last = Some(mark);
            return self.put(mark);
        }
        let mut count = 1;
        while chars.next_if(|c| is_mark(*c)).is_some() {
            count += 1;
        }
        self.write_number(&format!("[{count} more marks]"))
    }

    /// Whether a joiner belongs here.
    fn needs_joiner(&self, joiner: char, next: Option<char>) -> bool {
        let (Some(last), Some(base)) = (self.last, self.base) else {
            return false;
        };
        // An emoji that consists of several.
        let is_emoji = |c| has::<ExtendedPictographic>(c) || has::<EmojiModifier>(c);
        if joiner == ZWJ && next.is_some_and(has::<ExtendedPictographic>) {
            return is_emoji(last) || last == EMOJI_STYLE && is_emoji(base);
        }
        // A letter that takes another form beside it, or the sign that kills a vowel.
        let joins = matches!(
            CodePointMapData::<JoiningType>::new().get(base),
            JoiningType::DualJoining | JoiningType::RightJoining | JoiningType::LeftJoining
        );
        joins || is_virama(last) || next.is_some_and(is_virama)
    }

    fn put(&mut self, character: char) -> fmt::Result {
        self.left = self.left.saturating_sub(1);
        self.out.write_char(character)
    }

    fn put_text(&mut self, text: &str) -> fmt::Result {
        self.left = self.left.saturating_sub(text.chars().count());
        self.out.write_str(text)
    }
}

fn category(character: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(character)
}

fn has<P: icu_properties::props::BinaryProperty>(character: char) -> bool {
    CodePointSetData::new::<P>().contains(character)
}

fn is_virama(character: char) -> bool {
    let class = CodePointMapData::<CanonicalCombiningClass>::new().get(character);
    class == CanonicalCombiningClass::Virama
}

fn is_mongolian(character: char) -> bool {
    ('\u{1820}'..='\u{18aa}').contains(&character)
}

/// Spaces of any width, also those of Braille.
fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\u{2800}')
        || category(character) == GeneralCategory::SpaceSeparator
}

/// Returns whether the character is a mark above, below or around the one before it.
fn is_mark(character: char) -> bool {
    matches!(
        category(character),
        GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark
    ) && !has::<DefaultIgnorableCodePoint>(character)
}

/// Characters that move the cursor, turn text round or have no shape of their own.
fn is_harmful(character: char) -> bool {
    match category(character) {
        GeneralCategory::Control
        | GeneralCategory::LineSeparator
        | GeneralCategory::ParagraphSeparator
        | GeneralCategory::Surrogate
        | GeneralCategory::PrivateUse
        | GeneralCategory::Unassigned => true,
        GeneralCategory::Format => !has::<PrependedConcatenationMark>(character),
        _ => has::<DefaultIgnorableCodePoint>(character),
    }
}

#[cfg(test)]
mod tests;
