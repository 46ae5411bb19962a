//! Rows as values (<https://www.postgresql.org/docs/current/rowtypes.html#ROWTYPES-IO-SYNTAX>).

use std::borrow::Cow;

use super::{RenderOptions, string};
use crate::postgres::relation::TypeKind;

/// Appends a composite's text as a JSON object. `None`, with something half written, where the text
/// is not what `record_out` writes for these attributes.
pub(super) fn write(
    out: &mut Vec<u8>,
    text: &str,
    attributes: &[(String, TypeKind)],
    options: RenderOptions,
) -> Option<()> {
    let mut rest = text.strip_prefix('(')?;
    out.push(b'{');
    for (place, (name, kind)) in attributes.iter().enumerate() {
        if place > 0 {
            rest = rest.strip_prefix(',')?;
            out.push(b',');
        }
        string::quoted(out, name.as_bytes()).ok()?;
        out.push(b':');
        let (value, length) = field(rest)?;
        match value {
            Some(value) => super::value(out, kind, value.as_bytes(), options).ok()?,
            None => out.extend_from_slice(b"null"),
        }
        rest = &rest[length..];
    }
    out.push(b'}');
    (rest == ")").then_some(())
}

/// The next field, nothing for null, and how long it was.
fn field(text: &str) -> Option<(Option<Cow<'_, str>>, usize)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.bytes().position(|byte| matches!(byte, b',' | b')' | b'"' | b'\\'))?;
        let value = (end > 0).then(|| Cow::Borrowed(&text[..end]));
        return Some((value, end));
    };
    let mut value = Cow::Borrowed("");
    let mut start = 0;
    loop {
        let end = start + quoted[start..].bytes().position(|byte| matches!(byte, b'"' | b'\\'))?;
        value = joined(value, &quoted[start..end]);
        let after = quoted.as_bytes().get(end + 1).copied();
        match quoted.as_bytes()[end] {
            // Both are escaped by writing them twice.
            b'"' if after == Some(b'"') => value = joined(value, "\""),
            b'"' => return Some((Some(value), end + 2)),
            _ if after == Some(b'\\') => value = joined(value, "\\"),
            _ => return None,
        }
        start = end + 2;
    }
}

/// Stays borrowed while there is but one piece.
fn joined<'a>(value: Cow<'a, str>, piece: &'a str) -> Cow<'a, str> {
    if value.is_empty() { Cow::Borrowed(piece) } else { value + piece }
}
