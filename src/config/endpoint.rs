//! Endpoints: from what is written to what the dispatcher takes.

mod batch;
mod condition;
mod format;
mod http;
mod network;
mod pace;
mod retry;
mod signing;

use std::path::Path;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use url::{Host, Url};

use super::error::{ConfigError, Located, Place};
use super::name::is_endpoint;
use super::raw::RawEndpoint;
use super::ready::{not_one_of, twice, within};
use crate::delivery::{EndpointOptions, EndpointTls, Ordering, Signer};
use crate::event::filter::EventFilter;
use crate::journal::Start;

pub(super) use pace::breaker;

type Result<T, E = ConfigError> = std::result::Result<T, E>;

/// The longest time one request may take.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);
/// Requests in flight to one endpoint.
const MAX_CONCURRENCY: u32 = 1_024;

/// Headers walhook writes by itself, or that belong to the connection. A value from the
/// configuration would break the request or its signature.
const OWN_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "webhook-attempt",
    "webhook-id",
    "webhook-sequence",
    "webhook-signature",
    "webhook-timestamp",
];

pub(super) fn build_all(raw: Vec<RawEndpoint>, directory: &Path) -> Result<Vec<EndpointOptions>> {
    let mut endpoints: Vec<EndpointOptions> = Vec::with_capacity(raw.len());
    let mut places: Vec<Place> = Vec::with_capacity(raw.len());
    for raw in raw {
        let place = raw.name.as_ref().map_or(&raw.place, |name| &name.place).clone();
        let named = raw.name.is_some();
        let endpoint = build(raw, directory)?;
        if let Some(i) = endpoints.iter().position(|other| other.name == endpoint.name) {
            return Err(if named {
                twice(&place, &places[i], &format!("the endpoint {:?}", endpoint.name))
            } else {
                let how = match place {
                    Place::File { .. } => "add a `name` to each",
                    Place::Flag(_) => "write NAME=URL for each",
                };
                ConfigError::at(
                    &place,
                    format_args!(
                        "names {} a second time: {how}, to tell them apart",
                        endpoint.name
                    ),
                )
            });
        }
        endpoints.push(endpoint);
        places.push(place);
    }
    Ok(endpoints)
}

fn build(raw: RawEndpoint, directory: &Path) -> Result<EndpointOptions> {
    let Some(url) = raw.url else {
        let message = "has no `url`: write url = \"https://…\"";
        return Err(ConfigError::at(&raw.place, message));
    };
    let url = url.try_map(|url| parse_url(&url))?.value;
    let name = match raw.name {
        Some(name) if is_endpoint(&name.value) => name.value,
        Some(name) => {
            return Err(ConfigError::at(
                &name.place,
                format_args!(
                    "is {:?}, which cannot name an endpoint: use 1 to 100 letters, digits, hyphens, dots and underscores",
                    name.value
                ),
            ));
        }
        None => default_name(&url),
    };
    let filter = match raw.events {
        None => EventFilter::default(),
        Some(events) => {
            // One by one, so that the error's line is the pattern's own.
            for pattern in &events.value {
                EventFilter::new([&pattern.value])
                    .map_err(|error| ConfigError::at(&pattern.place, Holds(error)))?;
            }
            EventFilter::new(events.value.iter().map(|pattern| &pattern.value))
                .map_err(|error| ConfigError::at(&events.place, Holds(error)))?
        }
    };
    let secrets = signing::secrets(raw.secret, raw.secrets, raw.secret_file, directory)?;
    let signers = signing::Signing {
        name: &name,
        place: &raw.place,
        secrets,
        header: raw.signature_header,
        prefix: raw.signature_header_prefix,
    }
    .signers(raw.signature)?;
    let headers = build_headers(raw.headers, &signers)?;
    let (ordering, concurrency) = build_ordering(raw.ordering.as_ref(), raw.concurrency.as_ref())?;
    let timeout = match raw.timeout {
        Some(timeout) => within(timeout, Duration::from_millis(1), MAX_TIMEOUT)?,
        None => Duration::from_secs(15),
    };
    let connect_timeout = match raw.connect_timeout {
        Some(timeout) => within(timeout, Duration::from_millis(1), MAX_TIMEOUT)?,
        None => Duration::from_secs(5),
    };
    let start = match &raw.start {
        None => Start::Now,
        Some(start) => match start.value.as_str() {
            "now" => Start::Now,
            "earliest" => Start::Earliest,
            id if id.starts_with("evt_") => match id.parse() {
                Ok(id) => Start::AfterId(id),
                Err(error) => {
                    return Err(ConfigError::at(
                        &start.place,
                        format_args!("is {id:?}: {error}; copy it whole, or write \"earliest\""),
                    ));
                }
            },
            _ => return Err(not_one_of(start, &["now", "earliest", "evt_…"])),
        },
    };
    // Who writes a loopback address means it; a name that merely resolves to one is another thing.
    let private_network =
        raw.allow_private_network.map_or_else(|| is_loopback(&url), |allow| allow.value);
    let retry = raw.retry.map(retry::build).transpose()?.unwrap_or_default();
    let (template, content_type) = (raw.template, raw.content_type);
    let format = format::build(raw.format, template, content_type, (&name, &url), directory)?;
    let (method, compress) = http::build(raw.method, raw.compress, &format)?;
    let batch = batch::build(raw.batch, &format, &method)?;
    let networks = network::build(private_network, raw.allow_networks, raw.deny_networks)?;
    let proxy = raw.proxy.map(network::proxy).transpose()?;
    let tls = match raw.tls {
        Some(tls) => network::tls(tls, &url, proxy.as_ref(), directory)?,
        None => EndpointTls::default(),
    };
    Ok(EndpointOptions {
        filter,
        when: raw.when.map(condition::build).transpose()?,
        format,
        method,
        compress,
        batch,
        rate_limit: raw.rate_limit.map(pace::rate_limit).transpose()?,
        disable_after: pace::disable_after(raw.disable_after)?,
        networks,
        proxy,
        tls,
        signers,
        ordering,
        concurrency,
        timeout,
        connect_timeout,
        retry,
        headers,
        start,
        ..EndpointOptions::new(name, url)
    })
}

