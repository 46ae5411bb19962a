//! Names and text as SQL writes them.

/// `name` as a quoted identifier, whatever is in it: always in double quotes, with double quotes
/// inside doubled
/// (<https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS>).
///
/// A NUL byte cannot be part of an identifier, and the server would read the statement only up to
/// it; it is left out here, so that the name meets no object instead of half a statement.
pub fn quote_ident(name: &str) -> String {
    quoted(name, '"')
}

/// `text` as a string literal that means the same whatever `standard_conforming_strings` is: with
/// a backslash inside it becomes an `E'…'` string. NUL bytes are left out as in [`quote_ident`].
pub fn quote_literal(text: &str) -> String {
    let literal = quoted(text, '\'');
    if literal.contains('\\') { format!("E{}", literal.replace('\\', "\\\\")) } else { literal }
}

/// `schema.table`, both quoted.
pub fn quote_table(schema: &str, table: &str) -> String {
    format!("{}.{}", quote_ident(schema), quote_ident(table))
}

/// `text` between quotes, where nothing but a quote has a meaning of its own: a doubled one is one.
/// That is all the grammar of the replication commands knows.
pub(super) fn quoted(text: &str, quote: char) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(quote);
    for c in text.chars().filter(|c| *c != '\0') {
        if c == quote {
            quoted.push(quote);
        }
        quoted.push(c);
    }
    quoted.push(quote);
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_keep_whatever_they_contain() {
        assert_eq!(quote_ident("people"), "\"people\"");
        assert_eq!(quote_ident("a\"; drop table b; --"), "\"a\"\"; drop table b; --\"");
        assert_eq!(quote_ident("zwei\nZeilen ü"), "\"zwei\nZeilen ü\"");
        assert_eq!(quote_ident("a\0b"), "\"ab\"");
        assert_eq!(quote_table("s.1", "t"), "\"s.1\".\"t\"");
    }

    /// A database of another encoding may not have the character, not even in a comment.
    #[test]
    fn statements_are_ascii() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // The demo has a database of its own.
            let ascii = std::fs::read(&path).unwrap().is_ascii();
            assert!(ascii || name.starts_with("demo"), "{name}");
        }
    }

    #[test]
    fn literals_do_not_depend_on_the_session() {
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("back\\slash's"), "E'back\\\\slash''s'");
        assert_eq!(quote_literal(""), "''");
    }
}
