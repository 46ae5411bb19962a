//! Conditions over what an event holds, in CEL (<https://cel.dev>).
//!
//! An expression reads `event` (the name), `data` and `previous` (maps), `updatedFields` (a list of
//! names) and `source` (a map), as they stand in the envelope of the format `walhook`:
//!
//! ```text
//! data.status == 'active' && (event == 'person.created' || 'email' in updatedFields)
//! ```
//!
//! - **Types** are checked when the expression is read: unknown names and functions, `event == 5`,
//!   an expression that is no question. What a column holds shows only with the event.
//! - **An error is no match**, and says why: a key the event doesn't have, a text where a number
//!   was meant. As CEL has it, `a && b` is false and no error when either is false.
//! - **What is not known**: of an event without old values `has(previous.email)` is false, and so
//!   is every other question about `previous` an error; `updatedFields` is an error as a whole,
//!   since an empty list would say that nothing changed.
//! - **Numbers**: whole numbers of 64 bits are exact. Decimals of up to 15 significant digits are
//!   doubles, which hold those exactly. All others are texts, as the digits stand in the event:
//!   comparing one with a number is an error (or with `==` false), never a rounded yes.
//! - **Costs** are bounded before anything is evaluated: macros (`exists`, `all`, `filter` …) nest
//!   two deep at most, patterns of `matches` are literals that are compiled once, and an event that
//!   is so large that the expression could take long is refused with an error.

use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::common::ast::IdedExpr;
use cel::{Context, Env, ExecutionError, Value};

mod check;
mod compile;
mod cost;
mod input;
mod types;

use compile::Compiled;
use input::Unread;

/// What evaluations share: CEL's standard functions and macros.
static ENVIRONMENT: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

/// How long an evaluation may take, in nanoseconds, as estimated beforehand.
const BUDGET_NS: f64 = 50e6;

/// An expression that an event meets or not. A clone costs next to nothing.
#[derive(Clone)]
pub struct EventCondition(Arc<Compiled>);

/// A condition that cannot be used, or could not be judged for an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionError(String);

impl fmt::Display for ConditionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConditionError {}

impl fmt::Debug for EventCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventCondition({:?})", self.0.text)
    }
}

impl EventCondition {
    /// Compiles and checks an expression.
    ///
    /// # Errors
    /// It is no CEL, names what is not there, yields no boolean, or is too large or too deep.
    pub fn new(text: &str) -> Result<EventCondition, ConditionError> {
        compile::compile(text).map(|compiled| EventCondition(Arc::new(compiled)))
    }

    /// Whether an event meets it; `envelope` is the JSON envelope of the format `walhook`.
    ///
    /// # Errors
    /// The expression fails for this event, or would cost too much. The sentence holds names of
    /// columns but none of their values.
    pub fn matches(&self, envelope: &[u8]) -> Result<bool, ConditionError> {
        let compiled = &*self.0;
        let input = input::read(envelope, &compiled.uses).map_err(|error| {
            ConditionError(match error {
                Unread::Json(error) => format!("the event cannot be read: {error}"),
                Unread::Large(values) => format!(
                    "would cost too much for an event as large as this one ({values} values and more are looked at): look at less of it"
                ),
            })
        })?;
        // Written so that what is no number is too much as well.
        let affordable = cost::estimate_ns(&compiled.expression, input.size) <= BUDGET_NS;
        if !affordable {
            return Err(ConditionError(format!(
                "would cost too much for an event as large as this one ({:.0} bytes in {:.0} values are looked at): look at less of it, or nest fewer macros",
                input.size.bytes, input.size.values
            )));
        }
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        for (name, value) in input.variables {
            context.add_variable_from_value(name, value);
        }
        compiled.add_functions(&mut context)?;
        evaluate(&compiled.expression, &context)
    }
}

fn evaluate(expression: &IdedExpr, context: &Context<'_, '_>) -> Result<bool, ConditionError> {
    // The interpreter isn't ours: should it panic, one event has no match, and delivery goes on.
    let evaluation = std::panic::AssertUnwindSafe(|| Value::resolve(expression, context));
    match std::panic::catch_unwind(evaluation) {
        Ok(Ok(Value::Bool(met))) => Ok(met),
        Ok(Ok(other)) => Err(ConditionError(format!(
            "yields {} {}, not true or false",
            article(&other),
            other.type_of()
        ))),
        Ok(Err(error)) => Err(ConditionError(describe(&error))),
        Err(_) => Err(ConditionError("cannot be evaluated: the interpreter failed".into())),
    }
}

fn article(value: &Value) -> &'static str {
    if matches!(value, Value::Int(_)) { "an" } else { "a" }
}

/// What went wrong, without the values it went wrong with: they are other people's.
fn describe(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => {
            format!("asks for {key:?}, which the event does not have: test it with has(…) before")
        }
        ExecutionError::UndeclaredReference(name) => {
            format!("asks for `{name}`, which is not known of this event")
        }
        ExecutionError::NoSuchOverload(overload) => {
            format!(
                "does not fit the event: `{}` takes no {}",
                plain(overload.function()),
                overload.argument_types().join(" and ")
            )
        }
        ExecutionError::UnexpectedType { got, want } => {
            format!("does not fit the event: a {got} stands where a {want} is needed")
        }
        ExecutionError::FunctionError { function, .. } => {
            format!("does not fit the event: `{function}` cannot take what stands there")
        }
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "divides by zero for this event".into()
        }
        ExecutionError::Overflow(..) => "overflows a number for this event".into(),
        ExecutionError::IndexOutOfBounds(_) => "asks for a place behind the end of a list".into(),
        ExecutionError::DuplicateKey(_) => "makes a map with the same key twice".into(),
        _ => "does not fit the event: values of these types do not go together".into(),
    }
}

/// An operator as people write it: `_+_` is `+`.
fn plain(function: &str) -> String {
    match function {
        "@in" => "in".into(),
        "_[_]" => "[…]".into(),
        _ => function.trim_matches('_').to_owned(),
    }
}

#[cfg(test)]
mod tests;
