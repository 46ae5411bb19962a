//! Endpoints, and what they share, as written.

use std::time::Duration;

use super::Result;
use crate::config::error::{Located, Place};
use crate::config::section::Section;

/// A list and its items, each with its place.
pub(crate) type List = Located<Vec<Located<String>>>;

pub(crate) struct RawEndpoint {
    pub(crate) place: Place,
    pub(crate) name: Option<Located<String>>,
    pub(crate) url: Option<Located<String>>,
    pub(crate) events: Option<List>,
    pub(crate) when: Option<Located<String>>,
    pub(crate) secret: Option<Located<String>>,
    pub(crate) secrets: Option<List>,
    pub(crate) secret_file: Option<Located<String>>,
    pub(crate) signature: Option<List>,
    pub(crate) signature_header: Option<Located<String>>,
    pub(crate) signature_header_prefix: Option<Located<String>>,
    pub(crate) format: Option<Located<String>>,
    pub(crate) template: Option<Located<String>>,
    pub(crate) content_type: Option<Located<String>>,
    pub(crate) method: Option<Located<String>>,
    pub(crate) headers: Vec<(String, Located<String>)>,
    pub(crate) ordering: Option<Located<String>>,
    pub(crate) concurrency: Option<Located<u32>>,
    pub(crate) batch: Option<RawBatch>,
    pub(crate) compress: Option<Located<bool>>,
    pub(crate) rate_limit: Option<Located<String>>,
    pub(crate) timeout: Option<Located<Duration>>,
    pub(crate) connect_timeout: Option<Located<Duration>>,
    pub(crate) retry: Option<RawRetry>,
    pub(crate) disable_after: Option<Located<String>>,
    pub(crate) start: Option<Located<String>>,
    pub(crate) allow_private_network: Option<Located<bool>>,
    pub(crate) allow_networks: Option<List>,
    pub(crate) deny_networks: Option<List>,
    pub(crate) proxy: Option<Located<String>>,
    pub(crate) tls: Option<RawTls>,
}

impl RawEndpoint {
    /// An endpoint of which nothing is said.
    pub(crate) fn empty(place: Place) -> RawEndpoint {
        RawEndpoint {
            place,
            name: None,
            url: None,
            events: None,
            when: None,
            secret: None,
            secrets: None,
            secret_file: None,
            signature: None,
            signature_header: None,
            signature_header_prefix: None,
            format: None,
            template: None,
            content_type: None,
            method: None,
            headers: Vec::new(),
            ordering: None,
            concurrency: None,
            batch: None,
            compress: None,
            rate_limit: None,
            timeout: None,
            connect_timeout: None,
            retry: None,
            disable_after: None,
            start: None,
            allow_private_network: None,
            allow_networks: None,
            deny_networks: None,
            proxy: None,
            tls: None,
        }
    }

    pub(super) fn read(mut section: Section<'_>) -> Result<RawEndpoint> {
        let endpoint = RawEndpoint {
            place: section.place().clone(),
            name: section.string("name")?,
            url: section.string("url")?,
            events: section.strings("events")?,
            when: section.string("when")?,
            secret: section.string("secret")?,
            secrets: section.strings("secrets")?,
            secret_file: section.string("secret_file")?,
            signature: section.strings("signature")?,
            signature_header: section.string("signature_header")?,
            signature_header_prefix: section.string("signature_header_prefix")?,
            format: section.string("format")?,
            template: section.string("template")?,
            content_type: section.string("content_type")?,
            method: section.string("method")?,
            headers: section.string_map("headers")?,
            ordering: section.string("ordering")?,
            concurrency: section.whole_number("concurrency")?,
            batch: section.section("batch")?.map(RawBatch::read).transpose()?,
            compress: section.boolean("compress")?,
            rate_limit: section.string("rate_limit")?,
            timeout: section.duration("timeout")?,
            connect_timeout: section.duration("connect_timeout")?,
            retry: section.section("retry")?.map(RawRetry::read).transpose()?,
            disable_after: section.string("disable_after")?,
            start: section.string("start")?,
            allow_private_network: section.boolean("allow_private_network")?,
            allow_networks: section.strings("allow_networks")?,
            deny_networks: section.strings("deny_networks")?,
            proxy: section.string("proxy")?,
            tls: section.section("tls")?.map(RawTls::read).transpose()?,
        };
        section.finish(&[])?;
        Ok(endpoint)
    }
}

