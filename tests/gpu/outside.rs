//! Shaders that count invocations with an index outside: of every index into an array, a vector or
//! a matrix, in whatever memory.
//!
//! naga says where a shader's text has an index and into what. There the text gets a call that
//! compares the index with the length, notes if it is not below, and then takes 0 in its place, so
//! that it does no harm. At its end an invocation counts the last site that it noted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cifar_engine::exec::plan::{Location, Plan};
use cifar_engine::exec::{Device, PlanId};
use cifar_engine::ops::Types;
use cifar_engine::ops::dispatch::{Dispatch, Dispatches, Operand};
use cifar_engine::tensor::TensorType;
use naga::back::pipeline_constants::process_overrides;
use naga::proc::IndexableLength;
use naga::valid::{Capabilities, FunctionInfo, ValidationFlags, Validator};
use naga::{Expression, Function, Module, ShaderStage};

use super::common::gpu::Altered;

/// The state of a plan that has the counts.
const COUNTS: &str = "outside";

/// The indices of a plan's shaders, in the order of their counts: where each is.
#[derive(Default)]
pub struct Sites {
    list: Vec<String>,
    /// The texts that count, by those that do not, with entry and constants.
    texts: HashMap<(String, &'static str, String), &'static str>,
}

/// The plan, with shaders that count in a state.
pub fn counted(mut plan: Plan) -> (Plan, Sites) {
    let mut sites = Sites::default();
    let works: Vec<Dispatches> =
        plan.steps.iter().map(|step| sites.count(step.op.gpu(&step.types))).collect();
    let (location, ty) = (Location::State(plan.states.len()), TensorType::u32([sites.list.len().max(1)]));
    for (step, mut work) in plan.steps.iter_mut().zip(works) {
        let operand = Operand::Output(step.types.outputs.len());
        work.list.iter_mut().for_each(|dispatch| dispatch.bindings.push(operand));
        step.types.outputs.push(ty.clone());
        step.outputs.push(location);
        step.op = Arc::new(Altered { op: step.op.clone(), work: move |_: &Types| work.clone() });
    }
    plan.states.push((COUNTS.into(), ty));
    (plan, sites)
}

impl Sites {
    /// How many indices there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Where invocations of the loaded plan's runs were outside, and how many.
    pub fn outside(&self, device: &dyn Device, plan: PlanId) -> Vec<String> {
        let counts = device.read_state_u32(plan, COUNTS).unwrap();
        let found = self.list.iter().zip(counts).filter(|(_, count)| *count > 0);
        found.map(|(site, count)| format!("{site}: {count} invocations")).collect()
    }

    fn count(&mut self, mut work: Dispatches) -> Dispatches {
        for dispatch in &mut work.list {
            let key = (dispatch.shader.text(), dispatch.entry, format!("{:?}", dispatch.constants));
            let text = match self.texts.get(&key) {
                Some(text) => text,
                None => {
                    // Tests end soon: the text may live until then.
                    let text: &'static str = self.text(dispatch, &key.0).leak();
                    self.texts.entry(key).or_insert(text)
                }
            };
            dispatch.shader.source = text.strip_prefix(&dispatch.shader.storage()).unwrap();
        }
        work
    }

