//! What an op is, from its formula to its kernels: put together from its own source, its cases and
//! the plans of the models, so that a new op has an explanation at once.
//!
//! [`source`] finds the places, [`uses`] where models have the op; [`book`] is the page of all.

pub mod book;
pub mod source;
pub mod uses;

use std::collections::BTreeMap;

use serde::Serialize;
use source::{Code, Entry, OpSource, Place};
use uses::Use;

use crate::error::{Error, Result};
use crate::grad::differentiate;
use crate::graph::Graph;
use crate::graph::op::dispatch::Dispatch;
use crate::kernels::function::Function;
use crate::ops::{Op, Types};
use crate::registry::unknown;
use crate::selftest::case::Case;
use crate::selftest::finding::{Finding, by_op};
use crate::selftest::probe::graph_of;
use crate::tensor::{DType, TensorType};
use crate::text::{bytes, figure, nearest};

/// What is said of an example without launches.
pub const NO_LAUNCH: &str = "none: only the rules of a CPU make such a step";

/// What there is to know about an op.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Name of the op.
    pub op: String,
    /// What it computes, as the documentation of its file begins: up to the first formula.
    pub formula: String,
    /// All of that documentation.
    pub documentation: String,
    /// What its type's documentation says of its operands.
    pub operands: String,
    /// Where its type is defined.
    pub definition: Place,
    /// Of an elementwise function, its row in the table: the formula and the derivative.
    pub function: Option<Code>,
    /// The shape rule.
    pub shapes: Vec<Code>,
    /// The gradient rule; nothing where there is none.
    pub gradient: Vec<Code>,
    /// The ops that the gradient of its first case with one is made of.
    pub gradient_ops: Vec<String>,
    /// The specification in `f64`.
    pub reference: Vec<Code>,
    /// The work of a CPU.
    pub cpu: Vec<Code>,
    /// The files of the kernels that it uses.
    pub kernels: Vec<String>,
    /// What the launches of its cases begin with.
    pub shaders: Vec<Entry>,
    /// Shapes and what they cost: its first case, or a step of a model.
    pub example: Example,
}

/// An op at work.
#[derive(Clone, Debug, Serialize)]
pub struct Example {
    /// Where it is from: the op's first case, or a layer of a model.
    pub from: String,
    /// The op with its constants.
    pub settings: String,
    /// Types of what it reads.
    pub inputs: Vec<String>,
    /// Types of what it writes.
    pub outputs: Vec<String>,
    /// Multiplications and additions, where they dominate.
    pub flops: u64,
    /// Bytes read and written.
    pub bytes: u64,
    /// The shaders; nothing for what only the rules of a CPU make.
    pub launches: Vec<Launch>,
}

/// The launch of a shader.
#[derive(Clone, Debug, Serialize)]
pub struct Launch {
    /// What it begins with.
    pub entry: Option<Entry>,
    /// The files that it includes.
    pub includes: Vec<&'static str>,
    /// Its constants.
    pub constants: BTreeMap<&'static str, f64>,
    /// Workgroups in x, y, z.
    pub workgroups: [u32; 3],
}

impl Example {
    /// An op with operands of these types.
    pub fn of(op: &dyn Op, types: &Types, from: String) -> Example {
        let cost = op.cost(types);
        let names = |types: &[TensorType]| types.iter().map(ToString::to_string).collect();
        Example {
            from,
            settings: format!("{op:?}"),
            inputs: names(&types.inputs),
            outputs: names(&types.outputs),
            flops: cost.flops,
            bytes: cost.bytes,
            launches: op.gpu(types).list.iter().map(Launch::of).collect(),
        }
    }

    /// What it costs, in words.
    pub fn cost(&self) -> String {
        let moved = bytes(self.bytes);
        if self.flops == 0 {
            return format!("{moved} read and written: bound by memory");
        }
        let (work, ratio) = (figure(self.flops as f64 / 1e6), figure(self.flops as f64 / self.bytes as f64));
        format!("{work} MFLOP, {moved} read and written: {ratio} FLOP a byte")
    }
}

