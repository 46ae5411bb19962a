//! Checks an expression before any event is there: names, functions, types, depth; and notes which
//! parts of an event it reads.

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};

use super::input::{Members, Uses, significant_digits};
use super::types::{FUNCTIONS, Function, SOURCE, Style, TYPE_NAMES, Type, VARIABLES};

/// How deep an expression may be: evaluating it calls itself that often.
const MAX_DEPTH: usize = 48;
/// How deep macros may nest.
const MAX_LOOPS: usize = 2;

/// What is wrong with an expression, and with which of its nodes.
pub(super) struct Problem {
    pub(super) id: u64,
    pub(super) what: String,
}

type Result<T> = std::result::Result<T, Problem>;

/// What the expression reads, if there is nothing wrong with it.
pub(super) fn check(expression: &IdedExpr) -> Result<Uses> {
    let mut checker = Checker { uses: Uses::default(), scope: Vec::new(), depth: 0, loops: 0 };
    let kind = checker.of(expression)?;
    if !kind.may_be(&[Type::Bool]) {
        let what = format!("yields {kind}, not true or false: compare it with something");
        return Err(Problem { id: expression.id, what });
    }
    Ok(checker.uses)
}

struct Checker<'a> {
    uses: Uses,
    /// Variables of macros, the innermost last.
    scope: Vec<(&'a str, Type)>,
    depth: usize,
    loops: usize,
}

