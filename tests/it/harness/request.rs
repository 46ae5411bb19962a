//! One request as it reached a receiver.

use std::time::Instant;

use serde_json::Value;

/// A request the receiver read to its end, whatever it answered.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Its place among the receiver's requests, from 0.
    pub(crate) arrival: usize,
    pub(crate) at: Instant,
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn for_test(headers: &[(&str, &str)], body: &[u8]) -> Request {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Request {
            arrival: 0,
            at: Instant::now(),
            method: "POST".to_owned(),
            path: "/".to_owned(),
            headers: headers.iter().map(owned).collect(),
            body: body.to_vec(),
        }
    }

    /// `None` when what came is no request.
    pub(crate) fn parse_head(head: &str) -> Option<Request> {
        let mut lines = head.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let headers = lines.filter(|line| !line.is_empty()).map(header).collect::<Option<_>>()?;
        Some(Request { arrival: 0, at: Instant::now(), method, path, headers, body: Vec::new() })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(its, _)| its == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON, numbers with all their digits.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error} in the body {:?}", String::from_utf8_lossy(&self.body))
        })
    }

    /// The event's id, by the header.
    #[track_caller]
    pub(crate) fn id(&self) -> &str {
        self.header("webhook-id").expect("a request without webhook-id")
    }

    /// The attempt's number, from 1.
    #[track_caller]
    pub(crate) fn attempt(&self) -> u32 {
        self.header("webhook-attempt").expect("no webhook-attempt").parse().unwrap()
    }
}

/// (commit position, ordinal): the place of an event in the database's order.
#[track_caller]
pub(crate) fn position_of(event: &Value) -> (u64, u64) {
    let source = &event["source"];
    let (high, low) = source["commitLsn"].as_str().unwrap().split_once('/').unwrap();
    let part = |digits| u64::from_str_radix(digits, 16).unwrap();
    (part(high) << 32 | part(low), source["ordinal"].as_u64().unwrap())
}
