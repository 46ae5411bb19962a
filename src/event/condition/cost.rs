//! What an evaluation can cost at most, from the expression and the size of what it reads.
//!
//! A bound, not a forecast: a loop runs once for every value there is, each value is as large as
//! everything together, and no `&&` ends early. CEL has no other loops and no recursion, so the
//! bound is finite; macros within macros multiply, and so do lists of lists.

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue};

use super::compile::MATCHES;

/// How large something is, at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Of its texts and numbers.
    pub(super) bytes: f64,
    /// It and all that is in it, to any depth.
    pub(super) values: f64,
}

const SCALAR: Size = Size { bytes: 8.0, values: 1.0 };
const NOTHING: Size = Size { bytes: 0.0, values: 0.0 };

/// Nanoseconds, measured on a machine of 2020 and doubled.
const STEP_NS: f64 = 150.0;
const VALUE_NS: f64 = 80.0;
const BYTE_NS: f64 = 0.5;
/// Reading a text as something else: a number, a time.
const CONVERSION_BYTE_NS: f64 = 10.0;
/// Of a pattern that is as awkward as its size allows.
const PATTERN_BYTE_NS: f64 = 100.0;

impl Size {
    fn plus(self, other: Size) -> Size {
        Size { bytes: self.bytes + other.bytes, values: self.values + other.values }
    }

    fn larger(self, other: Size) -> Size {
        Size { bytes: self.bytes.max(other.bytes), values: self.values.max(other.values) }
    }

    fn times(self, count: f64) -> Size {
        Size { bytes: self.bytes * count, values: self.values * count }
    }

    /// To copy it, or to compare all of it.
    fn ns(self) -> f64 {
        self.bytes * BYTE_NS + self.values * VALUE_NS
    }
}

/// The most nanoseconds that an evaluation takes when all that it reads is of this size.
pub(super) fn estimate_ns(expression: &IdedExpr, read: Size) -> f64 {
    Estimate { read, scope: Vec::new() }.of(expression).0
}

struct Estimate<'a> {
    read: Size,
    scope: Vec<(&'a str, Size)>,
}

impl<'a> Estimate<'a> {
    /// The cost of evaluating it, and the size of what comes out.
    fn of(&mut self, expr: &'a IdedExpr) -> (f64, Size) {
        let (ns, size) = match &expr.expr {
            Expr::Literal(literal) => (0.0, literal_size(literal)),
            Expr::Ident(name) => {
                let own = self.scope.iter().rev().find(|(known, _)| known == name);
                (0.0, own.map_or(self.read, |(_, size)| *size))
            }
            Expr::Select(select) => {
                let (ns, size) = self.of(&select.operand);
                // What is not a variable may be copied to be taken apart.
                (ns + if is_path(&select.operand) { 0.0 } else { size.ns() }, size)
            }
            Expr::Call(call) => {
                let mut ns = 0.0;
                let mut sizes = NOTHING;
                let mut largest = SCALAR;
                let mut path = true;
                for part in call.target.as_deref().into_iter().chain(&call.args) {
                    let (part_ns, size) = self.of(part);
                    ns += part_ns;
                    sizes = sizes.plus(size);
                    largest = largest.larger(size);
                    path &= is_path(part) || matches!(part.expr, Expr::Literal(_));
                }
                match call.func_name.as_str() {
                    "_&&_" | "_||_" | "!_" | "@not_strictly_false" => (ns, SCALAR),
                    "_?_:_" => (ns, largest),
                    "_[_]" => (ns + if path { 0.0 } else { sizes.ns() }, largest),
                    "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" | "@in" | "size"
                    | "contains" | "startsWith" | "endsWith" => (ns + sizes.ns(), SCALAR),
                    MATCHES => (ns + sizes.bytes * PATTERN_BYTE_NS + sizes.ns(), SCALAR),
                    "_+_" => (ns + sizes.ns(), sizes),
                    // Numbers, times, and their texts.
                    _ => {
                        let bytes = sizes.bytes.max(64.0);
                        (
                            ns + bytes * CONVERSION_BYTE_NS + sizes.ns(),
                            largest.larger(SCALAR).plus(sizes),
                        )
                    }
                }
            }
            Expr::List(list) => {
                let mut ns = 0.0;
                let mut size = SCALAR;
                for element in &list.elements {
                    let (element_ns, element) = self.of(element);
                    ns += element_ns + element.ns();
                    size = size.plus(element);
                }
                (ns, size)
            }
            Expr::Map(map) => {
                let mut ns = 0.0;
                let mut size = SCALAR;
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
                    for part in [&entry.key, &entry.value] {
                        let (part_ns, part) = self.of(part);
                        ns += part_ns + part.ns();
                        size = size.plus(part);
                    }
                }
                (ns, size)
            }
            Expr::Comprehension(comprehension) => {
                let (range_ns, range) = self.of(&comprehension.iter_range);
                let (init_ns, init) = self.of(&comprehension.accu_init);
                let rounds = range.values;
                self.scope.push((&comprehension.accu_var, NOTHING));
                self.scope.push((&comprehension.iter_var, range));
                let (condition_ns, _) = self.of(&comprehension.loop_cond);
                let (step_ns, step) = self.of(&comprehension.loop_step);
                self.scope.truncate(self.scope.len() - 2);
                let accumulated = init.plus(step.times(rounds));
                self.scope.push((&comprehension.accu_var, accumulated));
                let (result_ns, result) = self.of(&comprehension.result);
                self.scope.pop();
                // Each element is copied for its round, all of them together once.
                let ns = range_ns
                    + init_ns
                    + range.ns()
                    + result.ns()
                    + result_ns
                    + rounds * (condition_ns + step_ns + step.ns() + STEP_NS);
                (ns, result)
            }
            // Refused beforehand.
            Expr::Struct(_) | Expr::Unspecified => (f64::INFINITY, NOTHING),
        };
        (ns + STEP_NS, size)
    }
}

/// A variable or a part of one, which is looked at where it is.
fn is_path(expr: &IdedExpr) -> bool {
    match &expr.expr {
        Expr::Ident(_) => true,
        Expr::Select(select) => is_path(&select.operand),
        Expr::Call(call) if call.func_name == "_[_]" => call.args.first().is_some_and(is_path),
        _ => false,
    }
}

fn literal_size(literal: &LiteralValue) -> Size {
    let bytes = match literal {
        LiteralValue::String(text) => text.inner().len() as f64,
        LiteralValue::Bytes(bytes) => bytes.inner().len() as f64,
        _ => 8.0,
    };
    Size { bytes, values: 1.0 }
}
