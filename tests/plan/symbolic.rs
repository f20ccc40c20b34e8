//! Runs a plan on symbols instead of numbers, without knowing how the planner thinks: every place
//! remembers the expression that was last written to it. A value that was overwritten while it was
//! still needed shows as a wrong expression in an output or state.

use std::collections::HashMap;

use cifar_engine::exec::plan::{Location, Plan, Step};
use cifar_engine::graph::{Graph, Source, Value};
use cifar_engine::ops::{Alias, Op};
use cifar_engine::tensor::TensorType;

/// An expression, by its number in [`Symbols`]: equal expressions have equal numbers.
type Symbol = usize;

#[derive(Clone, PartialEq, Eq, Hash)]
enum Expression {
    /// In which run.
    Input(String, usize),
    State(String),
    /// Whatever was in a slot before the run.
    Unwritten(usize),
    Result {
        op: String,
        inputs: Vec<Symbol>,
        output: usize,
    },
}

#[derive(Default)]
struct Symbols(HashMap<Expression, Symbol>);

impl Symbols {
    fn of(&mut self, expression: Expression) -> Symbol {
        let next = self.0.len();
        *self.0.entry(expression).or_insert(next)
    }

    /// What an op gives; a copy gives what it is given.
    fn result(&mut self, op: &dyn Op, inputs: &[Symbol], output: usize) -> Symbol {
        if op.name() == "copy" || matches!(op.alias(), Alias::View(_)) {
            return inputs[op.alias().input_of(0).unwrap_or(0)];
        }
        self.of(Expression::Result { op: format!("{op:?}"), inputs: inputs.to_vec(), output })
    }
}

/// The memory of a run.
struct Memory<'p> {
    plan: &'p Plan,
    symbols: Symbols,
    held: HashMap<Location, Symbol>,
    unwritten: Vec<Symbol>,
}

impl<'p> Memory<'p> {
    fn new(plan: &'p Plan) -> Self {
        let mut symbols = Symbols::default();
        let slots = 0..plan.slots.len();
        let unwritten: Vec<Symbol> = slots.map(|slot| symbols.of(Expression::Unwritten(slot))).collect();
        let held: HashMap<Location, Symbol> =
            unwritten.iter().enumerate().map(|(slot, &symbol)| (Location::Slot(slot), symbol)).collect();
        Memory { plan, symbols, held, unwritten }
    }

    /// New inputs, and the states as they were at the first.
    fn begin(&mut self, run: usize) {
        for binding in &self.plan.inputs {
            self.held.insert(binding.location, self.symbols.of(Expression::Input(binding.name.clone(), run)));
        }
        for (index, (name, _)) in self.plan.states.iter().enumerate() {
            self.held.insert(Location::State(index), self.symbols.of(Expression::State(name.clone())));
        }
    }

    fn fits(&self, location: Location, ty: &TensorType) -> Result<(), String> {
        let len = match location {
            Location::Slot(slot) => self.plan.slots[slot],
            Location::State(state) => self.plan.states[state].1.len(),
        };
        if ty.len() <= len { Ok(()) } else { Err(format!("{location:?} is too small for {ty}")) }
    }

    fn read(&self, location: Location, ty: &TensorType) -> Result<Symbol, String> {
        self.fits(location, ty)?;
        let symbol = self.held[&location];
        match self.unwritten.contains(&symbol) {
            true => Err(format!("reads {location:?}, to which this run wrote nothing")),
            false => Ok(symbol),
        }
    }

    fn run(&mut self, step: &Step) -> Result<(), String> {
        let operands = step.inputs.iter().zip(&step.types.inputs);
        let inputs: Result<Vec<Symbol>, String> =
            operands.map(|(&location, ty)| self.read(location, ty)).collect();
        let inputs = inputs?;
        check_aliases(step)?;
        for (output, (&location, ty)) in step.outputs.iter().zip(&step.types.outputs).enumerate() {
            self.fits(location, ty)?;
            let symbol = self.symbols.result(&*step.op, &inputs, output);
            self.held.insert(location, symbol);
        }
        Ok(())
    }
}

/// An output shares memory with exactly the input it replaces.
fn check_aliases(step: &Step) -> Result<(), String> {
    for (output, location) in step.outputs.iter().enumerate() {
        if step.outputs[..output].contains(location) {
            return Err(format!("writes two outputs to {location:?}"));
        }
        let replaced = step.op.alias().input_of(output);
        if replaced.is_some_and(|input| step.inputs[input] != *location) {
            return Err(format!("works in place, but output {output} is elsewhere"));
        }
        let others = step.inputs.iter().enumerate().filter(|(input, _)| Some(*input) != replaced);
        if others.into_iter().any(|(_, input)| input == location) {
            return Err(format!("overwrites an operand in {location:?}"));
        }
    }
    Ok(())
}

/// The expressions of a graph's values, by the meaning of its nodes.
fn meaning(graph: &Graph, symbols: &mut Symbols, run: usize) -> HashMap<Value, Symbol> {
    let mut meaning = HashMap::new();
    for value in graph.values() {
        let name = graph.name(value).to_string();
        match graph.source(value) {
            Source::Input => meaning.insert(value, symbols.of(Expression::Input(name, run))),
            Source::State => meaning.insert(value, symbols.of(Expression::State(name))),
            Source::Node => None,
        };
    }
    for node in graph.nodes() {
        let inputs: Vec<Symbol> = node.inputs.iter().map(|v| meaning[v]).collect();
        for (output, &value) in node.outputs.iter().enumerate() {
            meaning.insert(value, symbols.result(&*node.op, &inputs, output));
        }
    }
    meaning
}

/// Checks that after a run of the plan every output and state holds what the graph says, and every
/// input what the host wrote; and again after a second run, with other inputs and the same states,
/// without the constant steps.
pub fn check(graph: &Graph, plan: &Plan) -> Result<(), String> {
    let mut memory = Memory::new(plan);
    for (run, first) in [0, plan.constants].into_iter().enumerate() {
        memory.begin(run);
        for (index, step) in plan.steps.iter().enumerate().skip(first) {
            memory.run(step).map_err(|problem| format!("step {index}, {}: {problem}", step.op.name()))?;
        }
        check_results(graph, plan, &mut memory, run)?;
    }
    Ok(())
}

fn check_results(graph: &Graph, plan: &Plan, memory: &mut Memory, run: usize) -> Result<(), String> {
    let meaning = meaning(graph, &mut memory.symbols, run);
    for (binding, (name, value)) in plan.outputs.iter().zip(graph.outputs()) {
        if &binding.name != name
            || binding.ty != *graph.ty(*value)
            || memory.held[&binding.location] != meaning[value]
        {
            return Err(format!("output {name} holds something else"));
        }
    }
    for binding in &plan.inputs {
        if memory.held[&binding.location] != memory.symbols.of(Expression::Input(binding.name.clone(), run)) {
            return Err(format!("input {} does not survive the run", binding.name));
        }
    }
    let states = graph.values().filter(|&v| graph.source(v) == Source::State);
    for (state, value) in states.map(|s| (s, graph.updates().iter().find(|u| u.0 == s).map_or(s, |u| u.1))) {
        let index = plan.states.iter().position(|(name, _)| name == graph.name(state));
        let held = index.map(|index| memory.held[&Location::State(index)]);
        if held != Some(meaning[&value]) {
            return Err(format!("state {} holds something else", graph.name(state)));
        }
    }
    match plan.outputs.len() == graph.outputs().len() {
        true => Ok(()),
        false => Err("the plan has other outputs than the graph".into()),
    }
}
