//! What can be found wrong with a template before the first event.
//!
//! Names are looked up in the compiled code, so that a branch no sample takes is checked as well.
//! Then sample events are rendered. Nobody knows the table, so a column that a sample lacks is no
//! error, nor is what follows from it.

use std::collections::BTreeSet;

use bytes::Bytes;
use minijinja::machinery::{Instruction, Instructions, get_compiled_template};
use minijinja::{Error, ErrorKind, UndefinedBehavior};

use super::super::envelope::Envelope;
use super::{
    NAMES, Subject, Template, TemplateError, environment, is_valid_json, mistake, request,
};
use crate::event::id::EventId;

/// An event's name, and its envelope from `data` on.
const SAMPLES: [(&str, &str); 4] = [
    ("sample.created", r#""data":{"id":1}"#),
    (
        "sample.updated",
        r#""data":{"id":1},"previous":{"name":"a"},"updatedFields":["name"],"unchanged":["bio"]"#,
    ),
    ("sample.deleted", r#""data":{"id":1}"#),
    ("sample.truncated", r#""data":{}"#),
];

impl Template {
    pub(super) fn check(&self, text: &str) -> Result<(), TemplateError> {
        self.check_names()?;
        // The same template, but lenient.
        let mut lenient = Template {
            name: self.name.clone(),
            environment: environment(self.is_json, UndefinedBehavior::Chainable),
            content_type: self.content_type.clone(),
            is_json: self.is_json,
        };
        lenient.compile(text)?;
        let (mut rendered, mut json) = (0, 0);
        for (name, rest) in SAMPLES {
            let envelope = Bytes::from(format!(
                r#"{{"id":"evt","event":"{name}","timestamp":"2025-02-10T15:30:50.123456Z",{rest},"source":{{"database":"sample","schema":"public","table":"sample","lsn":"0/16B3748","commitLsn":"0/16B3790","xid":743,"ordinal":0,"capture":"replication"}}}}"#
            ));
            let id = EventId::from_bytes([0; 20]);
            let committed_at_us = 1_739_201_450_123_456;
            let event = Subject { id, name, committed_at_us, envelope: &envelope };
            let Ok(envelope) = Envelope::parse(&envelope) else { continue };
            match lenient.make(&event, &envelope) {
                Ok(made) => {
                    // A template for some events may make nothing of others.
                    if !made.output.trim().is_empty() {
                        rendered += 1;
                        json += usize::from(is_valid_json(&made.output));
                    }
                }
                Err(error) if is_certain(&error) => return Err(mistake(&error)),
                Err(_) => {}
            }
        }
        if self.is_json && rendered > 0 && json == 0 {
            return Err(TemplateError(
                "makes no JSON of a sample event: look for a comma too many or too few, or a \
                 quote that is missing"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Whether all variables, filters, tests and functions are there.
    fn check_names(&self) -> Result<(), TemplateError> {
        let template =
            self.environment.get_template(&self.name).map_err(|error| mistake(&error))?;
        let undeclared = template.undeclared_variables(false);
        let globals: BTreeSet<&str> = self.environment.globals().map(|(name, _)| name).collect();
        let is_unknown = |name: &str| {
            undeclared.contains(name) && !NAMES.contains(&name) && !globals.contains(name)
        };
        let compiled = get_compiled_template(&template);
        let code: &Instructions<'_> = &compiled.instructions;
        for at in 0.. {
            let Some(instruction) = code.get(at) else { break };
            let line = code.get_line(at).unwrap_or(1);
            let before = at.checked_sub(1).and_then(|before| code.get(before));
            if let (Instruction::CallFunction("set_path", _), Some(Instruction::LoadConst(path))) =
                (instruction, before)
                && let Some(Err(error)) = path.as_str().map(request::check_path)
            {
                let why = error.detail().unwrap_or_default();
                return Err(TemplateError(format!("has an error in line {line}: {why}")));
            }
            let (what, name) = match *instruction {
                Instruction::Lookup(name) if is_unknown(name) => {
                    return Err(TemplateError(format!(
                        "has an error in line {line}: there is no {name}: what can stand here is \
                         {}",
                        NAMES.join(", ")
                    )));
                }
                Instruction::CallFunction(name, _) if is_unknown(name) => ("function", name),
                Instruction::ApplyFilter(name, ..) if !self.has_filter(name) => ("filter", name),
                Instruction::PerformTest(name, ..) if !self.has_test(name) => ("test", name),
                _ => continue,
            };
            return Err(TemplateError(format!(
                "has an error in line {line}: there is no {what} {name}"
            )));
        }
        Ok(())
    }

    fn has_filter(&self, name: &str) -> bool {
        let called = self.environment.empty_state().apply_filter(name, &[]);
        !called.is_err_and(|error| error.kind() == ErrorKind::UnknownFilter)
    }

    fn has_test(&self, name: &str) -> bool {
        let called = self.environment.empty_state().perform_test(name, &[]);
        !called.is_err_and(|error| error.kind() == ErrorKind::UnknownTest)
    }
}

/// Whether an error of a sample would be one of every event.
fn is_certain(error: &Error) -> bool {
    request::is_refusal(error)
        || matches!(
            error.kind(),
            ErrorKind::SyntaxError
                | ErrorKind::TooManyArguments
                | ErrorKind::MissingArgument
                | ErrorKind::UnknownFilter
                | ErrorKind::UnknownTest
                | ErrorKind::UnknownFunction
                | ErrorKind::UnknownMethod
                | ErrorKind::BadEscape
                | ErrorKind::OutOfFuel
                | ErrorKind::WriteFailure
        )
}
