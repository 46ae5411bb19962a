//! Names of tables, records and endpoints as they are written in the configuration.

use crate::postgres::TablePattern;
use crate::postgres::pattern::{NamePattern, is_system_schema};

/// Reads the name of a table, `people` or `crm.people`, or a pattern of many, `crm.audit_*`, `*.*`.
/// In double quotes, every character is itself, so that a name may hold a dot, a quote or an
/// asterisk: `crm."old.people"`. Nothing is folded to lower case. The error is a predicate.
pub(crate) fn parse_pattern(text: &str) -> Result<TablePattern, String> {
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
                Some((part, after)) => (NamePattern::Exact(part), after),
                None => return wrong("has an opening double quote without a closing one"),
            }
        } else {
            let (part, after) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
            if part.contains('?') {
                return Err(format!(
                    "is {text:?}, and a question mark has no meaning in a pattern: write an asterisk for any characters, and double quotes around a name that really holds a question mark"
                ));
            }
            if part.contains('"') {
                return wrong("has a double quote in the middle of a name");
            }
            (unquoted(part), after)
        };
        let (NamePattern::Exact(name) | NamePattern::Glob(name)) = &part;
        if name.is_empty() || name.contains('\0') {
            return wrong("is no name of a table");
        }
        parts.push(part);
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.is_empty() => break,
            None => return wrong("goes on after a closing double quote"),
        }
    }
    let mut parts = parts.into_iter();
    let (schema, table) = match (parts.next(), parts.next(), parts.next()) {
        (Some(table), None, _) => (NamePattern::Exact("public".into()), table),
        (Some(schema), Some(table), None) => (schema, table),
        _ => return wrong("has more than a schema and a table"),
    };
    if let (NamePattern::Exact(schema), NamePattern::Glob(_)) = (&schema, &table)
        && is_system_schema(schema)
    {
        return Err(format!(
            "is {text:?}, a pattern in a schema of the system, whose tables no pattern means: name them exactly"
        ));
    }
    Ok(TablePattern::new(schema, table))
}

fn unquoted(part: &str) -> NamePattern {
    if part.contains('*') {
        NamePattern::Glob(part.to_owned())
    } else {
        NamePattern::Exact(part.to_owned())
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
            assert_eq!(parse_pattern(text), Ok(TablePattern::exact(schema, table)), "{text}");
        }
        for (text, why) in [
            ("", "no name of a table"),
            (".people", "no name of a table"),
            ("crm.", "no name of a table"),
            ("crm..people", "no name of a table"),
            ("db.crm.people", "more than a schema and a table"),
            ("crm.peopl?", "a question mark has no meaning"),
            ("pg_catalog.*", "a schema of the system"),
            (r#"crm."a"*"#, "goes on after"),
            ("*..*", "no name of a table"),
            ("*.*.*", "more than a schema and a table"),
            (r#"crm."people"#, "without a closing one"),
            (r#"crm."people"x"#, "goes on after"),
            (r#"crm.peo"ple"#, "in the middle"),
            ("crm.peo\0ple", "no name of a table"),
        ] {
            let error = parse_pattern(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn reads_patterns() {
        let exact = |name: &str| NamePattern::Exact(name.into());
        let glob = |name: &str| NamePattern::Glob(name.into());
        for (text, schema, table) in [
            ("*.*", glob("*"), glob("*")),
            ("crm.*", exact("crm"), glob("*")),
            ("audit_*", exact("public"), glob("audit_*")),
            ("tenant_*.people", glob("tenant_*"), exact("people")),
            (r#"*."*""#, glob("*"), exact("*")),
            (r#""a.b".*_log"#, exact("a.b"), glob("*_log")),
            ("pg_catalog.pg_class", exact("pg_catalog"), exact("pg_class")),
        ] {
            let pattern = TablePattern::new(schema, table);
            assert_eq!(parse_pattern(text), Ok(pattern.clone()), "{text}");
            assert_eq!(parse_pattern(&pattern.to_string()), Ok(pattern), "{text}");
        }
    }

    #[test]
    fn knows_names() {
        assert!(is_endpoint("crm-sync") && is_endpoint("127.0.0.1:80") && !is_endpoint("a b"));
        assert!(is_slot("walhook_1") && !is_slot("Walhook") && !is_slot(""));
    }

    proptest! {
        #[test]
        fn quoting_a_name_gives_it_back(schema in "[^\0]+", table in "[^\0]+") {
            let written = quote_table(&schema, &table);
            prop_assert_eq!(parse_pattern(&written), Ok(TablePattern::exact(schema, table)));
        }
    }
}
