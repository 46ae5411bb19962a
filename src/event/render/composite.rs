//! Rows as values (<https://www.postgresql.org/docs/current/rowtypes.html#ROWTYPES-IO-SYNTAX>).

use std::borrow::Cow;

use super::{RenderOptions, string};
use crate::postgres::relation::{Attribute, Composite};

/// Appends a composite's text as a JSON object. `None`, with something half written, where the text
/// is not what `record_out` writes for any of the shapes.
pub(super) fn write(
    out: &mut Vec<u8>,
    text: &[u8],
    shapes: &Composite,
    options: RenderOptions,
) -> Option<()> {
    let start = out.len();
    let written = write_as(out, text, &shapes.attributes, shapes.firm, options);
    if written.is_some() || shapes.others.is_empty() {
        return written;
    }
    shapes.others.iter().find_map(|attributes| {
        out.truncate(start);
        write_as(out, text, attributes, 0, options)
    })
}

/// With all of `attributes` or, where the text has at most `firm` fields, the first ones.
fn write_as(
    out: &mut Vec<u8>,
    text: &[u8],
    attributes: &[Attribute],
    firm: usize,
    options: RenderOptions,
) -> Option<()> {
    let mut rest = text.strip_prefix(b"(")?;
    out.push(b'{');
    for (place, (name, kind)) in attributes.iter().enumerate() {
        if place > 0 {
            if place <= firm && rest == b")" {
                break;
            }
            rest = rest.strip_prefix(b",")?;
            out.push(b',');
        }
        string::quoted(out, name.as_bytes()).ok()?;
        out.push(b':');
        let (value, length) = field(rest)?;
        match value {
            Some(value) => super::value(out, kind, &value, options).ok()?,
            None => out.extend_from_slice(b"null"),
        }
        rest = &rest[length..];
    }
    out.push(b'}');
    (rest == b")").then_some(())
}

/// The next field, nothing for null, and how long it was.
fn field(text: &[u8]) -> Option<(Option<Cow<'_, [u8]>>, usize)> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|byte| matches!(byte, b',' | b')' | b'"' | b'\\'))?;
        let value = (end > 0).then(|| Cow::Borrowed(&text[..end]));
        return Some((value, end));
    };
    let mut value = Cow::Borrowed(&b""[..]);
    let mut start = 0;
    loop {
        let rest = quoted.get(start..)?;
        let length = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        // Both are escaped by writing them twice; the first of the two is part of the value.
        let doubled = rest.get(length + 1) == Some(&rest[length]);
        if !doubled {
            let end = start + length + 2;
            return (rest[length] == b'"').then(|| (Some(joined(value, &rest[..length])), end));
        }
        value = joined(value, &rest[..=length]);
        start += length + 2;
    }
}

/// Stays borrowed while there is but one piece.
fn joined<'a>(value: Cow<'a, [u8]>, piece: &'a [u8]) -> Cow<'a, [u8]> {
    if value.is_empty() {
        return Cow::Borrowed(piece);
    }
    let mut value = value.into_owned();
    value.extend_from_slice(piece);
    Cow::Owned(value)
}