impl<'a> Checker<'a> {
    fn of(&mut self, expr: &'a IdedExpr) -> Result<Type> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let what = format!("is nested more than {MAX_DEPTH} deep: write it flatter");
            return Err(Problem { id: expr.id, what });
        }
        let kind = match &expr.expr {
            Expr::Literal(literal) => literal_type(expr.id, literal)?,
            Expr::Ident(name) => self.name(expr.id, name)?,
            Expr::Select(select) => {
                let member = self.member(&select.operand, &select.field)?;
                let kind = match member {
                    Some(kind) => kind,
                    None => {
                        let operand = self.of(&select.operand)?;
                        if !operand.may_be(&[Type::Map]) {
                            let what = format!("asks for .{} of {operand}", select.field);
                            return Err(Problem { id: expr.id, what });
                        }
                        Type::Any
                    }
                };
                if select.test { Type::Bool } else { kind }
            }
            Expr::Call(call) => self.call(expr.id, call)?,
            Expr::List(list) => {
                for element in &list.elements {
                    self.of(element)?;
                }
                Type::List
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else {
                        return Err(unsupported(expr.id));
                    };
                    let key = self.of(&entry.key)?;
                    if !key.may_be(&[Type::String, Type::Int, Type::Uint, Type::Bool]) {
                        let what = format!("makes a map with {key} as a key");
                        return Err(Problem { id: entry.key.id, what });
                    }
                    self.of(&entry.value)?;
                }
                Type::Map
            }
            Expr::Comprehension(comprehension) => self.comprehension(expr.id, comprehension)?,
            Expr::Struct(_) | Expr::Unspecified => return Err(unsupported(expr.id)),
        };
        self.depth -= 1;
        Ok(kind)
    }

    fn shadowed(&self, name: &str) -> Option<Type> {
        self.scope.iter().rev().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    /// A name that stands for itself, not for a part of it.
    fn name(&mut self, id: u64, name: &str) -> Result<Type> {
        if let Some(kind) = self.shadowed(name) {
            return Ok(kind);
        }
        match name {
            "event" => self.uses.event = true,
            "updatedFields" => self.uses.updated_fields = true,
            "data" => self.uses.data = Members::All,
            "previous" => self.uses.previous = Members::All,
            "source" => self.uses.source = Members::All,
            _ if TYPE_NAMES.contains(&name) => return Ok(Type::Kind),
            _ => {
                let known = VARIABLES.map(|(name, _)| name);
                let what = format!("names {name:?}, which is not there: {}", hint(name, &known));
                return Err(Problem { id, what });
            }
        }
        let kind = VARIABLES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
        Ok(kind.unwrap_or(Type::Any))
    }

    /// The type of a member of one of the event's maps, if the operand is one of them. Only that
    /// member will be read of it.
    fn member(&mut self, operand: &IdedExpr, field: &str) -> Result<Option<Type>> {
        let Expr::Ident(name) = &operand.expr else { return Ok(None) };
        if self.shadowed(name).is_some() {
            return Ok(None);
        }
        match name.as_str() {
            "data" => self.uses.data.add(field),
            "previous" => self.uses.previous.add(field),
            "source" => {
                self.uses.source.add(field);
                let known = SOURCE.iter().find(|(known, _)| *known == field);
                return match known {
                    Some((_, kind)) => Ok(Some(*kind)),
                    None => {
                        let names = SOURCE.map(|(name, _)| name);
                        let what = format!(
                            "asks for source.{field}, which is not there: {}",
                            hint(field, &names)
                        );
                        Err(Problem { id: operand.id, what })
                    }
                };
            }
            _ => return Ok(None),
        }
        Ok(Some(Type::Any))
    }

    fn call(&mut self, id: u64, call: &'a CallExpr) -> Result<Type> {
        let wrong = |what: String| Problem { id, what };
        if call.func_name == "_[_]"
            && let [operand, IdedExpr { expr: Expr::Literal(LiteralValue::String(field)), .. }] =
                &call.args[..]
            && let Some(kind) = self.member(operand, field.inner())?
        {
            return Ok(kind);
        }
        if !is_operator(&call.func_name) {
            return self.function(id, call);
        }
        let kinds =
            call.args.iter().map(|argument| self.of(argument)).collect::<Result<Vec<_>>>()?;
        let operator = call.func_name.trim_matches('_');
        match (call.func_name.as_str(), &kinds[..]) {
            ("_&&_" | "_||_", [left, right]) => {
                for kind in [left, right] {
                    if !kind.may_be(&[Type::Bool]) {
                        return Err(wrong(format!(
                            "has {kind} beside {operator}, which joins what is true or false"
                        )));
                    }
                }
                Ok(Type::Bool)
            }
            ("!_", [kind]) if kind.may_be(&[Type::Bool]) => Ok(Type::Bool),
            ("!_", [kind]) => {
                Err(wrong(format!("negates {kind} with !, which is for true and false")))
            }
            ("-_", [kind]) if kind.may_be(&[Type::Int, Type::Double, Type::Duration]) => Ok(*kind),
            ("-_", [kind]) => Err(wrong(format!("negates {kind} with -, which is for numbers"))),
            ("@not_strictly_false", _) => Ok(Type::Bool),
            ("_==_" | "_!=_", [left, right]) if left.may_equal(*right) => Ok(Type::Bool),
            ("_<_" | "_<=_" | "_>_" | "_>=_", [left, right]) if left.is_ordered_with(*right) => {
                Ok(Type::Bool)
            }
            ("_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_", [left, right]) => {
                Err(wrong(format!("compares {left} with {right} ({operator})")))
            }
            ("@in", [_, right]) if right.may_be(&[Type::List, Type::Map]) => Ok(Type::Bool),
            ("@in", [_, right]) => Err(wrong(format!("looks for something in {right}"))),
            ("_[_]", [left, right]) => {
                let fit = match left {
                    Type::List => right.may_be(&[Type::Int, Type::Uint]),
                    Type::Map => right.may_be(&[Type::String, Type::Int, Type::Uint, Type::Bool]),
                    Type::Any => true,
                    _ => false,
                };
                if fit { Ok(Type::Any) } else { Err(wrong(format!("takes [{right}] of {left}"))) }
            }
            ("_?_:_", [condition, one, other]) => {
                if !condition.may_be(&[Type::Bool]) {
                    return Err(wrong(format!(
                        "has {condition} before ?, which asks for true or false"
                    )));
                }
                Ok(if one == other { *one } else { Type::Any })
            }
            ("_+_" | "_-_" | "_*_" | "_/_" | "_%_", [left, right]) => {
                left.arithmetic(&call.func_name, *right).ok_or_else(|| {
                    wrong(format!(
                        "calculates {left} {operator} {right}: both have to be of one type"
                    ))
                })
            }
            _ => Err(unsupported(id)),
        }
    }

    fn function(&mut self, id: u64, call: &'a CallExpr) -> Result<Type> {
        let name = &call.func_name;
        let wrong = |what: String| Problem { id, what };
        let style = if call.target.is_some() { Style::Method } else { Style::Plain };
        let Some(function) = FUNCTIONS.iter().find(|function| function.name == name) else {
            let names: Vec<&str> = FUNCTIONS.iter().map(|function| function.name).collect();
            return Err(wrong(format!(
                "calls {name:?}, which is no function: {}",
                hint(name, &names)
            )));
        };
        if function.style != Style::Either && function.style != style {
            let how = match function.style {
                Style::Method => format!("x.{name}(…)"),
                _ => format!("{name}(x)"),
            };
            return Err(wrong(format!("calls {name} in a way it is not meant: write {how}")));
        }
        let mut kinds = Vec::with_capacity(call.args.len() + 1);
        for part in call.target.as_deref().into_iter().chain(&call.args) {
            kinds.push(self.of(part)?);
        }
        arguments(function, &kinds).map_err(wrong)?;
        Ok(function.result)
    }

    fn comprehension(&mut self, id: u64, loop_: &'a ComprehensionExpr) -> Result<Type> {
        let range = self.of(&loop_.iter_range)?;
        if !range.may_be(&[Type::List, Type::Map]) {
            let what = format!("goes through {range}, which is neither a list nor a map");
            return Err(Problem { id, what });
        }
        if self.loops == MAX_LOOPS {
            let what = format!("nests macros such as exists and map more than {MAX_LOOPS} deep");
            return Err(Problem { id, what });
        }
        if loop_.iter_var2.is_some() {
            return Err(unsupported(id));
        }
        let accumulated = self.of(&loop_.accu_init)?;
        let element = if range == Type::Map { Type::String } else { Type::Any };
        let known = VARIABLES.iter().any(|(name, _)| *name == loop_.iter_var);
        if known {
            let what = format!(
                "calls a variable {:?}, which the event's own is called: choose another name",
                loop_.iter_var
            );
            return Err(Problem { id, what });
        }
        self.loops += 1;
        self.scope.push((&loop_.accu_var, accumulated));
        self.scope.push((&loop_.iter_var, element));
        self.of(&loop_.loop_cond)?;
        self.of(&loop_.loop_step)?;
        self.scope.pop();
        let result = self.of(&loop_.result)?;
        self.scope.pop();
        self.loops -= 1;
        Ok(result)
    }
}

