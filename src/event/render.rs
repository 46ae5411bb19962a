//! A value's JSON, written straight from the text its type's output function made.
//!
//! The result equals what `to_jsonb` makes of the value. Text that doesn't look as its type's text
//! should is rendered as a JSON string, so that a surprise reaches the receiver instead of stopping
//! the stream.

mod array;
mod composite;
mod datetime;
mod number;
pub(super) mod recorded;
pub(super) mod string;

#[cfg(test)]
mod tests;

use crate::postgres::relation::TypeKind;
pub(super) use string::InvalidUtf8;

/// What the configuration says about rendering.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RenderOptions {
    /// bigint as a string, for receivers whose numbers are floats.
    pub(super) int8_as_string: bool,
    /// U+FFFD in the place of bytes that are not UTF-8, instead of an error.
    pub(super) replace_invalid_utf8: bool,
}

/// Appends the JSON of a value that is not null. On an error what was appended is incomplete.
pub(super) fn value(
    out: &mut Vec<u8>,
    kind: &TypeKind,
    text: &[u8],
    options: RenderOptions,
) -> Result<(), InvalidUtf8> {
    let start = out.len();
    let written = valid_value(out, kind, text, options);
    if written.is_err() && options.replace_invalid_utf8 {
        out.truncate(start);
        return valid_value(out, kind, String::from_utf8_lossy(text).as_bytes(), options);
    }
    written
}

fn valid_value(
    out: &mut Vec<u8>,
    kind: &TypeKind,
    text: &[u8],
    options: RenderOptions,
) -> Result<(), InvalidUtf8> {
    let start = out.len();
    let written = match kind {
        TypeKind::Text => return string::quoted(out, text),
        TypeKind::Number => number::write(out, text),
        TypeKind::Int8 if options.int8_as_string => None,
        TypeKind::Int8 => number::write(out, text),
        TypeKind::Bool => boolean(out, text),
        TypeKind::Timestamp => datetime::timestamp(out, text),
        TypeKind::TimestampTz => datetime::timestamp_tz(out, text),
        TypeKind::Json => return json(out, text),
        TypeKind::Array { element, delimiter } => {
            array::write(out, text, element, *delimiter, options)
        }
        TypeKind::Vector(element) => array::vector(out, text, element, options),
        TypeKind::Composite(shapes) => composite::write(out, text, shapes, options),
        TypeKind::Char => return char(out, text),
    };
    if written.is_none() {
        out.truncate(start);
        string::quoted(out, text)?;
    }
    Ok(())
}

/// A byte above 127 is no text in any encoding; older servers send it as it is.
fn char(out: &mut Vec<u8>, text: &[u8]) -> Result<(), InvalidUtf8> {
    let &[byte @ 0x80..=0xFF] = text else { return string::quoted(out, text) };
    let digit = |shift: u32| b'0' + (byte >> shift & 7);
    string::quoted(out, &[b'\\', digit(6), digit(3), digit(0)])
}

fn boolean(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    out.extend_from_slice(match text {
        b"t" => b"true",
        b"f" => b"false",
        _ => return None,
    });
    Some(())
}

/// The server has checked it, so it goes out as it is.
fn json(out: &mut Vec<u8>, text: &[u8]) -> Result<(), InvalidUtf8> {
    if text.trim_ascii().is_empty() {
        // No JSON at all would spoil the envelope around it.
        return string::quoted(out, text);
    }
    out.extend_from_slice(string::utf8(text)?.as_bytes());
    Ok(())
}
