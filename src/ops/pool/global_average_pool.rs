//! `y[n, c] = mean over p, q of x[n, p, q, c]`: what a picture holds of each feature, wherever it
//! lies.

use super::global_average_pool_grad::GlobalAveragePoolGrad;
use crate::kernels::pool;
use crate::ops::*;

/// See the module's documentation. Input `[N, H, W, C]`, output `[N, C]`.
#[derive(Clone, Copy, Debug)]
pub struct GlobalAveragePool;

impl Op for GlobalAveragePool {
    fn name(&self) -> &'static str {
        "global_average_pool"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [x] = floats(inputs)?;
        let &[batch, _, _, channels] = x.dims() else {
            return Err("x must be [N, H, W, C]".into());
        };
        require(!x.is_empty(), "x must have elements")?;
        Ok(vec![TensorType::f32([batch, channels])])
    }

    fn gradient(&self, graph: &mut Graph, node: &Node, grads: &[Option<Value>], _: &[bool]) -> Gradients {
        let shape = graph.ty(node.inputs[0]).shape.clone();
        let dx = grads[0].map(|dy| graph.apply1(GlobalAveragePoolGrad { shape }, &[dy]));
        Ok(vec![dx.transpose()?])
    }

    fn tile(&self, types: &Types, axis: Axis, part: Range<usize>) -> Option<Tile> {
        Tile::images(*self, types, axis, &[0], &part)
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let channels = types.inputs[0].shape.last();
        CpuStep::new(move |args| {
            pool::average(target.isa, args.inputs[0], channels, args.output().0);
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let x = &types.inputs[0];
        let images = Reduction::by_image(x);
        Dispatches::from(Dispatch {
            shader: wide_shader!(x.shape.last(), "global_average_pool"),
            entry: "main",
            constants: images.constants(),
            bindings: vec![Operand::Input(0), Operand::Output(0)],
            groups: images.block_groups(),
        })
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let pixels = (inputs[0].shape()[1] * inputs[0].shape()[2]) as f64;
        vec![inputs[0].sum_axis(ndarray::Axis(1)).sum_axis(ndarray::Axis(1)) / pixels]
    }
}