fn arguments(function: &Function, kinds: &[Type]) -> std::result::Result<(), String> {
    let name = function.name;
    let Some((receiver, texts)) = kinds.split_first() else {
        return Err(format!("calls {name}() without anything to take"));
    };
    let (least, most) = function.texts;
    if texts.len() < least || texts.len() > most {
        // A method's receiver stands before its name.
        let before = usize::from(function.style != Style::Method);
        let wanted = match (least + before, most + before) {
            (least, most) if least == most => least.to_string(),
            (least, most) => format!("{least} or {most}"),
        };
        let given = texts.len() + before;
        return Err(format!("calls {name} with {given} arguments, and it takes {wanted}"));
    }
    if !receiver.may_be(function.receiver) {
        return Err(format!("calls {name} for {receiver}, which it is not for"));
    }
    match texts.iter().find(|kind| !kind.may_be(&[Type::String])) {
        Some(kind) => Err(format!("calls {name} with {kind}, and it takes a text")),
        None => Ok(()),
    }
}

fn literal_type(id: u64, literal: &LiteralValue) -> Result<Type> {
    Ok(match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(double) => {
            // Written out in full: what was written down already lost digits when it was read.
            if significant_digits(&double.inner().to_string()) > 15 {
                let what = "has a decimal of more than 15 digits, which no number of CEL holds exactly: compare it as a text, in quotes".into();
                return Err(Problem { id, what });
            }
            Type::Double
        }
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::String,
        LiteralValue::UInt(_) => Type::Uint,
    })
}

fn is_operator(name: &str) -> bool {
    name.starts_with(['_', '@', '!', '-'])
}

fn unsupported(id: u64) -> Problem {
    Problem { id, what: "uses a part of CEL that conditions don't have".into() }
}

/// The nearest of the known names, or all of them.
fn hint(name: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|known| {
            (strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()), known)
        })
        .min();
    match nearest {
        Some((distance, known)) if distance <= 2.max(name.len() / 3) && distance < name.len() => {
            format!("did you mean {known:?}?")
        }
        _ => format!("there are {}", known.join(", ")),
    }
}
