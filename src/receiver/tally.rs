//! Counting what arrived.

use std::collections::{HashSet, VecDeque};
use std::fmt;

use super::{Received, Verdict};

/// How many ids are remembered to notice a repeated one.
const MAX_IDS: usize = 100_000;

/// What a receiver has seen so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// All requests.
    pub received: u64,
    /// Those whose signature is right.
    pub genuine: u64,
    /// Those that are unsigned or wrongly signed.
    pub wrong: u64,
    /// Those whose id came before.
    pub repeated: u64,
    /// Those answered with anything but success.
    pub refused: u64,
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Tally {
    /// Counts a request. `true` if its id was there before.
    pub fn add(&mut self, received: &Received) -> bool {
        self.received += 1;
        match received.verdict {
            Verdict::Genuine(_) => self.genuine += 1,
            Verdict::Wrong(_) => self.wrong += 1,
            Verdict::NotChecked => {}
        }
        if !received.status.is_success() {
            self.refused += 1;
        }
        let Some(id) = received.id().filter(|id| id.len() <= 256) else { return false };
        if !self.ids.insert(id.to_owned()) {
            self.repeated += 1;
            return true;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > MAX_IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        false
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.received == 1 { "request" } else { "requests" };
        write!(f, "received {} {noun}", self.received)?;
        for (count, what) in [
            (self.genuine, "with the right signature"),
            (self.wrong, "with a wrong or no signature"),
            (self.repeated, "repeated"),
            (self.refused, "not answered with success"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use bytes::Bytes;
    use hyper::header::HeaderMap;
    use hyper::{Method, StatusCode};

    use super::*;

    fn received(id: &str, status: u16, verdict: Verdict) -> Received {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        Received {
            at: UNIX_EPOCH,
            method: Method::POST,
            path: "/".into(),
            headers,
            body: Bytes::new(),
            verdict,
            status: StatusCode::from_u16(status).unwrap(),
            note: None,
        }
    }

    #[test]
    fn counts() {
        let mut tally = Tally::default();
        assert!(!tally.add(&received("a", 500, Verdict::Genuine(Vec::new()))));
        assert!(tally.add(&received("a", 200, Verdict::Genuine(Vec::new()))));
        assert!(!tally.add(&received("b", 401, Verdict::Wrong("no".into()))));
        assert_eq!(
            tally.to_string(),
            "received 3 requests, 2 with the right signature, 1 with a wrong or no signature, \
             1 repeated, 2 not answered with success"
        );
        assert_eq!(Tally::default().to_string(), "received 0 requests");
    }

    #[test]
    fn remembers_a_bounded_number_of_ids() {
        let mut tally = Tally::default();
        for i in 0..MAX_IDS + 5 {
            tally.add(&received(&i.to_string(), 200, Verdict::NotChecked));
        }
        assert_eq!(tally.ids.len(), MAX_IDS);
        assert!(!tally.add(&received("0", 200, Verdict::NotChecked)));
    }
}
