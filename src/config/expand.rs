//! `${VAR}` and `${VAR:-default}` in string values.

use std::borrow::Cow;

/// Whether [`expand`] would look at the environment for `text`.
pub(crate) fn has_variable(text: &str) -> bool {
    text.contains("${")
}

/// Replaces `${VAR}` by the variable's value and `${VAR:-default}` by its value or, when it is
/// unset or empty, by the default. `$${` stands for a plain `${`; a `$` before anything else is
/// itself. What a variable holds is not expanded again. The error is a predicate.
pub(crate) fn expand<'a>(
    text: &'a str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Cow<'a, str>, String> {
    if !has_variable(text) {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            out.push_str(&rest[..start - 1]);
            out.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        out.push_str(&rest[..start]);
        let after = &rest[start + 2..];
        let Some(end) = after.find('}') else {
            return Err("has a `${` without a `}`: write ${NAME}, or $${ for a plain ${".into());
        };
        let (name, default) = match after[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&after[..end], None),
        };
        if !is_name(name) {
            return Err(format!(
                "has ${{{name}}}, and that is no name of a variable: write ${{NAME}} or ${{NAME:-default}}, or $${{ for a plain ${{"
            ));
        }
        match (variable(name), default) {
            (Some(value), None) => out.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
            (_, Some(default)) => out.push_str(default),
            (None, None) => {
                return Err(format!(
                    "needs the environment variable {name}, which is not set: set it, or write ${{{name}:-default}}"
                ));
            }
        }
        rest = &after[end + 1..];
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "USER_NAME" => Some("ann".into()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${USER_NAME}".into()),
            _ => None,
        }
    }

    #[test]
    fn replaces_variables() {
        for (text, expanded) in [
            ("plain $1 {x} $", "plain $1 {x} $"),
            ("${USER_NAME}", "ann"),
            ("a${USER_NAME}b${USER_NAME}", "aannbann"),
            ("${MISSING:-none}", "none"),
            ("${MISSING:-}", ""),
            ("${EMPTY}", ""),
            ("${EMPTY:-full}", "full"),
            ("${USER_NAME:-none}", "ann"),
            ("${MISSING:-a:-b}", "a:-b"),
            ("$${USER_NAME}", "${USER_NAME}"),
            ("${NESTED}", "${USER_NAME}"),
            ("é${USER_NAME}é", "éanné"),
        ] {
            assert_eq!(expand(text, &environment).as_deref(), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, why) in [
            ("${MISSING}", "environment variable MISSING, which is not set"),
            ("${USER_NAME", "without a `}`"),
            ("${}", "no name of a variable"),
            ("${1}", "no name of a variable"),
            ("${a b}", "no name of a variable"),
        ] {
            let error = expand(text, &environment).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
