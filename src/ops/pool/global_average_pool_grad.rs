//! The gradient of [`super::global_average_pool`]: `dx[n, p, q, c] = dy[n, c] / (H W)`.

use crate::kernels::pool;
use crate::ops::*;
use crate::tensor::Shape;

/// Input dy `[N, C]`, output `[N, H, W, C]`, the given shape.
#[derive(Clone, Debug)]
pub struct GlobalAveragePoolGrad {
    /// Of x.
    pub shape: Shape,
}

impl Op for GlobalAveragePoolGrad {
    fn name(&self) -> &'static str {
        "global_average_pool_grad"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [dy] = floats(inputs)?;
        let &[batch, _, _, channels] = self.shape.dims() else {
            return Err("x must be [N, H, W, C]".into());
        };
        require(!self.shape.is_empty() && dy.dims() == [batch, channels], "dy has another shape than y")?;
        Ok(vec![TensorType::f32(self.shape.clone())])
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let channels = types.inputs[0].shape.last();
        CpuStep::new(move |args| {
            pool::average_gradient(target.isa, args.inputs[0], channels, args.output().0);
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let channels = self.shape.last();
        let pixels = self.shape.len() / types.inputs[0].len();
        let constants = [("COLUMNS", (channels / width(channels)) as f64), ("PIXELS", pixels as f64)];
        let shader = wide_shader!(channels, "global_average_pool_grad");
        let bindings = vec![Operand::Input(0), Operand::Output(0)];
        each_value(shader, self.shape.len() / width(channels), &constants, bindings)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let dy = view::<Ix2>(&inputs[0]).insert_axis(ndarray::Axis(1)).insert_axis(ndarray::Axis(1));
        let pixels = self.shape.len() / dy.len();
        vec![spread(&dy.into_dyn(), self.shape.dims()).to_owned() / pixels as f64]
    }
}
