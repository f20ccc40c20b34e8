//! Steps of plans as plans of their own, with made-up contents: what both benches measure.

use std::collections::HashSet;
use std::sync::Arc;

use cifar_engine::exec::plan::{Plan, Step};
use cifar_engine::exec::{Data, Device, PlanId};
use cifar_engine::graph::{Graph, Value};
use cifar_engine::ops::{Op, Types};
use cifar_engine::tensor::{DType, TensorType};

/// Classes of the data set.
pub const CLASSES: usize = 10;
/// Steps on parameters and statistics that move less than this take no time in a run, and are left
/// out.
const SMALLEST_BYTES: usize = 200_000;

/// A step by itself.
pub struct Bench {
    /// With the op's name, unique: states and inputs are called after it.
    pub name: String,
    pub op: Arc<dyn Op>,
    pub types: Types,
}

impl Bench {
    /// Bytes read and written.
    pub fn bytes(&self) -> usize {
        self.op.cost(&self.types).bytes as usize
    }

    /// A plan of this one step. What the op replaces is a state, so that no copy comes along.
    pub fn load(&self, device: &mut dyn Device) -> PlanId {
        let replaced = |i: usize| self.op.alias().overwritten().any(|input| input == i);
        let mut graph = Graph::new();
        graph.set_layer(&self.name);
        let mut operand = |(i, ty): (usize, &TensorType)| {
            let name = self.operand(i);
            if replaced(i) { graph.state(&name, ty.clone()).unwrap() } else { graph.input(&name, ty.clone()) }
        };
        let inputs: Vec<Value> = self.types.inputs.iter().enumerate().map(&mut operand).collect();
        let outputs = graph.apply_shared(self.op.clone(), &inputs).unwrap();
        for (i, &output) in outputs.iter().enumerate() {
            match self.op.alias().input_of(i) {
                Some(input) => graph.update(inputs[input], output).unwrap(),
                None => graph.output(&format!("out{i}"), output),
            }
        }
        let plan = Plan::compile(&graph).unwrap();
        assert_eq!(plan.steps.len(), 1, "{} needs a copy", self.name);
        let id = device.load_plan(plan, None).unwrap();
        for (i, ty) in self.types.inputs.iter().enumerate() {
            let words = self.fill(i, ty);
            let floats: Vec<f32> = words.iter().map(|&word| f32::from_bits(word)).collect();
            let data = if ty.dtype == DType::F32 { Data::F32(&floats) } else { Data::U32(&words) };
            if replaced(i) {
                device.write_state(id, &self.operand(i), data).unwrap()
            } else {
                device.write(id, &self.operand(i), data).unwrap()
            }
        }
        id
    }

    fn operand(&self, i: usize) -> String {
        format!("{} {} {i}", self.op.name(), self.name)
    }

    /// Numbers in [0, 1), which suit variances and second moments too, centred where the op's speed
    /// could depend on signs; small integers for labels, indices and steps, bits for images.
    fn fill(&self, input: usize, ty: &TensorType) -> Vec<u32> {
        let bits =
            |i: usize| (i as u32).wrapping_add(1).wrapping_mul(2_654_435_761) ^ (input as u32 * 0x9E37);
        let unit = |i: usize| (bits(i) >> 8) as f32 / (1 << 24) as f32;
        let signed = ty.dims().len() > 1 && !self.op.name().starts_with("adam");
        let images = self.types.inputs[0].dims()[0] as u32;
        let word = |i: usize| match (ty.dtype, self.op.name(), input) {
            (DType::F32, ..) => (unit(i) - if signed { 0.5 } else { 0.0 }).to_bits(),
            (DType::U32, "augment" | "batch", 0) => bits(i),
            (DType::U32, "augment" | "batch", 2) => bits(i) % images,
            (DType::U32, ..) => bits(i) % CLASSES as u32,
            (DType::F16, ..) => unreachable!("a CPU has no such operand"),
        };
        (0..ty.len()).map(word).collect()
    }
}

/// The layer, and for a matrix product which of the three it is.
fn name(step: &Step) -> String {
    let attributes = format!("{:?}", step.op);
    let form = [("a_transposed: true", "weight gradient"), ("b_transposed: true", "input gradient")];
    let form = form.into_iter().find(|(attribute, _)| attributes.contains(attribute)).map(|(_, form)| form);
    [Some(step.layer.as_str()), form].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// The different steps of some plans, in the order of their ops.
pub fn different_steps(plans: Vec<Plan>) -> Vec<Bench> {
    let mut known = HashSet::new();
    let mut benches = Vec::new();
    for step in plans.into_iter().flat_map(|plan| plan.steps) {
        let bench = Bench { name: name(&step), op: step.op, types: step.types };
        let new = known.insert(format!("{:?} {:?}", bench.op, bench.types));
        let small = bench.bytes() < SMALLEST_BYTES;
        let counts =
            !small || !["adam", "sgd", "moving_average", "sum_rows", "copy"].contains(&bench.op.name());
        if new && counts {
            benches.push(bench);
        }
    }
    benches.sort_by_key(|bench| bench.op.name());
    benches
}
