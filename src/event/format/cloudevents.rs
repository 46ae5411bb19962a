//! CloudEvents 1.0 (<https://cloudevents.io>): the JSON format and the HTTP binding.
//!
//! `type` is the event's name, `source` is `/database/schema/table`, `subject` the row's `id` where
//! it has one, `data` the row. Of what else an envelope tells, `lsn`, `commitlsn`, `xid`, `ordinal`,
//! `updatedfields` and `unchanged` are extension attributes, all strings, the last two JSON arrays
//! in one; `previous` has no place in the format.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::envelope::Envelope;
use super::{FormatError, Rendered, Subject, json, raw_member, text_member};
use bytes::Bytes;

/// Longer attributes, which receivers may refuse, are left out: as headers they would count
/// towards limits that are often 8 KiB for all.
const MOST_ATTRIBUTE_BYTES: usize = 2_048;

/// Appends an event in structured mode.
pub(super) fn structured(out: &mut Vec<u8>, event: &Subject<'_>, envelope: &Envelope<'_>) {
    out.extend_from_slice(b"{\"specversion\":\"1.0\"");
    for (name, value) in attributes(event, envelope) {
        text_member(out, name, &value);
    }
    raw_member(out, "time", envelope.timestamp);
    text_member(out, "datacontenttype", "application/json");
    raw_member(out, "data", envelope.data);
    out.push(b'}');
}

/// An event in binary mode.
pub(super) fn binary(
    event: &Subject<'_>,
    envelope: &Envelope<'_>,
) -> Result<Rendered, FormatError> {
    let mut headers = vec![("ce-specversion".to_owned(), "1.0".to_owned())];
    for (name, value) in attributes(event, envelope) {
        headers.push((format!("ce-{name}"), header_value(&value)));
    }
    let time: String = serde_json::from_str(envelope.timestamp).unwrap_or_default();
    headers.push(("ce-time".to_owned(), header_value(&time)));
    Ok(Rendered { headers, ..json(Bytes::copy_from_slice(envelope.data.as_bytes())) })
}

/// All attributes that are strings but the time, in order.
fn attributes(event: &Subject<'_>, envelope: &Envelope<'_>) -> Vec<(&'static str, String)> {
    let source = &envelope.source;
    let mut attributes = vec![
        ("id", event.id.to_string()),
        ("source", source.path()),
        ("type", event.name.to_owned()),
    ];
    let number = |number: u64| itoa::Buffer::new().format(number).to_owned();
    for (name, value) in [
        ("subject", subject(envelope.data)),
        ("lsn", source.lsn.clone()),
        ("commitlsn", source.commit_lsn.clone()),
        ("xid", source.xid.map(number)),
        ("ordinal", source.ordinal.map(number)),
        ("updatedfields", envelope.updated_fields.map(str::to_owned)),
        ("unchanged", envelope.unchanged.map(str::to_owned)),
    ] {
        // The specification forbids control characters in strings, and empty subjects.
        let fits = |value: &String| {
            !value.is_empty()
                && value.len() <= MOST_ATTRIBUTE_BYTES
                && !value.contains(char::is_control)
        };
        if let Some(value) = value.filter(fits) {
            attributes.push((name, value));
        }
    }
    attributes
}

/// The row's `id`, if it is a string or a number.
fn subject(data: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Row<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    // An application's own data may be anything, and an array would do for a struct.
    if !data.starts_with('{') {
        return None;
    }
    let row: Row<'_> = serde_json::from_str(data).ok()?;
    match row.id.get().as_bytes().first()? {
        b'"' => serde_json::from_str(row.id.get()).ok(),
        b'-' | b'0'..=b'9' => Some(row.id.get().to_owned()),
        _ => None,
    }
}

/// Percent-encoded as the HTTP binding says in 3.1.3.2: space, double quote, percent, and all that
/// is not printable ASCII.
fn header_value(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        match byte {
            b' ' | b'"' | b'%' => value.push_str(&format!("%{byte:02X}")),
            0x21..=0x7e => value.push(char::from(byte)),
            _ => value.push_str(&format!("%{byte:02X}")),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's own example.
    #[test]
    fn header_values_are_percent_encoded() {
        assert_eq!(header_value("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(header_value("a\"b%\r\n\u{7f}~"), "a%22b%25%0D%0A%7F~");
    }

    #[test]
    fn subjects_are_ids() {
        for (data, id) in [
            (r#"{"a":{"id":1},"id":42}"#, Some("42")),
            (r#"{"id":12345678901234567890.5}"#, Some("12345678901234567890.5")),
            (r#"{"id":"a\u0020b"}"#, Some("a b")),
            (r#"{"id":null}"#, None),
            (r#"{"id":[1]}"#, None),
            (r#"{"ID":1}"#, None),
            ("[1]", None),
            ("7", None),
        ] {
            assert_eq!(subject(data).as_deref(), id, "{data}");
        }
    }
}
