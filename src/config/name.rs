//! Names of tables, records and endpoints as they are written in the configuration.

/// Reads the exact name of a table: `people`, `crm.people`, or with parts in double quotes where
/// a name holds a dot, a quote or an asterisk: `crm."old.people"`. Nothing is folded to lower
/// case. The error is a predicate.
pub(crate) fn parse_table(text: &str) -> Result<(String, String), String> {
    let wrong = |why: &str| {
        Err(format!(
            "is {text:?}, which {why}: write the table as \"schema.table\", with double quotes around a part that holds a dot, a quote or an asterisk"
        ))
    };
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let (part, after) = if let Some(quoted) = rest.strip_prefix('"') {
            match quoted_part(quoted) {
                Some(found) => found,
                None => return wrong("has an opening double quote without a closing one"),
            }
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            let (part, after) = rest.split_at(end);
            if part.contains('*') || part.contains('?') {
                return Err(format!(
                    "is {text:?}, a pattern, and patterns are not supported by this version of walhook: write one [[table]] for each table, and double quotes around a name that really holds an asterisk"
                ));
            }
            if part.contains('"') {
                return wrong("has a double quote in the middle of a name");
            }
            (part.to_owned(), after)
        };
        if part.is_empty() || part.contains('\0') {
            return wrong("is no name of a table");
        }
        parts.push(part);
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.is_empty() => break,
            None => return wrong("goes on after a closing double quote"),
        }
    }
    let table = parts.pop().unwrap_or_default();
    match parts.len() {
        0 => Ok(("public".into(), table)),
        1 => Ok((parts.remove(0), table)),
        _ => wrong("has more than a schema and a table"),
    }
}

/// The inside of a quoted part and what follows it; `text` begins after the opening quote.
fn quoted_part(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        part.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                part.push('"');
                rest = after;
            }
            None => return Some((part, rest)),
        }
    }
}

/// Whether `text` can be the first part of an event's name such as `person.created`.
pub(crate) fn is_record(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 200
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '*')
        && text.split('.').all(|segment| !segment.is_empty())
}

/// Whether `text` can name an endpoint.
pub(crate) fn is_endpoint(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 100
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c))
}

/// Whether `text` can name a replication slot.
pub(crate) fn is_slot(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::postgres::sql::quote_table;

    #[test]
    fn reads_names_of_tables() {
        for (text, schema, table) in [
            ("people", "public", "people"),
            ("crm.people", "crm", "people"),
            ("crm.People", "crm", "People"),
            (r#""crm"."people""#, "crm", "people"),
            (r#"crm."old.people""#, "crm", "old.people"),
            (r#"crm."a ""b"" c""#, "crm", r#"a "b" c"#),
            (r#""*".x"#, "*", "x"),
            ("crm.größe", "crm", "größe"),
            ("crm.two words", "crm", "two words"),
            ("crm.\"new\nline\"", "crm", "new\nline"),
        ] {
            assert_eq!(parse_table(text), Ok((schema.into(), table.into())), "{text}");
        }
        for (text, why) in [
            ("", "no name of a table"),
            (".people", "no name of a table"),
            ("crm.", "no name of a table"),
            ("crm..people", "no name of a table"),
            ("db.crm.people", "more than a schema and a table"),
            ("crm.*", "patterns are not supported"),
            (r#"crm."people"#, "without a closing one"),
            (r#"crm."people"x"#, "goes on after"),
            (r#"crm.peo"ple"#, "in the middle"),
            ("crm.peo\0ple", "no name of a table"),
        ] {
            let error = parse_table(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn knows_names() {
        assert!(is_record("person") && is_record("crm.person") && is_record("größe"));
        assert!(!is_record("") && !is_record("a b") && !is_record("a*") && !is_record("a..b"));
        assert!(is_endpoint("crm-sync") && is_endpoint("127.0.0.1:80") && !is_endpoint("a b"));
        assert!(is_slot("walhook_1") && !is_slot("Walhook") && !is_slot(""));
    }

    proptest! {
        #[test]
        fn quoting_a_name_gives_it_back(schema in "[^\0]+", table in "[^\0]+") {
            prop_assert_eq!(parse_table(&quote_table(&schema, &table)), Ok((schema, table)));
        }
    }
}
