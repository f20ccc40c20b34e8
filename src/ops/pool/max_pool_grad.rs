//! The gradient of [`super::max_pool`]: each window's dy goes to its first largest element.

use super::max_pool::{MaxPool, window};
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

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [x, y, dy] = operands(inputs).map(view::<Ix4>);
        let g = checked(self.pool.geometry(inputs[0].shape()));
        let mut dx = Array4::zeros(x.raw_dim());
        for (n, p, q, c) in indices(y.raw_dim()) {
            if let Some((i, j)) = window(g, p, q).find(|&(i, j)| x[[n, i, j, c]] == y[[n, p, q, c]]) {
                dx[[n, i, j, c]] += dy[[n, p, q, c]];
            }
        }
        vec![dx.into_dyn()]
    }
}
