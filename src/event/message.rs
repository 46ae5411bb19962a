//! Events an application names itself, by
//! `pg_logical_emit_message(true, 'walhook', '{"event":"invoice.paid","key":"42","data":{…}}')`.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

/// A name longer than this is a mistake.
const MAX_NAME_BYTES: usize = 255;

/// What a message says.
#[derive(Debug)]
pub(super) struct CustomEvent<'a> {
    /// The event's name.
    pub(super) name: Cow<'a, str>,
    /// What it is ordered by.
    pub(super) key: Option<Cow<'a, str>>,
    /// Its data as written; nothing for none.
    pub(super) data: Option<&'a str>,
}

/// Why a message is no event.
#[derive(Debug)]
pub(super) enum Malformed {
    NotUtf8,
    Json(serde_json::Error),
    Name,
    Key,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::NotUtf8 => f.write_str("its content is not UTF-8"),
            Malformed::Json(error) => write!(f, "its content is not the expected JSON: {error}"),
            Malformed::Name => write!(
                f,
                "its `event` must be 1 to {MAX_NAME_BYTES} bytes without spaces and control \
                 characters"
            ),
            Malformed::Key => f.write_str("its `key` must be a string, a number or null"),
        }
    }
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

impl<'a> CustomEvent<'a> {
    pub(super) fn parse(content: &'a [u8]) -> Result<CustomEvent<'a>, Malformed> {
        let content = std::str::from_utf8(content).map_err(|_| Malformed::NotUtf8)?;
        let Content { event: name, key, data } =
            serde_json::from_str(content).map_err(Malformed::Json)?;
        let blank = |character: char| character.is_whitespace() || character.is_control();
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(blank) {
            return Err(Malformed::Name);
        }
        let key = key.map(|key| key_text(key.get())).transpose()?;
        Ok(CustomEvent { name, key, data: data.map(RawValue::get) })
    }
}

/// `"42"` and `42` are the same key.
fn key_text(json: &str) -> Result<Cow<'_, str>, Malformed> {
    match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<String>(json).map(Cow::Owned).map_err(Malformed::Json),
        Some(b'-' | b'0'..=b'9') => Ok(Cow::Borrowed(json)),
        _ => Err(Malformed::Key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_key_and_data_are_read() {
        let content = br#" {"key": 42, "event": "invoice.p\u0061id", "data": { "a": [1.50] }} "#;
        let event = CustomEvent::parse(content).unwrap();
        assert_eq!(event.name, "invoice.paid");
        assert_eq!(event.key.as_deref(), Some("42"));
        assert_eq!(event.data, Some(r#"{ "a": [1.50] }"#));
        let event = CustomEvent::parse(br#"{"event":"x","key":"4\u0032","other":1}"#).unwrap();
        assert_eq!(event.key.as_deref(), Some("42"));
        assert_eq!(event.data, None);
        let event = CustomEvent::parse(br#"{"event":"x","key":null}"#).unwrap();
        assert_eq!(event.key, None);
    }

    #[test]
    fn anything_else_is_refused() {
        let long = format!(r#"{{"event":"{}"}}"#, "x".repeat(256));
        let deep = format!(r#"{{"event":"x","data":{}"#, "[".repeat(100_000));
        for content in [
            &b""[..],
            b"{}",
            b"[]",
            b"null",
            b"not json",
            b"\xFF",
            br#"{"event":""}"#,
            br#"{"event":"a b"}"#,
            br#"{"event":"a\n"}"#,
            br#"{"event":1}"#,
            br#"{"event":"x","key":{}}"#,
            br#"{"event":"x","key":true}"#,
            br#"{"event":"x"} {}"#,
            br#"{"event":"x","event":"y"}"#,
            br#"{"event":"x","data":}"#,
            long.as_bytes(),
            deep.as_bytes(),
        ] {
            let error = CustomEvent::parse(content).unwrap_err().to_string();
            assert!(error.starts_with("its "), "{error}");
        }
    }
}
