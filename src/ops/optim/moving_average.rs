//! `average += momentum (scale x - average)`: the running statistics of batch normalisation.
//!
//! The scale turns a biased variance into an unbiased one (`N / (N - 1)`), as PyTorch and Keras
//! store it.

use crate::ops::*;

/// A moving average. Inputs: average and x of one shape; works in place on the average.
#[derive(Clone, Copy, Debug)]
pub struct MovingAverage {
    /// The weight of the new value (PyTorch's convention; Keras gives `1 - momentum`).
    pub momentum: f32,
    /// Factor of x.
    pub scale: f32,
}

impl Op for MovingAverage {
    fn name(&self) -> &'static str {
        "moving_average"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [average, x] = floats(inputs)?;
        require(average == x, "the two inputs must have one shape")?;
        Ok(vec![average.clone()])
    }

    fn alias(&self) -> Alias {
        Alias::InPlace(&[(0, 0)])
    }

    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        let MovingAverage { momentum, scale } = *self;
        CpuStep::new(move |args| {
            let x = args.inputs[1];
            for (average, x) in args.output().0.iter_mut().zip(x) {
                *average += momentum * (scale * x - *average);
            }
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        may_be_joined(
            shader!("moving_average"),
            types.outputs[0].len(),
            &[("MOMENTUM", f64::from(self.momentum))],
            &[Operand::Input(1), Operand::Output(0)],
            [self.scale, 0.0, 0.0, 0.0],
            &[],
        )
        .into()
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [average, x] = operands(inputs);
        let (momentum, scale) = (f64::from(self.momentum), f64::from(self.scale));
        vec![average + momentum * (scale * x - average)]
    }
}
