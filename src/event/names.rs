//! What events and their fields are called.

use std::borrow::Cow;

/// The longest record, in bytes.
const MOST_RECORD_BYTES: usize = 200;

/// Whether `text` can be the first part of an event's name such as `person.created`.
pub fn is_record(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MOST_RECORD_BYTES
        && !text.contains(is_unfit)
        && text.split('.').all(|segment| !segment.is_empty())
}

fn is_unfit(c: char) -> bool {
    c.is_whitespace() || c.is_control() || c == '*'
}

/// What the records of a table are called when nobody said it: its name, with an underscore for
/// every character that no event's name may hold, and for every nothing between dots.
pub(super) fn record_of(table: &str) -> Cow<'_, str> {
    if is_record(table) {
        return Cow::Borrowed(table);
    }
    let mut record = table.replace(is_unfit, "_");
    // Nothing but dots becomes twice as long; names that long are not Postgres's own.
    record.truncate(record.floor_char_boundary(MOST_RECORD_BYTES / 2 - 1));
    let segments = record.split('.').map(|segment| if segment.is_empty() { "_" } else { segment });
    Cow::Owned(segments.collect::<Vec<_>>().join("."))
}

/// The name in camel case: `first_name` becomes `firstName`, `FIRST_NAME` too. Underscores at the
/// start and at the end stay, and so does a name that has no others.
pub(super) fn camel(name: &str) -> String {
    let core = name.trim_matches('_');
    if !core.contains('_') {
        return name.to_owned();
    }
    let start = name.len() - name.trim_start_matches('_').len();
    let (before, after) = (&name[..start], &name[start + core.len()..]);
    let is_capitals = !core.chars().any(char::is_lowercase);
    let core = if is_capitals { Cow::Owned(core.to_lowercase()) } else { Cow::Borrowed(core) };
    let mut out = String::with_capacity(name.len());
    out.push_str(before);
    for (number, word) in core.split('_').filter(|word| !word.is_empty()).enumerate() {
        let mut letters = word.chars();
        if number > 0 {
            out.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        }
        out.push_str(letters.as_str());
    }
    out.push_str(after);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_are_known() {
        assert!(is_record("person") && is_record("crm.person") && is_record("größe"));
        assert!(!is_record("") && !is_record("a b") && !is_record("a*") && !is_record("a..b"));
    }

    #[test]
    fn tables_of_any_name_have_a_record() {
        for (table, record) in [
            ("people", "people"),
            ("old.people", "old.people"),
            ("order items", "order_items"),
            ("a*\n", "a__"),
            ("a..b.", "a._.b._"),
            (".", "_._"),
            ("", "_"),
        ] {
            assert_eq!(record_of(table), record, "{table:?}");
        }
    }

    #[test]
    fn camel_case() {
        for (name, expected) in [
            ("first_name", "firstName"),
            ("id", "id"),
            ("a__b", "aB"),
            ("line_1", "line1"),
            ("line_1_b", "line1B"),
            ("_first_name", "_firstName"),
            ("__x", "__x"),
            ("class_", "class_"),
            ("ID", "ID"),
            ("firstName", "firstName"),
            ("FIRST_NAME", "firstName"),
            ("First_name", "FirstName"),
            ("große_übung", "großeÜbung"),
            ("two words_x", "two wordsX"),
            ("_", "_"),
            ("", ""),
        ] {
            assert_eq!(camel(name), expected, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn camel_case_is_settled_after_once(name in "[_aB1ß ]{0,12}|\\PC{0,20}") {
            let once = camel(&name);
            prop_assert_eq!(camel(&once), once);
        }

        #[test]
        fn every_table_has_a_valid_record(table in ".{0,70}|[.* a]{0,300}") {
            prop_assert!(is_record(&record_of(&table)), "{:?}", record_of(&table));
        }
    }
}
