//! Words and comparisons that several rules share.

use strsim::normalized_damerau_levenshtein;

/// Bytes in the largest binary unit that leaves a readable number.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} bytes") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// The existing table whose name comes nearest to the one that does not exist: the same name in
/// another schema or letter case first, then the fewest typing errors. None when nothing is near.
pub(super) fn nearest<'a>(
    names: &'a [(String, String)],
    schema: &str,
    name: &str,
) -> Option<&'a (String, String)> {
    const NEAR: f64 = 0.6;
    let wanted = name.to_lowercase();
    let score = |(s, n): &(String, String)| {
        let name_score = normalized_damerau_levenshtein(&n.to_lowercase(), &wanted);
        let schema_score =
            normalized_damerau_levenshtein(&s.to_lowercase(), &schema.to_lowercase());
        if name_score < NEAR { 0.0 } else { name_score + schema_score * 0.3 }
    };
    names
        .iter()
        .map(|candidate| (score(candidate), candidate))
        .filter(|(score, _)| *score > 0.0)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// A list in words: `a`, `a and b`, `a, b and c`; of more than `most` names the rest is counted.
pub(super) fn list(names: &[String], most: usize) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        _ if names.len() > most => {
            format!("{} and {} more", names[..most].join(", "), names.len() - most)
        }
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A name inside a sentence: as it is where that is plain, else quoted with escapes, so that a line
/// break or an escape sequence in a name cannot garble a terminal or a log.
pub(super) fn shown(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$');
    if !name.is_empty() && name.chars().all(plain) { name.to_owned() } else { format!("{name:?}") }
}

/// `schema.name` inside a sentence.
pub(super) fn shown_table(schema: &str, name: &str) -> String {
    format!("{}.{}", shown(schema), shown(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_likely_one() {
        let names: Vec<(String, String)> = [
            ("crm", "people"),
            ("public", "companies"),
            ("public", "People"),
            ("public", "person"),
            ("public", "xyz"),
        ]
        .map(|(s, n)| (s.to_owned(), n.to_owned()))
        .into();
        let found = |schema, name| {
            nearest(&names, schema, name).map(|(s, n)| format!("{s}.{n}")).unwrap_or_default()
        };
        assert_eq!(found("public", "people"), "public.People");
        assert_eq!(found("crm", "poeple"), "crm.people");
        assert_eq!(found("public", "company"), "public.companies");
        assert_eq!(found("public", "invoices"), "");
    }

    #[test]
    fn lists_and_sizes_read_well() {
        let names: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        assert_eq!(list(&names[..1], 3), "a");
        assert_eq!(list(&names[..2], 3), "a and b");
        assert_eq!(list(&names, 3), "a, b and c");
        assert_eq!(list(&names, 2), "a, b and 1 more");
        assert_eq!(bytes(512), "512 bytes");
        assert_eq!(bytes(18 * 1024 * 1024), "18.0 MiB");
    }

    #[test]
    fn hostile_names_stay_on_one_line() {
        assert_eq!(shown_table("público", "t"), "público.t");
        assert_eq!(shown("a\nb\"\u{1b}[2J"), r#""a\nb\"\u{1b}[2J""#);
    }
}