    /// The text of a dispatch's shader that counts.
    fn text(&mut self, dispatch: &Dispatch, source: &str) -> String {
        let mut insertions = BTreeMap::new();
        for (access, length) in accesses(source, dispatch) {
            let bracket = access.start + opening(&source[access.clone()]);
            let line = source[..bracket].lines().last().unwrap_or_default().len();
            let line = source[bracket - line..].lines().next().unwrap_or_default();
            insertions.insert(bracket + 1, format!("noted_index({}u, u32(", self.list.len()));
            insertions.insert(access.end - 1, format!("), {length})"));
            let (name, entry, text) = (dispatch.shader.name, dispatch.entry, &source[access]);
            self.list.push(format!("{name} {entry}, {text} in '{}'", line.trim()));
        }
        let mut text = source.to_string();
        insertions.iter().rev().for_each(|(at, inserted)| text.insert_str(*at, inserted));
        let (before, after) = text.split_once(&format!("fn {}(", dispatch.entry)).unwrap();
        let (body, rest) = after.split_once("\n}\n").unwrap();
        let body = body.replace("return;", "{ tell_noted(); return; }");
        format!(
            "{before}fn {entry}({body}
                 tell_noted();
             }}
             {rest}
             // One more than the site of an index outside; 0 if there was none.
             var<private> noted: u32;
             @group(0) @binding({binding}) var<storage, read_write> noted_counts: array<atomic<u32>>;
             // Without a branch: a driver's compiler would take minutes for some hundred of them.
             fn noted_index(site: u32, index: u32, length: u32) -> u32 {{
                 let is_outside = index >= length;
                 noted = select(noted, site + 1u, is_outside);
                 return select(index, 0u, is_outside);
             }}
             fn tell_noted() {{
                 if noted > 0u {{ atomicAdd(&noted_counts[noted - 1u], 1u); }}
             }}\n",
            entry = dispatch.entry,
            binding = dispatch.bindings.len(),
        )
    }
}

/// Where a text that ends with an index has its bracket.
fn opening(access: &str) -> usize {
    assert!(access.ends_with(']'), "'{access}' is no index");
    let mut depth = 0;
    let bracket = access.bytes().rposition(|byte| {
        depth += i32::from(byte == b']') - i32::from(byte == b'[');
        depth == 0
    });
    bracket.unwrap()
}

type Range = std::ops::Range<usize>;

/// Where a dispatch's shader has indices, and the lengths of what they are into, as WGSL.
fn accesses(source: &str, dispatch: &Dispatch) -> Vec<(Range, String)> {
    let module = naga::front::wgsl::parse_str(source).unwrap();
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::empty());
    let info = validator.validate(&module).unwrap();
    let entry = (ShaderStage::Compute, dispatch.entry);
    let constants = dispatch.constants.iter().map(|(name, value)| (name.to_string(), *value)).collect();
    let (module, info) = process_overrides(&module, &info, Some(entry), &constants).unwrap();
    let point = module.entry_points.iter().position(|point| point.name == dispatch.entry).unwrap();
    let mut found = accesses_of(&module, &module.entry_points[point].function, info.get_entry_point(point));
    for (handle, function) in module.functions.iter() {
        found.extend(accesses_of(&module, function, &info[handle]));
    }
    // In one order, so that equal shaders have equal texts, which are compiled once.
    let mut found: Vec<(Range, String)> = found.into_iter().collect();
    found.sort_by_key(|(range, _)| (range.start, range.end));
    found
}

/// The same of a function.
fn accesses_of(module: &Module, function: &Function, info: &FunctionInfo) -> HashMap<Range, String> {
    let mut found = HashMap::new();
    for (handle, expression) in function.expressions.iter() {
        let (base, is_number) = match *expression {
            Expression::Access { base, .. } => (base, false),
            Expression::AccessIndex { base, .. } => (base, true),
            _ => continue,
        };
        let length = match info[base].ty.inner_with(&module.types).indexable_length_resolved(module) {
            Ok(IndexableLength::Dynamic) => match function.expressions[base] {
                Expression::GlobalVariable(variable) => {
                    format!("arrayLength(&{})", module.global_variables[variable].name.as_ref().unwrap())
                }
                ref other => panic!("an array of as many elements as are bound is {other:?}"),
            },
            // Of a number that is written out, or a member, the validation says that it is inside.
            _ if is_number => continue,
            Ok(IndexableLength::Known(length)) => format!("{length}u"),
            Err(error) => panic!("{expression:?}: {error}"),
        };
        found.insert(function.expressions.get_span(handle).to_range().unwrap(), length);
    }
    found
}
