//! A value's JSON as `row_to_json` wrote it, to what [`value`](super::value) makes of the value's
//! text, and back to that text.
//!
//! `row_to_json` writes nearly all values as events tell them. Only floats have exponents there, and
//! a bigint may be wanted as a string.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{RenderOptions, number};
use crate::event::object::Object;
use crate::postgres::relation::{Composite, TypeKind};

/// No type's values are nested deeper than this many arrays and composites; what is goes out as it
/// is.
const MAX_DEPTH: usize = 64;

/// Appends a value, null or not, as events tell it. What is not as its type's JSON should be goes out
/// as it is.
pub(in crate::event) fn json(
    out: &mut Vec<u8>,
    kind: &TypeKind,
    json: &str,
    options: RenderOptions,
) {
    write(out, kind, json, options, 0);
}

fn write(out: &mut Vec<u8>, kind: &TypeKind, json: &str, options: RenderOptions, depth: usize) {
    let start = out.len();
    let written = match kind {
        TypeKind::Int8 if options.int8_as_string => integer(out, json),
        TypeKind::Number => float(out, json),
        // Recorded as text, since row_to_json makes something of its own of what is inside.
        TypeKind::Array { .. } | TypeKind::Vector(_) | TypeKind::Composite(_)
            if json.starts_with('"') =>
        {
            super::value(out, kind, unquoted(json).as_bytes(), options).ok()
        }
        TypeKind::Array { .. } | TypeKind::Vector(_) | TypeKind::Composite(_)
            if depth < MAX_DEPTH && has_numbers(kind, options) =>
        {
            match kind {
                TypeKind::Composite(shapes) => composite(out, shapes, json, options, depth),
                _ => array(out, element(kind), json, options, depth),
            }
        }
        _ => None,
    };
    if written.is_none() {
        out.truncate(start);
        out.extend_from_slice(json.as_bytes());
    }
}

/// Whether values of the type may have to be written otherwise.
fn has_numbers(kind: &TypeKind, options: RenderOptions) -> bool {
    match kind {
        TypeKind::Number => true,
        TypeKind::Int8 => options.int8_as_string,
        TypeKind::Array { .. } | TypeKind::Vector(_) => has_numbers(element(kind), options),
        TypeKind::Composite(shapes) => {
            let mut attributes = shapes.attributes.iter().chain(shapes.others.iter().flatten());
            attributes.any(|(_, kind)| has_numbers(kind, options))
        }
        _ => false,
    }
}

/// What is in the innermost brackets of an array.
fn element(mut kind: &TypeKind) -> &TypeKind {
    while let TypeKind::Array { element, .. } | TypeKind::Vector(element) = kind {
        kind = element;
    }
    kind
}

/// As a string.
fn integer(out: &mut Vec<u8>, json: &str) -> Option<()> {
    json.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then(|| {
        out.push(b'"');
        out.extend_from_slice(json.as_bytes());
        out.push(b'"');
    })
}

/// Without an exponent. Nothing where it has none, or is not finite.
fn float(out: &mut Vec<u8>, json: &str) -> Option<()> {
    if !json.bytes().any(|byte| byte == b'e') && json != "-0" {
        return None;
    }
    number::write(out, json.as_bytes())
}

fn array(
    out: &mut Vec<u8>,
    element: &TypeKind,
    json: &str,
    options: RenderOptions,
    depth: usize,
) -> Option<()> {
    if !json.starts_with('[') || depth >= MAX_DEPTH {
        return None;
    }
    let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
    out.push(b'[');
    for (place, item) in items.into_iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        let start = out.len();
        let nested = item.get().starts_with('[');
        if !nested || array(out, element, item.get(), options, depth + 1).is_none() {
            out.truncate(start);
            write(out, element, item.get(), options, depth + 1);
        }
    }
    out.push(b']');
    Some(())
}

fn composite(
    out: &mut Vec<u8>,
    shapes: &Composite,
    json: &str,
    options: RenderOptions,
    depth: usize,
) -> Option<()> {
    if !json.starts_with('{') {
        return None;
    }
    let members = Object::parse(json).ok()?.0;
    out.push(b'{');
    for (place, (key, value)) in members.into_iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key.as_bytes());
        out.push(b':');
        let name = unquoted(key);
        let mut attributes = shapes.attributes.iter().chain(shapes.others.iter().flatten());
        match attributes.find(|(attribute, _)| *attribute == *name) {
            Some((_, kind)) => write(out, kind, value, options, depth + 1),
            None => out.extend_from_slice(value.as_bytes()),
        }
    }
    out.push(b'}');
    Some(())
}

/// The text that the type's output function writes of a value; nothing for null.
///
/// Not of all values: of an array, a composite or a vector it is the JSON, whose text has other
/// quotes and bounds, unless it was recorded as text; a `null` of jsonb is taken for no value; and the spaces around a value of json
/// are gone. Of a type that the catalog does not know any more, a timestamp keeps its `T`.
pub(in crate::event) fn text<'a>(kind: &TypeKind, json: &'a str) -> Option<Cow<'a, str>> {
    let text = match (kind, json) {
        (_, "null") => return None,
        (TypeKind::Json, _) => Cow::Borrowed(json),
        (_, "true") => Cow::Borrowed("t"),
        (_, "false") => Cow::Borrowed("f"),
        (TypeKind::Timestamp | TypeKind::TimestampTz, _) => {
            let text = unquoted(json);
            match moment(kind, &text) {
                Some(moment) => Cow::Owned(moment),
                None => text,
            }
        }
        _ => unquoted(json),
    };
    Some(text)
}

/// `2024-02-10T15:30:50.5+00:00` as `2024-02-10 15:30:50.5+00`. Nothing for the infinities.
fn moment(kind: &TypeKind, text: &str) -> Option<String> {
    let (date, time) = text.split_once('T')?;
    let (time, era) = match time.strip_suffix(" BC") {
        Some(time) => (time, " BC"),
        None => (time, ""),
    };
    let time = match time.strip_suffix(":00") {
        // Whole hours of an offset are written short, and minutes of the day are not.
        Some(short) if *kind == TypeKind::TimestampTz && is_offset(short) => short,
        _ => time,
    };
    Some([date, " ", time, era].concat())
}

/// Whether it ends like `+05`.
fn is_offset(time: &str) -> bool {
    matches!(time.as_bytes(), [.., b'+' | b'-', tens, ones]
        if tens.is_ascii_digit() && ones.is_ascii_digit())
}

/// What a JSON string says; all else as it is.
pub(in crate::event) fn unquoted(json: &str) -> Cow<'_, str> {
    let inside = json.strip_prefix('"').and_then(|json| json.strip_suffix('"'));
    match inside {
        None => Cow::Borrowed(json),
        Some(inside) if !inside.contains('\\') => Cow::Borrowed(inside),
        // Half of a pair of surrogates is no text: no type but json and jsonb holds one.
        Some(inside) => serde_json::from_str(json).map_or(Cow::Borrowed(inside), Cow::Owned),
    }
}
