//! Envelope formats: what is made of an event on its way to an endpoint.
//!
//! The envelope as journaled is the format `walhook`. All others are made from its bytes when a
//! request is: the members are taken as they stand, so that a number keeps its digits and a row
//! its order, whatever surrounds them.

mod cloudevents;
mod debezium;
mod envelope;
pub mod template;
#[cfg(test)]
mod tests;
mod twenty;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::id::EventId;
use envelope::Envelope;
use template::Template;
use twenty::Twenty;

/// What an endpoint gets.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Format {
    /// The envelope as journaled.
    #[default]
    Walhook,
    /// What Twenty's server sends: `eventName`, `objectMetadata`, `record` and so on.
    Twenty(Arc<Twenty>),
    /// CloudEvents 1.0 in structured mode: attributes and data in one JSON object.
    CloudEvents,
    /// CloudEvents 1.0 in binary mode: attributes as headers, the body is the row.
    CloudEventsBinary,
    /// Debezium's change events: `before`, `after`, `source`, `op`.
    Debezium,
    /// What the Standard Webhooks specification recommends: `type`, `timestamp`, `data`.
    Standard,
    /// Whatever a template makes.
    Template(Arc<Template>),
}

/// An event as formats see it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its stable identity.
    pub id: EventId,
    /// Its name.
    pub name: &'a str,
    /// Commit time, microseconds since the Unix epoch.
    pub committed_at_us: i64,
    /// The JSON envelope of the format `walhook`.
    pub envelope: &'a Bytes,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The request's body.
    pub body: Bytes,
    /// Its media type.
    pub content_type: String,
    /// Headers besides, names in lower case, values fit for a header.
    pub headers: Vec<(String, String)>,
    /// What stands for path and query of the endpoint's URL, from the first slash.
    pub path: Option<String>,
}

/// An event that a format can make nothing of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError(String);

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FormatError {}

impl Format {
    /// What a configuration may call a format; a template is no word of these.
    pub const NAMES: [&'static str; 6] =
        ["walhook", "twenty", "cloudevents", "cloudevents-binary", "debezium", "standard"];

    /// The format of this name for the endpoint of that name and URL, which the format `twenty`
    /// tells. Nothing for a word that is none of [`NAMES`](Format::NAMES).
    pub fn named(format: &str, endpoint: &str, url: &str) -> Option<Format> {
        Some(match format {
            "walhook" => Format::Walhook,
            "twenty" => Format::Twenty(Arc::new(Twenty::new(endpoint, url))),
            "cloudevents" => Format::CloudEvents,
            "cloudevents-binary" => Format::CloudEventsBinary,
            "debezium" => Format::Debezium,
            "standard" => Format::Standard,
            _ => return None,
        })
    }

    /// Its name in configurations.
    pub fn name(&self) -> &'static str {
        match self {
            Format::Walhook => "walhook",
            Format::Twenty(_) => "twenty",
            Format::CloudEvents => "cloudevents",
            Format::CloudEventsBinary => "cloudevents-binary",
            Format::Debezium => "debezium",
            Format::Standard => "standard",
            Format::Template(_) => "template",
        }
    }

    /// Whether several events may go into one request: not where each has headers or a path of
    /// its own.
    pub fn can_batch(&self) -> bool {
        !matches!(self, Format::CloudEventsBinary | Format::Template(_))
    }

    /// What is sent of a single event.
    ///
    /// # Errors
    /// A sentence for the log of attempts.
    pub fn render(&self, event: &Subject<'_>) -> Result<Rendered, FormatError> {
        match self {
            Format::Walhook => Ok(json(event.envelope.clone())),
            Format::CloudEventsBinary => cloudevents::binary(event, &self.parse(event)?),
            Format::Template(template) => template.render(event, &self.parse(event)?),
            _ => {
                let mut body = Vec::with_capacity(event.envelope.len() + 512);
                self.write(&mut body, event)?;
                Ok(Rendered { content_type: self.content_type(false), ..json(body.into()) })
            }
        }
    }

    /// What is sent of several: a JSON array, also of one.
    ///
    /// # Errors
    /// As for [`render`](Format::render), of the first event that has one; and if the format
    /// cannot tell several events in one request.
    pub fn render_batch(&self, events: &[Subject<'_>]) -> Result<Rendered, FormatError> {
        if !self.can_batch() {
            return match events {
                [event] => self.render(event),
                _ => Err(FormatError(format!(
                    "the format {} cannot tell {} events in one request: remove `batch`",
                    self.name(),
                    events.len()
                ))),
            };
        }
        let bytes: usize = events.iter().map(|event| event.envelope.len() + 512).sum();
        let mut body = Vec::with_capacity(bytes);
        body.push(b'[');
        for (at, event) in events.iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            self.write(&mut body, event)?;
        }
        body.push(b']');
        Ok(Rendered { content_type: self.content_type(true), ..json(body.into()) })
    }

    /// Appends one event's JSON.
    fn write(&self, out: &mut Vec<u8>, event: &Subject<'_>) -> Result<(), FormatError> {
        match self {
            Format::Walhook => out.extend_from_slice(event.envelope),
            Format::Twenty(twenty) => twenty.write(out, event, &self.parse(event)?),
            Format::CloudEvents => cloudevents::structured(out, event, &self.parse(event)?),
            Format::Debezium => {
                debezium::write(out, event, &self.parse(event)?)
                    .map_err(|error| self.unfit(event, &error))?;
            }
            Format::Standard => {
                let envelope = self.parse(event)?;
                out.extend_from_slice(b"{\"type\":");
                quoted(out, event.name);
                out.extend_from_slice(b",\"timestamp\":");
                out.extend_from_slice(envelope.timestamp.as_bytes());
                out.extend_from_slice(b",\"data\":");
                out.extend_from_slice(envelope.data.as_bytes());
                out.push(b'}');
            }
            Format::CloudEventsBinary | Format::Template(_) => {
                out.extend_from_slice(&self.render(event)?.body);
            }
        }
        Ok(())
    }

    fn content_type(&self, is_batch: bool) -> String {
        match (self, is_batch) {
            (Format::CloudEvents, false) => "application/cloudevents+json",
            (Format::CloudEvents, true) => "application/cloudevents-batch+json",
            _ => "application/json",
        }
        .to_owned()
    }

    fn parse<'a>(&self, event: &Subject<'a>) -> Result<Envelope<'a>, FormatError> {
        Envelope::parse(event.envelope).map_err(|error| self.unfit(event, &error))
    }

    /// The parser's own words may quote the row, so only the place is told.
    fn unfit(&self, event: &Subject<'_>, error: &serde_json::Error) -> FormatError {
        FormatError(format!(
            "the envelope of {} is not what the format {} is made from, at its byte {}",
            event.id,
            self.name(),
            error.column()
        ))
    }
}

fn json(body: Bytes) -> Rendered {
    let content_type = "application/json".to_owned();
    Rendered { body, content_type, headers: Vec::new(), path: None }
}

/// Appends a JSON string.
fn quoted(out: &mut Vec<u8>, text: &str) {
    super::envelope::quoted(out, text);
}

/// Appends `,"key":"text"`.
fn text_member(out: &mut Vec<u8>, key: &str, text: &str) {
    out.push(b',');
    quoted(out, key);
    out.push(b':');
    quoted(out, text);
}

/// Appends `,"key":` and JSON as it stands.
fn raw_member(out: &mut Vec<u8>, key: &str, json: &str) {
    out.push(b',');
    quoted(out, key);
    out.push(b':');
    out.extend_from_slice(json.as_bytes());
}