pub(crate) struct RawRetry {
    pub(crate) place: Place,
    pub(crate) schedule: Option<List>,
    pub(crate) jitter: Option<Located<f64>>,
    pub(crate) initial: Option<Located<Duration>>,
    pub(crate) factor: Option<Located<f64>>,
    pub(crate) max: Option<Located<Duration>>,
    pub(crate) give_up_after: Option<Located<Duration>>,
}

impl RawRetry {
    fn read(mut section: Section<'_>) -> Result<RawRetry> {
        let retry = RawRetry {
            place: section.place().clone(),
            schedule: section.strings("schedule")?,
            jitter: section.number("jitter")?,
            initial: section.duration("initial")?,
            factor: section.number("factor")?,
            max: section.duration("max")?,
            give_up_after: section.duration("give_up_after")?,
        };
        section.finish(&[])?;
        Ok(retry)
    }
}

pub(crate) struct RawBatch {
    pub(crate) place: Place,
    pub(crate) max_events: Option<Located<u32>>,
    pub(crate) max_bytes: Option<Located<u64>>,
    pub(crate) max_wait: Option<Located<Duration>>,
}

impl RawBatch {
    fn read(mut section: Section<'_>) -> Result<RawBatch> {
        let batch = RawBatch {
            place: section.place().clone(),
            max_events: section.whole_number("max_events")?,
            max_bytes: section.size("max_bytes")?,
            max_wait: section.duration("max_wait")?,
        };
        section.finish(&[])?;
        Ok(batch)
    }
}

pub(crate) struct RawTls {
    pub(crate) place: Place,
    pub(crate) ca: Option<Located<String>>,
    pub(crate) client_cert: Option<Located<String>>,
    pub(crate) client_key: Option<Located<String>>,
}

impl RawTls {
    fn read(mut section: Section<'_>) -> Result<RawTls> {
        let tls = RawTls {
            place: section.place().clone(),
            ca: section.string("ca")?,
            client_cert: section.string("client_cert")?,
            client_key: section.string("client_key")?,
        };
        section.finish(&[])?;
        Ok(tls)
    }
}

/// What all endpoints share: the section `[delivery]`.
#[derive(Default)]
pub(crate) struct RawDelivery {
    pub(crate) breaker: Option<RawBreaker>,
}

impl RawDelivery {
    pub(super) fn read(mut section: Section<'_>) -> Result<RawDelivery> {
        let breaker = section.section("breaker")?.map(RawBreaker::read).transpose()?;
        section.finish(&[])?;
        Ok(RawDelivery { breaker })
    }
}

pub(crate) struct RawBreaker {
    pub(crate) failures: Option<Located<f64>>,
    pub(crate) min_requests: Option<Located<u32>>,
    pub(crate) window: Option<Located<Duration>>,
    pub(crate) cool_down: Option<Located<Duration>>,
    pub(crate) max_cool_down: Option<Located<Duration>>,
}

impl RawBreaker {
    fn read(mut section: Section<'_>) -> Result<RawBreaker> {
        let breaker = RawBreaker {
            failures: section.number("failures")?,
            min_requests: section.whole_number("min_requests")?,
            window: section.duration("window")?,
            cool_down: section.duration("cool_down")?,
            max_cool_down: section.duration("max_cool_down")?,
        };
        section.finish(&[])?;
        Ok(breaker)
    }
}
