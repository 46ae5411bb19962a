//! How requests are made.

use reqwest::Method;

use super::Result;
use crate::config::error::{ConfigError, Located};
use crate::config::suggest::nearest;
use crate::event::Format;

const METHODS: [&str; 5] = ["POST", "PUT", "PATCH", "GET", "DELETE"];

pub(super) fn build(
    method: Option<Located<String>>,
    compress: Option<Located<bool>>,
    format: &Format,
) -> Result<(Method, bool)> {
    let method = match method {
        None => Method::POST,
        Some(written) => {
            let parsed = parse(&written)?;
            if parsed == Method::GET
                && let Format::Template(template) = format
                && !template.makes_json()
            {
                let message = "is \"GET\", whose query is made of a JSON object's members, and the template makes no JSON: add content_type = \"application/json\" and make an object, or use another method";
                return Err(ConfigError::at(&written.place, message));
            }
            parsed
        }
    };
    match compress {
        Some(compress) if compress.value && method == Method::GET => {
            let message = "has no effect with method = \"GET\", whose requests have no body: remove one of the two";
            Err(ConfigError::at(&compress.place, message))
        }
        compress => Ok((method, compress.is_some_and(|compress| compress.value))),
    }
}

fn parse(written: &Located<String>) -> Result<Method> {
    match written.value.as_str() {
        "POST" => return Ok(Method::POST),
        "PUT" => return Ok(Method::PUT),
        "PATCH" => return Ok(Method::PATCH),
        "GET" => return Ok(Method::GET),
        "DELETE" => return Ok(Method::DELETE),
        _ => {}
    }
    let lower = METHODS.map(str::to_lowercase);
    let near = nearest(&written.value, lower.iter().map(String::as_str));
    let hint = match near {
        Some(near) => format!("did you mean `{}`?", near.to_uppercase()),
        None => format!("write {}", METHODS.map(|method| format!("{method:?}")).join(" or ")),
    };
    Err(ConfigError::at(&written.place, format_args!("is {:?}: {hint}", written.value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::Place;

    fn built(method: Option<&str>, compress: Option<bool>) -> Result<(Method, bool), String> {
        let method =
            method.map(|value| Located { value: value.to_owned(), place: Place::Flag("method") });
        let compress = compress.map(|value| Located { value, place: Place::Flag("compress") });
        build(method, compress, &Format::Walhook).map_err(|error| error.to_string())
    }

    #[test]
    fn a_template_for_get_makes_json() {
        use crate::event::format::template::Template;
        let built = |content_type| {
            let template = Template::new("inline", "{\"a\": {{ data.id }}}", content_type).unwrap();
            let method = Located { value: "GET".to_owned(), place: Place::Flag("method") };
            build(Some(method), None, &Format::Template(template.into()))
        };
        assert!(built(Some("application/json")).is_ok());
        let error = built(None).unwrap_err().to_string();
        assert!(error.contains("add content_type = \"application/json\""), "{error}");
    }

    #[test]
    fn methods_and_compression() {
        assert_eq!(built(None, None), Ok((Method::POST, false)));
        assert_eq!(built(Some("DELETE"), Some(true)), Ok((Method::DELETE, true)));
        assert_eq!(built(Some("GET"), Some(false)), Ok((Method::GET, false)));
        for (method, compress, sentence) in [
            ("post", None, "`method` is \"post\": did you mean `POST`?"),
            ("PTACH", None, "`method` is \"PTACH\": did you mean `PATCH`?"),
            (
                "OPTIONS",
                None,
                "`method` is \"OPTIONS\": write \"POST\" or \"PUT\" or \"PATCH\" or \"GET\" or \"DELETE\"",
            ),
            (
                "GET",
                Some(true),
                "`compress` has no effect with method = \"GET\", whose requests have no body: remove one of the two",
            ),
        ] {
            assert_eq!(built(Some(method), compress).unwrap_err(), sentence);
        }
    }
}
