//! From text to an expression that is known to be harmless.

use std::sync::Arc;

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::{Context, ExecutionError};
use regex::{Regex, RegexBuilder};

use super::check::{self, Problem};
use super::cost::{self, Size};
use super::input::Uses;
use super::{BUDGET_NS, ConditionError, ENVIRONMENT};

/// The longest text, in bytes.
const MAX_TEXT: usize = 4 * 1024;
/// How deep parentheses and brackets nest in it.
const MAX_BRACKETS: usize = 32;
/// How large a compiled pattern may be, in bytes: enough for some dozens of character classes.
const MAX_PATTERN: usize = 1 << 20;
/// The parser calls itself for every operator of a chain, far deeper than the text looks.
const PARSER_STACK: usize = 256 << 20;
/// An event as small as any.
const SMALLEST: Size = Size { bytes: 256.0, values: 8.0 };
/// What calls of `matches` become. No text can name it.
pub(super) const MATCHES: &str = "@matches";

/// An expression, and what it needs.
pub(super) struct Compiled {
    pub(super) text: String,
    pub(super) expression: IdedExpr,
    pub(super) uses: Uses,
    patterns: Arc<[Regex]>,
}

pub(super) fn compile(text: &str) -> Result<Compiled, ConditionError> {
    check_text(text)?;
    // Whatever the parser does with its stack, or with its assertions, ends with its thread.
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("condition".into())
            .stack_size(PARSER_STACK)
            .spawn_scoped(scope, || parse(text))
            .map_err(|error| ConditionError(format!("cannot be read for want of memory: {error}")))?
            .join()
            .unwrap_or_else(|_| Err(ConditionError("is no CEL: the parser gave up on it".into())))
    })
}

fn check_text(text: &str) -> Result<(), ConditionError> {
    if text.trim().is_empty() {
        return Err(ConditionError("is empty: write one such as data.status == 'active'".into()));
    }
    if text.len() > MAX_TEXT {
        return Err(ConditionError(format!(
            "has {} bytes, and {MAX_TEXT} are allowed: split it among several endpoints",
            text.len()
        )));
    }
    let mut depth = 0_usize;
    for (place, character) in text.chars().enumerate() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_BRACKETS {
            return Err(ConditionError(format!(
                "nests brackets more than {MAX_BRACKETS} deep (character {})",
                place + 1
            )));
        }
    }
    Ok(())
}

fn parse(text: &str) -> Result<Compiled, ConditionError> {
    let program = ENVIRONMENT.compile(text).map_err(|errors| no_cel(&errors))?;
    let said = |problem: Problem| {
        let place = program.source_info().offset_for(problem.id);
        ConditionError(match place {
            Some((start, _)) => format!("{} (character {})", problem.what, start + 1),
            None => problem.what,
        })
    };
    let uses = check::check(program.expression()).map_err(said)?;
    let mut expression = program.expression().clone();
    let mut patterns = Vec::new();
    take_patterns(&mut expression, &mut patterns).map_err(said)?;
    let affordable = cost::estimate_ns(&expression, SMALLEST) <= BUDGET_NS;
    if !affordable {
        return Err(ConditionError(
            "would cost too much for every event: nest fewer macros".into(),
        ));
    }
    Ok(Compiled { text: text.to_owned(), expression, uses, patterns: patterns.into() })
}

/// The first of the parser's errors, in a sentence.
fn no_cel(errors: &cel::ParseErrors) -> ConditionError {
    let Some(error) = errors.errors.first() else { return ConditionError("is no CEL".into()) };
    let message = error.msg.trim_start_matches("Syntax error: ");
    let mut message: String =
        message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(160).collect();
    if message.is_empty() {
        message.push_str("it does not parse");
    }
    let (line, column) = error.pos;
    ConditionError(format!("is no CEL: {message} (line {line}, column {column})"))
}

/// Compiles the patterns of `matches` and puts their numbers in their place: the interpreter would
/// compile them again for every event, however large they are.
fn take_patterns(expr: &mut IdedExpr, patterns: &mut Vec<Regex>) -> Result<(), Problem> {
    let id = expr.id;
    match &mut expr.expr {
        Expr::Call(call) => {
            if let Some(target) = &mut call.target {
                take_patterns(target, patterns)?;
            }
            for argument in &mut call.args {
                take_patterns(argument, patterns)?;
            }
            if call.func_name == "matches" {
                take_pattern(id, call, patterns)?;
            }
        }
        Expr::Comprehension(comprehension) => {
            for part in [
                &mut comprehension.iter_range,
                &mut comprehension.accu_init,
                &mut comprehension.loop_cond,
                &mut comprehension.loop_step,
                &mut comprehension.result,
            ] {
                take_patterns(part, patterns)?;
            }
        }
        Expr::List(list) => {
            for element in &mut list.elements {
                take_patterns(element, patterns)?;
            }
        }
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    take_patterns(&mut entry.key, patterns)?;
                    take_patterns(&mut entry.value, patterns)?;
                }
            }
        }
        Expr::Select(select) => take_patterns(&mut select.operand, patterns)?,
        Expr::Struct(_) | Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
    }
    Ok(())
}

fn take_pattern(id: u64, call: &mut CallExpr, patterns: &mut Vec<Regex>) -> Result<(), Problem> {
    let mut arguments: Vec<IdedExpr> =
        call.target.take().map(|target| *target).into_iter().collect();
    arguments.append(&mut call.args);
    let Some(pattern) = arguments.pop() else { return Ok(()) };
    let Expr::Literal(LiteralValue::String(text)) = &pattern.expr else {
        let what = "matches with a pattern that is no literal text, and must be one".to_owned();
        return Err(Problem { id: pattern.id, what });
    };
    let compiled =
        RegexBuilder::new(text.inner()).size_limit(MAX_PATTERN).nest_limit(64).build().map_err(
            |error| {
                let why = match error {
                    regex::Error::CompiledTooBig(_) => "it is too large",
                    _ => "it is no regular expression (as of the crate regex: no look-around)",
                };
                Problem { id, what: format!("matches with a pattern that cannot be used: {why}") }
            },
        )?;
    let number = i64::try_from(patterns.len()).unwrap_or(i64::MAX);
    patterns.push(compiled);
    let number = Expr::Literal(LiteralValue::Int(number.into()));
    arguments.push(IdedExpr { id: pattern.id, expr: number });
    *call = CallExpr { func_name: MATCHES.to_owned(), target: None, args: arguments };
    Ok(())
}

impl Compiled {
    /// Adds what the expression calls beyond the standard functions.
    pub(super) fn add_functions(
        &self,
        context: &mut Context<'_, '_>,
    ) -> Result<(), ConditionError> {
        if self.patterns.is_empty() {
            return Ok(());
        }
        let patterns = Arc::clone(&self.patterns);
        let matches = move |text: Arc<String>, number: i64| -> Result<bool, ExecutionError> {
            let pattern = usize::try_from(number).ok().and_then(|number| patterns.get(number));
            match pattern {
                Some(pattern) => Ok(pattern.is_match(&text)),
                None => Err(ExecutionError::function_error("matches", "no such pattern")),
            }
        };
        context
            .add_function(MATCHES, matches)
            .map_err(|_| ConditionError("cannot be evaluated: `matches` is taken".into()))
    }
}