impl Launch {
    fn of(dispatch: &Dispatch) -> Launch {
        Launch {
            entry: Entry::of(&dispatch.shader, dispatch.entry),
            includes: source::included(&dispatch.shader),
            constants: dispatch.constants.iter().copied().collect(),
            workgroups: dispatch.groups,
        }
    }

    /// The constants as text; what an op has as `f32`, in the digits of one.
    pub fn settings(&self) -> String {
        let constant = |(name, value): (&&str, &f64)| match f64::from(*value as f32) == *value {
            true => format!("{name}={}", *value as f32),
            false => format!("{name}={value}"),
        };
        self.constants.iter().map(constant).collect::<Vec<_>>().join(" ")
    }
}

impl Explanation {
    /// That of an op with operands of these types, which come `from` somewhere; `cases` are its
    /// own.
    ///
    /// # Errors
    /// If the op is one of another program, whose source is not here.
    pub fn of(op: &dyn Op, types: &Types, from: String, cases: &[Case]) -> Result<Explanation> {
        let name = op.name();
        let missing = || Error::op(name, "its source is not a part of this program");
        let source = OpSource::of(op.type_name()).ok_or_else(missing)?;
        let (definition, operands) = source.definition().ok_or_else(missing)?;
        let documentation = source.documentation();
        Ok(Explanation {
            op: name.to_string(),
            formula: formula(&documentation),
            documentation,
            operands,
            definition,
            function: function(name),
            shapes: source.method_with_helpers("output_types"),
            gradient: source.method_with_helpers("gradient"),
            gradient_ops: cases.iter().find_map(gradient_ops).unwrap_or_default(),
            reference: source.method_with_helpers("reference"),
            cpu: source.method_with_helpers("cpu"),
            kernels: source.kernels(),
            shaders: shaders(cases),
            example: Example::of(op, types, from),
        })
    }

    /// That of the op of these cases, by the first of them.
    ///
    /// # Errors
    /// As for [`Explanation::of`]; if there are none.
    pub fn of_first(cases: &[Case]) -> Result<Explanation> {
        let first = cases.first().ok_or_else(|| Error::op("an op", "has no case to explain it by"))?;
        Explanation::of(first.op.as_ref(), &first.types(), "its first case".into(), cases)
    }

    /// Those of all ops.
    ///
    /// # Errors
    /// As for [`Explanation::of`].
    pub fn all() -> Result<Vec<Explanation>> {
        by_op().values().map(|cases| Explanation::of_first(cases)).collect()
    }
}

/// An explanation, and what a machine and the models say to it.
#[derive(Clone, Debug, Serialize)]
pub struct Chapter {
    /// The explanation.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// What the op's cases found on a device.
    pub error: Finding,
    /// Where the registered models have it.
    pub uses: Vec<Use>,
}

/// The message about an op that there is not.
pub fn unknown_op(name: &str) -> Error {
    let ops = by_op();
    let near = nearest(name, ops.keys().copied());
    match near {
        Some(near) => Error::Usage(format!("there is no op '{name}'; did you mean '{near}'?")),
        None => Error::Usage(unknown("op", name, ops.keys().copied())),
    }
}

impl Explanation {
    /// What it computes, in a line: of a function its own formula, of others the first sentence.
    pub fn summary(&self) -> String {
        summary(&self.op, self.function.as_ref(), &self.formula)
    }
}

/// The essence of an explanation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told {
    /// What the op computes, in a line.
    pub summary: String,
    /// The same as [`Explanation::formula`].
    pub formula: String,
    /// The same as [`Explanation::operands`].
    pub operands: String,
}

impl Told {
    /// That of an op; none of an op of another program, whose source is not here.
    pub fn of(op: &dyn Op) -> Option<Told> {
        let source = OpSource::of(op.type_name())?;
        let (formula, operands) = (formula(&source.documentation()), source.definition()?.1);
        Some(Told { summary: summary(op.name(), function(op.name()).as_ref(), &formula), formula, operands })
    }
}

