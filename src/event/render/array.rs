//! Arrays (<https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO>).

use std::borrow::Cow;

use super::RenderOptions;
use crate::postgres::relation::TypeKind;

/// What Postgres calls MAXDIM.
const MAX_DIMENSIONS: usize = 6;

/// Appends an array's text as nested JSON arrays, without its bounds. `None`, with something half
/// written, where the text is not what `array_out` writes.
pub(super) fn write(
    out: &mut Vec<u8>,
    text: &str,
    element: &TypeKind,
    delimiter: u8,
    options: RenderOptions,
) -> Option<()> {
    let text = without_bounds(text)?;
    let mut parser = Parser { text, at: 0, element, delimiter, options };
    parser.level(out, 1)?;
    (parser.at == text.len()).then_some(())
}

/// Takes off a prefix like `[2:3][0:1]=`, written where an index doesn't start at 1.
fn without_bounds(text: &str) -> Option<&str> {
    if !text.starts_with('[') {
        return Some(text);
    }
    let (bounds, rest) = text.split_once('=')?;
    let expected = |byte: u8| byte.is_ascii_digit() || b"[]:-+".contains(&byte);
    bounds.bytes().all(expected).then_some(rest)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    element: &'a TypeKind,
    delimiter: u8,
    options: RenderOptions,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// One pair of braces and what is in it.
    fn level(&mut self, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        if self.peek()? != b'{' || depth > MAX_DIMENSIONS {
            return None;
        }
        self.at += 1;
        out.push(b'[');
        if self.peek()? == b'}' {
            self.at += 1;
            out.push(b']');
            return Some(());
        }
        loop {
            match self.peek()? {
                b'{' => self.level(out, depth + 1)?,
                b'"' => self.quoted(out)?,
                _ => self.bare(out)?,
            }
            let next = self.peek()?;
            self.at += 1;
            if next == b'}' {
                out.push(b']');
                return Some(());
            }
            if next != self.delimiter {
                return None;
            }
            out.push(b',');
        }
    }

    fn quoted(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let rest = &self.text[self.at + 1..];
        let (value, length) = unquote(rest)?;
        self.at += 1 + length;
        self.value(out, &value)
    }

    fn bare(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let rest = &self.text[self.at..];
        let delimiter = self.delimiter;
        let end = |byte| byte == delimiter || matches!(byte, b'{' | b'}' | b'"' | b'\\');
        let value = &rest[..rest.bytes().position(end)?];
        self.at += value.len();
        match value {
            "" => None,
            "NULL" => {
                out.extend_from_slice(b"null");
                Some(())
            }
            value => self.value(out, value),
        }
    }

    fn value(&self, out: &mut Vec<u8>, value: &str) -> Option<()> {
        super::value(out, self.element, value.as_bytes(), self.options).ok()
    }
}

/// The text up to the closing quote, without its escapes, and how long it was with them and the
/// quote.
fn unquote(text: &str) -> Option<(Cow<'_, str>, usize)> {
    let end = text.bytes().position(|byte| byte == b'"' || byte == b'\\')?;
    if text.as_bytes()[end] == b'"' {
        return Some((Cow::Borrowed(&text[..end]), end + 1));
    }
    let mut value = String::from(&text[..end]);
    let mut characters = text[end..].char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return Some((Cow::Owned(value), end + place + 1)),
            '\\' => value.push(characters.next()?.1),
            character => value.push(character),
        }
    }
    None
}
