//! Templates: an endpoint's own format, in Jinja's syntax.
//!
//! A template sees the members of the envelope: `id`, `event`, `timestamp`, `data`, `previous`,
//! `updatedFields`, `unchanged` and `source`. What an event does not have of them is empty.
//!
//! - Where the media type is JSON, what a template prints is escaped for where it stands: outside
//!   of quotes it is a JSON value, inside of quotes a part of that string. The output must be JSON.
//! - A column that is not there cannot be printed, only asked for: `{{ data.bio | default("") }}`,
//!   `{% if data.bio %}`. Silence would hide every misspelt name.
//! - `set_path("/people/" ~ data.id)` and `set_header("x-table", source.table)` change the request.
//! - Steps, memory and output are bounded, and templates read no files.

mod check;
mod escape;
mod number;
mod request;
mod value;

use std::fmt;
use std::io::{self, Write};

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::value::RawValue;

use super::envelope::Envelope;
use super::{FormatError, Rendered, Subject};
use escape::{CLOSE, OPEN};
use request::Request;

/// The most a template may make of one event.
const MOST_OUTPUT_BYTES: usize = 4 << 20;
/// What one event may cost: each unit is about one step, or 64 bytes made.
const FUEL: u64 = 500_000;
/// How deep calls of macros and blocks may nest; each level takes stack.
const DEEPEST: usize = 100;

/// A template, compiled and checked.
pub struct Template {
    /// What it is called in errors: its file's name.
    name: String,
    environment: Environment<'static>,
    content_type: String,
    is_json: bool,
}

/// A template that cannot be used: a predicate such as `has an error in line 3: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError(String);

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TemplateError {}

/// The text stays out of it: it may hold a token.
impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template")
            .field("name", &self.name)
            .field("content_type", &self.content_type)
            .finish_non_exhaustive()
    }
}

impl Template {
    /// Compiles a template and tries it with sample events. `name` is its file's name, which also
    /// says what it makes where `content_type` does not: JSON if it ends with `.json` or
    /// `.json.j2`, else plain text.
    ///
    /// # Errors
    /// A syntax error; a variable, filter, test or function that is not there; calls that can
    /// never work; output that can never be JSON; a media type that is none.
    pub fn new(
        name: &str,
        text: &str,
        content_type: Option<&str>,
    ) -> Result<Template, TemplateError> {
        let content_type = match content_type {
            Some(content_type) => checked_content_type(content_type)?,
            None if says_json(name) => "application/json".to_owned(),
            None => "text/plain; charset=utf-8".to_owned(),
        };
        let is_json = is_json(&content_type);
        if text.contains([OPEN, CLOSE]) {
            let message = "holds a control character: remove it";
            return Err(TemplateError(message.to_owned()));
        }
        let environment = environment(is_json, UndefinedBehavior::SemiStrict);
        let mut template = Template { name: name.to_owned(), environment, content_type, is_json };
        template.compile(text)?;
        template.check(text)?;
        Ok(template)
    }

    /// Whether its media type is JSON.
    pub fn makes_json(&self) -> bool {
        self.is_json
    }

    fn compile(&mut self, text: &str) -> Result<(), TemplateError> {
        self.environment
            .add_template_owned(self.name.clone(), text.to_owned())
            .map_err(|error| mistake(&error))
    }

    /// What is sent of an event.
    pub(super) fn render(
        &self,
        event: &Subject<'_>,
        envelope: &Envelope<'_>,
    ) -> Result<Rendered, FormatError> {
        let made = self.make(event, envelope).map_err(|error| self.failure(&error))?;
        if self.is_json && !is_valid_json(&made.output) {
            return Err(FormatError(format!(
                "the template {} makes no JSON of {}: look for a comma too many or too few, or \
                 a quote that is missing",
                self.name, event.name
            )));
        }
        Ok(Rendered {
            body: made.output.into(),
            content_type: self.content_type.clone(),
            headers: made.request.headers,
            path: made.request.path,
        })
    }

    fn make(&self, event: &Subject<'_>, envelope: &Envelope<'_>) -> Result<Made, Error> {
        let _numbers = number::Remembered::start();
        let template = self.environment.get_template(&self.name)?;
        let mut output = Limited(Vec::with_capacity(1_024));
        let mut captured = template.render_captured_to(variables(event, envelope), &mut output)?;
        let request = captured.with_state_mut(|state| {
            state.get_extension_mut::<Request>().map(std::mem::take).unwrap_or_default()
        });
        let unfit = |_| Error::new(ErrorKind::WriteFailure, "the output is not UTF-8");
        let mut output = String::from_utf8(output.0).map_err(unfit)?;
        if self.is_json {
            output = escape::settle(output);
        }
        Ok(Made { output, request })
    }

