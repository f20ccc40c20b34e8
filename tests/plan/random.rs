//! Random graphs for the planner. Every value is a whole number of bounded size, in two runs in a
//! row, so that f32 and f64 agree exactly and a ReLU never cuts differently.

use cifar_engine::graph::{Graph, Value};
use cifar_engine::ops::linear::matmul::Matmul;
use cifar_engine::ops::linear::sum_rows::SumRows;
use cifar_engine::ops::map::binary::{Binary, Function2};
use cifar_engine::ops::map::unary::{Unary, UnaryGrad};
use cifar_engine::ops::movement::copy::Copy;
use cifar_engine::ops::movement::reshape::Reshape;
use cifar_engine::ops::optim::moving_average::MovingAverage;
use cifar_engine::ops::optim::sgd::Sgd;
use cifar_engine::ops::{Function, Op};
use cifar_engine::tensor::{Shape, TensorType};
use proptest::collection::vec;
use proptest::prelude::*;

/// Sums up to here are exact in f32 in whatever order.
const EXACT: u64 = 1 << 22;
/// Inputs and fresh states.
const SMALL: u64 = 3;
/// States after the first run.
const UPDATED: u64 = 512;

/// Random choices; [`build`] takes them modulo what there is.
#[derive(Clone, Debug)]
pub struct Recipe {
    nodes: Vec<[usize; 4]>,
    outputs: Vec<usize>,
    updates: Vec<(usize, usize)>,
}

pub fn recipe() -> impl Strategy<Value = Recipe> {
    let any = 0..1000usize;
    let nodes = vec([any.clone(), any.clone(), any.clone(), any.clone()], 1..24);
    (nodes, vec(any.clone(), 1..5), vec((any.clone(), any), 0..4))
        .prop_map(|(nodes, outputs, updates)| Recipe { nodes, outputs, updates })
}

/// A value, and how large its elements can be in the first run and in the second.
#[derive(Clone, Copy)]
struct Known {
    value: Value,
    bound: [u64; 2],
}

struct Maker {
    graph: Graph,
    known: Vec<Known>,
    states: Vec<Value>,
    rate: Value,
}

impl Maker {
    fn new() -> Self {
        let mut graph = Graph::new();
        // Whole, as every other value: its elements are taken as the rate, so they are not limited
        // to 1.
        let rate = graph.input("rate", TensorType::f32([1]));
        let types: [&[usize]; 4] = [&[2, 3], &[3, 2], &[3, 3], &[6]];
        let mut known = Vec::new();
        let mut states = Vec::new();
        for (i, dims) in types.into_iter().enumerate() {
            let value = graph.input(&format!("in{i}"), TensorType::f32(dims));
            known.push(Known { value, bound: [SMALL; 2] });
        }
        for (i, dims) in [types[0], types[0], types[2], types[3]].into_iter().enumerate() {
            let value = graph.state(&format!("state{i}"), TensorType::f32(dims)).unwrap();
            known.push(Known { value, bound: [SMALL, UPDATED] });
            states.push(value);
        }
        Maker { graph, known, states, rate }
    }

    /// A value, more often a recent one.
    fn pick(&self, choice: usize) -> Known {
        let back = if choice.is_multiple_of(3) {
            choice % self.known.len()
        } else {
            choice % self.known.len().min(4)
        };
        self.known[self.known.len() - 1 - back]
    }

    /// A value of the same type as another, perhaps itself.
    fn like(&self, other: Known, choice: usize) -> Known {
        let ty = self.graph.ty(other.value);
        let same: Vec<Known> = self.known.iter().copied().filter(|k| self.graph.ty(k.value) == ty).collect();
        same[choice % same.len()]
    }

    /// Adds a node, unless its values could become too large to be exact.
    fn add(&mut self, op: impl Op, inputs: &[Value], bounds: &[[u64; 2]]) {
        if bounds.iter().flatten().all(|&bound| bound <= EXACT) {
            let outputs = self.graph.apply(op, inputs).unwrap();
            self.known.extend(outputs.into_iter().zip(bounds).map(|(value, &bound)| Known { value, bound }));
        }
    }