fn summary(op: &str, function: Option<&Code>, formula: &str) -> String {
    match (function, op.strip_suffix("_grad")) {
        (Some(_), Some(function)) => format!("The gradient of `{function}`"),
        (Some(row), None) => documented(&row.text).to_string(),
        (None, _) => first_sentence(&formula.replace('\n', " ")).to_string(),
    }
}

/// The documentation above a row.
fn documented(row: &str) -> &str {
    row.lines().next().unwrap_or_default().trim_start_matches("/// ").trim_end_matches('.')
}

/// A text up to its first full stop or colon, outside of code and brackets, that a space follows;
/// a number after it belongs to it: `et al. 2014`.
fn first_sentence(text: &str) -> &str {
    let (mut in_code, mut depth) = (false, 0);
    for (at, c) in text.char_indices() {
        in_code ^= c == '`';
        depth += i32::from(c == '(') - i32::from(c == ')');
        let rest = &text[at + c.len_utf8()..];
        let goes_on =
            rest.strip_prefix(' ').is_none_or(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        if (c == '.' || c == ':') && !in_code && depth == 0 && !goes_on {
            return &text[..at];
        }
    }
    text.trim_end_matches(['.', ':'])
}

/// The paragraphs up to the first with an equation; the first one where none has any.
fn formula(documentation: &str) -> String {
    let paragraphs: Vec<&str> = documentation.split("\n\n").collect();
    let has_equation = |text: &&str| text.split('`').skip(1).step_by(2).any(|code| code.contains('='));
    let last = paragraphs.iter().position(has_equation).unwrap_or(0);
    paragraphs[..=last].join("\n\n")
}

/// What the launches of cases begin with, each once.
fn shaders(cases: &[Case]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for dispatch in cases.iter().flat_map(|case| case.op.gpu(&case.types()).list) {
        entries.extend(Entry::of(&dispatch.shader, dispatch.entry).filter(|entry| !entries.contains(entry)));
    }
    entries
}

/// The row of the table of functions that this op is, or is the gradient of.
fn function(name: &str) -> Option<Code> {
    let is = |function: &&Function| [function.name(), function.gradient_name()].contains(&name);
    let function = Function::ALL.iter().find(is)?;
    let place = source::in_kernels("function", &format!("\"{}\"", function.name()))?;
    // Its documentation stands above it; a row of several lines ends in the first line's column.
    let mut lines: Vec<&str> = Vec::new();
    for line in source::text(&place.file)?.lines().skip(place.line - 2) {
        lines.push(line.strip_prefix("    ").unwrap_or(line));
        if line.ends_with(';') && !line.starts_with("        ") {
            break;
        }
    }
    Some(Code { place, text: lines.join("\n") })
}

/// The ops that the gradient of a case is made of; none of a case that has none.
fn gradient_ops(case: &Case) -> Option<Vec<String>> {
    let (mut graph, inputs, outputs) = graph_of(case).ok().filter(|_| !case.differentiable.is_empty())?;
    let wanted: Vec<_> = case.differentiable.iter().map(|&i| inputs[i]).collect();
    let seed = |graph: &mut Graph, (i, &y)| (y, graph.input(&format!("d{i}"), graph.ty(y).clone()));
    let floats = outputs.iter().enumerate().filter(|(_, y)| graph.ty(**y).dtype == DType::F32);
    let floats: Vec<_> = floats.collect();
    let seeds: Vec<_> = floats.into_iter().map(|output| seed(&mut graph, output)).collect();
    let before = graph.nodes().len();
    differentiate(&mut graph, &seeds, &wanted).ok()?;
    let mut names = Vec::new();
    for node in &graph.nodes()[before..] {
        let name = node.op.name().to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_outside_of_code() {
        assert_eq!(
            first_sentence("A mean of `x[.. ]` (a. B: c) et al. 2014: more. End."),
            "A mean of `x[.. ]` (a. B: c) et al. 2014"
        );
        assert_eq!(first_sentence("One only."), "One only");
    }

    #[test]
    fn a_formula_is_the_text_up_to_an_equation() {
        assert_eq!(formula("It is:\n\n`y = x`\n\nMore."), "It is:\n\n`y = x`");
        assert_eq!(formula("Copies `x`.\n\nMore."), "Copies `x`.");
    }
}
