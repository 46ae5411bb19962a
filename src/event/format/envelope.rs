//! The envelope of the format `walhook`, its members as they stand.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Borrowed from the envelope's bytes. What is an object or an array stays text.
pub(super) struct Envelope<'a> {
    /// A JSON string.
    pub(super) timestamp: &'a str,
    /// The row, or whatever an application's own event holds.
    pub(super) data: &'a str,
    pub(super) previous: Option<&'a str>,
    pub(super) updated_fields: Option<&'a str>,
    pub(super) unchanged: Option<&'a str>,
    /// An object; nothing for events that come from no database.
    pub(super) source_text: Option<&'a str>,
    pub(super) source: Source,
}

/// Where an event comes from. Events of no table have neither schema nor table.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Source {
    pub(super) database: Option<String>,
    pub(super) schema: Option<String>,
    pub(super) table: Option<String>,
    pub(super) lsn: Option<String>,
    pub(super) commit_lsn: Option<String>,
    pub(super) xid: Option<u64>,
    pub(super) ordinal: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members<'a> {
    #[serde(borrow)]
    timestamp: &'a RawValue,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    previous: Option<&'a RawValue>,
    #[serde(borrow, default)]
    updated_fields: Option<&'a RawValue>,
    #[serde(borrow, default)]
    unchanged: Option<&'a RawValue>,
    #[serde(borrow, default)]
    source: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    pub(super) fn parse(envelope: &'a [u8]) -> serde_json::Result<Envelope<'a>> {
        let members: Members<'a> = serde_json::from_slice(envelope)?;
        let source = match members.source {
            Some(source) => serde_json::from_str(source.get())?,
            None => Source::default(),
        };
        // Formats that copy it must be able to rely on its being a string.
        serde_json::from_str::<String>(members.timestamp.get())?;
        Ok(Envelope {
            timestamp: members.timestamp.get(),
            data: members.data.map_or("{}", RawValue::get),
            previous: members.previous.map(RawValue::get),
            updated_fields: members.updated_fields.map(RawValue::get),
            unchanged: members.unchanged.map(RawValue::get),
            source_text: members.source.map(RawValue::get),
            source,
        })
    }
}

impl Source {
    /// `/database/schema/table`, as far as they are known, each fit for a URL's path.
    pub(super) fn path(&self) -> String {
        let mut path = String::new();
        for name in [&self.database, &self.schema, &self.table].into_iter().flatten() {
            path.push('/');
            for &byte in name.as_bytes() {
                match byte {
                    b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                        path.push(char::from(byte));
                    }
                    _ => path.push_str(&format!("%{byte:02X}")),
                }
            }
        }
        // Nothing names walhook's own events; and `//` would begin a host.
        if path.is_empty() || path.starts_with("//") { "/walhook".to_owned() } else { path }
    }
}

/// A log position such as `0/16B3748` as a number.
pub(super) fn lsn(text: &str) -> Option<u64> {
    text.parse::<crate::postgres::lsn::Lsn>().ok().map(|lsn| lsn.0)
}

/// The last part of an event's name: `created`.
pub(super) fn verb(event: &str) -> &str {
    event.rsplit_once('.').map_or("", |(_, verb)| verb)
}

/// The other parts of an event's name: `person`.
pub(super) fn record(event: &str) -> &str {
    event.rsplit_once('.').map_or(event, |(record, _)| record)
}

/// An array's items as they stand.
pub(super) fn items(json: &str) -> serde_json::Result<Vec<&str>> {
    let items: Vec<&RawValue> = serde_json::from_str(json)?;
    Ok(items.into_iter().map(RawValue::get).collect())
}
