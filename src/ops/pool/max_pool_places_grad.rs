//! The gradient of a pooling by the places of its maxima ([`super::max_pool_places`]).

use super::max_pool::MaxPool;
use super::max_pool_places::MaxPoolPlaces;
use crate::kernels::pool;
use crate::ops::*;

/// Each window's dy goes to its place. Inputs: places and dy of the pooling; output dx `[N, H, W,
/// C]`.
#[derive(Clone, Copy, Debug)]
pub struct MaxPoolPlacesGrad {
    /// The forward pooling.
    pub pool: MaxPool,
    /// Rows of x, in pixels.
    pub height: usize,
    /// Columns of x, in pixels.
    pub width: usize,
}

impl MaxPoolPlacesGrad {
    /// Type of x, given dy's.
    fn x(&self, dy: &TensorType) -> TensorType {
        let &[images, _, _, channels] = dy.dims() else { return dy.clone() };
        TensorType::f32([images, self.height, self.width, channels])
    }
}

impl Op for MaxPoolPlacesGrad {
    fn name(&self) -> &'static str {
        "max_pool_places_grad"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [places, dy] = expect(inputs)?;
        let x = self.x(dy);
        let pooled = MaxPoolPlaces { pool: self.pool }.output_types(&[&x])?;
        require(pooled == [dy.clone(), places.clone()], "places and dy must be of a pooling of such images")?;
        Ok(vec![x])
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let g = self.pool.checked_geometry(&types.outputs[0]);
        CpuStep::new(move |args| {
            let (places, dy) = (bytemuck::cast_slice(args.inputs[0]), args.inputs[1]);
            pool::gradient_of_places(target.isa, g, places, dy, args.output().0);
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let dx = &types.outputs[0];
        let bindings = vec![Operand::Input(0), Operand::Input(1), Operand::Output(0)];
        let shader = shader!("max_pool_places_grad", "vec4");
        each_value(shader, dx.len() / 4, &self.pool.constants(dx), bindings)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [places, dy] = operands(inputs).map(view::<Ix4>);
        let (images, _, _, channels) = dy.dim();
        let MaxPool { window, stride, padding } = self.pool;
        let mut dx = Array4::zeros((images, self.height, self.width, channels));
        for (n, p, q, c) in indices(dy.raw_dim()) {
            let place = places[[n, p, q, c / 4]] as usize >> (8 * (c % 4)) & 255;
            let [row, column] = [p * stride + place / window, q * stride + place % window];
            dx[[n, row - padding, column - padding, c]] += dy[[n, p, q, c]];
        }
        vec![dx.into_dyn()]
    }
}
