//! An op that the crate does not have, with its gradient rule, its work on a CPU and its shader,
//! and the check that all of it is right: Mish, `y = x tanh(ln(1 + e^x))` (Misra 2019).
//!
//!     cargo run --release --example own_op

use cifar_engine::prelude::op::*;
use cifar_engine::prelude::*;
use ndarray::{ArrayD, ArrayViewD, array};

/// `y = x tanh(softplus(x))`, elementwise; or, of `dy` and `x`, the gradient
/// `dx = dy (t + x (1 - t²) sigmoid(x))` with `t = tanh(softplus(x))`.
#[derive(Clone, Copy, Debug)]
enum Mish {
    Value,
    Gradient,
}

/// The value and the slope at x; naive, in f64.
fn mish(x: f64) -> (f64, f64) {
    let t = x.exp().ln_1p().tanh();
    (x * t, t + x * (1.0 - t * t) / (1.0 + (-x).exp()))
}

const SHADER: &str = "
//!include index
override LENGTH: u32;
override GRADIENT: bool;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups, 256u);
    if i < LENGTH {
        let e = exp(min(x[i], 30.0)); // beyond, Mish is x
        let t = 1.0 - 2.0 / ((1.0 + e) * (1.0 + e) + 1.0);
        let slope = t + x[i] * (1.0 - t * t) * e / (1.0 + e);
        result[i] = select(x[i] * t, dy[i] * slope, GRADIENT);
    }
}
";

impl Op for Mish {
    fn name(&self) -> &'static str {
        match self {
            Mish::Value => "mish",
            Mish::Gradient => "mish_grad",
        }
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        match (self, inputs) {
            (Mish::Value, [x]) => Ok(vec![(*x).clone()]),
            (Mish::Gradient, [x, dy]) if x == dy => Ok(vec![(*x).clone()]),
            _ => Err("takes x, or x and a gradient of its shape".into()),
        }
    }

    fn gradient(&self, g: &mut Graph, node: &Node, grads: &[Option<Value>], _: &[bool]) -> Gradients {
        match (self, grads[0]) {
            (Mish::Value, Some(dy)) => Ok(vec![Some(g.apply1(Mish::Gradient, &[node.inputs[0], dy])?)]),
            (Mish::Value, None) => Ok(vec![None]),
            (Mish::Gradient, _) => Err(Error::op(self.name(), "has no gradient of its own")),
        }
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        match self {
            Mish::Value => vec![inputs[0].mapv(|x| mish(x).0)],
            Mish::Gradient => vec![&inputs[1] * &inputs[0].mapv(|x| mish(x).1)],
        }
    }

    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        let op = *self;
        CpuStep::new(move |args| {
            let [x, dy] = args.inputs_from(0);
            for (i, y) in args.output().0.iter_mut().enumerate() {
                let (value, slope) = mish(f64::from(x[i]));
                *y = match op {
                    Mish::Value => value as f32,
                    Mish::Gradient => dy[i] * slope as f32,
                };
            }
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let last = types.inputs.len() - 1; // the value reads no dy, but every binding needs an operand
        let bindings = vec![Operand::Input(0), Operand::Input(last), Operand::Output(0)];
        let gradient = f64::from(matches!(self, Mish::Gradient));
        let shader = Shader { name: "mish", source: SHADER, chosen: &[], halves: Bindings::NONE };
        each_value(shader, types.outputs[0].len(), &[("GRADIENT", gradient)], bindings)
    }
}

fn main() -> Result<()> {
    // As strict as with the crate's own ops: devices against the reference, gradients against
    // finite differences.
    let x = (TensorType::f32([3, 101]), Fill::Uniform(-4.0, 4.0));
    for case in [
        Case::new(Mish::Value, vec![x.clone()]).differentiable(&[0]),
        Case::new(Mish::Gradient, vec![x.clone(), x]),
    ] {
        for mut device in [Some(device::cpu()?), device::gpu().ok()].into_iter().flatten() {
            let checked = check(device.as_mut(), &case)?;
            println!("{} on {}: {checked}", case.op.name(), device.name());
        }
    }

    // And like them, it can be trained through: the x at which Mish is least.
    let mut graph = Graph::new();
    let x = graph.state("x", TensorType::f32([1]))?;
    let y = graph.apply1(Mish::Value, &[x])?;
    graph.output("y", y);
    let one = graph.constant(1.0, [1])?;
    let slope = differentiate(&mut graph, &[(y, one)], &[x])?[0];
    let step = graph.scale(slope, 2.0)?;
    let next = graph.sub(x, step)?;
    graph.update(x, next)?;
    let mut program = Program::new(&graph, device::auto()?)?;
    program.write("x", &array![0.0])?;
    for _ in 0..200 {
        program.run()?;
    }
    println!("least at {:.4}: {:.4}", program.read("x")?[0], program.read("y")?[0]);
    Ok(())
}
