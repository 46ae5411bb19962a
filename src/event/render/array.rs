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
    text: &[u8],
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
fn without_bounds(text: &[u8]) -> Option<&[u8]> {
    if !text.starts_with(b"[") {
        return Some(text);
    }
    let end = text.iter().position(|&byte| byte == b'=')?;
    let (bounds, rest) = (&text[..end], &text[end + 1..]);
    let expected = |&byte: &u8| byte.is_ascii_digit() || b"[]:-+".contains(&byte);
    bounds.iter().all(expected).then_some(rest)
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    element: &'a TypeKind,
    delimiter: u8,
    options: RenderOptions,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
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
        let end = |&byte: &u8| byte == delimiter || matches!(byte, b'{' | b'}' | b'"' | b'\\');
        let value = &rest[..rest.iter().position(end)?];
        self.at += value.len();
        match value {
            b"" => None,
            b"NULL" => {
                out.extend_from_slice(b"null");
                Some(())
            }
            value => self.value(out, value),
        }
    }

    fn value(&self, out: &mut Vec<u8>, value: &[u8]) -> Option<()> {
        super::value(out, self.element, value, self.options).ok()
    }
}

/// The text up to the closing quote, without its escapes, and how long it was with them and the
/// quote.
fn unquote(text: &[u8]) -> Option<(Cow<'_, [u8]>, usize)> {
    let special = |text: &[u8]| text.iter().position(|&byte| byte == b'"' || byte == b'\\');
    let mut end = special(text)?;
    if text[end] == b'"' {
        return Some((Cow::Borrowed(&text[..end]), end + 1));
    }
    let mut value = text[..end].to_vec();
    while text[end] == b'\\' {
        // What follows is taken as it is, were it a backslash or a quote.
        let start = end + 1;
        end = start + 1 + special(text.get(start + 1..)?)?;
        value.extend_from_slice(&text[start..end]);
    }
    Some((Cow::Owned(value), end + 1))
}

/// Appends the text of an int2vector or oidvector as a JSON array.
pub(super) fn vector(
    out: &mut Vec<u8>,
    text: &[u8],
    element: &TypeKind,
    options: RenderOptions,
) -> Option<()> {
    out.push(b'[');
    if !text.is_empty() {
        for (place, value) in text.split(|&byte| byte == b' ').enumerate() {
            if place > 0 {
                out.push(b',');
            }
            if value.is_empty() {
                return None;
            }
            super::value(out, element, value, options).ok()?;
        }
    }
    out.push(b']');
    Some(())
}
