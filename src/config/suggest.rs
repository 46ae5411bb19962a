//! Which word was meant.

/// The word of `known` that `written` most likely stands for, if one is near enough.
pub(crate) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let written = written.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&written, word), word))
        .filter(|(distance, word)| {
            // A third of the letters may be wrong; and what merely is longer or shorter
            // (`max_size_bytes`, `pub`) is meant too.
            *distance <= (word.chars().count().max(3) / 3).max(1)
                || (written.len() >= 3
                    && (word.starts_with(&written) || written.starts_with(&format!("{word}_"))))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// ``did you mean `a`?``, or which words there are.
pub(crate) fn hint<'a>(written: &str, known: &[&'a str]) -> String {
    match nearest(written, known.iter().copied()) {
        Some(word) => format!("did you mean `{word}`?"),
        None => {
            let mut words: Vec<&'a str> = known.to_vec();
            words.sort_unstable();
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            format!("what can stand here is {}", words.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_word_that_was_meant() {
        let known = ["name", "url", "events", "secret", "secret_file", "timeout", "concurrency"];
        for (written, meant) in [
            ("naem", Some("name")),
            ("uri", Some("url")),
            ("event", Some("events")),
            ("Timeout", Some("timeout")),
            ("secret-file", Some("secret_file")),
            ("concurency", Some("concurrency")),
            ("timeout_ms", Some("timeout")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, known), meant, "{written}");
        }
    }

    #[test]
    fn lists_the_words_when_none_is_near() {
        assert_eq!(hint("colour", &["url", "name"]), "what can stand here is `name`, `url`");
    }
}
