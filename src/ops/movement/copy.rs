//! `y = x` in memory of its own: the planner adds it where an op that works in place may not.

use crate::ops::*;

/// A copy of its input. Takes any type.
#[derive(Clone, Copy, Debug)]
pub struct Copy;

impl Op for Copy {
    fn name(&self) -> &'static str {
        "copy"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [x] = expect(inputs)?;
        Ok(vec![x.clone()])
    }

    fn gradient(&self, _: &mut Graph, _: &Node, grads: &[Option<Value>], _: &[bool]) -> Gradients {
        Ok(vec![grads[0]])
    }

    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        CpuStep::new(|args| {
            let x = args.inputs[0];
            args.output().0.copy_from_slice(x);
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let vectors = types.outputs[0].words().div_ceil(4);
        let shader = shader!("copy");
        let bindings = vec![Operand::Input(0), Operand::Output(0)];
        each_value(shader, vectors, &[], bindings)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        vec![inputs[0].to_owned()]
    }
}