    /// One sentence without any value of the event's.
    fn failure(&self, error: &Error) -> FormatError {
        let line = error.line().map_or(String::new(), |line| format!(" fails in line {line}"));
        let why = match (error.kind(), error.detail()) {
            _ if request::is_refusal(error) => error.detail().unwrap_or_default().to_owned(),
            // The detail is the expression as the template has it.
            (ErrorKind::UndefinedError, Some(expression)) => format!(
                "{expression}: where a column may be missing, write {{{{ data.column | \
                 default(\"\") }}}}"
            ),
            (ErrorKind::OutOfFuel, _) => "it takes too many steps for this event".to_owned(),
            (ErrorKind::WriteFailure, _) => {
                format!("it makes more than {} MiB of this event", MOST_OUTPUT_BYTES >> 20)
            }
            (kind, _) => kind.to_string(),
        };
        FormatError(format!("the template {}{line}: {why}", self.name))
    }
}

struct Made {
    output: String,
    request: Request,
}

/// The error of a template that was never given a real event, so that its detail tells none.
fn mistake(error: &Error) -> TemplateError {
    let why = match error.detail() {
        Some(detail) if request::is_refusal(error) => detail.to_owned(),
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    let line = error.line().unwrap_or(1);
    TemplateError(format!("has an error in line {line}: {why}"))
}

fn environment(is_json: bool, undefined: UndefinedBehavior) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(undefined);
    environment.set_recursion_limit(DEEPEST);
    environment.set_fuel(Some(FUEL));
    // Has undefined variables named in errors.
    environment.set_debug(true);
    environment.set_auto_escape_callback(
        move |_| {
            if is_json { AutoEscape::Json } else { AutoEscape::None }
        },
    );
    let is_sample = undefined == UndefinedBehavior::Chainable;
    environment.set_formatter(move |out, state, value| escape::print(out, state, value, is_sample));
    environment.add_filter("tojson", escape::tojson);
    environment.add_filter("string", value::string);
    environment.add_filter("urlencode", request::urlencode);
    environment.add_function("set_path", request::set_path);
    environment.add_function("set_header", request::set_header);
    // It would print all there is into one request or log.
    environment.remove_global("debug");
    environment
}

/// The members of the envelope.
const NAMES: [&str; 8] =
    ["id", "event", "timestamp", "data", "previous", "updatedFields", "unchanged", "source"];

fn variables(event: &Subject<'_>, envelope: &Envelope<'_>) -> Value {
    let [id, name, timestamp, data, previous, updated, unchanged, source] = NAMES;
    Value::from_pairs([
        (id, Value::from(event.id.to_string())),
        (name, Value::from(event.name)),
        (timestamp, value::of_json(envelope.timestamp)),
        (data, value::of_json(envelope.data)),
        (previous, value::of_json(envelope.previous.unwrap_or("{}"))),
        (updated, value::of_json(envelope.updated_fields.unwrap_or("[]"))),
        (unchanged, value::of_json(envelope.unchanged.unwrap_or("[]"))),
        (source, value::of_json(envelope.source_text.unwrap_or("{}"))),
    ])
}

/// Takes so much and no more.
struct Limited(Vec<u8>);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len().saturating_add(bytes.len()) > MOST_OUTPUT_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_valid_json(text: &str) -> bool {
    // Neither a tree of values nor a recursion.
    serde_json::from_str::<&RawValue>(text).is_ok()
}

fn says_json(name: &str) -> bool {
    let name = name.strip_suffix(".j2").or(name.strip_suffix(".jinja")).unwrap_or(name);
    name.ends_with(".json")
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}

/// A media type that a header can carry.
fn checked_content_type(text: &str) -> Result<String, TemplateError> {
    let text = text.trim();
    let essence = text.split(';').next().unwrap_or_default().trim();
    let is_type = essence.split_once('/').is_some_and(|(kind, subtype)| {
        [kind, subtype].iter().all(|part| !part.is_empty() && part.bytes().all(request::is_token))
    });
    if is_type && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(text.to_owned());
    }
    Err(TemplateError("is no media type: write one such as \"application/json\"".to_owned()))
}
