//! Formats and templates.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use url::Url;

use super::Result;
use crate::config::error::{ConfigError, Located};
use crate::config::suggest::hint;
use crate::event::Format;
use crate::event::format::template::Template;

/// More than any template needs; a file that is larger was meant for something else.
const MAX_TEMPLATE_BYTES: u64 = 256 * 1024;

/// The format of the endpoint called `name`. A template's file lies beside the configuration.
pub(super) fn build(
    format: Option<Located<String>>,
    template: Option<Located<String>>,
    content_type: Option<Located<String>>,
    (name, url): (&str, &Url),
    directory: &Path,
) -> Result<Format> {
    match (format, template, content_type) {
        (Some(_), Some(template), _) => {
            let message = "stands beside `format`: keep one of the two";
            Err(ConfigError::at(&template.place, message))
        }
        (_, None, Some(content_type)) => {
            let message = "has no effect without a `template`: remove it, or add one";
            Err(ConfigError::at(&content_type.place, message))
        }
        (None, Some(template), content_type) => build_template(template, content_type, directory),
        (None, None, None) => Ok(Format::Walhook),
        (Some(format), None, None) => match Format::named(&format.value, name, url.as_str()) {
            Some(format) => Ok(format),
            None => Err(ConfigError::at(
                &format.place,
                format_args!("is {:?}: {}", format.value, hint(&format.value, &Format::NAMES)),
            )),
        },
    }
}

fn build_template(
    template: Located<String>,
    content_type: Option<Located<String>>,
    directory: &Path,
) -> Result<Format> {
    let Located { value: written, place } = template;
    if written.trim().is_empty() {
        let message = "is empty: name a file, or write the text itself, such as \"{{ event }}\"";
        return Err(ConfigError::at(&place, message));
    }
    let is_inline = ["{{", "{%"].iter().any(|mark| written.contains(mark));
    let (name, text) = if is_inline {
        ("inline".to_owned(), written)
    } else {
        let text =
            read(&directory.join(&written)).map_err(|error| ConfigError::at(&place, error))?;
        (written, text)
    };
    if let Some(content_type) = &content_type {
        // By itself, so that the error stands at its own line.
        Template::new("", "", Some(&content_type.value))
            .map_err(|error| ConfigError::at(&content_type.place, error))?;
    }
    let content_type = content_type.as_ref().map(|content_type| content_type.value.as_str());
    match Template::new(&name, &text, content_type) {
        Ok(template) => Ok(Format::Template(Arc::new(template))),
        Err(error) if is_inline => Err(ConfigError::at(&place, error)),
        Err(error) => Err(ConfigError::at(&place, format_args!("names {name}, which {error}"))),
    }
}

/// The error is a predicate.
fn read(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_TEMPLATE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            format!(
                "names the file {shown}, which cannot be read: {error} (a template in the \
                 configuration itself has {{{{ or {{% in it)"
            )
        })?;
    if bytes.len() as u64 > MAX_TEMPLATE_BYTES {
        return Err(format!("names the file {shown}, which is too large for a template"));
    }
    String::from_utf8(bytes).map_err(|_| format!("names the file {shown}, which is not UTF-8 text"))
}
