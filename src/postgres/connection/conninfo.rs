//! The two written forms of a connection string, cut into keys and values.
//!
//! Errors name keys and never quote a value: a password with an unescaped character in it can end
//! up in any of them.

use crate::postgres::error::PgError;

/// One setting, as written.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) value: String,
    /// The key may really be a piece of a password, so it must not be shown.
    pub(super) doubtful: bool,
}

const ESCAPE_HINT: &str = "a `/`, `@`, `:`, `?`, `#` or `%` in user or password must be \
     percent-encoded (`@` as `%40`)";

/// Cuts a connection string into its settings, in order; of several for one key the last counts.
pub(super) fn parse(text: &str) -> Result<Vec<Pair>, PgError> {
    let text = text.trim();
    if text.contains('\0') {
        return Err(PgError::invalid("the connection string contains a zero byte"));
    }
    if let Some(rest) = ["postgresql://", "postgres://"].iter().find_map(|s| text.strip_prefix(s)) {
        return parse_url(rest);
    }
    let scheme_like = text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+')
    });
    if scheme_like || !text.contains('=') {
        return Err(PgError::invalid(
            "the connection string is neither a URL that starts with `postgres://` or \
             `postgresql://` nor a list of `key=value` settings",
        ));
    }
    parse_words(text)
}

/// `postgres://[user[:password]@][host[:port],…][/database][?key=value&…]`, as libpq reads it.
fn parse_url(text: &str) -> Result<Vec<Pair>, PgError> {
    let mut pairs = Vec::new();
    let mut push = |key: &str, value: String| {
        pairs.push(Pair { key: key.to_owned(), value, doubtful: false });
    };
    let mut rest = text;
    // As in libpq the first `@` before any `/` ends user and password.
    if let Some(end) = text.find(['@', '/']).filter(|end| text[*end..].starts_with('@')) {
        let (login, after) = (&text[..end], &text[end + 1..]);
        rest = after;
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        push("user", decode(user, "user name")?);
        if let Some(password) = password {
            push("password", decode(password, "password")?);
        }
    }

    let (before_query, query) = match rest.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (rest, None),
    };
    let (authority, dbname) = match before_query.split_once('/') {
        Some((authority, dbname)) => (authority, Some(dbname)),
        None => (before_query, None),
    };
    if before_query.contains('@') {
        return Err(PgError::invalid(format!(
            "the connection URL has more than one `@` before its parameters: {ESCAPE_HINT}"
        )));
    }
    let (hosts, ports) = parse_authority(authority)?;
    push("host", hosts);
    push("port", ports);
    if let Some(dbname) = dbname {
        push("dbname", decode(dbname, "database name")?);
    }
    for parameter in query.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
        let Some((key, value)) = parameter.split_once('=') else {
            return Err(PgError::invalid(
                "the connection URL has a parameter without `=` after its `?`",
            ));
        };
        let key = decode(key, "name of a parameter")?;
        let value = decode(value, &format!("parameter `{}`", shown(&key)))?;
        match (key.as_str(), value.as_str()) {
            // libpq's one courtesy to JDBC.
            ("ssl", "true") => push("sslmode", "require".to_owned()),
            _ => push(&key, value),
        }
    }
    Ok(pairs)
}

/// `host:port,[v6]:port,…` into libpq's two comma lists.
fn parse_authority(authority: &str) -> Result<(String, String), PgError> {
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    for one in authority.split(',') {
        let (host, port) = match one.strip_prefix('[') {
            Some(v6) => {
                let Some((address, after)) = v6.split_once(']') else {
                    return Err(PgError::invalid(
                        "the connection URL has an IPv6 address without its closing `]`",
                    ));
                };
                match after.strip_prefix(':') {
                    None if after.is_empty() => (address, ""),
                    Some(port) if !address.is_empty() => (address, port),
                    _ => {
                        return Err(PgError::invalid(
                            "the connection URL has an IPv6 address followed by neither `:port` \
                             nor `/`",
                        ));
                    }
                }
            }
            None => one.split_once(':').unwrap_or((one, "")),
        };
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(PgError::invalid(format!(
                "the port in the connection URL is not a number: {ESCAPE_HINT}"
            )));
        }
        let host = decode(host, "host")?;
        if host.contains(',') {
            return Err(PgError::invalid("a host of the connection URL contains a comma"));
        }
        hosts.push(host);
        ports.push(port);
    }
    Ok((hosts.join(","), ports.join(",")))
}

/// Percent-decodes. `what` names the part for the error.
fn decode(text: &str, what: &str) -> Result<String, PgError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16));
        match (digit(rest.next()), digit(rest.next())) {
            (Some(high), Some(low)) if high | low != 0 => bytes.push((high << 4 | low) as u8),
            _ => {
                return Err(PgError::invalid(format!(
                    "the {what} in the connection URL has a `%` that isn't followed by two \
                     hexadecimal digits other than 00 (write `%` as `%25`)"
                )));
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| {
        PgError::invalid(format!("the {what} in the connection URL is not valid UTF-8"))
    })
}

/// `key = value key='quoted value' …`, with backslash escapes.
fn parse_words(text: &str) -> Result<Vec<Pair>, PgError> {
    let mut pairs: Vec<Pair> = Vec::new();
    let mut after_bare_password = false;
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(pairs);
        }
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            key.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next() != Some('=') {
            return Err(PgError::invalid(
                "the connection string has a word without `=`; a value with spaces needs single \
                 quotes",
            ));
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let value = if quoted { quoted_value(&mut chars)? } else { bare_value(&mut chars) };
        let doubtful = after_bare_password;
        after_bare_password |= !quoted && key.contains("pass");
        pairs.push(Pair { key, value, doubtful });
    }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn quoted_value(chars: &mut Chars<'_>) -> Result<String, PgError> {
    let mut value = String::new();
    loop {
        match chars.next() {
            Some('\'') => return Ok(value),
            Some('\\') => value.extend(chars.next()),
            Some(c) => value.push(c),
            None => {
                return Err(PgError::invalid(
                    "the connection string has a quoted value without its closing quote",
                ));
            }
        }
    }
}

fn bare_value(chars: &mut Chars<'_>) -> String {
    let mut value = String::new();
    while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
        match c {
            '\\' => value.extend(chars.next()),
            c => value.push(c),
        }
    }
    value
}

/// A key fit for an error: only what looks like the name of a setting.
pub(super) fn shown(key: &str) -> &str {
    let plausible = key.len() <= 40
        && !key.is_empty()
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if plausible { key } else { "…" }
}
