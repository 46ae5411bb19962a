//! The shape of Twenty's webhooks: what its server's `CallWebhookJob` posts.
//!
//! Receivers written for Twenty read `eventName`, `objectMetadata.nameSingular`, `record` and
//! `updatedFields`, which walhook knows. Twenty's ids of workspace, object and webhook are UUIDs
//! that no table tells; in their place stand UUIDs of version 5 in the namespace of URLs, the same
//! for the same database, table and endpoint. `userId`, `workspaceMemberId`, `apiKeyId` and
//! `applicationId` are optional in Twenty, and a log of changes knows no users: they are left out.

use std::fmt;

use super::envelope::{Envelope, record};
use super::{Subject, quoted, raw_member, text_member};

/// What of an endpoint stands in its requests.
pub struct Twenty {
    target_url: String,
    webhook_id: String,
}

/// The URL stays out of it: its path and query are often secret.
impl fmt::Debug for Twenty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Twenty").field("webhook_id", &self.webhook_id).finish_non_exhaustive()
    }
}

impl Twenty {
    pub(super) fn new(endpoint: &str, url: &str) -> Twenty {
        let webhook_id = uuid(&format!("walhook:endpoint/{endpoint}"));
        Twenty { target_url: url.to_owned(), webhook_id }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, event: &Subject<'_>, envelope: &Envelope<'_>) {
        let source = &envelope.source;
        let name = record(event.name);
        let database = format!("walhook:/{}", source.database.as_deref().unwrap_or_default());
        let object = match &source.table {
            Some(_) => format!("walhook:{}", source.path()),
            None => format!("walhook:{}/event/{name}", source.path()),
        };
        out.extend_from_slice(b"{\"targetUrl\":");
        quoted(out, &self.target_url);
        text_member(out, "eventName", event.name);
        out.extend_from_slice(b",\"objectMetadata\":{\"id\":");
        quoted(out, &uuid(&object));
        text_member(out, "nameSingular", name);
        out.push(b'}');
        text_member(out, "workspaceId", &uuid(&database));
        text_member(out, "webhookId", &self.webhook_id);
        raw_member(out, "eventDate", &milliseconds(envelope.timestamp));
        raw_member(out, "record", envelope.data);
        if let Some(fields) = envelope.updated_fields {
            raw_member(out, "updatedFields", fields);
        }
        out.push(b'}');
    }
}

/// `"2025-02-10T15:30:50.123456Z"` as JavaScript writes it, `"2025-02-10T15:30:50.123Z"`.
fn milliseconds(timestamp: &str) -> String {
    let start = timestamp.strip_suffix("Z\"").and_then(|text| {
        let (_, fraction) = text.rsplit_once('.')?;
        let is_micros = fraction.len() == 6 && fraction.bytes().all(|b| b.is_ascii_digit());
        is_micros.then(|| &text[..text.len() - 3])
    });
    start.map_or_else(|| timestamp.to_owned(), |start| format!("{start}Z\""))
}

/// A UUID of version 5 (RFC 9562, section 5.5) of a name in the namespace of URLs.
fn uuid(name: &str) -> String {
    const URLS: [u8; 16] = 0x6ba7_b811_9dad_11d1_80b4_00c0_4fd4_30c8_u128.to_be_bytes();
    let mut hash = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(&URLS);
    hash.update(name.as_bytes());
    let mut bytes = [0; 16];
    for (byte, hashed) in bytes.iter_mut().zip(hash.finish().as_ref()) {
        *byte = *hashed;
    }
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value that Python's `uuid.uuid5(uuid.NAMESPACE_URL, …)` yields.
    #[test]
    fn ids_are_version_5() {
        assert_eq!(uuid("http://www.python.org/"), "c2a8cbf8-d0f1-5ef4-9740-c3faec8ab1a0");
    }

    #[test]
    fn dates_have_milliseconds() {
        assert_eq!(milliseconds("\"2025-02-10T15:30:50.123456Z\""), "\"2025-02-10T15:30:50.123Z\"");
        for other in ["\"\"", "\"now\"", "\"1.12345\u{e9}Z\"", "\"Z\""] {
            assert_eq!(milliseconds(other), other);
        }
    }
}