/// An error that is a sentence of its own, as the predicate of a place.
struct Holds<E>(E);

impl<E: std::fmt::Display> std::fmt::Display for Holds<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot be used: {}", self.0)
    }
}

/// The error never shows the URL: its path and query are often secret.
pub(super) fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|error| {
        format!("is no URL ({error}): write one such as \"https://example.com/hooks\"")
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!(
            "begins with {}: and events go out by HTTP: write an https:// or http:// URL",
            url.scheme()
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password: take it out and write headers = { Authorization = \"…\" }".into());
    }
    Ok(url)
}

pub(super) fn default_name(url: &Url) -> String {
    let host = match url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(host) => host.to_string(),
        None => String::new(),
    };
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn build_headers(
    raw: Vec<(String, Located<String>)>,
    signers: &[Signer],
) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let signed: Vec<HeaderName> = signers.iter().flat_map(Signer::header_names).collect();
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(raw.len());
    for (name, value) in raw {
        let Ok(header) = name.parse::<HeaderName>() else {
            let message = "is no header's name: use letters, digits and hyphens";
            return Err(ConfigError::at(&value.place, message));
        };
        if OWN_HEADERS.contains(&header.as_str()) || signed.contains(&header) {
            let message = "is written by walhook itself: remove it";
            return Err(ConfigError::at(&value.place, message));
        }
        if headers.iter().any(|(other, _)| *other == header) {
            let message = "is the same header as one above, in other letters: remove one of them";
            return Err(ConfigError::at(&value.place, message));
        }
        // The value stays out of the sentence: it may be a token.
        let Ok(mut checked) = HeaderValue::from_str(value.value.trim()) else {
            let message = "holds a line break or another character that no header may carry";
            return Err(ConfigError::at(&value.place, message));
        };
        checked.set_sensitive(true);
        headers.push((header, checked));
    }
    Ok(headers)
}

fn build_ordering(
    ordering: Option<&Located<String>>,
    concurrency: Option<&Located<u32>>,
) -> Result<(Ordering, usize)> {
    let ordering = match ordering {
        None => Ordering::Record,
        Some(ordering) => match ordering.value.as_str() {
            "record" => Ordering::Record,
            "strict" => Ordering::Strict,
            "none" => Ordering::None,
            _ => return Err(not_one_of(ordering, &["record", "strict", "none"])),
        },
    };
    let concurrency = match concurrency {
        None if ordering == Ordering::Strict => 1,
        None => 32,
        Some(concurrency) if !(1..=MAX_CONCURRENCY).contains(&concurrency.value) => {
            return Err(ConfigError::at(
                &concurrency.place,
                format_args!(
                    "is {}: write a number from 1 to {MAX_CONCURRENCY}",
                    concurrency.value
                ),
            ));
        }
        Some(concurrency) if ordering == Ordering::Strict && concurrency.value != 1 => {
            let message = "has no effect with ordering = \"strict\", which sends one event after the other: remove one of the two";
            return Err(ConfigError::at(&concurrency.place, message));
        }
        Some(concurrency) => concurrency.value as usize,
    };
    Ok((ordering, concurrency))
}
