//! The gradient of [`super::max_pool`]: each window's dy goes to its first largest element.

use super::max_pool::{MaxPool, each_element};
use crate::kernels::pool;
use crate::ops::*;

/// Inputs: x, y and dy of the pooling; output dx, of x's shape.
#[derive(Clone, Copy, Debug)]
pub struct MaxPoolGrad {
    /// The forward pooling.
    pub pool: MaxPool,
}

impl Op for MaxPoolGrad {
    fn name(&self) -> &'static str {
        "max_pool_grad"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [x, y, dy] = floats(inputs)?;
        require(self.pool.output_types(&[x])?[0] == *y && y == dy, "y and dy must be pooled from x")?;
        Ok(vec![x.clone()])
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let g = self.pool.checked_geometry(&types.inputs[0]);
        CpuStep::new(move |args| {
            let [x, y, dy] = args.inputs_from(0);
            pool::gradient(target.isa, g, x, y, dy, args.output().0);
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let x = &types.inputs[0];
        let channels = x.shape.last();
        let shader = wide_shader!(channels, "max_pool_grad");
        let bindings = vec![Operand::Input(0), Operand::Input(1), Operand::Input(2), Operand::Output(0)];
        each_value(shader, types.outputs[0].len() / width(channels), &self.pool.constants(x), bindings)
    }

    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let mut dx = vec![0.0; types.outputs[0].len()];
        let mut given = vec![false; types.inputs[1].len()];
        each_element(self.pool, types.inputs[0].dims(), types.inputs[1].dims(), |x, out| {
            if !given[out] && inputs[0][x] == inputs[1][out] {
                given[out] = true;
                dx[x] += inputs[2][out];
            }
        });
        vec![dx]
    }
}
