//! Names of tables with wildcards, as a configuration gives them: `crm.people`, `crm.*`, `*.*`.

use std::fmt;

use super::sql::quote_ident;

/// A table's name, or a pattern that many tables match.
///
/// A table of the system (a schema whose name begins with `pg_`, or `information_schema`) matches
/// no pattern but its own exact name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePattern {
    schema: NamePattern,
    name: NamePattern,
}

/// One part of a [`TablePattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// This name and no other, letter case included.
    Exact(String),
    /// Names that are equal to this text, where each `*` stands for any characters, or none.
    Glob(String),
}

impl NamePattern {
    /// Whether the name matches.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            NamePattern::Exact(exact) => exact == name,
            NamePattern::Glob(glob) => glob_matches(glob, name),
        }
    }

    fn exact(&self) -> Option<&str> {
        match self {
            NamePattern::Exact(name) => Some(name),
            NamePattern::Glob(_) => None,
        }
    }

    fn is_everything(&self) -> bool {
        matches!(self, NamePattern::Glob(glob) if glob.bytes().all(|byte| byte == b'*'))
    }
}

/// Each piece between asterisks is looked for behind the one before; the first must stand at the
/// start and the last at the end.
fn glob_matches(glob: &str, name: &str) -> bool {
    let Some((first, rest)) = glob.split_once('*') else { return glob == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut pieces = rest.split('*').peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return name.ends_with(piece);
        }
        match name.find(piece) {
            Some(found) => name = &name[found + piece.len()..],
            None => return false,
        }
    }
    true
}

impl TablePattern {
    /// The pattern of these two parts.
    pub fn new(schema: NamePattern, name: NamePattern) -> TablePattern {
        TablePattern { schema, name }
    }

    /// One table.
    pub fn exact(schema: impl Into<String>, name: impl Into<String>) -> TablePattern {
        TablePattern::new(NamePattern::Exact(schema.into()), NamePattern::Exact(name.into()))
    }

    /// Schema and name, if it is the name of one table.
    pub fn as_exact(&self) -> Option<(&str, &str)> {
        Some((self.schema.exact()?, self.name.exact()?))
    }

    /// The schema, if it means all tables of one: `crm.*`.
    pub fn as_whole_schema(&self) -> Option<&str> {
        if self.name.is_everything() { self.schema.exact() } else { None }
    }

    /// Whether it means all tables of all schemas: `*.*`.
    pub fn is_everything(&self) -> bool {
        self.schema.is_everything() && self.name.is_everything()
    }

    /// Whether the table matches.
    pub fn matches(&self, schema: &str, name: &str) -> bool {
        self.schema.matches(schema)
            && self.name.matches(name)
            && (self.as_exact().is_some() || !is_system_schema(schema))
    }
}

/// The same as a configuration writes it.
impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (part, separator) in [(&self.schema, "."), (&self.name, "")] {
            match part {
                NamePattern::Glob(glob) => f.write_str(glob)?,
                NamePattern::Exact(name) if is_plain(name) => f.write_str(name)?,
                NamePattern::Exact(name) => f.write_str(&quote_ident(name))?,
            }
            f.write_str(separator)?;
        }
        Ok(())
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$'))
}

/// Whether the schema belongs to the system: `pg_` is reserved
/// (<https://www.postgresql.org/docs/current/ddl-schemas.html#DDL-SCHEMAS-CATALOG>).
pub fn is_system_schema(schema: &str) -> bool {
    schema.starts_with("pg_") || schema == "information_schema"
}

/// Which of several things is meant for a table: the one with its exact name, else the first whose
/// pattern it matches.
pub fn choose<'a, T>(
    items: &'a [T],
    pattern: impl Fn(&T) -> &TablePattern,
    schema: &str,
    name: &str,
) -> Option<&'a T> {
    let exact = |item: &&T| pattern(item).as_exact() == Some((schema, name));
    let matches = |item: &&T| pattern(item).matches(schema, name);
    items.iter().find(exact).or_else(|| items.iter().find(matches))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(schema: &str, name: &str) -> TablePattern {
        TablePattern::new(NamePattern::Glob(schema.into()), NamePattern::Glob(name.into()))
    }

    #[test]
    fn asterisks_stand_for_anything() {
        for (pattern, matching, others) in [
            ("*", &["", "a", "a.b"][..], &[][..]),
            ("a*", &["a", "ab"], &["ba", ""]),
            ("*a", &["a", "ba", "aa"], &["ab", ""]),
            ("a*b*c", &["abc", "aXbXc", "abbcc"], &["ab", "acb", "abcd"]),
            ("a*a", &["aa", "aba"], &["a"]),
            ("**", &["", "x"], &[]),
        ] {
            let pattern = NamePattern::Glob(pattern.into());
            for name in matching {
                assert!(pattern.matches(name), "{pattern:?} {name}");
            }
            for name in others {
                assert!(!pattern.matches(name), "{pattern:?} {name}");
            }
        }
    }

    #[test]
    fn the_system_s_tables_are_meant_by_name_only() {
        assert!(!glob("*", "*").matches("pg_catalog", "pg_class"));
        assert!(!glob("*", "*").matches("information_schema", "sql_features"));
        assert!(glob("*", "*").matches("public", "pg_class"));
        assert!(TablePattern::exact("pg_catalog", "pg_class").matches("pg_catalog", "pg_class"));
    }

    #[test]
    fn the_exact_name_comes_before_any_pattern() {
        let patterns = [glob("*", "*"), glob("crm", "p*"), TablePattern::exact("crm", "people")];
        let chosen = |schema, name| choose(&patterns, |pattern| pattern, schema, name);
        assert_eq!(chosen("crm", "people"), Some(&patterns[2]));
        assert_eq!(chosen("crm", "pets"), Some(&patterns[0]));
        assert_eq!(choose(&patterns[1..], |pattern| pattern, "x", "y"), None);
    }

    #[test]
    fn it_is_shown_as_it_is_written() {
        let whole =
            TablePattern::new(NamePattern::Exact("crm".into()), NamePattern::Glob("*".into()));
        assert_eq!(whole.to_string(), "crm.*");
        assert_eq!(whole.as_whole_schema(), Some("crm"));
        assert!(!whole.is_everything());
        assert!(glob("*", "*").is_everything());
        assert_eq!(TablePattern::exact("crm", "a.b*").to_string(), "crm.\"a.b*\"");
    }
}
