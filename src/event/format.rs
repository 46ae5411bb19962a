//! Envelope formats: what is made of an event on its way to an endpoint.

use std::fmt;

use bytes::Bytes;

use super::id::EventId;

/// What an endpoint gets.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Format {
    /// The envelope as journaled.
    #[default]
    Walhook,
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
    /// Its name in configurations.
    pub fn name(&self) -> &'static str {
        match self {
            Format::Walhook => "walhook",
        }
    }

    /// Whether several events may go into one request.
    pub fn can_batch(&self) -> bool {
        match self {
            Format::Walhook => true,
        }
    }

    /// What is sent of a single event.
    ///
    /// # Errors
    /// A sentence for the log of attempts.
    pub fn render(&self, event: &Subject<'_>) -> Result<Rendered, FormatError> {
        match self {
            Format::Walhook => Ok(json(event.envelope.clone())),
        }
    }

    /// What is sent of several: a JSON array, also of one.
    ///
    /// # Errors
    /// As for [`render`](Format::render), of the first event that has one.
    pub fn render_batch(&self, events: &[Subject<'_>]) -> Result<Rendered, FormatError> {
        let mut body = Vec::new();
        for (at, event) in events.iter().enumerate() {
            body.push(if at == 0 { b'[' } else { b',' });
            body.extend_from_slice(&self.render(event)?.body);
        }
        body.push(b']');
        Ok(json(body.into()))
    }
}

fn json(body: Bytes) -> Rendered {
    let content_type = "application/json".to_owned();
    Rendered { body, content_type, headers: Vec::new(), path: None }
}