    fn node(&mut self, [kind, x, y, z]: [usize; 4]) {
        let a = self.pick(x);
        let b = self.like(a, y);
        let c = self.like(a, z);
        let function = Function::Relu;
        let both = |f: &dyn Fn(u64, u64) -> u64| [0, 1].map(|run| f(a.bound[run], b.bound[run]));
        let len = self.graph.ty(a.value).len();
        match kind % 9 {
            0 | 1 => {
                self.add(Binary { function: Function2::Add }, &[a.value, b.value], &[both(&|a, b| a + b)])
            }
            2 => self.add(Unary { function }, &[a.value], &[a.bound]),
            3 => self.add(UnaryGrad { function }, &[a.value, b.value], &[a.bound]),
            4 => self.add(SumRows, &[a.value], &[a.bound.map(|a| a * len as u64)]),
            5 => {
                let shapes: [Shape; 4] = [[2, 3].into(), [3, 2].into(), [6].into(), [3, 3].into()];
                let shape = shapes.into_iter().cycle().skip(y % 4).take(4).find(|shape| shape.len() == len);
                let shape = shape.unwrap_or([len, 1].into());
                self.add(Reshape { shape }, &[a.value], &[a.bound]);
            }
            6 => self.product(a, y),
            7 => self.add(Copy, &[a.value], &[a.bound]),
            _ if y.is_multiple_of(2) => {
                // average + 2 (x - average)
                let op = MovingAverage { momentum: 2.0, scale: 1.0 };
                self.add(op, &[a.value, b.value], &[both(&|a, b| 3 * a + 2 * b)]);
            }
            _ => {
                let op = Sgd { momentum: 1.0, nesterov: z.is_multiple_of(2), decay: 0.0 };
                let new = [0, 1].map(|run| b.bound[run] + c.bound[run]);
                let moved = [0, 1].map(|run| a.bound[run] + SMALL * (c.bound[run] + new[run]));
                self.add(op, &[a.value, b.value, c.value, self.rate], &[moved, new]);
            }
        }
    }

    /// The product of a matrix with any that fits, one of them transposed or both if need be.
    fn product(&mut self, a: Known, choice: usize) {
        let dims = |known: Known| self.graph.dims(known.value).to_vec();
        let &[rows, columns] = dims(a).as_slice() else { return };
        let mut fitting = Vec::new();
        for &b in &self.known {
            let &[from, to] = dims(b).as_slice() else { continue };
            for (a_transposed, k) in [(false, columns), (true, rows)] {
                let options = [(false, from), (true, to)].into_iter().filter(|(_, depth)| *depth == k);
                fitting.extend(options.map(|(b_transposed, _)| {
                    (b, Matmul { a_transposed, b_transposed, ..Matmul::default() }, k)
                }));
            }
        }
        let (b, op, k) = fitting[choice % fitting.len()];
        let bound = [0, 1].map(|run| a.bound[run] * b.bound[run] * k as u64);
        self.add(op, &[a.value, b.value], &[bound]);
    }

    fn finish(mut self, recipe: &Recipe) -> Graph {
        for &(state, value) in &recipe.updates {
            let state = self.states[state % self.states.len()];
            let ty = self.graph.ty(state);
            let fits = |k: &&Known| self.graph.ty(k.value) == ty && k.bound[0] <= UPDATED;
            let fitting: Vec<Value> = self.known.iter().filter(fits).map(|k| k.value).collect();
            // Refused where the state has an update already or the value is no node's: as good a
            // graph without.
            let _ = self.graph.update(state, fitting[fitting.len() - 1 - value % fitting.len().min(5)]);
        }
        for (i, &choice) in recipe.outputs.iter().enumerate() {
            let value = self.pick(choice).value;
            self.graph.output(&format!("out{i}"), value);
        }
        self.graph
    }
}

/// Inputs and states of a few types, the recipe's nodes upon them, and what is read and updated.
pub fn build(recipe: &Recipe) -> Graph {
    let mut maker = Maker::new();
    recipe.nodes.iter().for_each(|&node| maker.node(node));
    maker.finish(recipe)
}
